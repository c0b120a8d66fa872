"""Entry to line and line to entry. Pure.

Known variants are decoded by msgspec in one go. What that refuses is read again, field by field: unknown variants
become :class:`Unknown`, unknown kinds :class:`UnknownEntry`, lone surrogates (which JSON can spell and UTF-8 cannot)
stay in an opaque payload and become U+FFFD in our own text. Only what is wrong even then is an error.

Encoding checks that the line will read back as the same entry: cheaply for the shapes a turn is made of, else by
reading it back.
"""

import msgspec

from session_log import _check, _payload, _tolerant
from session_log._entries import (
    Carried,
    ConfigChanged,
    Extension,
    KnownEntry,
    LogEntry,
    SegmentStart,
    SessionExtension,
    UnknownEntry,
    UserInput,
)
from session_log._errors import InvalidEntry
from session_log._frame import MAX_LINE_BYTES, Marks, marks_of
from session_log._items import Unknown


def _verbatim(value: object) -> msgspec.Raw:
    if isinstance(value, Unknown):
        if b"\n" in value.raw or b"\r" in value.raw:
            raise ValueError("raw JSON must stand on one line")
        return msgspec.Raw(value.raw)
    raise TypeError(f"{type(value).__name__} has no place in an entry")


_ENCODER = msgspec.json.Encoder(enc_hook=_verbatim)
_encode = _ENCODER.encode
encode_struct = _encode
"""Encode a value of ours that is known to be sound; raw JSON and unknown variants in it stay as they are."""
encode_with_newlines = _ENCODER.encode_lines
"""Encode several such values, a newline behind each."""
_DECODER = msgspec.json.Decoder(KnownEntry)
_decode = _DECODER.decode
_decode_many = msgspec.json.Decoder(list[KnownEntry]).decode
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_plain = _check.PLAIN.get


def encode_line(entry: LogEntry) -> bytes:
    """Return the line of ``entry``, without its newline.

    Lone surrogates in our own text fields are written as U+FFFD; an opaque payload keeps them.

    Raises:
        InvalidEntry: the entry would not read back the same; ``path`` names the value.
    """
    return prepare(entry)[0]


def prepare(entry: LogEntry) -> tuple[bytes, LogEntry]:
    """Return the line of ``entry``, and the entry a reader will get from it, which is what may enter a state."""
    check = _plain(type(entry))
    if check is None or not check(entry):
        return _prepare_slowly(entry)
    try:
        line = _encode(entry)
    except UnicodeEncodeError:
        return _prepare_slowly(entry)
    if len(line) > MAX_LINE_BYTES:
        raise _too_long(line)
    return line, entry


def _too_long(line: bytes) -> InvalidEntry:
    return InvalidEntry(
        "$", f"the line has {len(line)} bytes, at most {MAX_LINE_BYTES} (MAX_LINE_BYTES); put the payload into a blob"
    )


def _prepare_slowly(entry: LogEntry) -> tuple[bytes, LogEntry]:
    if isinstance(entry, UnknownEntry):
        return _prepare_unknown(entry)
    if not isinstance(entry, KnownEntry):
        raise InvalidEntry("$", f"{type(entry).__name__} is no log entry")
    settled = _with_raw_payloads(entry)
    try:
        line = _encode(settled)
    except UnicodeEncodeError:
        settled = _check.without_surrogates(settled)
        line = _encode(settled)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise _check.explain(settled, str(exc)) from None
    if len(line) > MAX_LINE_BYTES:
        raise _too_long(line)
    try:
        read_back = decode_line(line)
    except InvalidEntry as exc:
        raise _check.explain(settled, exc.reason, exc.path) from None
    _check.refuse_difference(settled, read_back)
    if isinstance(read_back, (ConfigChanged, SegmentStart)):
        line = _encode(msgspec.structs.replace(settled, config=read_back.config))  # temperature=1 is read as 1.0
    return line, read_back


def _prepare_unknown(entry: UnknownEntry) -> tuple[bytes, LogEntry]:
    raw = entry.raw
    if type(raw) is not bytes or b"\n" in raw or b"\r" in raw or len(raw) > MAX_LINE_BYTES:
        raise InvalidEntry("$.raw", f"must be one line of at most {MAX_LINE_BYTES} bytes, without its newline")
    if marks_of(raw) != Marks():
        raise InvalidEntry("$.raw", "carries the batch mark or token of another append")
    if decode_line(raw) != entry:
        raise InvalidEntry("$.raw", f"is not a line of the unknown kind {entry.kind!r}")
    return raw, entry


def _with_raw_payloads(entry: KnownEntry) -> KnownEntry:
    """Encode what is opaque first: those payloads follow other rules than our own fields."""
    match entry:
        case Extension(payload=payload):
            return msgspec.structs.replace(entry, payload=_payload.to_raw(payload, "$.payload"))
        case UserInput(extensions=extensions) if extensions:
            return msgspec.structs.replace(entry, extensions=_raw_extensions(extensions, "$.extensions"))
        case SegmentStart(carried=Carried(extensions=extensions) as carried) if extensions:
            raw = _raw_extensions(extensions, "$.carried.extensions")
            return msgspec.structs.replace(entry, carried=msgspec.structs.replace(carried, extensions=raw))
        case _:
            return entry


def _raw_extensions(extensions: tuple[SessionExtension, ...], path: str) -> tuple[SessionExtension, ...]:
    settled = []
    if not isinstance(extensions, (tuple, list)):
        raise InvalidEntry(path, f"{type(extensions).__name__} is no tuple of SessionExtension")
    for at, extension in enumerate(extensions):
        if not isinstance(extension, SessionExtension):
            raise InvalidEntry(f"{path}[{at}]", f"{type(extension).__name__} is no SessionExtension")
        raw = _payload.to_raw(extension.payload, f"{path}[{at}].payload")
        settled.append(SessionExtension(extension.domain, raw))
    return tuple(settled)


def decode_plain_lines(data: bytes) -> list[KnownEntry] | None:
    """Return the entries of a block of lines at full speed, or None if any line of it wants a closer look.

    (msgspec's ``decode_lines`` takes any white space between values, so an entry split over two lines, and two glued
    into one, would pass. With a comma behind each newline, a newline within an entry breaks the array.)
    """
    spaced = data.replace(b"\n", b"\n,")
    try:
        entries = _decode_many(b"".join((b"[", memoryview(spaced)[:-1], b"]")))
    except DECODE_ERRORS:
        return None
    return entries if len(entries) == len(spaced) - len(data) else None


def decode_line(line: bytes) -> LogEntry:
    """Return the entry of one line; a newline (or CRLF) at its end is tolerated.

    Raises:
        InvalidEntry: the line is no entry; ``path`` names the value that is wrong.
    """
    if not isinstance(line, bytes):
        raise InvalidEntry("$", f"a line is bytes, not {type(line).__name__}")
    try:
        entry: LogEntry = _decode(line)
        return entry
    except DECODE_ERRORS:
        return _tolerant.decode(line)


def clock_time(entry: LogEntry | None) -> int:
    """Return the time stamp of an entry that later ones must not be before; 0 if it is more than 64 bits hold."""
    ts = ts_of(entry)
    return 0 if ts >> 63 else ts


def ts_of(entry: LogEntry | None) -> int:
    """Return the time stamp of an entry, of a later kind too; 0 if there is none."""
    if isinstance(entry, UnknownEntry):
        ts = _payload.from_raw(entry.raw).get("ts")
        return ts if type(ts) is int else 0
    return entry.ts if entry is not None else 0
