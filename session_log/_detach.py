"""Detaching: a child by reference that is made to stand alone, under its own id.

Its first line is replaced by one that holds what it inherited; the lines behind that are the same bytes, with the same
numbers, so that rollbacks, references and readers that count lines find what they found before. The line that was
replaced stands in the new one, as text (``detached``): nothing is taken away. The new file is written whole beside the
old one, synced, and moved over it: a crash leaves the one or the other, and both say the same.
"""

import contextlib
import os
from typing import Final

import msgspec

from session_log import _layout, _repair
from session_log._codec import encode_struct
from session_log._entries import SegmentOrigin, SegmentStart
from session_log._errors import AppendUnknown, InvalidEntry, StoreUnavailable
from session_log._file_store import FsStore
from session_log._forking import inlined
from session_log._frame import MAX_LINE_BYTES
from session_log._lineage import inherits
from session_log._reader import read_start
from session_log._segment_file import SegmentFile

_CHUNK: Final = 1 << 20


def detach(store: FsStore, session_id: str, segment_id: str) -> bool:
    """Make a segment stand alone; tell whether it did not before. It restores to the same state.

    Whoever has it open for writing must open it again.

    Raises:
        SegmentBusy: a writer holds it.
        InvalidEntry: what it inherits is too long for a line; nothing was changed.
        BrokenLineage: it does not inherit what it says; nothing was changed.
        StoreUnavailable: there is no room for the new file; nothing was changed.
        AppendUnknown: it is in place, and the old one may be back after a power cut.
    """
    path = str(store.segment_path(session_id, segment_id))
    holder = SegmentFile(path, durability=store.durability, exclusive=True)
    try:
        holder.hold()
        start = read_start(store, session_id, segment_id)
        if not inherits(start):
            return False
        line = next(iter(store.read(session_id, segment_id, 0, 1)))
        new = _alone(store, session_id, segment_id, start, line)
        store.let_go(session_id)
        _replace(path, holder.fd, new + b"\n", len(line) + 1, durable=store.durability != "process")
        return True
    finally:
        holder.close()


def _alone(store: FsStore, session_id: str, segment_id: str, start: SegmentStart, line: bytes) -> bytes:
    """Return the first line of the segment with what it inherits in it."""
    gathered, restored = inlined(store, session_id, segment_id, 1)
    state, origin = restored.state, start.forked_from
    assert origin is not None  # it inherits
    new = encode_struct(
        msgspec.structs.replace(
            start,
            system_prompt=state.system_prompt,
            config=state.config,
            history=tuple(gathered.history),
            forked_from=SegmentOrigin(origin.segment_id, origin.at_turn_index),
            turn_count=state.turn_count,
            carried=gathered.carried(),
            detached=line.decode(),
        )
    )
    if len(new) > MAX_LINE_BYTES:
        reason = f"what the segment inherits takes a line of {len(new)} bytes, at most {MAX_LINE_BYTES}; compact it"
        raise InvalidEntry("$.history", f"{reason} or delete it together with its parent")
    return new


def _replace(path: str, fd: int, first: bytes, offset: int, *, durable: bool) -> None:
    """Put a file in place of the one at ``path``: ``first``, and what stands in ``fd`` from ``offset`` on."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    with _layout.reported(path):
        try:
            new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _repair.write_all(new, first)
                while piece := os.pread(fd, _CHUNK, offset):
                    _repair.write_all(new, piece)
                    offset += len(piece)
                if durable:
                    _repair.sync(new)
            finally:
                os.close(new)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    if durable:
        try:
            _layout.sync_folder(folder)
        except StoreUnavailable as exc:
            raise AppendUnknown(path, f"it stands alone, and may not after a power cut ({exc.reason})") from exc
