"""Usage of what was chosen: parts of it add up to the whole, and no call counts twice; prices from a file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from commands import COMPACTED, FORK, NOON, OPEN, OTHER, ROOT, SESSION, sample
from session_log.usage import Chosen, Price, TurnOf, UsageTotal, read_ledger, read_prices
from strategies import SESSION_ID, histories


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def calls_of(store: sl.Store, *chosen: Chosen) -> int:
    return read_ledger(store, chosen=chosen).total.calls


@settings(max_examples=30)
@given(st.lists(histories(max_turns=3), min_size=1, max_size=3))
def test_segments_add_up_to_the_session(segments: list[list[sl.LogEntry]]) -> None:
    store = sl.MemoryStore()
    ids = [sl.new_segment_id() for _ in segments]
    for segment_id, entries in zip(ids, segments, strict=True):
        store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])

    parts = [read_ledger(store, chosen=[Chosen(SESSION_ID, segment_id)]).total for segment_id in ids]

    whole = UsageTotal()
    for part in parts:
        whole += part
    assert (
        whole == read_ledger(store).total == read_ledger(store, chosen=[Chosen(SESSION_ID, one) for one in ids]).total
    )


@settings(max_examples=30)
@given(histories(max_turns=3), st.integers(0, 3), st.integers(1, 60))
def test_a_fork_and_its_parent_count_what_they_share_once(entries: list[sl.LogEntry], turn: int, line: int) -> None:
    store, segment_id = sl.MemoryStore(), sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])
    fork = sl.fork_at(store, SESSION_ID, segment_id, turn % (sl.restore(store, SESSION_ID, segment_id).turn_count + 1))
    parent, child = Chosen(SESSION_ID, segment_id), Chosen(SESSION_ID, fork, resolve=True)

    assert calls_of(store, parent, child) == calls_of(store, parent)
    assert calls_of(store, child) == len(sl.restore(store, SESSION_ID, fork).usage_history)
    written = sum(isinstance(entry, sl.LlmUsage) for entry in entries[: min(line, len(entries))])
    assert calls_of(store, parent._replace(entries=min(line, len(entries)))) == written


def test_a_segment_a_turn_a_line(store: sl.FsStore) -> None:
    assert calls_of(store, Chosen(SESSION, FORK)) == 1
    assert calls_of(store, Chosen(SESSION, FORK, resolve=True)) == 2
    assert calls_of(store, Chosen(SESSION, FORK, turn=1, resolve=True)) == 1
    assert calls_of(store, Chosen(SESSION, ROOT, entries=8)) == 0
    assert calls_of(store, Chosen(OTHER, OPEN), Chosen(SESSION, ROOT)) == 2
    assert list(read_ledger(store, chosen=[Chosen(SESSION, ROOT)]).turns) == [TurnOf(ROOT, 1), TurnOf(ROOT, 2)]
    with pytest.raises(sl.NotFound):
        calls_of(store, Chosen(OTHER, OTHER))


def test_a_source_that_is_missing_is_told_of_for_what_was_chosen(store: sl.FsStore) -> None:
    store.segment_path(SESSION, ROOT).unlink()

    found = read_ledger(store, chosen=[Chosen(SESSION, COMPACTED)])

    assert [source.segment_id for source in found.missing] == [COMPACTED]


def test_times_bound_what_counts_and_progress_is_told(store: sl.FsStore) -> None:
    """The calls were made in the seconds 8, 14 and 21 of the sample; and one of the third session."""
    told: list[tuple[int, int | None]] = []

    found = read_ledger(
        store, since=NOON + 8000, until=NOON + 14_000, progress=lambda done, total: told.append((done, total))
    )

    assert found.total.calls == 2
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_prices_are_taken_as_they_are_written() -> None:
    found = read_prices(b'{"m":{"input":0.1,"output":"15","cached_input":1e-3},"n":{"input":0,"output":0}}')

    assert found["m"] == Price(input=Decimal("0.1"), output=Decimal(15), cached_input=Decimal("0.001"))
    assert list(found) == ["m", "n"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"m":5}',
        b'{"m":{"input":1}}',
        b'{"m":{"input":1,"output":2,"cached":1}}',
        b'{"m":{"input":"x","output":2}}',
        b'{"m":{"input":null,"output":2}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_no_table_of_prices_is_refused(data: bytes) -> None:
    """A name that is misspelled, too: it would cost money."""
    with pytest.raises(sl.CallerError, match="no table of prices"):
        read_prices(data)
