"""The contract of a store: the stores keep it, and the kit that says so catches every store that does not."""

import copy
import functools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import pytest

import session_log
from session_log import (
    BlobRef,
    Capabilities,
    FsStore,
    HeadMoved,
    InvalidEntry,
    MemoryStore,
    NotFound,
    SegmentExists,
    Store,
    StoreUnavailable,
)
from session_log.testing import LAWS, ContractViolation, run_store_contract

Durability = Literal["process", "turn", "power"]
OF_PROCESSES = ("racing_processes_lose_nothing", "one_of_racing_processes_creates", "a_follower_sees_other_processes")
OF_THREADS = tuple(name for name in LAWS if name not in OF_PROCESSES)


def opener(store: Store) -> Callable[[], Store]:
    assert isinstance(store, FsStore)
    return functools.partial(type(store), store.root, durability=store.durability)


# ── the stores ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("law", OF_THREADS)
def test_memory_store_keeps(law: str) -> None:
    """The store in memory honours the contract; a shallow copy of it is a second handle on the same data."""
    assert run_store_contract(MemoryStore, only=[law]) == (law,)
    assert run_store_contract(MemoryStore, reopen=copy.copy, only=[law]) == (law,)


@pytest.mark.parametrize("durability", ["process", "turn", "power"])
@pytest.mark.parametrize("law", LAWS)
def test_fs_store_keeps(tmp_path: Path, law: str, durability: Durability) -> None:
    """The store of files honours the contract, whatever it promises about power cuts, between processes as well."""
    roots = map(tmp_path.joinpath, map(str, range(1_000_000)))
    make = functools.partial(_fs_store, roots, durability)

    assert run_store_contract(make, open_store=opener, processes=True, only=[law]) == (law,)


def _fs_store(roots: Iterator[Path], durability: Durability) -> FsStore:
    return FsStore(next(roots), durability=durability)


# ── stores with one defect each ────────────────────────────────────────────────────────────────────────────────────

Ids = tuple[str, str]
LATER_S = 0.002
"""How long a defective store leaves a gap for others to fall into."""


def lines_of(store: MemoryStore, ids: Ids) -> list[bytes]:
    return store._sessions[ids[0]][ids[1]]


class CreateOverwrites(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        self._sessions.get(session_id, {}).pop(segment_id, None)
        return super().create_segment(session_id, segment_id, lines, token=token)


class CreateLooksFirst(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        if self.exists(session_id, segment_id):
            raise SegmentExists(session_id, segment_id)
        time.sleep(LATER_S)
        self._sessions.setdefault(session_id, {})[segment_id] = list(lines)
        return len(lines)


class CreateForgetsTheLastLine(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        super().create_segment(session_id, segment_id, lines[:-1] or lines, token=token)
        return len(lines)


class CreateMarksABatch(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        count = super().create_segment(session_id, segment_id, lines[:1], token=token)
        return self.append(session_id, segment_id, lines[1:]) if lines[1:] else count


class CreateInTwoSteps(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        super().create_segment(session_id, segment_id, lines[:1], token=token)
        time.sleep(LATER_S)
        lines_of(self, (session_id, segment_id)).extend(lines[1:])
        return len(lines)


class CreateBeforeChecking(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        self._sessions.setdefault(session_id, {})
        return super().create_segment(session_id, segment_id, lines, token=token)


class CreateDropsMarkedLines(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        super().create_segment(session_id, segment_id, [one for one in lines if b'"batch":' not in one], token=token)
        return len(lines)


class CreateIgnoresToken(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        return super().create_segment(session_id, segment_id, lines)


class CreateTrustsToken(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        try:
            return super().create_segment(session_id, segment_id, lines, token=token)
        except SegmentExists:
            if token is None:
                raise
            return len(lines)


class WithAppend(MemoryStore):
    """What ``append`` does is one function: ``(append of MemoryStore, store, ids, lines, expected, token)``."""

    def __init__(self, how: Callable[..., int]) -> None:
        super().__init__()
        self.how = how

    def append(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, expected: Any = None, token: Any = None
    ) -> int:
        return self.how(super().append, self, (session_id, segment_id), lines, expected, token)


Append = Callable[..., int]
Lines = Sequence[bytes]


def appends_twice(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    append(*ids, lines, expected=expected, token=token)
    return append(*ids, lines, token=None)


def returns_the_count(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    append(*ids, lines, expected=expected, token=token)
    return len(lines)


def prepends(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    length = append(*ids, lines, expected=expected, token=token)
    present = lines_of(store, ids)
    present[1:] = [*present[-len(lines) :], *present[1 : -len(lines)]]
    return length


def ignores_expected(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    return append(*ids, lines, token=token)


def minds_only_a_greater_length(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    ahead = expected is not None and expected > store.length(*ids)
    return append(*ids, lines, expected=None if ahead else expected, token=token)


def writes_before_looking(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    length = store.length(*ids)
    after = append(*ids, lines, token=token)
    if expected not in (None, length):
        raise HeadMoved("here", expected, length)
    return after


def tells_the_wrong_length(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    try:
        return append(*ids, lines, expected=expected, token=token)
    except HeadMoved as exc:
        raise HeadMoved(exc.where, exc.actual, exc.expected) from None


def drops_keys(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    lines = [re.sub(rb',"idem":"[^"]*"', b"", line) for line in lines]
    return append(*ids, lines, expected=expected, token=token)


def keeps_no_marks(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    length = append(*ids, lines, expected=expected, token=token)
    if len(lines) > 1:
        lines_of(store, ids)[-len(lines) :] = lines
    return length


def ignores_token(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    return append(*ids, lines, expected=expected)


def looks_at_expected_first(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    length = store.length(*ids)
    if expected not in (None, length):
        raise HeadMoved("here", expected, length)
    return append(*ids, lines, expected=expected, token=token)


def trusts_token(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    for at, one in enumerate(lines_of(store, ids), 1):
        if token is not None and json.loads(one).get("token") == token:
            return at
    return append(*ids, lines, expected=expected, token=token)


def looks_for_the_token_too_early(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    known = any(json.loads(one).get("token") == token for one in lines_of(store, ids))
    time.sleep(LATER_S)
    if token is not None and not known:
        length = append(*ids, [b'{"kind":"gap","ts":1}'])
        lines_of(store, ids).pop(length - 1)
        token, lines = None, [lines[0][:-1] + b',"batch":2,"token":"t"}', lines[1][:-1] + b',"batch":0}']
        return append(*ids, lines)
    return append(*ids, lines, expected=expected, token=token)


def takes_any_token(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    try:
        return append(*ids, lines, expected=expected, token=token)
    except InvalidEntry:
        return append(*ids, lines, expected=expected)


def takes_anything(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    try:
        return append(*ids, lines, expected=expected, token=token)
    except InvalidEntry:
        lines_of(store, ids).extend(lines)
        return store.length(*ids)


def encodes_anew(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    return append(*ids, [json.dumps(json.loads(one)).encode() for one in lines], expected=expected, token=token)


def splits_at_any_line_break(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    parts = [part.encode() for one in lines for part in one.decode().splitlines() or [""]]
    return append(*ids, lines if len(parts) == len(lines) else parts, expected=expected, token=token)


def cuts_long_lines(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    short = [one if len(one) < 1 << 20 else one[: 1 << 20] + b'"}' for one in lines]
    return append(*ids, short, expected=expected, token=token)


def appends_line_by_line(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    length = append(*ids, lines, expected=expected, token=token)
    present = lines_of(store, ids)
    held_back = present[length - len(lines) + 1 :]
    del present[length - len(lines) + 1 :]
    for one in held_back:
        time.sleep(LATER_S)
        present.append(one)
    return len(present)


def loses_updates(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    before = list(lines_of(store, ids))
    length = append(*ids, lines, expected=expected, token=token)
    time.sleep(LATER_S)
    lines_of(store, ids)[:] = before + lines_of(store, ids)[length - len(lines) : length]
    return length


def compares_before_it_locks(
    append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any
) -> int:
    length = store.length(*ids)
    if expected not in (None, length):
        raise HeadMoved("here", expected, length)
    time.sleep(LATER_S)
    return append(*ids, lines, token=token)


def brings_back_the_dead(append: Append, store: MemoryStore, ids: Ids, lines: Lines, expected: Any, token: Any) -> int:
    store._sessions.setdefault(ids[0], {}).setdefault(ids[1], [])
    return append(*ids, lines, expected=expected, token=token)


class KnowsItsOwnLength(MemoryStore):
    """A handle that believes the length it has seen last."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, int] = {}

    def __copy__(self) -> "KnowsItsOwnLength":
        twin = KnowsItsOwnLength()
        twin._sessions = self._sessions
        return twin

    def append(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, expected: Any = None, token: Any = None
    ) -> int:
        known = self.known.get(segment_id, expected)
        if expected not in (None, known):
            raise HeadMoved("here", expected, known)
        length = self.known[segment_id] = super().append(session_id, segment_id, lines, token=token)
        return length


class SmallerThanItSays(MemoryStore):
    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), max_batch_lines=4_096)


class LargerThanItSays(MemoryStore):
    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), max_batch_lines=16)


class Eternal(MemoryStore):
    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), durability="eternal")


class FindsNoBadIds(MemoryStore):
    def length(self, session_id: str, segment_id: str) -> int:
        try:
            return super().length(session_id, segment_id)
        except session_log.InvalidId:
            raise NotFound(session_id) from None


class SpellsExactly(MemoryStore):
    def exists(self, session_id: str, segment_id: str) -> bool:
        return super().exists(session_id, segment_id) and segment_id in self._sessions[session_id]


class WithRead(MemoryStore):
    """What ``read`` does is one function: ``(store, ids, start, stop)``."""

    def __init__(self, how: Callable[..., Iterator[bytes]]) -> None:
        super().__init__()
        self.how = how

    def read(self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self.how(super().read, self, (session_id, segment_id), start, stop)


Read = Callable[..., Iterator[bytes]]


def reads_nothing_where_nothing_is(
    read: Read, store: MemoryStore, ids: Ids, start: int, stop: int | None
) -> Iterator[bytes]:
    return read(*ids, start, stop) if store.exists(*ids) else iter(())


def counts_from_the_end(read: Read, store: MemoryStore, ids: Ids, start: int, stop: int | None) -> Iterator[bytes]:
    return iter(list(read(*ids))[start:stop])


def reads_the_stop_too(read: Read, store: MemoryStore, ids: Ids, start: int, stop: int | None) -> Iterator[bytes]:
    return read(*ids, start, stop + 1 if stop else stop)


def reads_when_iterated(read: Read, store: MemoryStore, ids: Ids, start: int, stop: int | None) -> Iterator[bytes]:
    store.length(*ids)
    return (one for ids_ in [ids] for one in read(*ids_, start, stop))


class ListsAreItsOwn(MemoryStore):
    def list_segments(self, session_id: str) -> list[str]:
        lists: dict[str, list[str]] = self.__dict__.setdefault("lists", {})
        return lists.setdefault(session_id, super().list_segments(session_id))


class KeepsTheCallersList(MemoryStore):
    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        count = super().create_segment(session_id, segment_id, lines, token=token)
        self._sessions[session_id][segment_id] = cast(list[bytes], lines)
        return count


class TracesIntoTheSegment(MemoryStore):
    def append_trace(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        super().append_trace(session_id, segment_id, lines)
        lines_of(self, (session_id, segment_id)).extend(lines)


class TraceHidesMarkedLines(MemoryStore):
    def append_trace(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        super().append_trace(session_id, segment_id, [one for one in lines if b'"batch":5' not in one] or [b"{}"])

    def read_trace(self, session_id: str, segment_id: str) -> Iterator[bytes]:
        return (one for one in super().read_trace(session_id, segment_id) if one != b"{}")


class OneBlob(MemoryStore):
    def get_blob(self, ref: BlobRef | str) -> bytes:
        return next(iter(self._blobs.values())) if self._blobs else super().get_blob(ref)


class TakesOnlyBytes(MemoryStore):
    def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        if not isinstance(data, bytes):
            raise session_log.InvalidEntry("$", "only bytes")
        return super().put_blob(data, media_type=media_type, kind=kind)


class RewindsTheFile(MemoryStore):
    def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        if hasattr(data, "seek"):
            data.seek(0)
        return super().put_blob(data, media_type=media_type, kind=kind)


class ForgetsTheKind(MemoryStore):
    def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        return super().put_blob(data, media_type=media_type)


class CutsBlobs(MemoryStore):
    def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        ref = super().put_blob(data, media_type=media_type, kind=kind)
        if ref.size_bytes > 8_000:
            self._blobs[ref.sha256] = self._blobs[ref.sha256][:8_000]
        return ref


class ClosesOnce(MemoryStore):
    def close(self) -> None:
        if self.__dict__.setdefault("closed", False):
            raise StoreUnavailable("here", "closed")
        self.closed = True


class WriterIgnoresExpected(MemoryStore):
    def appender(self, session_id: str, segment_id: str, position: tuple[int, int]) -> Any:
        grip = super().appender(session_id, segment_id, position)
        append = grip.append
        grip.append = lambda data, count, expected=None, final=False: append(data, count, None, final)  # type: ignore[method-assign]
        return grip


class MakesWhatItLooksFor(MemoryStore):
    def exists(self, session_id: str, segment_id: str) -> bool:
        return segment_id in self._sessions.setdefault(session_log._ids.parse_id(session_id), {})


class OldestFirst(MemoryStore):
    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        return sorted(super().list_sessions(before=before))[:limit]


class BeforeIncludesItself(MemoryStore):
    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        return [before, *super().list_sessions(before=before)][:limit] if before else super().list_sessions(limit=limit)


class NoLimit(MemoryStore):
    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        return super().list_sessions(before=before)


class OldestSegmentFirst(MemoryStore):
    def list_segments(self, session_id: str) -> list[str]:
        return super().list_segments(session_id)[::-1]


class ListsTheDead(MemoryStore):
    def delete_session(self, session_id: str) -> None:
        super().delete_session(session_id)
        self._sessions[session_id] = {}


class UsesIdsAgain(MemoryStore):
    def delete_session(self, session_id: str) -> None:
        super().delete_session(session_id)
        self._deleted.clear()


class WithFollow(MemoryStore):
    """What ``follow`` does is one generator: ``(follow of MemoryStore, store, ids, start, stop)``."""

    def __init__(self, how: Callable[..., Iterator[bytes]]) -> None:
        super().__init__()
        self.how = how

    def follow(self, session_id: str, segment_id: str, start: int = 0, *, stop: Any = None) -> Iterator[bytes]:
        return self.how(super().follow, self, (session_id, segment_id), start, stop)


Follow = Callable[..., Iterator[bytes]]


def follows_from_the_beginning(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    return follow(*ids, 0, stop=stop)


def follows_everything_twice(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    for one in follow(*ids, start, stop=stop):
        yield one
        if b"before" in one:
            yield one


def skips_followers_of_a_batch(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    return (one for one in follow(*ids, start, stop=stop) if b'"batch":0' not in one)


def returns_from_the_end_at_most(
    follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any
) -> Iterator[bytes]:
    return follow(*ids, min(start, store.length(*ids)), stop=stop)


def asks_after_each_line(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    for one in follow(*ids, start, stop=stop):
        yield one
        if stop is not None and stop():
            return


def stops_at_once(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    return follow(*ids, start, stop=lambda: True)


def does_not_look_again(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    at = start
    while True:
        found = list(store.read(*ids, at))
        yield from found
        at += len(found)
        if not found and stop is not None and stop():
            return


def shares_its_place(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    return cast(Iterator[bytes], store.__dict__.setdefault(f"place {ids}", follow(*ids, start, stop=stop)))


def ends_in_silence(follow: Follow, store: MemoryStore, ids: Ids, start: int, stop: Any) -> Iterator[bytes]:
    try:
        yield from follow(*ids, start, stop=stop)
    except NotFound:
        return


class Unlocked(FsStore):
    """A store of files that looks where a file ends, and later writes there."""

    def append(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, expected: Any = None, token: Any = None
    ) -> int:
        length = self.length(session_id, segment_id)
        if expected not in (None, length):
            raise HeadMoved("here", expected, length)
        path = self.segment_path(session_id, segment_id)
        size = path.stat().st_size
        time.sleep(LATER_S)
        with path.open("r+b") as file:
            file.seek(size)
            file.write(b"\n".join(session_log._frame.mark(lines)) + b"\n")
        return length + len(lines)

    def create_segment(self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: Any = None) -> int:
        path = self.segment_path(session_id, segment_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise SegmentExists(session_id, segment_id)
        time.sleep(LATER_S)
        path.write_bytes(b"\n".join(lines) + b"\n")
        return len(lines)


class DoesNotWait(FsStore):
    """A store of files whose followers get what is there, and no more."""

    def follow(self, session_id: str, segment_id: str, start: int = 0, *, stop: Any = None) -> Iterator[bytes]:
        return super().follow(session_id, segment_id, start, stop=lambda: True)


def by(wrapper: Callable[[Any], Store], how: Callable[..., Any]) -> Callable[[], Store]:
    return functools.partial(wrapper, how)


CATCHES: list[tuple[str, Callable[[], Store]]] = [
    ("create_is_exclusive", CreateOverwrites),
    ("one_of_racing_creators_wins", CreateLooksFirst),
    ("a_created_segment_reads_back", CreateForgetsTheLastLine),
    ("a_created_segment_reads_back", CreateMarksABatch),
    ("create_is_whole", CreateInTwoSteps),
    ("a_refused_create_leaves_nothing", CreateBeforeChecking),
    ("a_created_segment_hides_no_line", CreateDropsMarkedLines),
    ("a_token_makes_create_repeatable", CreateIgnoresToken),
    ("a_token_does_not_stand_for_another_create", CreateTrustsToken),
    ("append_returns_the_new_length", by(WithAppend, appends_twice)),
    ("append_returns_the_new_length", by(WithAppend, returns_the_count)),
    ("append_returns_the_new_length", by(WithAppend, prepends)),
    ("append_takes_only_the_expected_length", by(WithAppend, ignores_expected)),
    ("append_takes_only_the_expected_length", by(WithAppend, minds_only_a_greater_length)),
    ("append_takes_only_the_expected_length", by(WithAppend, writes_before_looking)),
    ("append_takes_only_the_expected_length", by(WithAppend, tells_the_wrong_length)),
    ("a_stale_handle_is_refused", KnowsItsOwnLength),
    ("a_batch_is_marked", by(WithAppend, keeps_no_marks)),
    ("a_token_makes_append_repeatable", by(WithAppend, ignores_token)),
    ("a_token_makes_append_with_expected_repeatable", by(WithAppend, looks_at_expected_first)),
    ("a_token_does_not_stand_for_other_lines", by(WithAppend, trusts_token)),
    ("racing_repeats_write_once", by(WithAppend, looks_for_the_token_too_early)),
    ("a_token_is_short_and_plain", by(WithAppend, takes_any_token)),
    ("a_key_stays_in_its_line", by(WithAppend, drops_keys)),
    ("a_key_is_used_once", by(WithAppend, compares_before_it_locks)),
    ("a_key_is_used_once", by(WithAppend, drops_keys)),
    ("bad_lines_are_refused", by(WithAppend, takes_anything)),
    ("stale_marks_are_refused", by(WithAppend, takes_anything)),
    ("bytes_are_exact", by(WithAppend, encodes_anew)),
    ("bytes_are_exact", by(WithAppend, splits_at_any_line_break)),
    ("large_lines_come_back", by(WithAppend, cuts_long_lines)),
    ("limits_are_kept", SmallerThanItSays),
    ("limits_are_kept", LargerThanItSays),
    ("what_is_no_id_is_refused", FindsNoBadIds),
    ("an_id_may_be_spelled_in_any_way", SpellsExactly),
    ("what_is_missing_is_not_found", by(WithRead, reads_nothing_where_nothing_is)),
    ("a_position_is_not_negative", by(WithRead, counts_from_the_end)),
    ("any_part_can_be_read", by(WithRead, reads_the_stop_too)),
    ("a_read_is_of_the_moment_of_the_call", by(WithRead, reads_when_iterated)),
    ("what_is_returned_is_the_callers_own", ListsAreItsOwn),
    ("what_is_returned_is_the_callers_own", KeepsTheCallersList),
    ("a_trace_is_kept_apart", TracesIntoTheSegment),
    ("a_trace_hides_no_line", TraceHidesMarkedLines),
    ("blobs_are_named_by_their_content", OneBlob),
    ("a_blob_may_come_from_a_file", TakesOnlyBytes),
    ("a_blob_may_come_from_a_file", RewindsTheFile),
    ("a_reference_says_what_it_is_of", ForgetsTheKind),
    ("what_is_spilled_comes_back", CutsBlobs),
    ("capabilities_are_plausible", Eternal),
    ("close_may_be_called_twice", ClosesOnce),
    ("a_writer_records_and_forks", WriterIgnoresExpected),
    ("an_empty_store_lists_nothing", MakesWhatItLooksFor),
    ("sessions_are_listed_newest_first", OldestFirst),
    ("sessions_are_listed_newest_first", BeforeIncludesItself),
    ("sessions_are_listed_newest_first", NoLimit),
    ("segments_are_listed_newest_first", OldestSegmentFirst),
    ("what_was_deleted_is_gone", ListsTheDead),
    ("a_deleted_id_is_not_used_again", UsesIdsAgain),
    ("appenders_learn_of_a_deletion", by(WithAppend, brings_back_the_dead)),
    ("follow_returns_what_is_there", by(WithFollow, follows_from_the_beginning)),
    ("follow_returns_what_comes", by(WithFollow, follows_everything_twice)),
    ("follow_returns_what_comes", by(WithFollow, skips_followers_of_a_batch)),
    ("follow_waits_from_beyond_the_end", by(WithFollow, returns_from_the_end_at_most)),
    ("follow_parts_no_batch", by(WithFollow, asks_after_each_line)),
    ("follow_parts_no_batch", by(WithAppend, appends_line_by_line)),
    ("follow_stops_when_told", by(WithFollow, stops_at_once)),
    ("follow_returns_what_came_before_the_stop", by(WithFollow, does_not_look_again)),
    ("followers_do_not_share_a_place", by(WithFollow, shares_its_place)),
    ("follow_ends_with_the_segment", by(WithFollow, ends_in_silence)),
    ("racing_appends_are_all_kept", by(WithAppend, loses_updates)),
    ("racing_appends_are_all_kept", by(WithAppend, appends_line_by_line)),
    ("one_of_racing_appends_is_expected", by(WithAppend, compares_before_it_locks)),
    ("readers_see_whole_appends", by(WithAppend, appends_line_by_line)),
]


def name_of(make: Callable[[], Store]) -> str:
    return make.args[0].__name__ if isinstance(make, functools.partial) else make.__name__


@pytest.mark.parametrize(("law", "make"), CATCHES, ids=[f"{law}-{name_of(make)}" for law, make in CATCHES])
def test_a_store_with_one_defect_is_caught(law: str, make: Callable[[], Store]) -> None:
    """A store that breaks a law is a violation that names the law, what was expected and what was found."""
    with pytest.raises(ContractViolation) as caught:
        run_store_contract(make, reopen=copy.copy, only=[law])

    assert caught.value.law == law and caught.value.broken == (law,)
    assert caught.value.expected != caught.value.found
    assert f"{law}: {LAWS[law]}\n" in str(caught.value)
    assert f"expected: {caught.value.expected}\n" in str(caught.value)
    assert str(caught.value).endswith(f"found:    {caught.value.found}")


@pytest.mark.parametrize(
    ("law", "defective"),
    [
        ("racing_processes_lose_nothing", Unlocked),
        ("one_of_racing_processes_creates", Unlocked),
        ("a_follower_sees_other_processes", DoesNotWait),
    ],
)
def test_a_store_with_a_defect_between_processes_is_caught(tmp_path: Path, law: str, defective: type[FsStore]) -> None:
    """F6: a store that does without a lock between processes, or does not see them, is a violation."""
    with pytest.raises(ContractViolation) as caught:
        run_store_contract(lambda: defective(tmp_path), open_store=opener, processes=True, only=[law])

    assert caught.value.broken == (law,)


def test_every_law_has_a_store_that_breaks_it() -> None:
    """No law of the kit holds for every store there could be."""
    assert {law for law, _ in CATCHES} | set(OF_PROCESSES) == set(LAWS)


# ── the kit ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_kit_returns_the_laws_that_hold() -> None:
    """What passed is returned by name, in the order of LAWS; ``only`` chooses; processes come only if asked for."""
    chosen = ("create_is_exclusive", "append_returns_the_new_length", "an_empty_store_lists_nothing")

    assert run_store_contract(MemoryStore, only=set(chosen)) == chosen
    assert run_store_contract(MemoryStore, only=[*OF_PROCESSES, chosen[0]]) == (chosen[0],)
    assert run_store_contract(MemoryStore, only=[]) == ()


def test_the_kit_tries_every_law_whatever_breaks() -> None:
    """A violation tells of all laws that are broken, not only of the first."""
    broken = ("append_returns_the_new_length", "append_takes_only_the_expected_length", "any_part_can_be_read")
    holds = ("create_is_exclusive", "capabilities_are_plausible")

    with pytest.raises(ContractViolation) as caught:
        run_store_contract(by(WithAppend, appends_twice), only=[*holds, *broken])

    assert caught.value.broken == broken
    assert all(f"{law}: {LAWS[law]}" in str(caught.value) for law in broken)
    assert not any(law in str(caught.value) for law in holds)


def test_a_store_that_waits_for_ever_is_caught() -> None:
    """A law that does not come to its end is broken; the kit itself does not hang."""
    never = threading.Event()

    class Hangs(MemoryStore):
        def capabilities(self) -> Capabilities:
            never.wait()
            return super().capabilities()

    with pytest.raises(ContractViolation, match="still waits"):
        run_store_contract(Hangs, only=["capabilities_are_plausible"], patience_s=0.01)
    never.set()


def test_a_store_that_ends_its_thread_is_caught() -> None:
    """A law that is ended by an exit is not taken for one that holds."""

    class Exits(MemoryStore):
        def capabilities(self) -> Capabilities:
            raise SystemExit

    with pytest.raises(ContractViolation, match="capabilities_are_plausible"):
        run_store_contract(Exits, only=["capabilities_are_plausible"])


def test_a_store_that_raises_what_it_should_not_is_caught() -> None:
    """An error that no law allows is what was found, and the cause of the violation."""

    class Fails(MemoryStore):
        def append(self, *args: Any, **kwargs: Any) -> int:
            raise ZeroDivisionError("no such luck")

    with pytest.raises(ContractViolation) as caught:
        run_store_contract(Fails, only=["append_returns_the_new_length"])

    assert caught.value.found == "ZeroDivisionError: no such luck"
    assert caught.value.__cause__ is not None and isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)


def test_the_kit_closes_what_it_opened() -> None:
    """Every store and every further handle is closed once its law was tried, broken or not."""
    opened: list[MemoryStore] = []
    closed: list[MemoryStore] = []

    class Counted(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            opened.append(self)

        def __copy__(self) -> "Counted":
            return Counted()

        def close(self) -> None:
            closed.append(self)

    run_store_contract(Counted, reopen=copy.copy, only=["capabilities_are_plausible"])
    with pytest.raises(ContractViolation):
        run_store_contract(Counted, reopen=copy.copy, only=["append_returns_the_new_length"])

    assert len(opened) == 4
    assert set(map(id, closed)) == set(map(id, opened))


def test_the_kit_refuses_what_it_cannot_do() -> None:
    """A law that there is not, and processes without a way to open a store in them, are refused at once."""
    with pytest.raises(ValueError, match="no such law"):
        run_store_contract(MemoryStore, only=["is_fast"])
    with pytest.raises(ValueError, match="open_store"):
        run_store_contract(MemoryStore, processes=True)


def test_a_law_is_one_sentence() -> None:
    """Each law has a name of its own and a sentence that fits into one line."""
    assert all(sentence.endswith(".") and len(sentence) < 120 for sentence in LAWS.values())
    assert len(set(LAWS.values())) == len(LAWS)


def test_the_kit_needs_no_test_framework() -> None:
    """The kit imports the package and the standard library, and no module of the package but its door."""
    program = (
        "import json, sys, session_log; before = {*sys.modules}; import session_log.testing\n"
        "new = {*sys.modules} - before\n"
        "print(json.dumps([[n for n in new if n.startswith('session_log')], [*new & {'pytest', 'hypothesis'}]]))"
    )
    package = Path(session_log.__file__).parents[1]
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    loaded, frameworks = json.loads(printed)

    assert frameworks == []
    assert loaded and all(name.startswith("session_log.testing") for name in loaded)
