"""The plan of an import: the records of a source, in their order, become segments. Pure.

A record that goes on from the end of a segment is appended to it; one that goes on from further up begins a segment,
forked by reference; a compaction begins one that stands alone. That depends on nothing behind the record: when the
source has grown, what was planned before stays as it is, and the new records only add to it.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from session_log import (
    FORMAT_VERSION,
    MAX_FORK_DEPTH,
    Carried,
    InvalidEntry,
    Item,
    Message,
    RequestConfig,
    SegmentOrigin,
    SegmentStart,
    ToolResult,
    encode_line,
)
from session_log.importers._ancestry import carried_at, history_at, items_since
from session_log.importers._draft import Draft, Mark, Place, extension
from session_log.importers._into import Planned
from session_log.importers._report import Tally
from session_log.importers._steps import LAST, NUMBERED, Compacted, Node, Prompted, Put, Record, Rewound, Said, Step
from session_log.importers._verbatim import verbatim

SOURCE_DOMAIN: Final = "import.source"
"""Of which source a session was made; the second line of its first segment."""
UPDATE_DOMAIN: Final = "import.update"
"""How far a source had grown when more of it was imported; stands in the first segment, before what it added."""
_ORIGIN: Final = Place(0, 0, 0)


class Plan:
    """Segments in the making. Feed it nodes in the order of the source."""

    def __init__(self, fmt: str, session_id: str, segment_id: Callable[[int], str], tally: Tally) -> None:
        self.drafts: list[Draft] = []
        self.main = 0
        self._domain = f"import.{fmt}"
        self._session_id = session_id
        self._segment_id = segment_id
        self._tally = tally
        self._places: dict[str, Place] = {}
        self._raws: dict[str, int] = {}
        self._last = _ORIGIN
        self._line_id: str | None = None
        self._used: set[str] = set()
        self._prompt: str | None = None

    def begin(self, ts: int, prompt: str | None, config: RequestConfig, source: Any) -> None:
        """Begin the first segment; ``source`` is the payload of its second line."""
        self._prompt = prompt
        mark = Mark(0, 0, 0, False, 0, config, ts, (), False)
        draft = Draft(self._start(mark, prompt), mark, None, alone=Carried())
        draft.write(extension(SOURCE_DOMAIN, source, ts))
        draft.marks.clear()
        draft.mark()
        self.drafts.append(draft)

    def _start(self, mark: Mark, prompt: str | None, **more: Any) -> bytes:
        start = SegmentStart(
            ts=mark.ts,
            session_id=self._session_id,
            system_prompt=prompt,
            config=mark.config,
            history=more.pop("history", ()),
            v=FORMAT_VERSION,
            **more,
        )
        return encode_line(start)

    def update(self, payload: Any) -> None:
        """Note in the first segment that the source ended here once, and that what follows was imported later."""
        root = self.drafts[0]
        root.write(extension(UPDATE_DOMAIN, payload, root.ts))

    def segments(self) -> list[Planned]:
        """Return the segments as they are planned so far."""
        return [
            Planned(draft.lines, draft.parent.draft, draft.inherits)
            if draft.parent is not None and draft.alone is None
            else Planned(draft.lines)
            for draft in self.drafts
        ]

    def settle(self) -> None:
        """Come to the end of the source, for now."""
        for draft in self.drafts:
            draft.settle()

    # ── records ────────────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, node: Node, record: Record) -> None:
        """Take in one record.

        What it says that cannot stand in a line of ours is kept verbatim, or dropped, and counted.
        """
        for warning in node.warnings:
            self._tally.warn(node.line, warning)
        if node.kept is not None:
            if node.kept:
                self._tally.problem(node.line, node.kept)
            self._keep(node, record)
            return
        if node.id is not None and self._raws.get(node.id) == hash(record.raw):
            self._tally.problem(node.line, f"repeats the record {node.id!r:.80}")
            self._keep(node, record)
            return
        try:
            self._take(node)
        except InvalidEntry as exc:
            self._tally.problem(node.line, str(exc))
            self._keep(node, record)
            return
        self._tally.take(node.kind)
        if node.id is not None and not node.id.startswith(NUMBERED):
            self._raws[node.id] = hash(record.raw)

    def _take(self, node: Node) -> None:
        steps = self._settled_prompt(node.steps)
        talks = any(isinstance(step, (Said, Put, Compacted)) for step in steps)
        draft, place = self._place(node, steps, talks=talks)
        ts = max(draft.ts, node.ts or 0)
        lines = draft.encoded(steps, ts)
        rest = self._rest(node, ts)
        before = len(draft.lines)
        said = draft.unanswered
        for reason in draft.take(steps, lines, ts, self._used):
            self._tally.warn(node.line, reason)
        if rest is not None:
            draft.write(rest)
        if talks:
            self._join(draft, node, steps)
            if not any(isinstance(step, Compacted) for step in steps) or len(steps) > 1:
                draft.mark(said=draft.unanswered and not said)
            place = Place(place.draft, len(draft.marks) - 1, before)
        self._remember(node, Place(place.draft, place.mark, before), talks=talks)
        for step in steps:
            if isinstance(step, Compacted) and step.stands_for is not None:
                self._places[step.stands_for] = self._last
            if isinstance(step, Rewound):
                self._rewind(step.turns, node.line)

    def _remember(self, node: Node, place: Place, *, talks: bool) -> None:
        if node.id is not None:
            if node.id in self._places and not talks:
                return  # what goes on from this id goes on from the record that came first
            if node.id in self._places:
                self._tally.warn(node.line, f"the id {node.id!r:.80} is that of an earlier record, too")
            self._places[node.id] = place
            self._line_id = node.id
        self._last = place
        if talks and not node.side:
            self.main = place.draft

    def _join(self, draft: Draft, node: Node, steps: tuple[Step, ...]) -> None:
        """Note where the last message of the assistant begins: its pieces and results are no branches of it."""
        if only_results(steps) or (node.joins is not None and node.joins == draft.message):
            return
        draft.message, draft.message_mark = node.joins, len(draft.marks)

    def _settled_prompt(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return steps in which a system prompt that comes too late to be the first line's is a message."""
        return tuple(
            Put(Message.system(step.text)) if isinstance(step, Prompted) else step
            for step in steps
            if not (isinstance(step, Prompted) and step.text == self._prompt)
        )

    def _rest(self, node: Node, ts: int) -> bytes | None:
        """Return the line that keeps what the steps do not say, if there is anything."""
        payload: dict[str, Any] = {"line": node.line}
        if node.id is not None and not node.id.startswith(NUMBERED):
            payload["id"] = node.id
        if node.parent not in {LAST, self._line_id}:
            payload["parent"] = node.parent
        if node.ts is not None and node.ts != ts:
            payload["ts"] = node.ts
        if node.rest:
            payload["rest"] = node.rest
        if len(payload) == 1:
            return None
        return extension(self._domain, payload, ts)

    def _keep(self, node: Node, record: Record) -> None:
        """Keep a record verbatim, in the segment it belongs to."""
        place = self._resolve(node)
        draft = self.drafts[place.draft]
        ts = max(draft.ts, node.ts or 0)
        try:
            line = extension(self._domain, verbatim(record, node.kept or None), ts)
        except InvalidEntry as exc:
            self._tally.drop(node.line, str(exc))
            return
        before = len(draft.lines)
        draft.write(line)
        draft.ts = ts
        self._remember(node, Place(place.draft, place.mark, before), talks=False)
        self._tally.keep(node.kind)

    # ── the tree ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _resolve(self, node: Node) -> Place:
        if node.parent == LAST:
            return self._last
        if node.parent is None:
            return _ORIGIN
        found = self._places.get(node.parent)
        if found is None:
            self._tally.warn(node.line, f"its parent {node.parent!r:.80} is not before it: it goes on from the last")
            return self._last
        return found

    def _place(self, node: Node, steps: tuple[Step, ...], *, talks: bool) -> tuple[Draft, Place]:
        """Return the draft that a record is appended to: that of its parent, or a new one."""
        place = self._resolve(node)
        draft = self.drafts[place.draft]
        if steps and isinstance(steps[0], Compacted):
            at = self._compact(place, steps[0], node)
            return self.drafts[at], Place(at, 0, 0)
        if not talks or place.mark == len(draft.marks) - 1 or self._same_message(draft, place, node, steps):
            return draft, place
        at = self._fork(place, node, begins=isinstance(steps[0], Said))
        return self.drafts[at], Place(at, 0, 0)

    def _same_message(self, draft: Draft, place: Place, node: Node, steps: tuple[Step, ...]) -> bool:
        """Tell whether a record is another piece of the last message, or answers a call of it that is open."""
        if place.mark < draft.message_mark:
            return False
        if node.joins is not None and node.joins == draft.message:
            return True
        ids = [step.item.call_id for step in steps if isinstance(step, Put) and isinstance(step.item, ToolResult)]
        return only_results(steps) and all(call_id in draft.calls for call_id in ids)

    def _fork(self, place: Place, node: Node, *, begins: bool) -> int:
        parent = self.drafts[place.draft]
        mark = parent.marks[place.mark]
        if begins:
            mark = parent.closed.get(place.mark, mark)
        mark = mark._replace(ts=max(mark.ts, node.ts or 0))
        parent_id = self._segment_id(place.draft)
        if parent.depth > MAX_FORK_DEPTH:
            return self._copy(place, mark, parent_id)
        tail = sha256(parent.lines[mark.entries - 1]).hexdigest()
        origin = SegmentOrigin(parent_id, mark.turn_count, mark.entries, mark.byte_offset, tail)
        draft = Draft(self._start(mark, self._prompt, forked_from=origin), mark, place)
        draft.depth = parent.depth + 1
        self.drafts.append(draft)
        return len(self.drafts) - 1

    def _copy(self, place: Place, mark: Mark, parent_id: str) -> int:
        """Begin a segment with the history inline: its ancestors are as many as a restore goes through."""
        history, carried = (
            history_at(self.drafts, place, mark.entries),
            carried_at(self.drafts, place, mark, compacted=False),
        )
        origin = SegmentOrigin(parent_id, mark.turn_count)
        more = {"forked_from": origin, "turn_count": mark.turn_count, "carried": carried, "history": tuple(history)}
        self.drafts.append(Draft(self._start(mark, self._prompt, **more), mark, place, alone=carried or Carried()))
        self.drafts[-1].base = tuple(history)
        return len(self.drafts) - 1

    def _compact(self, place: Place, step: Compacted, node: Node) -> int:
        parent = self.drafts[place.draft]
        mark = parent.marks[place.mark]
        if place.mark == len(parent.marks) - 1:
            parent.settle()
            mark = parent.here(said=mark.said)
        history = [*step.items, *self._kept_items(place, mark.entries, step, node.line)]
        mark = mark._replace(ts=max(mark.ts, node.ts or 0), history_len=len(history), calls=())
        carried = carried_at(self.drafts, place, mark, compacted=True)
        origin = SegmentOrigin(self._segment_id(place.draft), mark.turn_count)
        more = {"compacted_from": origin, "turn_count": mark.turn_count, "carried": carried, "history": tuple(history)}
        draft = Draft(self._start(mark, self._prompt, **more), mark, place, alone=carried or Carried())
        draft.base = tuple(history)
        self.drafts.append(draft)
        return len(self.drafts) - 1

    def _kept_items(self, place: Place, stop: int, step: Compacted, line: int) -> list[Item]:
        """Return the items that a compaction leaves in the history."""
        if step.keep_from is None:
            return []
        keep = self._places.get(step.keep_from)
        found = items_since(self.drafts, place, stop, keep) if keep is not None else None
        if found is None:
            self._tally.warn(line, f"keeps the history from {step.keep_from!r:.80} on, which is not before it")
        return found or []

    # ── back to an earlier place ──────────────────────────────────────────────────────────────────────────────────────

    def _rewind(self, turns: int, line: int) -> None:
        """Go back to before the last inputs of the user; what comes next begins a branch there."""
        at, mark, _ = self._last
        while turns > 0:
            draft = self.drafts[at]
            if mark == 0:
                if draft.parent is None or draft.alone is not None:
                    self._tally.warn(line, f"{turns} more turns are rolled back than there are")
                    break
                at, mark, _ = draft.parent
                continue
            turns -= draft.marks[mark].said
            mark -= 1
        self._last = Place(at, mark, 0)


def only_results(steps: tuple[Step, ...]) -> bool:
    """Tell whether a record says nothing but what tools answered."""
    items = [step.item for step in steps if isinstance(step, Put)]
    said = any(isinstance(step, (Said, Compacted)) for step in steps)
    return bool(items) and not said and all(isinstance(item, ToolResult) for item in items)
