"""The ledger: what children said was acknowledged, and what they saw, against what is on file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proof.filed import ROLLBACK, Files, crc_of, text_of, token_in, tokens_in


class Intended(msgspec.Struct, frozen=True, tag=True):
    """A writer is about to append entries of these sizes, the first of them being its ``first``."""

    first: int
    sizes: tuple[int, ...]


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """The append returned: its entries are the last of the first ``entries`` lines of the segment."""

    segment_id: str
    entries: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The append raised: nothing of it may be there."""

    error: str


class Made(msgspec.Struct, frozen=True, tag=True):
    """A segment was made: ``fork`` or ``copy`` (of the parent's first ``entries`` lines), ``compact`` or ``new``."""

    kind: str
    segment_id: str
    parent: str | None = None
    entries: int | None = None
    history: tuple[str, ...] = ()


class RolledBack(msgspec.Struct, frozen=True, tag=True):
    """A rollback returned: a line of its segment, or a fork from ``parent``, where somebody else had written."""

    segment_id: str
    entries: int
    parent: str
    to_entries: int


class Followed(msgspec.Struct, frozen=True, tag=True):
    """A follower had seen the lines from ``start`` to before ``stop``, and nothing more was there."""

    segment_id: str
    start: int
    stop: int
    crc: int
    last: bool = False


class Restored(msgspec.Struct, frozen=True, tag=True):
    """A state at a line: the checksum of its user messages."""

    segment_id: str
    entries: int
    crc: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A child met an error that it has no answer to."""

    what: str


@dataclass(eq=False)
class Append:
    """One append: who, what, and how it ended, if it did (``outcome`` None: the writer was killed first)."""

    writer: str
    intended: Intended
    outcome: Acknowledged | Refused | None = None

    @property
    def tokens(self) -> list[str]:
        """The tokens of its entries, in order."""
        first = self.intended.first
        return [f"{self.writer}.{number}" for number in range(first, first + len(self.intended.sizes))]


@dataclass
class Ledger:
    """What was said, and whether the files bear it out. ``check`` may be called again and again as both grow."""

    appends: list[Append] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    rolled_back: list[RolledBack] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    restored: list[Restored] = field(default_factory=list)
    _latest: dict[str, Append] = field(default_factory=dict)

    def hear(self, writer: str, said: object) -> None:
        """Write down what a child said."""
        match said:
            case Intended():
                self._latest[writer] = Append(writer, said)
                self.appends.append(self._latest[writer])
            case Acknowledged() | Refused():
                self._latest[writer].outcome = said
            case Made():
                self.made.append(said)
            case RolledBack():
                self.rolled_back.append(said)
            case Followed():
                self.followed.append(said)
            case Restored():
                self.restored.append(said)

    def entries(self, kind: type[object]) -> int:
        """Return how many entries were in appends that ended so."""
        return sum(len(append.intended.sizes) for append in self.appends if isinstance(append.outcome, kind))

    def check_appends(self, files: Files) -> Iterator[str]:
        """Yield each entry that is lost, doubled, out of its place or torn, and each that nobody wrote."""
        places: dict[str, list[tuple[str, int]]] = {}
        for segment_id, segment in files.segments.items():
            for at in segment.damage:
                yield f"{segment.path.name}: line {at + 1} is no JSON object"
            for at, entry in enumerate(segment.entries):
                if token := token_in(entry):
                    places.setdefault(token, []).append((segment_id, at))
        for append in self.appends:
            yield from _misplaced(append, [places.pop(token, []) for token in append.tokens], files)
        yield from (f"{token} is at {where}, and nobody wrote it" for token, where in places.items())
        acknowledged = {
            token for append in self.appends if isinstance(append.outcome, Acknowledged) for token in append.tokens
        }
        for path, data in files.aside.items():
            moved = tokens_in(data) & acknowledged
            yield from (f"{token} was acknowledged, and moved to {path.name} as torn" for token in sorted(moved))

    def check_made(self, files: Files) -> Iterator[str]:
        """Yield each fork, compaction and rollback that was acknowledged and is not what it should be."""
        for made in self.made:
            segment = files.segments.get(made.segment_id)
            if segment is None or not segment.entries:
                yield f"{made} is not there"
                continue
            origin = segment.origin
            inherited = made.entries if made.kind == "fork" else None
            of_parent = made.parent is not None and made.kind != "compact"
            wanted = files.history(made.parent or "", made.entries) if of_parent else list(made.history)
            if (origin.get("segment_id"), origin.get("entries")) != (made.parent, inherited):
                yield f"{made} says that it is from {origin}"
            elif files.history(made.segment_id, 1) != wanted:
                yield f"{made} begins with another history"
        for done in self.rolled_back:
            if not _is_there(done, files):
                yield f"{done} is not there"

    def check_seen(self, files: Files) -> Iterator[str]:
        """Yield each follower and reader that saw something else than what is on file."""
        for seen in self.followed:
            segment = files.segments[seen.segment_id]
            if segment.crc(seen.start, seen.stop) != seen.crc or seen.stop > max(len(segment.entries), seen.start):
                yield f"{seen} is not what is on file"
            elif seen.stop > seen.start and seen.stop not in segment.boundaries:
                yield f"{seen} ends within a batch"
            elif seen.last and seen.stop != max(len(segment.entries), seen.start):
                yield f"{seen} did not see all {len(segment.entries)} lines"
        for state in self.restored:
            if crc_of(files.history(state.segment_id, state.entries)) != state.crc:
                yield f"{state} is not what is on file"


def _misplaced(append: Append, found: list[list[tuple[str, int]]], files: Files) -> Iterator[str]:
    """Yield what is wrong with one append, whose tokens were ``found`` at these places."""
    outcome = append.outcome
    if not isinstance(outcome, Acknowledged) and not any(found):
        return
    if isinstance(outcome, Refused):
        yield f"{append.writer}: {append.intended} raised {outcome.error}, and is at {found}"
        return
    segment_id, first = found[0][0] if found[0] else ("nowhere", 0)
    if outcome is not None:
        segment_id, first = outcome.segment_id, outcome.entries - len(found)
    said = "was acknowledged" if outcome is not None else "was in flight"
    for at, (token, places) in enumerate(zip(append.tokens, found, strict=True)):
        if not places:
            yield f"{token} {said}, and is lost (others of its append are at {found})"
        elif len(places) > 1:
            yield f"{token} {said}, and is there {len(places)} times: {places}"
        elif places != [(segment_id, first + at)]:
            yield f"{token} {said}, should be at {(segment_id, first + at)}, and is at {places[0]}"
        elif not _whole(files.segments[segment_id].entries[first + at], token, append.intended.sizes[at]):
            yield f"{token} {said}, and is torn at {places[0]}"


def _whole(entry: dict[str, Any], token: str, size: int) -> bool:
    return entry["kind"] != "user_input" or [part["content"] for part in entry["segments"]] == [text_of(token, size)]


def _is_there(done: RolledBack, files: Files) -> bool:
    segment = files.segments.get(done.segment_id)
    if segment is None or len(segment.entries) < done.entries:
        return False
    if done.segment_id != done.parent:
        return bool(
            segment.origin.get("segment_id") == done.parent and segment.origin.get("entries") == done.to_entries
        )
    entry = segment.entries[done.entries - 1]
    return bool(entry.get("domain") == ROLLBACK and entry["payload"] == {"to_entries": done.to_entries})
