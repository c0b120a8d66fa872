"""How a record gets into the log: the quick way of a flat one is in nothing different from the careful way."""

import enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import session_log as sl
from session_log._check import PLAIN
from session_log._codec import prepare
from session_log._payload import Own
from session_log.domains import Domain

TS = 1_700_000_000_000
NUMBERS = st.one_of(st.integers(-(1 << 66), 1 << 66), st.floats())
FLAT = st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), NUMBERS, st.text(), st.just("\ud800")))
NESTED = st.dictionaries(st.text(), st.one_of(st.lists(st.integers()), st.dictionaries(st.text(), st.text())))


class Colour(enum.IntEnum):
    RED = 1


class Mark(msgspec.Struct, frozen=True):
    name: str
    share: float | None = None


class Pair(msgspec.Struct, frozen=True, array_like=True):
    name: str
    count: int


class Scoped(msgspec.Struct, frozen=True):
    allow: int


MARK: Domain[Mark, tuple[Mark, ...]] = Domain("acme.mark", Mark, fold="append")
PAIR: Domain[Pair, tuple[Pair, ...]] = Domain("acme.pair", Pair, fold="append")


def outcome(payload: Any, domain: str = "acme.any") -> tuple[Any, ...]:
    try:
        line, entry = prepare(sl.Extension(ts=TS, domain=domain, payload=payload))
    except sl.InvalidEntry as exc:
        return exc.path, exc.reason
    return msgspec.json.decode(line) if b"\\ud" not in line else line, repr(entry), repr(sl.decode_line(line))


@given(st.one_of(FLAT, NESTED))
@example({"a": float("nan")})
@example({"a": float("-inf")})
@example({"a": 1 << 63})
@example({"a": -(1 << 63)})
@example({"a": Colour.RED})
@example({"\ud800": 1})
@example({"a": -0.0})
def test_a_payload_of_nobody_elses_is_written_and_read_as_any_other(payload: dict[str, Any]) -> None:
    assert outcome(Own(payload)) == outcome(payload)


def test_a_payload_that_the_caller_may_still_change_never_goes_the_quick_way() -> None:
    is_plain = PLAIN[sl.Extension]

    assert is_plain(sl.Extension(ts=TS, domain="acme.any", payload=Own(a=1)))
    assert not is_plain(sl.Extension(ts=TS, domain="acme.any", payload={"a": 1}))
    assert not is_plain(sl.Extension(ts=TS, domain="acme.any", payload=Own(a=[1])))


@pytest.mark.parametrize(
    "entry",
    [
        sl.Extension(ts=-1, domain="acme.any", payload=Own(a=1)),
        sl.Extension(ts=1 << 63, domain="acme.any", payload=Own(a=1)),
        sl.Extension(ts=TS, domain="session_log.rollback", payload=Own(a=1)),
        sl.Extension(ts=TS, domain="pod.scope", payload=Own(a=1)),
        sl.Extension(ts=TS, domain="acme.any", payload=Own(a=1), idem="once"),
        sl.Extension(ts=TS, domain="acme.any", payload=Own(a=1 << 63)),
        sl.Extension(ts=True, domain="acme.any", payload=Own(a=1)),
    ],
)
def test_what_is_unusual_goes_the_careful_way(entry: sl.Extension) -> None:
    assert not PLAIN[sl.Extension](entry)


def test_a_state_shares_nothing_with_what_was_recorded(tmp_path: Path) -> None:
    with sl.SegmentWriter.create(sl.FsStore(tmp_path)) as writer:
        MARK.record(writer, Mark("one", 0.5))
        first = writer.state.extensions[0].payload
        assert type(first) is dict
        first["name"] = "two"

        assert MARK.value(writer.state) == (Mark("one", 0.5),)


def test_a_record_alone_and_one_of_a_batch_are_the_same_line_but_for_the_marks(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        MARK.record(writer, Mark("one"))
        with writer.batch():
            MARK.record(writer, Mark("one"))
            PAIR.record(writer, Pair("two", 2))
        PAIR.record(writer, Pair("three", 3))
        written = writer.state
    read = sl.restore(store, writer.session_id, writer.segment_id)

    assert read.extensions == written.extensions
    assert MARK.value(read) == (Mark("one"), Mark("one"))
    assert PAIR.value(read) == (Pair("two", 2), Pair("three", 3))


def test_a_domain_named_pod_scope_cannot_record_what_is_no_scope(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    domain: Domain[Scoped, tuple[Scoped, ...]] = Domain("pod.scope", Scoped, fold="append")
    with sl.SegmentWriter.create(store) as writer:
        with pytest.raises(sl.InvalidEntry):
            domain.record(writer, Scoped(1))

        assert writer.head.entries == 1
