"""The ledger: each call once, where it was written, whatever was forked, copied or compacted; and no texts read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched
from recorded import TURN_LINES, record_turn, session
from session_log.usage import (
    MAX_PRICE_DIGITS,
    MissingSource,
    Price,
    TurnOf,
    UsageCall,
    UsageTotal,
    ledger_of,
    read_calls,
    read_ledger,
)
from strategies import texts, times, usage_fields

KINDS = ["memory", "files", "lines"]
MS_2025 = 1_751_450_000_000


@contextmanager
def opened(kind: str) -> Iterator[Any]:
    """A store; "lines" is one that offers the protocol and nothing more."""
    if kind == "files":
        with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
            yield store
        return
    yield sl.MemoryStore() if kind == "memory" else Watched(sl.MemoryStore())


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with opened(request.param) as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── each call once ─────────────────────────────────────────────────────────────────────────────────────────────────

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["spend", "spend", "spend", "turn", "fork", "copy", "compaction", "rollback"]),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    max_size=12,
)
Actions = list[tuple[str, int, int]]


class Spender:
    """A session in which things happen at random, and a list of the calls that were made."""

    def __init__(self, store: sl.Store, actions: Actions) -> None:
        self.store = store
        self.session_id, root = sl.create_segment(store)
        self.ids = [root]
        self.spent: list[tuple[str, sl.UsageRecord]] = []
        for number, (action, which, at) in enumerate(actions, 1):
            self._act(action, self.ids[which % len(self.ids)], at, number)

    def _act(self, action: str, source: str, at: int, number: int) -> None:
        store, key = self.store, (self.session_id, source)
        if action == "spend":
            sl.save_usage(store, *key, 1, number, 0, 0, 1 + at % 2, model=f"m{at % 3}" if at % 3 else None)
            record = sl.UsageRecord(1, number, 0, 0, 1 + at % 2, f"m{at % 3}" if at % 3 else None)
            self.spent.append((source, record))
        elif action == "turn":
            sl.save_turn_end(store, *key, sl.restore(store, *key).turn_count + 1)
        elif action == "rollback":
            with sl.SegmentWriter.resume(store, *key) as writer:
                writer.rollback(1 + at % store.length(*key))
        elif action == "compaction":
            turns = sl.restore(store, *key).turn_count
            self.ids.append(sl.create_compacted_segment(store, sl.SegmentStartState(), *key, turns))
        else:
            entries = 1 + at % store.length(*key)
            self.ids.append(sl.fork_at_entry(store, *key, entries, copy_history=action == "copy"))


@pytest.mark.parametrize("kind", KINDS)
@given(actions=ACTIONS)
def test_every_call_counts_once_where_it_was_written(kind: str, actions: Actions) -> None:
    """F36: not again in a fork, a copy or a compaction; and a call that was rolled back was made."""
    with opened(kind) as store:
        spender = Spender(store, actions)

        calls = read_calls(store, spender.session_id)

        assert Counter((call.segment_id, call.record) for call in calls) == Counter(spender.spent)
        for call in calls:
            (entry,) = sl.read_entries(store, spender.session_id, call.segment_id, call.line - 1, call.line)
            assert isinstance(entry, sl.LlmUsage) and entry.ts == call.ts
            at = sl.read_entries(store, spender.session_id, call.segment_id, 0, call.line)
            ends = [found.turn_count for found in at if isinstance(found, sl.TurnEnd)]
            before = sl.restore(store, spender.session_id, call.segment_id, at_entries=1).turn_count
            assert call.turn == (ends[-1] if ends else before)


@given(actions=ACTIONS, data=st.data())
def test_without_a_source_what_was_carried_counts_once(actions: Actions, data: st.DataObject) -> None:
    """F36: when segments are gone, no call counts twice, and every one that is written or carried still counts.

    Those that lay in a gone one alone do not; that it is gone is listed.
    """
    with opened("files") as store:
        spender = Spender(store, actions)
        gone = data.draw(st.sets(st.sampled_from(spender.ids), max_size=3))
        assume(len(gone) < len(spender.ids))
        starts = {
            segment_id: sl.read_entries(store, spender.session_id, segment_id, 0, 1)[0] for segment_id in spender.ids
        }
        for segment_id in gone:
            store.segment_path(spender.session_id, segment_id).unlink()

        ledger = read_ledger(store, [spender.session_id])

        found = Counter(call.record for call in read_calls(store, spender.session_id))
        made = Counter(record for _, record in spender.spent)
        assert found <= made  # every record is another one: its number is its input
        kept = {record for segment_id, record in spender.spent if segment_id not in gone}
        orphans = set()
        for segment_id, start in starts.items():
            assert isinstance(start, sl.SegmentStart)
            origin = start.forked_from or start.compacted_from
            if segment_id in gone:
                continue
            if origin is not None and origin.segment_id in gone:
                orphans.add(MissingSource(spender.session_id, segment_id, origin.segment_id))
            kept |= set(start.carried.usage if start.carried is not None else ())
        assert set(found) == kept
        assert set(ledger.missing) == orphans and len(ledger.missing) == len(orphans)


def test_what_is_damaged_where_it_was_written_counts_where_it_is_carried(fs: sl.FsStore) -> None:
    """The source is there, but not all of it: a line was blanked out by a repair, and a copy had taken it along."""
    with session(fs, 1) as writer:
        writer.save_usage(1, 10, 0, 0, 1, model="m")
        writer.fork_at(1, copy_history=True)
    whole = read_ledger(fs)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    path.write_bytes(path.read_bytes().replace(b'{"kind":"llm_usage"', b'["kind":"llm_usage"'))
    assert len(sl.repair(fs, writer.session_id, writer.segment_id)) == 2

    ledger = read_ledger(fs)

    assert (ledger.total, ledger.models, ledger.missing) == (whole.total, whole.models, ())
    assert ledger.days == {None: ledger.total}


def test_what_two_copies_carry_of_a_lost_segment_counts_once(fs: sl.FsStore) -> None:
    """F36: both begin alike; a record that is there twice in one of them is two calls."""
    with session(fs, 1) as writer:
        for _ in range(2):
            writer.save_usage(1, 10, 0, 0, 1, model="m")
        early = writer.fork_at_entry(writer.head.entries, copy_history=True)
        writer.save_usage(1, 70, 0, 0, 1, model="m")
        late = writer.compact(sl.SegmentStartState())
        grandchild = writer.fork_at_entry(1, copy_history=True)
        source = sl.read_entries(fs, writer.session_id, late)[0]
    assert isinstance(source, sl.SegmentStart) and source.compacted_from is not None
    whole = read_ledger(fs)
    fs.segment_path(writer.session_id, source.compacted_from.segment_id).unlink()

    ledger = read_ledger(fs)

    assert (
        ledger.models["m"]
        == whole.models["m"]
        == UsageTotal(calls=3, input_tokens=90, output_tokens=3, unpriced_calls=3)
    )
    assert ledger.total == whole.total
    assert ledger.segments[early].calls == 3 and ledger.segments[late].calls == 1
    assert grandchild not in ledger.segments
    assert ledger.days == {None: ledger.total} and ledger.turns == {}
    assert {lost.segment_id for lost in ledger.missing} == {early, late}
    assert {(call.ts, call.turn, call.day) for call in read_calls(fs, writer.session_id)} == {(None, None, None)}


# ── totals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

CALLS = st.lists(
    st.builds(
        lambda ts, turn, fields, where: UsageCall(
            session_id=f"session {where // 2}", segment_id=f"segment {where}", line=2, ts=ts, turn=turn,
            record=sl.UsageRecord(**fields),
        ),
        st.none() | times(), st.none() | st.integers(0, 2), usage_fields(), st.integers(0, 3),
    ),
    max_size=8,
)  # fmt: skip
AMOUNTS = {
    "input_tokens": "input_total_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "latency_ms": "latency_ms",
}


def naive(calls: list[UsageCall]) -> dict[str, int]:
    sums = {name: sum(getattr(call.record, field) or 0 for call in calls) for name, field in AMOUNTS.items()}
    return {"calls": len(calls), **sums}


def utc_day(ts: int | None) -> str | None:
    try:
        return None if ts is None else datetime.fromtimestamp(ts // 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None


@given(calls=CALLS)
def test_totals_are_sums(calls: list[UsageCall]) -> None:
    """By model, source, day, turn, segment, session and all: the calls of each key, added up; none without a token."""
    ledger = ledger_of(calls)

    assert {name: getattr(ledger.total, name) for name in ("calls", *AMOUNTS)} == naive(calls)
    cuts: dict[str, Callable[[UsageCall], Any]] = {
        "models": lambda call: call.record.model,
        "sources": lambda call: call.record.source,
        "days": lambda call: utc_day(call.ts),
        "turns": lambda call: None if call.turn is None else (call.segment_id, call.turn),
        "segments": lambda call: call.segment_id,
        "sessions": lambda call: call.session_id,
    }
    for name, key_of in cuts.items():
        groups: dict[Any, list[UsageCall]] = {}
        for call in calls:
            groups.setdefault(key_of(call), []).append(call)
        if name == "turns":
            groups.pop(None, None)
        expected = {key: naive(group) for key, group in groups.items()}
        found = {
            key: {field: getattr(total, field) for field in ("calls", *AMOUNTS)}
            for key, total in getattr(ledger, name).items()
        }
        tokens = [field for field in AMOUNTS if field != "latency_ms"]
        assert found == {key: sums for key, sums in expected.items() if any(sums[field] for field in tokens)}


def test_a_total_without_tokens_is_left_out(store: sl.Store) -> None:
    """A call that took nothing is a call of a total that has others; alone it makes none, nor wants a price."""
    session_id, segment_id = sl.create_segment(store)
    sl.save_usage(store, session_id, segment_id, 1, 0, 0, 0, 0, model="nothing", latency_ms=5)

    ledger = read_ledger(store)
    assert (ledger.models, ledger.sessions, ledger.turns, ledger.unpriced) == ({}, {}, {}, ())
    assert ledger.total == UsageTotal(calls=1, latency_ms=5)
    sl.save_usage(store, session_id, segment_id, 1, 0, 0, 0, 1, model="some")
    assert read_ledger(store).sessions[session_id].calls == 2
    assert list(read_ledger(store).models) == ["some"]


def test_the_whole_tree_and_parts_of_it(store: sl.Store) -> None:
    """A session is its tree; some segments of it are added up as asked."""
    with session(store, 1) as writer:
        first = writer.segment_id
        child = writer.fork_at(1)
    with sl.SegmentWriter.resume(store, writer.session_id, child) as writer:
        record_turn(writer, "more")
    alone = sl.create_segment(store)

    ledger = read_ledger(store)

    assert ledger.sessions == {writer.session_id: ledger.total}
    assert ledger.over([first, child.upper(), child]) == ledger.total
    assert ledger.over([child]) == ledger.segments[child] == ledger.turns[TurnOf(child, 2)]
    assert ledger.over(alone) == ledger.over([]) == UsageTotal()
    assert read_ledger(store, [alone[0]]).total == UsageTotal()
    assert read_ledger(store, [writer.session_id] * 2) == ledger


def test_a_call_belongs_to_the_turn_that_ended_before_it(store: sl.Store) -> None:
    """Also in a fork, a copy and a compaction, which go on counting from their parent's turns."""
    with session(store, 2) as writer:
        copy, reference = writer.fork_at(1, copy_history=True), writer.fork_at(1)
        writer.compact(sl.SegmentStartState())
        writer.save_usage(1, 1, 0, 0, 0)
    for segment_id in (copy, reference):
        sl.save_usage(store, writer.session_id, segment_id, 1, 1, 0, 0, 0)

    turns = {(call.segment_id, call.turn) for call in read_calls(store, writer.session_id)}

    assert {(writer.segment_id, 2), (copy, 1), (reference, 1)} < turns
    assert len(turns) == 5


@pytest.mark.parametrize(
    ("ts", "day"),
    [(0, "1970-01-01"), (-1, "1969-12-31"), (86_399_999, "1970-01-01"), (86_400_000, "1970-01-02"),
     (MS_2025, "2025-07-02"), (1 << 62, None), (-(1 << 62), None)],
)  # fmt: skip
def test_days_are_utc(ts: int, day: str | None) -> None:
    """F27: whatever the machine's zone; a time that no calendar has is no day, and no failure."""
    record = sl.UsageRecord(1, 1, 0, 0, 1)
    call = UsageCall(session_id="s", segment_id="s", line=2, ts=ts, turn=0, record=record)

    assert list(ledger_of([call]).days) == [call.day] == [day]


# ── prices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def priced(record: sl.UsageRecord, price: Price) -> UsageTotal:
    call = UsageCall(session_id="s", segment_id="s", line=2, ts=0, turn=0, record=record)
    return ledger_of([call], prices={"m": price}).total


def test_a_cost_by_parts() -> None:
    """Cached and written input and reasoning are parts; each has its rate, or that of the whole."""
    record = sl.UsageRecord(1, 1_000_000, 600_000, 100_000, 50_000, "m", reasoning_tokens=20_000)

    plain = Price(input=Decimal(3), output=Decimal(15))
    assert priced(record, plain).cost == Decimal("3.75")
    full = Price(
        input=Decimal(3),
        output=Decimal(15),
        cached_input=Decimal("0.3"),
        cache_write=Decimal("3.75"),
        reasoning=Decimal(20),
    )
    parts = ("0.9", "0.18", "0.375", "0.45", "0.4")
    assert priced(record, full).cost == sum(map(Decimal, parts))
    more = sl.UsageRecord(1, 10, 20, 0, 5, "m", reasoning_tokens=9)
    assert priced(more, full).cost == (20 * Decimal("0.3") + 9 * 20) / 1_000_000


MONEY = st.decimals(min_value=0, max_value=10**6, places=9)
PRICES = st.builds(Price, input=MONEY, output=MONEY, cached_input=st.none() | MONEY, reasoning=st.none() | MONEY)


@given(calls=CALLS, prices=st.dictionaries(texts(), PRICES, max_size=3), data=st.data())
def test_costs_are_exact_and_the_rest_is_unpriced(
    calls: list[UsageCall], prices: dict[str, Price], data: st.DataObject
) -> None:
    """The cost of all is the sum of the costs of each, to the last digit; what has no price is named, and not free."""
    models = st.sampled_from([*prices, "no price", None])
    renamed = [msgspec.structs.replace(call.record, model=data.draw(models)) for call in calls]
    calls = [msgspec.structs.replace(call, record=record) for call, record in zip(calls, renamed, strict=True)]

    ledger = ledger_of(calls, prices=prices)

    each = [ledger_of([call], prices=prices).total for call in calls]
    total = UsageTotal()
    for one in each:
        total += one
    assert total == ledger.total
    took = [call for call in calls if any(naive([call])[name] for name in AMOUNTS if name != "latency_ms")]
    unpriced = [call for call in took if call.record.model not in prices]
    assert ledger.total.unpriced_calls == len(unpriced)
    assert set(ledger.unpriced) == {call.record.model for call in unpriced}
    assert (ledger.total.cost is None) == (len([c for c in calls if c.record.model in prices]) == 0)


@pytest.mark.parametrize(
    "rate", [Decimal(-1), Decimal("NaN"), Decimal("inf"), 3, 0.1, "3", None, Decimal("1E-19"), Decimal("1E+18")]
)
def test_what_is_no_price_is_refused(rate: Any) -> None:
    """Before anything is read: a float is not exact, and an endless one makes endless sums."""
    with pytest.raises(sl.CallerError, match="the price of 'm'"):
        read_ledger(sl.MemoryStore(), prices={"m": Price(input=Decimal(1), output=rate)})
    with pytest.raises(sl.CallerError):
        read_ledger(sl.MemoryStore(), prices={"m": rate})
    assert MAX_PRICE_DIGITS == 18
    for fits in (Decimal("1E-18"), Decimal("9E+17"), Decimal(0)):
        ledger_of([], prices={"m": Price(input=fits, output=fits, reasoning=fits)})


# ── lines of others ────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS: dict[str, Any] = {
    "history_len": 1,
    "input_total_tokens": 7,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 1,
}
USAGE = {"kind": "llm_usage", "ts": MS_2025, **FIELDS}
TURN = {"kind": "turn_end", "ts": MS_2025, "turn_count": 5}


def spellings(entry: dict[str, Any]) -> dict[str, str]:
    kind = entry["kind"]
    escaped = json.dumps(entry).replace(kind, "".join(f"\\u{ord(letter):04x}" for letter in kind))
    one = json.dumps(entry).replace("_", "\\u005F", 1)
    return {
        "ours": json.dumps(entry, separators=(",", ":")),
        "spaced": json.dumps(entry),
        "kind last": json.dumps(dict(reversed(entry.items()))),
        "tabs and CR": json.dumps(entry, separators=("\t,", " :\t")) + "\r",
        "unknown keys": json.dumps({"later": {"kind": "user_input", "x": "turn_end llm_usage"}, **entry}),
        "escaped": escaped,
        "one letter escaped": one,
        "escaped, ours": escaped.replace(", ", ",").replace(": ", ":"),
        "surrogate": json.dumps({"later": "\ud83d", **entry}),
        "indented": "   " + json.dumps(entry),
    }


@pytest.mark.parametrize("spelling", spellings(USAGE))
def test_foreign_spellings_count_like_ours(fs: sl.FsStore, spelling: str) -> None:
    """Any order, spacing and escapes that JSON allows; between lines of every other kind."""
    with session(fs, 1) as writer:
        pass
    path = fs.segment_path(writer.session_id, writer.segment_id)
    foreign = [spellings(TURN)[spelling], spellings(USAGE)[spelling]]
    path.write_bytes(path.read_bytes() + "".join(line + "\n" for line in foreign).encode())

    calls = read_calls(fs, writer.session_id)

    assert [(call.line, call.turn, call.record.input_total_tokens) for call in calls] == [
        (TURN_LINES, 1, 6),
        (TURN_LINES + 3, 5, 7),
    ]
    assert sl.restore(fs, writer.session_id, writer.segment_id).usage_history == tuple(call.record for call in calls)


def test_a_text_that_speaks_of_usage_is_none(store: sl.Store) -> None:
    """Only the kind of a line makes it one."""
    session_id, segment_id = sl.create_segment(store)
    said = [*spellings(USAGE).values(), *spellings(TURN).values(), "llm_usage", '"kind":"llm_usage"', "\\u006c"]
    for text in said:
        sl.save_user_input(store, session_id, segment_id, text)
        sl.save_extension(store, session_id, segment_id, "llm_usage", USAGE)
    foreign = {"text": text, "kind": "later", "said": said}
    store.append(session_id, segment_id, [json.dumps(foreign).encode(), b'{"kind":"llm_usage_2","n":1}'])

    assert read_calls(store, session_id) == []


@given(entries=st.lists(st.builds(lambda ts, found: sl.LlmUsage(ts=ts, **found), times(), usage_fields()), max_size=5))
def test_every_usage_entry_is_found_as_it_was_written(entries: list[sl.LlmUsage]) -> None:
    """In batches too; the records are those of a restore."""
    store = sl.MemoryStore()
    session_id, segment_id = sl.create_segment(store)
    if entries:
        sl.append_entries(store, session_id, segment_id, entries)

    calls = read_calls(store, session_id)

    assert tuple(call.record for call in calls) == sl.restore(store, session_id, segment_id).usage_history
    assert [call.ts for call in calls] == [entry.ts for entry in entries]


def test_cut_at_every_byte(fs: sl.FsStore) -> None:
    """F3: what is committed counts, whatever was torn off behind it, batches too."""
    session_id, segment_id = sl.create_segment(fs)
    for number in (2, 1, 3):
        sl.append_entries(fs, session_id, segment_id, [sl.LlmUsage(ts=1, **FIELDS)] * number)
    path = fs.segment_path(session_id, segment_id)
    data = path.read_bytes()

    for size in range(data.index(b"\n") + 1, len(data) + 1):
        path.write_bytes(data[:size])
        again = sl.FsStore(fs.root, durability="process")
        expected = sl.restore(again, session_id, segment_id).usage_history
        assert tuple(call.record for call in read_calls(again, session_id)) == expected


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"llm_usage"}',
        b'{"kind":"llm_usage","ts":1,"history_len":"many"}',
        b'{"kind":"turn_end","ts":1}',
        b'{"ts":1,"kind": "llm_usage"',
        b'"llm_usage"',
        b'{"kind":"turn_end","ts":1,"turn_count":9223372036854775808}',  # no number of turns a 64-bit reader holds
    ],
)
def test_a_damaged_line_of_usage_is_an_error_with_its_place(store: sl.Store, line: bytes) -> None:
    """F4: strict raises; a salvage counts the rest, and lists it."""
    session_id, segment_id = sl.create_segment(store)
    sl.save_user_input(store, session_id, segment_id, "x" * 300_000)
    sl.save_usage(store, session_id, segment_id, 1, 7, 0, 0, 1)
    offset = sum(len(found) + 1 for found in store.read(session_id, segment_id))
    store.append(session_id, segment_id, [line])
    sl.save_usage(store, session_id, segment_id, 1, 7, 0, 0, 1)

    for read in (lambda: read_calls(store, session_id), lambda: read_ledger(store)):
        with pytest.raises(sl.CorruptSegment) as caught:
            read()
        assert (caught.value.line, caught.value.byte_offset) == (4, offset)
    ledger = read_ledger(store, salvage=True)
    assert ledger.total.calls == 2
    assert [(found.line, found.byte_offset, found.length_bytes) for found in ledger.damage] == [(4, offset, len(line))]


def test_texts_are_not_looked_at(fs: sl.FsStore) -> None:
    """A damaged text damages no total: nobody decoded it."""
    with session(fs, 2) as writer:
        pass
    path = fs.segment_path(writer.session_id, writer.segment_id)
    whole = read_ledger(fs)
    path.write_bytes(path.read_bytes().replace(b'"turn 1"', b'\xff\x00urn 1"'))
    with pytest.raises(sl.CorruptSegment):
        sl.restore(fs, writer.session_id, writer.segment_id)

    assert read_ledger(fs) == whole


def test_memory_is_that_of_a_block_not_of_the_texts(fs: sl.FsStore) -> None:
    """Of 16 MB of texts, with calls between them, a few blocks are held at once."""
    session_id, segment_id = sl.create_segment(fs)
    with sl.SegmentWriter.resume(fs, session_id, segment_id) as writer:
        for _ in range(200):
            writer.save_user_input("x" * 80_000)
            writer.save_usage(1, 7, 0, 0, 1)
    read_ledger(fs)
    del writer

    tracemalloc.start()
    try:
        ledger = read_ledger(fs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert ledger.total.calls == 200
    assert peak < 4_000_000


@pytest.mark.parametrize("line", [b"{}", b'{"kind":"turn_end","ts":1,"turn_count":1}', b"no JSON", b"foreign"])
def test_a_first_line_that_is_none_is_an_error(store: sl.Store, line: bytes) -> None:
    """Its segment is not counted in a salvage: nobody knows whose it is. What others carry of it is."""
    with session(store, 1) as writer:
        sound = writer.segment_id
    if line == b"foreign":
        (line,) = store.read(*sl.create_segment(store))
    bad, child = sl.new_segment_id(), sl.new_segment_id()
    usage = msgspec.json.encode(USAGE)
    store.create_segment(writer.session_id, bad, [line, usage])
    carried = sl.Carried(usage=(sl.UsageRecord(**FIELDS),))
    start = sl.SegmentStart(
        ts=1, session_id=writer.session_id, config=sl.RequestConfig(), history=(),
        forked_from=sl.SegmentOrigin(bad, 0), carried=carried,
    )  # fmt: skip
    store.create_segment(writer.session_id, child, [sl.encode_line(start)])

    with pytest.raises(sl.CorruptSegment) as caught:
        read_ledger(store)
    assert caught.value.line == 1
    ledger = read_ledger(store, salvage=True)
    assert set(ledger.segments) == {sound, child}
    assert [found.line for found in ledger.damage] == [1]
    assert ledger.missing == (MissingSource(writer.session_id, child, bad),)


def test_a_segment_without_a_line(fs: sl.FsStore) -> None:
    """Something else made it so: an error, or listed."""
    session_id, segment_id = sl.create_segment(fs)
    for data in (b"", b'{"kind":"segment_start"', b"\n"):
        fs.segment_path(session_id, segment_id).write_bytes(data)

        with pytest.raises(sl.CorruptSegment):
            read_calls(fs, session_id)
        assert len(read_ledger(fs, salvage=True).damage) == 1


def test_a_first_line_that_msgspec_alone_cannot_read(fs: sl.FsStore) -> None:
    """A lone surrogate in a prompt hides neither what is carried nor the turns before."""
    session_id, segment_id = sl.new_session_id(), sl.new_segment_id()
    start = sl.SegmentStart(
        ts=1, session_id=session_id, system_prompt="?", config=sl.RequestConfig(), history=(), turn_count=3,
        forked_from=sl.SegmentOrigin("gone", 3), carried=sl.Carried(usage=(sl.UsageRecord(**FIELDS),)),
    )  # fmt: skip
    line = sl.encode_line(start).replace(b'"?"', b'"\\ud83d"').replace(b'"turn_count":3', b'"turn_count" : 3')
    fs.create_segment(session_id, segment_id, [line, json.dumps({**USAGE, "output_tokens": 2}).encode()])

    calls = read_calls(fs, session_id)

    assert [call.turn for call in calls] == [None, 3]
    assert read_ledger(fs).missing == (MissingSource(session_id, segment_id, "gone"),)


def test_a_later_format_and_a_session_that_is_not_there(store: sl.Store) -> None:
    session_id, segment_id = sl.create_segment(store)
    (line,) = store.read(session_id, segment_id)
    other = sl.new_session_id()
    newer = line.replace(b'"v":1', b'"v":2').replace(session_id.encode(), other.encode())
    store.create_segment(other, sl.new_segment_id(), [newer])

    for salvage in (False, True):
        with pytest.raises(sl.UnsupportedVersion):
            read_ledger(store, salvage=salvage)
    for missing in (sl.new_session_id(), "no id"):
        with pytest.raises((sl.NotFound, sl.InvalidId)):
            read_ledger(store, [missing])
        with pytest.raises((sl.NotFound, sl.InvalidId)):
            read_calls(store, missing)


# ── others write meanwhile ─────────────────────────────────────────────────────────────────────────────────────────

WRITER = """
import sys
import session_log as sl
store = sl.FsStore(sys.argv[1], durability="process")
for number in range(int(sys.argv[4])):
    sl.append_entries(store, sys.argv[2], sys.argv[3], [sl.LlmUsage(
        ts=number, history_len=1, input_total_tokens=1, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1,
    )] * 3)
"""


def test_while_other_processes_write(fs: sl.FsStore) -> None:
    """Batches are seen whole, totals never shrink, and at the end every call of every process is there."""
    session_id, segment_id = sl.create_segment(fs)
    command = [sys.executable, "-c", WRITER, str(fs.root), session_id, segment_id, "100"]
    writers = [subprocess.Popen(command) for _ in range(2)]
    seen = [0]
    try:
        while any(writer.poll() is None for writer in writers):
            seen.append(read_ledger(fs).total.calls)
    finally:
        for writer in writers:
            writer.wait(timeout=240)

    assert seen == sorted(seen)
    assert all(count % 3 == 0 for count in seen)
    assert read_ledger(fs).total.calls == 600
