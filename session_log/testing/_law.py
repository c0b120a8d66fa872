"""What a law is made of: a store on trial, lines to write into it, and ways to say what was expected and found."""

from __future__ import annotations

import json
import reprlib
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from session_log import (
    FORMAT_VERSION,
    Extension,
    RequestConfig,
    SegmentStart,
    Store,
    encode_line,
    new_segment_id,
    new_session_id,
)

Ids = tuple[str, str]
T = TypeVar("T")
E = TypeVar("E", bound=Exception)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 300
_short.maxlist = _short.maxtuple = 8


class Broken(Exception):
    """A store did what its contract does not allow."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")
        self.what = what
        self.expected = expected
        self.found = found


class Law(NamedTuple):
    """One sentence of the contract and the check that it holds."""

    name: str
    sentence: str
    check: Callable[[Trial], None]
    needs_processes: bool


class Trial:
    """A store made for one law, and further handles on the same data."""

    def __init__(
        self,
        make_store: Callable[[], Store],
        reopen: Callable[[Store], Store] | None,
        open_store: Callable[[Store], Callable[[], Store]] | None,
    ) -> None:
        self._reopen = reopen
        self._open_store = open_store
        self._opened: list[Store] = []
        self.store = self._keep(make_store())
        self.other = self._second_handle()

    def _keep(self, store: Store) -> Store:
        self._opened.append(store)
        return store

    def _second_handle(self) -> Store:
        if self._reopen is not None:
            return self._keep(self._reopen(self.store))
        if self._open_store is not None:
            return self._keep(self._open_store(self.store)())
        return self.store

    @property
    def handles(self) -> tuple[Store, ...]:
        """The store and, where there is one, the second handle."""
        return (self.store,) if self.other is self.store else (self.store, self.other)

    def elsewhere(self) -> Callable[[], Store]:
        """Return what opens the same data in another process."""
        assert self._open_store is not None, "laws that need processes are run only with open_store"
        return self._open_store(self.store)

    def segment(self, *lines: bytes, session_id: str | None = None) -> Ids:
        """Create a segment of a start line and ``lines``, appended one by one, and return its ids."""
        ids = session_id or new_session_id(), new_segment_id()
        self.store.create_segment(*ids, [start(ids)])
        for one in lines:
            self.store.append(*ids, [one])
        return ids

    def lines(self, ids: Ids) -> list[bytes]:
        """Return all lines of a segment, which every handle and ``length`` must agree on."""
        found = list(self.store.read(*ids))
        for store in self.handles:
            expect("the lines that another handle reads", list(store.read(*ids)), found)
            expect("length() beside the lines that are read", store.length(*ids), len(found))
        return found

    def close(self) -> None:
        """Close every handle."""
        while self._opened:
            self._opened.pop().close()


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def start(ids: Ids) -> bytes:
    """Return the first line of a segment."""
    return encode_line(SegmentStart(ts=1, session_id=ids[0], config=RequestConfig(), history=(), v=FORMAT_VERSION))


def line(*what: int | str) -> bytes:
    """Return a line that says ``what``."""
    return encode_line(Extension(ts=1, domain="contract", payload=list(what)))


def marked(lines: Sequence[bytes], token: str | None = None) -> list[bytes]:
    """Return lines as a store keeps them that got them in one append: several are marked as a batch."""
    token_mark = b"" if token is None else b',"token":"%b"' % token.encode()
    batch_mark = b"" if len(lines) == 1 else b',"batch":%d' % len(lines)
    first = lines[0][:-1] + batch_mark + token_mark + b"}"
    return [first, *(one[:-1] + b',"batch":0}' for one in lines[1:])]


def units(lines: Sequence[bytes]) -> list[list[bytes]]:
    """Part what was read into what was appended; a batch that is not whole is a violation."""
    found: list[list[bytes]] = []
    at = 0
    while at < len(lines):
        size = json.loads(lines[at]).get("batch") or 1
        unit = list(lines[at : at + size])
        expect("the lines of a batch that are there", len(unit), size)
        if size > 1:
            followers = [json.loads(one).get("batch") for one in unit[1:]]
            expect("the marks of the lines that follow a batch's first", followers, [0] * (size - 1))
        found.append(unit)
        at += size
    return found


# ── judging ────────────────────────────────────────────────────────────────────────────────────────────────────────


def shown(value: object) -> str:
    """Return how to show a value in a message: short, and with its size if it is shortened."""
    text = _short.repr(value)
    return f"{text} ({len(value)} bytes)" if isinstance(value, bytes) and len(value) > len(text) else text


def expect(what: str, found: object, expected: object) -> None:
    """Fail unless ``found`` is ``expected``."""
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list):
        at = next((at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
        if at is None:
            raise Broken(f"{what}, how many", str(len(expected)), str(len(found)))
        what, expected, found = f"{what}, number {at}", expected[at], found[at]
    raise Broken(what, shown(expected), shown(found))


def refused(what: str, error: type[E], call: Callable[[], object]) -> E:
    """Return the error that ``call`` raises; fail if it raises none, or another one."""
    try:
        found = call()
    except error as exc:
        return exc
    except Exception as exc:
        raise Broken(what, error.__name__, f"{type(exc).__name__}: {exc}") from exc
    raise Broken(what, error.__name__, f"no error; it returned {shown(found)}")


def together(*calls: Callable[[], T]) -> list[T | Exception]:
    """Start calls at the same moment, each in a thread, and return what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    outcomes: dict[int, T | Exception] = {}

    def run(at: int, call: Callable[[], T]) -> None:
        barrier.wait()
        try:
            outcomes[at] = call()
        except Exception as exc:  # noqa: BLE001  (whether it may be raised is for the law to say)
            outcomes[at] = exc

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[at] for at in range(len(calls))]


def returned(outcome: T | Exception) -> T:
    """Return what a call returned; fail with what it raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


# ── the list ───────────────────────────────────────────────────────────────────────────────────────────────────────

ALL: list[Law] = []
"""Every law; a file adds its own when it is imported."""


def law(check: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """Add a check to the laws; its docstring is the sentence."""
    return _add(check, needs_processes=False)


def law_of_processes(check: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """Add a check that starts other processes."""
    return _add(check, needs_processes=True)


def _add(check: Callable[[Trial], None], *, needs_processes: bool) -> Callable[[Trial], None]:
    sentence = (check.__doc__ or "").strip().partition("\n\n")[0]
    ALL.append(Law(check.__name__, " ".join(sentence.split()), check, needs_processes))
    return check
