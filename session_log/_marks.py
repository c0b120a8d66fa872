"""Which blobs are referred to: any 64 hexadecimal digits in any line that name one.

Lines are looked at as bytes, torn ends and bytes that were moved aside included: what might be a reference is one. So
nothing is decoded but to see that a line is whole: a damaged one may have lost a reference.
"""

import os
from collections.abc import Iterator
from typing import Final

import msgspec

from session_log import _layout, _payload, _trash
from session_log._committed import OpenFile, read_span
from session_log._errors import InvalidEntry, NotFound, SessionLogError
from session_log._frame import MAX_LINE_BYTES
from session_log._hex_runs import hex_runs
from session_log._state import Damage

_BLOCK: Final = 1 << 20
_LINES: Final = (_layout.SEGMENT_SUFFIX,)
_BESIDE: Final = (".torn", ".damage")
MAX_BLOCK_BYTES: Final = MAX_LINE_BYTES + _BLOCK


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_decoder = msgspec.json.Decoder(_Kind)


def mark_folder(folder: str, unmarked: set[bytes], damage: list[Damage]) -> int:
    """Take what the files of a session's folder refer to out of ``unmarked``; return how many bytes were read.

    What cannot be read, or is damaged, goes to ``damage``. A file or folder that goes meanwhile is in the trash, which
    is looked at later.
    """
    size = 0
    try:
        with _layout.folder(folder) as fd, _layout.reported(folder):
            names = sorted(os.listdir(fd))
    except NotFound:
        return 0
    except SessionLogError as exc:
        damage.append(Damage(folder, 0, 0, 0, str(exc)))
        return 0
    for name in names:
        lines = name.endswith(_LINES)
        if not lines and not name.endswith(_BESIDE):
            continue
        try:
            size += _mark_file(f"{folder}/{name}", unmarked, damage, lines=lines)
        except NotFound:
            continue
        except SessionLogError as exc:
            damage.append(Damage(f"{folder}/{name}", 0, 0, 0, str(exc)))
    return size


def mark_text(data: bytes, unmarked: set[bytes]) -> None:
    """Take every hash in ``data`` out of ``unmarked``, wherever in a run of digits it begins."""
    data = data.lower()
    for start, end in hex_runs(data):
        for at in range(start, end - 63):
            unmarked.discard(bytes.fromhex(data[at : at + 64].decode()))


def _mark_file(path: str, unmarked: set[bytes], damage: list[Damage], *, lines: bool) -> int:
    with OpenFile(path) as file, _layout.reported(path):
        at, number, rest = 0, 1, b""
        while piece := read_span(file.fd, at + len(rest), at + len(rest) + _BLOCK):
            data = rest + piece
            end = data.rfind(b"\n") + 1
            if end == 0 and len(data) <= MAX_BLOCK_BYTES:
                rest = data
                continue
            end = end or len(data)
            block, rest = data[:end], data[end:]
            mark_text(block, unmarked)
            if lines:
                number = _check(path, block, number, at, damage)
            at += end
        mark_text(rest, unmarked)
        return at + len(rest)


def _check(path: str, block: bytes, number: int, at: int, damage: list[Damage]) -> int:
    """Note the lines of a block that are none; return the number of the line behind it."""
    try:
        _decoder.decode_lines(block)
        return number + block.count(b"\n")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    for line in block.split(b"\n")[:-1]:
        if line.strip() and (reason := _fault(line)) is not None:
            damage.append(Damage(path, number, at, len(line), reason))
        number += 1
        at += len(line) + 1
    return number


def _fault(line: bytes) -> str | None:
    try:
        _payload.object_of(line)
    except InvalidEntry as exc:
        return str(exc)
    return None


def places_of(root: str) -> Iterator[str]:
    """Yield every folder that holds lines: sessions first, then the trash, where what goes meanwhile is found."""
    yield from _below(root)
    trash = f"{root}/{_trash.TRASH}"
    yield from _below(trash)
    for session in _below(f"{trash}/{_trash.SEGMENTS}"):
        yield from _below(session)


def _below(path: str) -> list[str]:
    """Return the folders whose names are ids, numbered or not. A symlink or a file of such a name is one, too."""
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise _layout.unavailable(path, exc) from exc
    return [f"{path}/{name}" for name in sorted(names) if _trash.split_name(name) is not None]
