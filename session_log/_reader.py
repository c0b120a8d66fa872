"""From lines to entries, with positions: what is damaged is an error with its place, or listed."""

from collections.abc import Iterator

import msgspec

from session_log._codec import decode_line, decode_plain_lines
from session_log._entries import FORMAT_VERSION, LogEntry, SegmentStart
from session_log._errors import CorruptSegment, InvalidEntry, UnsupportedVersion
from session_log._state import Damage, Head
from session_log._store import Store

_GROUP_LINES = 512


class Block(msgspec.Struct, frozen=True):
    """A run of lines: their bytes, newlines included, and for each line its entry, or None where it holds none."""

    data: bytes
    entries: list[LogEntry | None]
    first_line: int
    byte_offset: int

    def lines(self) -> list[bytes]:
        """Return the lines one by one."""
        return self.data[:-1].split(b"\n")

    def places(self, path: str) -> list[Damage]:
        """Return where each line is, in the form in which it is told if the line turns out to be damaged."""
        places, offset = [], self.byte_offset
        for number, line in enumerate(self.lines(), self.first_line + 1):
            places.append(Damage(path, number, offset, len(line), ""))
            offset += len(line) + 1
        return places


def report(found: Damage, reason: str, damage: list[Damage] | None) -> None:
    """Add what is wrong at a place to ``damage``, or, where damage is not to be listed, raise it.

    Raises:
        CorruptSegment: ``damage`` was not given.
    """
    if damage is None:
        raise CorruptSegment(found.path, found.line, found.byte_offset, reason) from None
    damage.append(msgspec.structs.replace(found, reason=reason))


def where(store: Store, session_id: str, segment_id: str) -> str:
    """Return how to name a segment in a message: its path, if it has one."""
    path_of = getattr(store, "segment_path", None)
    return str(path_of(session_id, segment_id)) if path_of is not None else f"{session_id}/{segment_id}"


def head_at(store: Store, session_id: str, segment_id: str, entries: int | None) -> Head:
    """Return the head after the first ``entries`` lines (None: all), by counting if the store keeps no positions."""
    position = getattr(store, "position", None)
    if position is not None:
        known: tuple[int, int] = position(session_id, segment_id)
        if entries is None or known[0] == entries:
            return Head(session_id, segment_id, *known)
    count = byte_offset = 0
    for line in store.read(session_id, segment_id, 0, entries):
        count += 1
        byte_offset += len(line) + 1
    return Head(session_id, segment_id, count, byte_offset)


def read_blocks(
    store: Store,
    session_id: str,
    segment_id: str,
    start: int = 0,
    stop: int | None = None,
    *,
    offset: int | None = None,
    damage: list[Damage] | None = None,
) -> Iterator[Block]:
    """Yield the committed lines from ``start`` to before ``stop``, decoded.

    ``offset`` is the byte at which line ``start`` begins, where that is known. Damage is appended to ``damage``, if
    given.

    Raises:
        CorruptSegment: a line is no entry, and ``damage`` was not given.
        UnsupportedVersion: the segment was written by a later format.
    """
    path = where(store, session_id, segment_id)
    line, byte_offset = start, offset or 0
    for data in raw_blocks(store, session_id, segment_id, start, stop, offset):
        block = Block(data, _entries(data, path, line, byte_offset, damage), line, byte_offset)
        if line == 0:
            _check_first(block, path, session_id, damage)
        yield block
        line += len(block.entries)
        byte_offset += len(data)


def raw_blocks(
    store: Store, session_id: str, segment_id: str, start: int, stop: int | None, offset: int | None
) -> Iterator[bytes]:
    """Yield the committed lines from ``start`` to before ``stop`` as blocks of bytes, newlines included."""
    in_blocks = getattr(store, "read_blocks", None)  # see BlockReader; isinstance of a Protocol costs microseconds
    if in_blocks is not None:
        yield from in_blocks(session_id, segment_id, start, stop, offset=offset)
        return
    group: list[bytes] = []
    for line in store.read(session_id, segment_id, start, stop):
        group.append(line)
        if len(group) == _GROUP_LINES:
            yield b"\n".join(group) + b"\n"
            group.clear()
    if group:
        yield b"\n".join(group) + b"\n"


def _entries(
    data: bytes, path: str, first_line: int, byte_offset: int, damage: list[Damage] | None
) -> list[LogEntry | None]:
    plain = decode_plain_lines(data)
    if plain is not None:
        return plain  # type: ignore[return-value]  # a list of entries is one of entries and Nones
    return [*_one_by_one(data, path, first_line, byte_offset, damage)]


def _one_by_one(
    data: bytes, path: str, first_line: int, byte_offset: int, damage: list[Damage] | None
) -> Iterator[LogEntry | None]:
    for at, line in enumerate(data[:-1].split(b"\n"), first_line + 1):
        entry = None
        if line.strip():
            try:
                entry = decode_line(line)
            except InvalidEntry as exc:
                if damage is None:
                    raise CorruptSegment(path, at, byte_offset, str(exc)) from None
                damage.append(Damage(path, at, byte_offset, len(line), str(exc)))
        yield entry
        byte_offset += len(line) + 1


def _check_first(block: Block, path: str, session_id: str, damage: list[Damage] | None) -> None:
    start = block.entries[0]
    if isinstance(start, SegmentStart):
        if start.v is not None and start.v > FORMAT_VERSION:
            raise UnsupportedVersion(path, start.v, FORMAT_VERSION)
        if start.session_id.lower() == session_id:
            return
        reason = f"belongs to session {start.session_id}, not to the one it lies in"
    elif start is None and damage:
        return  # listed already
    else:
        reason = "the first line is no segment_start"
    if damage is None:
        raise CorruptSegment(path, 1, 0, reason)
    damage.append(Damage(path, 1, 0, block.data.index(b"\n"), reason))


def read_start(store: Store, session_id: str, segment_id: str) -> SegmentStart:
    """Return the first entry of a segment; however long its line is, nothing else is read."""
    for line in store.read(session_id, segment_id, 0, 1):
        path = where(store, session_id, segment_id)
        try:
            entry: LogEntry | None = decode_line(line) if line.strip() else None
        except InvalidEntry as exc:
            raise CorruptSegment(path, 1, 0, str(exc)) from None
        block = Block(line + b"\n", [entry], 0, 0)
        _check_first(block, path, session_id, None)
        assert isinstance(entry, SegmentStart)
        return entry
    raise CorruptSegment(where(store, session_id, segment_id), 1, 0, "the segment has no committed line")
