"""The laws of reading a segment file, whatever bytes it holds."""

import hashlib
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

import session_log as sl
from proof.fuzz_guard import Broken
from session_log._frame import marks_of

T = TypeVar("T")
REFUSALS: Final = (sl.CorruptSegment, sl.UnsupportedVersion)
"""What restoring a file that is there may say; BrokenLineage and MissingAncestor are CorruptSegments."""


def answer(allowed: tuple[type[sl.SessionLogError], ...], call: Callable[[], T]) -> T | sl.SessionLogError:
    """Return what ``call`` returns, or the error it raises if that is one of those promised."""
    try:
        return call()
    except allowed as exc:
        return exc


def demand(truth: bool, promise: str) -> None:
    """Raise Broken if something promised is not so."""
    if not truth:
        raise Broken(promise)


def same(one: object, other: object) -> bool:
    """Tell whether two values are equal; those nested too deeply to compare are."""
    try:
        return one == other
    except RecursionError:
        return True


class Specimen:
    """One segment file in a store that was never used before, and what was in it."""

    def __init__(self, root: Path, session_id: str, segment_id: str) -> None:
        self.store = sl.FsStore(root, durability="process")
        self.ids = session_id, segment_id
        self.path = f"{root}/{session_id}/{segment_id}.jsonl"
        self.data = self.bytes_now()
        self.lines = list(self.store.read(*self.ids))
        self.committed = b"".join([line + b"\n" for line in self.lines])
        self.strict = answer(REFUSALS, lambda: sl.restore(self.store, *self.ids))

    def bytes_now(self) -> bytes:
        """Return what is in the file."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def beside(self) -> list[str]:
        """Return the names in the session's folder."""
        return sorted(os.listdir(os.path.dirname(self.path)))


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_reading(found: Specimen, chance: random.Random) -> None:
    """Check everything that reads."""
    store, ids = found.store, found.ids
    files = found.beside()
    demand(found.data.startswith(found.committed), "the lines read are not the beginning of the file")
    whole = found.data[: found.data.rfind(b"\n") + 1]
    if b'"batch"' not in whole and b"\0" not in whole:
        demand(found.committed == whole, "a line with its newline was not read")
    _check_tail(found.lines)
    demand(store.length(*ids) == len(found.lines), "length and read differ")
    at = chance.randint(0, len(found.lines) + 1)
    demand(list(store.follow(*ids, at, stop=lambda: True)) == found.lines[at:], f"follow and read differ from {at} on")
    demand(list(store.read(*ids, at)) == found.lines[at:], f"the lines from {at} on are others than before")
    head = sl.head(store, *ids)
    demand((head.entries, head.byte_offset) == (len(found.lines), len(found.committed)), "the head is not the end")
    _check_entries(found)
    _check_salvage(found)
    _check_cuts(found, chance)
    demand(found.bytes_now() == found.data and found.beside() == files, "reading changed something on disk")


def _check_tail(lines: list[bytes]) -> None:
    """The last unit is whole: no zeros of a power cut in it, and as many lines as its first one says."""
    demand(not lines or b"\0" not in lines[-1], "a line with NULs at the end counts as committed")
    for behind, line in enumerate(reversed(lines[-sl.MAX_BATCH_LINES - 1 :]), 1):
        batch = marks_of(line).batch if b'"batch"' in line else None
        if batch:
            demand(batch <= behind, f"{behind} lines of a batch of {batch} count as committed")
            return


def _check_entries(found: Specimen) -> None:
    """What read_entries and follow_entries say agrees with the lines, and the state with the entries."""
    store, ids = found.store, found.ids
    entries = answer(REFUSALS, lambda: sl.read_entries(store, *ids))
    followed = answer(REFUSALS, lambda: list(sl.follow_entries(store, *ids, stop=lambda: True)))
    decoded = answer((sl.InvalidEntry,), lambda: [sl.decode_line(line) for line in found.lines if line.strip()])
    if isinstance(decoded, sl.SessionLogError):
        demand(isinstance(entries, sl.CorruptSegment), "read_entries accepts a line that decode_line refuses")
        demand(isinstance(followed, sl.CorruptSegment), "follow_entries accepts a line that decode_line refuses")
        return
    demand(same(followed, decoded), "follow_entries and decode_line differ")
    if not isinstance(entries, sl.SessionLogError):
        demand(same(entries, decoded), "read_entries and decode_line differ")
    if isinstance(found.strict, sl.RestoredState):
        demand(isinstance(entries, list), "restore accepts what read_entries refuses")
        _check_state(found.strict, decoded, len(found.lines))


def _check_state(state: sl.RestoredState, entries: list[sl.LogEntry], length: int) -> None:
    demand(state.entries_count == length, "entries_count is not the number of lines")
    if any(map(_refers, entries)) or (len(entries) < length and any(map(_rolls_back, entries))):
        return  # the ancestors are not here; a rollback counts blank lines
    alone = msgspec.structs.replace(state, head=None, torn_bytes=0, entries_count=len(entries))
    demand(same(alone, sl.collect_state(entries)), "restore and collect_state differ")


def _refers(entry: sl.LogEntry) -> bool:
    """Tell whether an entry makes its segment go on from another one."""
    return (
        isinstance(entry, sl.SegmentStart) and entry.forked_from is not None and entry.forked_from.entries is not None
    )


def _rolls_back(entry: sl.LogEntry) -> bool:
    return isinstance(entry, sl.Extension) and entry.domain == "session_log.rollback"


def _check_salvage(found: Specimen) -> None:
    """Salvage returns what is sound, lists what is not, and never gives up."""
    strict = found.strict
    salvaged = answer(REFUSALS, lambda: sl.restore(found.store, *found.ids, salvage=True))
    if isinstance(salvaged, sl.SessionLogError):
        later = isinstance(salvaged, sl.UnsupportedVersion)
        demand(later or not found.lines, f"salvage gives up on a segment with lines: {salvaged}")
        return
    demand(salvaged.entries_count == len(found.lines), "salvage does not count every line")
    if isinstance(strict, sl.RestoredState):
        demand(same(salvaged, strict), "salvage of a sound segment is another state")
        return
    demand(bool(salvaged.damage), f"salvage lists nothing where restore says {strict}")
    own = [damage for damage in salvaged.damage if damage.path == found.path]
    for damage in own:
        before = sum(len(line) + 1 for line in found.lines[: damage.line - 1])
        demand(damage.byte_offset in (before, 0), f"line {damage.line} is not at byte {damage.byte_offset}")
    first = min((damage.line for damage in own), default=1)
    if first > 1 and len(own) == len(salvaged.damage):
        _check_prefix(found, salvaged, first - 1)


def _check_prefix(found: Specimen, salvaged: sl.RestoredState, entries: int) -> None:
    """Salvage has all that a strict reader gets of the lines before the first damage."""
    for line in found.lines[1:]:
        if b"segment_start" in line or b"rollback" in line or b"\\u" in line:
            return  # what it has may be taken back by a later line, or what is wrong with it undone
    prefix = answer(REFUSALS, lambda: sl.restore(found.store, *found.ids, at_entries=entries))
    if isinstance(prefix, sl.SessionLogError):
        raise Broken(f"the {entries} lines before the damage are refused: {prefix}")
    for name in ("history", "usage_history", "extensions", "user_segments"):
        kept, before = getattr(salvaged, name), getattr(prefix, name)
        demand(same(kept[: len(before)], before), f"salvage lost {name} of the {entries} lines before the damage")


def _check_cuts(found: Specimen, chance: random.Random) -> None:
    """Every place can be asked for, and what is no place is said to be none."""
    store, ids, length, strict = found.store, found.ids, len(found.lines), found.strict
    cut = chance.randint(-1, length + 1)
    there = answer((*REFUSALS, sl.InvalidCut), lambda: sl.restore(store, *ids, at_entries=cut))
    demand(
        isinstance(there, sl.InvalidCut) == (not 1 <= cut <= length), f"at_entries={cut} of {length}: {there!r:.300}"
    )
    turns = [-1, 0, 1, 2, 3, 1 << 70]
    if isinstance(strict, sl.RestoredState):
        turns += [strict.turn_count] * 3
        if cut == length:
            at_end = msgspec.structs.replace(strict, torn_bytes=0)
            demand(same(at_end, there), "at_entries of the end is not the end")
    turn = chance.choice(turns)
    answer((*REFUSALS, sl.InvalidCut), lambda: sl.restore(store, *ids, at_turn=turn))


# ── lineage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def broken_reference(files: Mapping[str, bytes], segment_id: str) -> str | None:
    """Return what is wrong with what a segment and its ancestors say of their parents, found out the plain way."""
    seen = [segment_id]
    while True:
        start = sl.decode_line(files[seen[-1]].partition(b"\n")[0])
        origin = start.forked_from if isinstance(start, sl.SegmentStart) else None
        if origin is None or origin.entries is None:
            return None
        parent = origin.segment_id.lower()
        if parent in seen or parent not in files or len(seen) > sl.MAX_FORK_DEPTH:
            return f"the parent {parent} of {seen[-1]} is its child, or missing, or too far"
        inherited = files[parent].split(b"\n")[:-1][: max(0, origin.entries)]
        if not inherited or len(inherited) != origin.entries:
            return f"{parent} has no {origin.entries} lines"
        if origin.byte_offset not in (None, sum(len(line) + 1 for line in inherited)):
            return f"line {origin.entries} of {parent} does not end at {origin.byte_offset}"
        right = (None, hashlib.sha256(inherited[-1]).hexdigest())
        if origin.tail_sha256 not in right and inherited[-1].strip():
            return f"line {origin.entries} of {parent} has another hash"
        seen.append(parent)
