"""Idempotency: which key an append was recorded under, and what it said. Pure.

1. The key of an append is the extra key ``"idem"`` of its first line. We write it last, before the marks of framing:
   ``...,"idem":"k","batch":3}``. (So a store that marks batches need not know of it; without the marks it is kept.)
2. The content of an append is what its lines say, without the key, the marks, and what their place in the log decides:
   ``ts``, ``turn_count`` of a ``turn_end``, ``chain`` of what ends a turn or run. White space and the order of keys say
   nothing; nor does whether a long text stands in the line or in a blob.
3. A key counts while the whole append does. Once any line of it is rolled back, or behind the cut of a fork, the key is
   free; a redo takes it again.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from session_log._codec import decode_line
from session_log._entries import CarriedKey, LogEntry, SegmentStart, UnknownEntry
from session_log._errors import InvalidEntry
from session_log._frame import MAX_TOKEN_BYTES, is_token, marks_of, newlines
from session_log._payload import from_raw
from session_log._rollback import BadRollback, rollback_target
from session_log._unspilled import without_spilling

MAX_CARRIED_KEYS: Final = 4096
"""The keys that a copy or compaction carries, the newest: half a megabyte of its first line at most."""

_OF_THE_PLACE: Final = ("ts", "idem", "batch", "token")
_OF_THE_TURN: Final = ("turn_count", "chain")
_OF_THE_RUN: Final = ("chain",)
_OF_THE_END: Final = {"turn_end": _OF_THE_TURN, "run_completed": _OF_THE_RUN, "run_errored": _OF_THE_RUN}
"""What a writer with an integrity chain, or the turns before it, put into the lines that end something."""
_KEY_MARK, _ROLLBACK_MARK = b'"idem"', b"session_log.rollback"
_AT_THE_END = re.compile(
    rb',"idem":"([\x20\x21\x23-\x5b\x5d-\x7e]{1,%d})"(?:,"batch":\d{1,9})?(?:,"token":"[^"\\]*")?\}\Z' % MAX_TOKEN_BYTES
)


class _Key(msgspec.Struct, frozen=True, gc=False):
    idem: str | None = None


_ANYWHERE = msgspec.json.Decoder(_Key)


class Use(msgspec.Struct, frozen=True, gc=False):
    """The lines from ``first`` to before ``stop`` of a segment: one append, recorded under a key."""

    first: int
    stop: int


def check_idem(key: object) -> None:
    """Refuse an idempotency key that could not stand in a line as it is: it has the form of a retry token.

    Raises:
        InvalidEntry: not 1 to :data:`MAX_TOKEN_BYTES` printable ASCII characters without quote and backslash.
    """
    if not is_token(key):
        form = f"1 to {MAX_TOKEN_BYTES} printable ASCII characters without quote and backslash"
        raise InvalidEntry("$.idem", f"{key!r:.300} is not {form}; send a UUID, or the hash of your key")


def idem_of(line: bytes) -> str | None:
    """Return the key that a line carries, if it carries one."""
    if _KEY_MARK not in line:
        return None
    if found := _AT_THE_END.search(line[-(2 * MAX_TOKEN_BYTES + 64) :]):
        return found[1].decode()
    try:
        return _ANYWHERE.decode(line).idem
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _idem_slowly(line)


def _idem_slowly(line: bytes) -> str | None:
    """Return the key of a line with lone surrogates or integers beyond 64 bits in it."""
    try:
        said = from_raw(line)
    except (ValueError, RecursionError):
        return None
    key = said.get("idem") if isinstance(said, dict) else None
    return key if isinstance(key, str) else None


def keyed(lines: Sequence[bytes], key: str) -> list[bytes]:
    """Return unmarked lines as one append under ``key``.

    Raises:
        InvalidEntry: the first of them has a key of its own.
    """
    first, *others = lines
    own = idem_of(first)
    if own is not None:
        raise InvalidEntry("$.idem", f"the first entry has the key {own!r}; append it without, or without idem={key!r}")
    return [b'%b,"idem":"%b"}' % (first[:-1], key.encode()), *others]


def content_of(lines: Sequence[bytes]) -> str:
    """Return the hash of what the lines of an append say: 32 hex digits, so that nobody takes it for a blob's."""
    import hashlib  # here, because importing it costs a millisecond

    digest = hashlib.sha256()
    for line in lines:
        digest.update(_content(line) + b"\n")
    return digest.hexdigest()[:32]


def _content(line: bytes) -> bytes:
    try:
        said: Any = from_raw(line)
        left_out = (*_OF_THE_PLACE, *_OF_THE_END.get(said.get("kind"), ()))
        kept = {name: value for name, value in said.items() if name not in left_out}
        return json.dumps(without_spilling(kept), sort_keys=True, separators=(",", ":")).encode()
    except (
        ValueError,
        AttributeError,
        TypeError,
        RecursionError,
    ):  # damaged since: it is equal to nothing that is appended now
        return line


class Uses:
    """Where the keys of one segment were used, and what was rolled back. Grows with the segment, from its beginning.

    The same lines may be taken in again: an interrupt, or a signal handler, may come between.
    """

    def __init__(self) -> None:
        self.position = 0, 0  # entries and bytes taken in
        self.carried: dict[str, str] = {}  # key and content
        self._uses: dict[str, dict[int, Use]] = {}  # by first line
        self._rollbacks: dict[int, int] = {}  # by line: how many lines it keeps

    def copy(self) -> "Uses":
        """Return one that grows on its own."""
        other = Uses()
        other.position = self.position
        other.carried = self.carried
        other._uses = {key: uses.copy() for key, uses in self._uses.items()}
        other._rollbacks = self._rollbacks.copy()
        return other

    def add(self, block: bytes, position: tuple[int, int]) -> tuple[int, int]:
        """Take in the lines behind ``position`` and return where they end; decode only those that might matter."""
        number, offset = position
        counted = 0
        for start in _starts(block):
            number += newlines(block[counted:start])
            counted = start
            self._take(block[start : block.index(b"\n", start)], number)
        self.position = number + newlines(block[counted:]), offset + len(block)
        return self.position

    def _take(self, line: bytes, at: int) -> None:
        if at == 0:
            self.carried = _carried(line)
            return
        if _ROLLBACK_MARK in line and (target := _rollback(line, at)) is not None:
            self._rollbacks[at] = target
        key = idem_of(line)
        if is_token(key) and (count := marks_of(line).batch) != 0:
            self._uses.setdefault(str(key), {})[at] = Use(at, at + (count or 1))

    def find(self, key: str, entries: int) -> Use | None:
        """Return the append under ``key`` that is part of the state after the first ``entries`` lines."""
        for _, use in sorted(self._uses.get(key, {}).items(), reverse=True):
            if use.stop <= self._kept(use.first, entries):
                return use
        return None

    def _kept(self, first: int, entries: int) -> int:
        """Return where the stretch ends that counts after ``entries`` lines and in which line ``first`` would be."""
        for at, target in sorted(self._rollbacks.items(), reverse=True):
            if at < entries:
                if first > at:
                    break
                entries = target
        return entries


def _starts(block: bytes) -> list[int]:
    """Return where the lines begin that hold a key or a rollback, perhaps."""
    starts = set()
    for mark in (_KEY_MARK, _ROLLBACK_MARK):
        at = block.find(mark)
        while at >= 0:
            starts.add(block.rfind(b"\n", 0, at) + 1)
            at = block.find(mark, block.index(b"\n", at))
    return sorted(starts)


def _carried(line: bytes) -> dict[str, str]:
    try:
        start = decode_line(line)
    except InvalidEntry:
        return {}
    if not isinstance(start, SegmentStart) or start.carried is None:
        return {}
    return {one.key: one.content for one in start.carried.idem}


def _rollback(line: bytes, at: int) -> int | None:
    try:
        return rollback_target(decode_line(line), at)
    except (InvalidEntry, BadRollback):  # whoever restores is told
        return None


def keys_among(found: Sequence[tuple[LogEntry | None, bytes]], order: Sequence[int]) -> Iterator[CarriedKey]:
    """Yield the keys of a segment's appends of which every line is in ``order``, in that order."""
    counting = frozenset(order)
    for at in order:
        entry, line = found[at]
        if isinstance(entry, SegmentStart) or (not isinstance(entry, UnknownEntry) and _no_key(entry)):
            continue
        key, count = idem_of(line), marks_of(line).batch
        lines = range(at, at + (1 if count is None else count))
        if is_token(key) and lines and counting.issuperset(lines):  # (one of another form nobody can ask for)
            yield CarriedKey(str(key), content_of([found[each][1] for each in lines]))


def _no_key(entry: LogEntry | None) -> bool:
    return getattr(entry, "idem", None) is None
