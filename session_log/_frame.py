"""Framing: which bytes of a segment are committed. Pure; bytes in, offsets out.

1. A line is committed by its newline.
2. An append of n > 1 lines is a batch, committed by the newline of its last line. Its first line says so with the extra
   key ``"batch":n``, the others with ``"batch":0``. (Readers need only the first mark. The others tell the remains
   of a batch whose first sector was lost in a power cut from lines that were committed one by one.)
3. A retry token is the extra key ``"token"`` of the first line.
4. The last unit (line or batch) is torn, newline or not, if there are NUL bytes in it: a file system shows sectors that
   never reached the disk as zeros, and JSON has no raw NUL.

We write the marks at the end of the line: ``...,"batch":3,"token":"x"}``. There they cannot be mistaken for a part of a
payload, which is closed by a brace of its own. Marks elsewhere in the line are read as well.
"""

import re
from collections.abc import Sequence

import msgspec

from session_log._errors import CallerError, InvalidEntry

MAX_LINE_BYTES = 64 << 20
"""The longest line, without its newline. A longer one is no conversation but a file: put it into a blob."""
MAX_BATCH_LINES = 1024
"""The most lines of one append: a reader looks back so far for the first line of a batch."""
MAX_BATCH_BYTES = 128 << 20
"""The most bytes of one append: the memory a reader needs to tell whether the tail is committed."""
MAX_TOKEN_BYTES = 200
"""The longest retry token or idempotency key: room for a UUID, a hash or a URL."""

_OURS = re.compile(rb',"batch":(\d{1,9})(?:,"token":"([^"\\]*)")?\}\Z')
_OUR_TOKEN = re.compile(rb',"token":"([^"\\]*)"\}\Z')
_TOKEN = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")


class Marks(msgspec.Struct, frozen=True, gc=False):
    """The framing keys of a line: ``batch`` is None (alone), n > 1 (first of n) or 0 (one of the others)."""

    batch: int | None = None
    token: str | None = None


_NONE = Marks()
_ANYWHERE = msgspec.json.Decoder(Marks)


def marks_of(line: bytes) -> Marks:
    """Return the framing keys of ``line``; those of a line that is no JSON object are absent."""
    if b'"batch"' not in line and b'"token"' not in line:
        return _NONE
    tail = line[-(MAX_TOKEN_BYTES + 64) :]
    if found := _OURS.search(tail):
        token = found[2]
        if token is None and b'"token"' in line:
            return _elsewhere(line)
        return _bounded(Marks(int(found[1]), token.decode("utf-8", "replace") if token is not None else None))
    if found := _OUR_TOKEN.search(tail):
        token = found[1].decode("utf-8", "replace")
        return Marks(None, token) if b'"batch"' not in line else Marks(_elsewhere(line).batch, token)
    return _elsewhere(line)


def _elsewhere(line: bytes) -> Marks:
    try:
        marks = _bounded(_ANYWHERE.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NONE
    return marks if b'"batch"' in line else Marks(None, marks.token)  # (a mark is never spelled with escapes)


def unmarked(line: bytes) -> bytes:
    """Return ``line`` without the framing keys that we write at its end."""
    if marks_of(line) == _NONE:
        return bytes(line)
    found = _OURS.search(line) or _OUR_TOKEN.search(line)
    return bytes(line) if found is None else line[: found.start()] + b"}"


def _bounded(marks: Marks) -> Marks:
    """Drop a count nobody could have written: it must not hide what comes behind it."""
    batch = marks.batch
    if batch is None or batch == 0 or 1 < batch <= MAX_BATCH_LINES:
        return marks
    return Marks(None, marks.token)


def mark(lines: Sequence[bytes], token: str | None = None) -> list[bytes]:
    """Return ``lines`` as they go into one append: marked as a batch, the first with ``token``. Idempotent.

    Raises:
        InvalidEntry: a line is no JSON object, or carries the marks of another append.
    """
    count = len(lines)
    if count == 1 and token is None:
        return list(lines)
    first_batch = count if count > 1 else None
    wanted = [Marks(first_batch, token)] + [Marks(0, None)] * (count - 1)
    return [_marked(line, marks, at) for at, (line, marks) in enumerate(zip(lines, wanted, strict=True))]


def batch_of(lines: Sequence[bytes]) -> bytes:
    """Return the bytes of a batch of several lines that were encoded just now, and so carry no marks yet.

    Raises:
        InvalidEntry: too many lines, or too many bytes.
    """
    parts = [line[:-1] for line in lines]
    parts[0] = b'%b,"batch":%d}\n%b' % (parts[0], len(lines), parts.pop(1))
    parts.append(b"")
    data = b',"batch":0}\n'.join(parts)
    if len(lines) > MAX_BATCH_LINES or len(data) > MAX_BATCH_BYTES:
        check_lines(lines)
        raise InvalidEntry("$", f"{len(data)} bytes in one append, at most {MAX_BATCH_BYTES} (MAX_BATCH_BYTES)")
    return data


def _marked(line: bytes, wanted: Marks, at: int) -> bytes:
    present = marks_of(line)
    if present == wanted:
        return line
    if present != _NONE:
        raise InvalidEntry(f"$[{at}]", "carries the batch mark or token of another append; append it without them")
    if len(line) < 2 or line[:1] != b"{" or line[-1:] != b"}":
        raise InvalidEntry(f"$[{at}]", "is no JSON object on one line, so it can be no part of a batch")
    parts = [line[:-1]]
    if wanted.batch is not None:
        parts.append(b',"batch":%d' % wanted.batch)
    if wanted.token is not None:
        parts.append(b',"token":"%s"' % wanted.token.encode())
    parts.append(b"}")
    return b"".join(parts)


def newlines(data: bytes) -> int:
    """Return how many newlines there are. ``replace`` finds them with memchr, six times as fast as ``count``."""
    return len(data) - len(data.replace(b"\n", b""))


def is_token(value: object) -> bool:
    """Tell whether a value could stand in a line as it is, as a retry token or an idempotency key."""
    return isinstance(value, str) and len(value) <= MAX_TOKEN_BYTES and _TOKEN.fullmatch(value) is not None


def check_token(token: object) -> None:
    """Refuse a retry token that could not stand in a line as it is.

    Raises:
        InvalidEntry: not 1 to :data:`MAX_TOKEN_BYTES` printable ASCII characters without quote and backslash.
    """
    if not is_token(token):
        raise InvalidEntry(
            "$.token", f"{token!r} is not 1 to {MAX_TOKEN_BYTES} printable ASCII characters without quote and backslash"
        )


def check_counts(**counts: object) -> None:
    """Refuse positions and limits that are no counts (None: not given).

    Raises:
        CallerError: negative, or no integer.
    """
    for name, value in counts.items():
        if value is not None and (type(value) is not int or value < 0):
            raise CallerError(f"{name}={value!r}: is no count; give an integer from 0 up")


def check_lines(lines: Sequence[bytes], *, most: int | None = MAX_BATCH_LINES) -> None:
    """Refuse what could not be read back as the same lines.

    Raises:
        InvalidEntry: nothing to write, a blank line, a newline, carriage return or NUL byte in a line, or too much.
    """
    if not lines:
        raise InvalidEntry("$", "an append needs at least one line")
    if most is not None and len(lines) > most:
        raise InvalidEntry("$", f"{len(lines)} lines in one append, at most {most} (MAX_BATCH_LINES)")
    total = 0
    for at, line in enumerate(lines):
        if type(line) is not bytes:
            raise InvalidEntry(f"$[{at}]", f"a line is bytes, not {type(line).__name__}")
        if b"\n" in line or b"\0" in line or line[-1:] == b"\r" or not line.strip():
            raise InvalidEntry(f"$[{at}]", "a line holds text without newline, NUL or trailing carriage return")
        if len(line) > MAX_LINE_BYTES:
            raise InvalidEntry(f"$[{at}]", f"{len(line)} bytes, at most {MAX_LINE_BYTES} (MAX_LINE_BYTES)")
        total += len(line) + 1
    if most is not None and total > MAX_BATCH_BYTES:
        raise InvalidEntry("$", f"{total} bytes in one append, at most {MAX_BATCH_BYTES} (MAX_BATCH_BYTES)")


def framed(lines: Sequence[bytes], token: str | None = None) -> list[bytes]:
    """Return lines as a store writes them in one append: checked, and marked if they are several or have a token.

    Raises:
        InvalidEntry: they could not be read back as the same lines.
    """
    lines = list(lines)
    check_lines(lines)
    if token is not None:
        check_token(token)
    elif len(lines) == 1:
        if b'"batch"' in lines[0] and marks_of(lines[0]).batch is not None:
            raise InvalidEntry("$[0]", "is marked as a part of a batch; alone it would never be committed")
        return lines
    return mark(lines, token)


def framed_whole(lines: Sequence[bytes], token: str | None = None) -> list[bytes]:
    """Return lines as a segment is created of them: checked, the first with the token, and no batch: it is whole."""
    lines = list(lines)
    check_lines(lines, most=None)
    if token is not None:
        check_token(token)
        lines[:1] = mark(lines[:1], token)
    if any(b'"batch"' in line for line in lines):
        whole = split_committed(b"\n".join(lines) + b"\n")[0]
        if len(whole) < len(lines):
            raise InvalidEntry(f"$[{len(whole)}]", "begins a batch that is not whole; it would never be committed")
    return lines


def check_trace_lines(lines: Sequence[bytes]) -> None:
    """Refuse trace lines that could not be read back: there are no batches in a trace.

    Raises:
        InvalidEntry: as :func:`check_lines`, or a line is marked as a part of a batch.
    """
    check_lines(lines)
    for at, line in enumerate(lines):
        if b'"batch"' in line and marks_of(line).batch is not None:
            raise InvalidEntry(f"$[{at}]", "is marked as a part of a batch; a trace has none")


def committed_length(window: bytes, *, whole: bool) -> int | None:
    """Return how many bytes of ``window`` are committed, or None if the decision needs earlier bytes.

    ``window`` is the end of a segment and starts at a line; ``whole`` says that it is all of it.
    """
    end = window.rfind(b"\n") + 1
    while True:
        header = _last_header(window, end)
        if header is None:
            searched = whole or end > MAX_BATCH_BYTES + MAX_LINE_BYTES or newlines(window[:end]) > MAX_BATCH_LINES
            return _without_nul_tail(window, 0, end) if searched else None
        start, count = header
        committed = _end_behind(window, start, count, end)
        if committed == end:
            return end
        end = committed  # what is left must end with a whole unit, too


def _end_behind(window: bytes, start: int, count: int, end: int) -> int:
    """Return the end of the committed lines of ``window[:end]``, whose last batch begins at ``start``."""
    lines = newlines(window[start:end])
    if lines < count:
        return start
    if lines == count:
        return start if window.find(b"\0", start, end) >= 0 else end
    floor = start
    for _ in range(count):
        floor = window.index(b"\n", floor) + 1
    committed = _without_nul_tail(window, floor, end)
    # zeros from within this batch up to the followers of a later one, whose first line they hide: one torn stretch
    if window.find(b"\0", start, floor) >= 0 and all(
        marks_of(line).batch == 0 for line in window[floor:committed].splitlines()
    ):
        return start
    return committed


def _last_header(window: bytes, end: int) -> tuple[int, int] | None:
    """Where the last batch starts in ``window[:end]``, and how many lines it has."""
    before = end
    while (at := window.rfind(b'"batch"', 0, before)) >= 0:
        start = window.rfind(b"\n", 0, at) + 1
        batch = marks_of(window[start : window.index(b"\n", at)]).batch
        if batch:
            return start, batch
        before = start
    return None


def _without_nul_tail(window: bytes, floor: int, end: int) -> int:
    """Return the end of the committed lines of ``window[floor:end]``, in which no batch starts that we could see.

    Lines with NULs at the very end are torn, and so are the marked followers between them: their first line is lost.
    """
    keep = at = end
    if window.find(b"\0", floor, end) < 0:
        return end
    while at > floor:
        start = max(window.rfind(b"\n", floor, at - 1) + 1, floor)
        line = window[start : at - 1]
        if b"\0" in line:
            keep = start
        elif marks_of(line).batch != 0:
            break
        at = start
    return keep


def split_committed(buffer: bytes) -> tuple[list[bytes], int]:
    """Return the lines of the whole units at the start of ``buffer``, and how many bytes they take."""
    end = buffer.rfind(b"\n") + 1
    if not end:
        return [], 0
    lines = buffer[: end - 1].split(b"\n")
    if b'"batch"' not in buffer:
        return lines, end
    firsts = [(marks_of(line).batch or 1) if b'"batch"' in line else 1 for line in lines]
    at = done = 0
    while at < len(lines):
        step = firsts[at]
        cut_short = next((n for n in range(at + 1, min(at + step, len(lines))) if firsts[n] > 1), None)
        if cut_short is not None:  # another batch begins in it: the reader from the end goes by that one
            at = cut_short
            continue
        if at + step > len(lines):
            break
        at = done = at + step
    return lines[:done], sum(len(line) + 1 for line in lines[:done])
