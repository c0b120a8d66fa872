"""One segment checked, line by line, in blocks: what a restore would find, and what it does not look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from session_log._blob_check import BlobCheck
from session_log._chain import Break, ChainCheck, Place, Stretch
from session_log._codec import ts_of
from session_log._entries import AssistantItem, Extension, Invoke, LogEntry, SegmentOrigin
from session_log._errors import BrokenLineage, SessionLogError, UnsupportedVersion
from session_log._findings import Findings
from session_log._fold import Fold
from session_log._items import ToolCall
from session_log._lineage import fold_block, restore_span
from session_log._reader import Block, read_blocks, where
from session_log._rollback import BadRollback, rollback_target
from session_log._state import Damage
from session_log._store import Store
from session_log._tree import check_reference


class Reference(NamedTuple):
    """A child, and what it says of the lines that it inherits."""

    child_id: str
    origin: SegmentOrigin


class Handed(NamedTuple):
    """What a child inherits of a check: that of the chain, and the fold, of which little is kept (None: unknown)."""

    chain: ChainCheck
    fold: Fold | None

    def copy(self) -> "Handed":
        """Return the same, which changes on its own."""
        if self.fold is None:
            return Handed(self.chain.copy(), None)
        fold = Fold()
        fold.session_id, fold.interrupted = self.fold.session_id, self.fold.interrupted
        fold.open_calls = list(self.fold.open_calls)
        return Handed(self.chain.copy(), fold)


def handed_anew(segment_id: str, *, known: bool = True) -> Handed:
    """Return what the check of a segment starts with that inherits nothing, or what is not ``known``."""
    return Handed(ChainCheck(Stretch() if known else None, Place(segment_id, 1, 0)), Fold() if known else None)


class SegmentCheck:
    """The check of one segment. Holds a block of it at a time; only one with rollbacks, before it too, is restored."""

    def __init__(
        self,
        store: Store,
        session_id: str,
        segment_id: str,
        findings: Findings,
        blobs: BlobCheck | None,
        tick: Callable[[int], None],
    ) -> None:
        self._store = store
        self._session_id = session_id
        self._segment_id = segment_id
        self._path = where(store, session_id, segment_id)
        self._findings = findings
        self._blobs = blobs
        self._tick = tick
        self._ts = 0
        self._rolled_back = False
        self._run_at = self._call_at = (1, 0)
        self.lines = self.size_bytes = self.links = 0

    def run(self, handed: Handed, references: Mapping[int, Sequence[Reference]]) -> dict[str, Handed]:
        """Check all of the segment, and return what the children inherit that refer to it after so many lines.

        Raises:
            NotFound, StoreUnavailable: it is gone, or cannot be read.
            CorruptSegment: it got shorter meanwhile, as after a failed sync of its writer; look again.
        """
        chain, self._fold = handed
        links = chain.links
        for_children: dict[str, Handed] = {}
        damage: list[Damage] = []
        try:
            for block in read_blocks(self._store, self._session_id, self._segment_id, damage=damage):
                self._check_block(block, chain, references, for_children, damage)
                self._tick(len(block.data))
        except UnsupportedVersion as exc:
            self._findings.add("newer_version", self._path, f"it is of format version {exc.found}", 1, 0)
            return {}
        self.links = chain.links - links
        if self.lines == 0:
            self._findings.add("damaged_start", self._path, "the segment has no committed line", 1, 0)
        for entries, children in references.items():
            if entries > self.lines:
                list(self._refuse_wrong(self.lines, self.size_bytes, b"", children))
        self._check_end(chain)
        return for_children

    def _check_block(
        self,
        block: Block,
        chain: ChainCheck,
        references: Mapping[int, Sequence[Reference]],
        for_children: dict[str, Handed],
        damage: list[Damage],
    ) -> None:
        lines, places = block.lines(), block.places(self._path)
        entries = [self._checked(entry, place) for entry, place in zip(block.entries, places, strict=True)]
        for line, place in zip(lines, places, strict=True):
            if line and not line.strip(b" "):
                self._findings.add("blanked_line", self._path, "was blanked", place.line, place.byte_offset)
        end = block.first_line + len(lines)
        cuts = sorted(entries for entries in references if block.first_line < entries <= end)
        start = 0
        for stop in [*(cut - block.first_line for cut in cuts), len(lines)]:
            if start < stop:
                first = places[start]
                some = Block(
                    b"\n".join(lines[start:stop]) + b"\n", entries[start:stop], first.line - 1, first.byte_offset
                )
                self._fold_lines(some, damage)
                for found in chain.take(lines[start:stop], Place(self._segment_id, first.line, first.byte_offset)):
                    self._report_break(found)
                start = stop
            children = references.get(block.first_line + stop, ())
            end_of_it = places[stop - 1].byte_offset + len(lines[stop - 1]) + 1
            for child_id in self._refuse_wrong(block.first_line + stop, end_of_it, lines[stop - 1], children):
                for_children[child_id] = Handed(chain, None if self._rolled_back else self._fold).copy()
        if self._blobs is not None:
            self._blobs.look(block.data, self._path, block.first_line + 1, block.byte_offset)
        for each in damage:
            kind = "damaged_start" if each.line == 1 else "damaged_line"
            self._findings.add(kind, self._path, each.reason, each.line, each.byte_offset)
        damage.clear()
        self.lines, self.size_bytes = end, block.byte_offset + len(block.data)

    def _checked(self, entry: LogEntry | None, place: Damage) -> LogEntry | None:
        """Check a single entry, and return it if it is to be folded: a rollback is not."""
        if entry is None:
            return None
        ts = ts_of(entry)
        if ts < self._ts:
            what = f"its time is {self._ts - ts} ms before that of the line before"
            self._findings.add("time_back", self._path, what, place.line, place.byte_offset)
        self._ts = ts
        if isinstance(entry, Invoke):
            self._run_at = place.line, place.byte_offset
        elif isinstance(entry, AssistantItem) and isinstance(entry.item, ToolCall):
            self._call_at = place.line, place.byte_offset
        elif isinstance(entry, Extension):
            try:
                if rollback_target(entry, place.line - 1) is not None:
                    self._rolled_back = True
                    return None
            except BadRollback as exc:
                self._findings.add("damaged_line", self._path, str(exc), place.line, place.byte_offset)
                return None
        return entry

    def _fold_lines(self, block: Block, damage: list[Damage]) -> None:
        """Fold lines as a restore does, and drop what they add up to but for calls and the state of the run."""
        fold = self._fold if self._fold is not None else Fold()
        fold_block(fold, block, self._path, damage)
        for kept in (fold.history, fold.usage, fold.extensions, fold.user_segments):
            kept.clear()

    def _refuse_wrong(
        self, entries: int, byte_offset: int, line: bytes, references: Sequence[Reference]
    ) -> Iterator[str]:
        """Yield the children that refer to these lines, and report those that say something else of them."""
        for child_id, origin in references:
            try:
                check_reference(self._path, origin, entries, byte_offset, line)
            except BrokenLineage as exc:
                path = where(self._store, self._session_id, child_id)
                self._findings.add("broken_reference", path, f"its parent {self._segment_id}: {exc.reason}", 1, 0)
            else:
                yield child_id

    def _report_break(self, found: Break) -> None:
        if found.since is None:
            what = "it looks like a link of the chain, and is none"
            self._findings.add("chain_malformed", self._path, what, found.at.line, found.at.byte_offset)
            return
        what = f"its link does not hold: something from {self._named(found.since)} to here was changed"
        if found.blanked is not None:
            what += f" ({self._named(found.blanked)} was blanked)"
        self._findings.add("chain_broken", self._path, what, found.at.line, found.at.byte_offset)

    def _named(self, place: Place) -> str:
        of = "" if place.segment_id == self._segment_id else f" of {place.segment_id}"
        return f"line {place.line}{of} (byte {place.byte_offset})"

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_end(self, chain: ChainCheck) -> None:
        if chain.unchecked is not None and chain.unchecked.segment_id == self._segment_id:
            at = chain.unchecked
            what = "its link cannot be checked: what the segment inherits is not known"
            self._findings.add("chain_unchecked", self._path, what, at.line, at.byte_offset)
        if chain.links:
            here = chain.since.segment_id == self._segment_id
            line, byte_offset = (chain.since.line, chain.since.byte_offset) if here else (1, 0)
            if byte_offset < self.size_bytes:
                what = f"no link covers bytes {byte_offset} to {self.size_bytes} yet"
                self._findings.add("chain_open", self._path, what, line, byte_offset)
        self._check_run()

    def _check_run(self) -> None:
        """Tell of a run that did not end, and of calls that were not answered."""
        if self._fold is not None and not self._rolled_back:
            interrupted, calls = self._fold.interrupted, len(self._fold.open_calls)
        else:
            try:
                state = restore_span(self._store, self._session_id, self._segment_id, self.lines, salvage=True).state
            except SessionLogError:  # what is wrong is reported where it is
                return
            interrupted, calls = state.last_run_interrupted, len(state.pending_tool_calls)
        if interrupted or calls:
            what = ("a run began and did not end" if interrupted else "a run ended") + f", {calls} tool calls are open"
            self._findings.add("interrupted", self._path, what, *(self._run_at if interrupted else self._call_at))
