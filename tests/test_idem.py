"""Idempotency keys, example by example: what is the same again, who may use which key, and where it is known."""

import contextlib
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from recorded import intrude, lines
from session_log._idem import MAX_CARRIED_KEYS


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> sl.Store:
    return sl.FsStore(tmp_path, durability="process") if request.param == "files" else sl.MemoryStore()


@pytest.fixture
def writer(store: sl.Store) -> sl.SegmentWriter:
    return sl.SegmentWriter.create(store)


def turn(writer: sl.SegmentWriter, key: str | None, text: str = "hi", answer: str = "hello") -> int | None:
    """Record a whole turn in one batch, as a runtime would; return the position behind it."""
    batch = writer.batch(idem=key)
    with batch:
        writer.save_invoke()
        writer.save_user_input(text)
        writer.save_delta([sl.Message.assistant(answer)])
        writer.save_turn_end()
        writer.save_run_completed()
    return batch.position


# ── the same again ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_again_is_the_first(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """Position, file and state are those of the first append, whatever was recorded since."""
    assert writer.save_user_input("hi", idem="k") == 2
    writer.save_user_input("more")
    assert (
        writer.append_entries([sl.Invoke(ts=1, trigger="notify"), sl.Invoke(ts=2, trigger="notify")], idem="two") == 5
    )
    before = lines(store, writer), writer.state

    assert writer.save_user_input("hi", idem="k") == 2
    assert writer.save_user_input([sl.TextInput("hi")], idem="k") == 2
    assert sl.save_user_input(store, writer.session_id, writer.segment_id, "hi", idem="k") == 2
    assert (
        writer.append_entries([sl.Invoke(ts=8, trigger="notify"), sl.Invoke(ts=9, trigger="notify")], idem="two") == 5
    )
    assert (lines(store, writer), writer.state) == before


def test_a_turn_again_is_the_first_after_a_restart_too(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """The same batch of verbs under the same key is recorded once, though its turn would have another number now."""
    assert turn(writer, "t1") == 6
    assert turn(writer, "t2") == 11
    before = lines(store, writer)
    writer.close()

    again = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)

    assert (turn(again, "t1"), turn(again, "t2"), turn(again, "t3")) == (6, 11, 16)
    assert lines(store, again)[:11] == before
    assert again.state.turn_count == 3


def test_other_content_is_a_conflict_that_says_where(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """Nothing is written, nothing is open afterwards, and the error crosses processes."""
    turn(writer, "t")
    before = lines(store, writer)
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: turn(writer, "t", answer="other"),
        lambda: writer.save_user_input("hi", idem="t"),
        lambda: writer.append_entries([], idem="t"),
        lambda: sl.save_user_input(store, writer.session_id, writer.segment_id, "hi", idem="t"),
        lambda: sl.append_entries(store, writer.session_id, writer.segment_id, [], idem="t"),
    )
    for attempt in attempts:
        with pytest.raises(sl.IdempotencyConflict) as caught:
            attempt()
        exc = caught.value
        assert isinstance(exc, sl.CallerError)
        assert writer.segment_id in exc.where
        assert (exc.key, exc.position) == ("t", 6)
        assert pickle.loads(pickle.dumps(exc)).__dict__ == exc.__dict__
    assert lines(store, writer) == before
    assert writer.save_user_input("goes on") == 7


def test_a_batch_that_raised_or_was_empty_did_not_use_its_key(writer: sl.SegmentWriter, store: sl.Store) -> None:
    with contextlib.suppress(RuntimeError), writer.batch(idem="k"):
        writer.save_user_input("hi")
        raise RuntimeError
    with writer.batch(idem="k"):
        pass
    assert writer.append_entries([], idem="k") == 1

    assert sl.find_idem(store, writer.session_id, writer.segment_id, "k") is None
    assert turn(writer, "k") == 6


@pytest.mark.parametrize("key", ["", "ü", 'a"b', "a\\b", "a\nb", "x" * 201, 5, b"k", True])
def test_a_bad_key_is_refused_before_anything_happens(writer: sl.SegmentWriter, store: sl.Store, key: Any) -> None:
    ids = writer.session_id, writer.segment_id
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: writer.save_user_input("hi", idem=key),
        lambda: writer.append_entries([], idem=key),
        lambda: writer.batch(idem=key),
        lambda: sl.save_user_input(store, *ids, "hi", idem=key),
        lambda: sl.append_entries(store, *ids, [], idem=key),
        lambda: sl.find_idem(store, *ids, key),
    )
    for attempt in attempts:
        with pytest.raises(sl.InvalidEntry, match=r"^\$\.idem: "):
            attempt()
    assert lines(store, writer) == lines(store, writer)[:1]


def test_a_batch_has_one_key(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """A key inside an open batch, or an entry that has one of its own, is refused; the batch goes on."""
    with writer.batch(idem="whole"):
        with pytest.raises(sl.CallerError, match="give it to batch"):
            writer.save_user_input("x", idem="part")
        with pytest.raises(sl.CallerError, match="give it to batch"):
            writer.append_entries([], idem="part")
        writer.save_user_input("hi")
    own = sl.Invoke(ts=1, trigger="notify", idem="own")
    with pytest.raises(sl.InvalidEntry, match="has the key 'own'"):
        writer.append_entries([own], idem="k")
    assert writer.head.entries == 2

    assert writer.append_entries([sl.Invoke(ts=1, trigger="notify"), own], idem="k") == 4
    assert sl.find_idem(store, writer.session_id, writer.segment_id, "own") is None  # of no append


def test_an_entry_that_was_appended_with_a_key_of_its_own_has_used_it(writer: sl.SegmentWriter) -> None:
    """``idem`` as a field of an entry is kept for the caller, twice too; the verbs know it."""
    entry = sl.UserInput(ts=1, segments=(sl.TextInput("hi"),), idem="k")
    writer.append(entry)
    writer.append(entry)

    assert writer.save_user_input("hi", idem="k") == 3  # the last one
    with pytest.raises(sl.IdempotencyConflict):
        writer.save_user_input("ho", idem="k")


def test_a_closed_writer_says_so(writer: sl.SegmentWriter) -> None:
    writer.save_user_input("hi", idem="k")
    writer.close()

    with pytest.raises(sl.WriterClosed):
        writer.save_user_input("hi", idem="k")


# ── elsewhere ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_undone_append_is_recorded_again_and_a_redo_brings_the_first_back(
    writer: sl.SegmentWriter, store: sl.Store
) -> None:
    """The state decides: what it does not have is recorded; undone in part, it is not there."""
    turn(writer, "t")
    writer.rollback(1)
    assert turn(writer, "t") == 12
    assert [item.text for item in writer.state.history if isinstance(item, sl.Message)] == ["hi", "hello"]
    writer.rollback(6)  # redo of the first
    assert turn(writer, "t") == 6
    writer.rollback(3)
    assert sl.find_idem(store, writer.session_id, writer.segment_id, "t") is None


def test_a_fork_knows_what_was_before_the_cut(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """By reference, through generations: before the cut known, at position 1; after the cut, or cut in half, free."""
    turn(writer, "one")
    turn(writer, "two")
    child = sl.SegmentWriter.resume(store, writer.session_id, writer.fork_at(1))
    grandchild = sl.SegmentWriter.resume(store, writer.session_id, child.fork_at_entry(1))
    half = writer.fork_at_entry(9)

    for each in (child, grandchild):
        assert turn(each, "one") == 1
        with pytest.raises(sl.IdempotencyConflict) as caught:
            turn(each, "one", "other")
        assert (writer.segment_id in caught.value.where, caught.value.position) == (True, 6)
        assert turn(each, "two", "another") == 6
        found = sl.find_idem(store, each.session_id, each.segment_id, "one")
        assert found == sl.KeyedAppend(key="one", entries=1, segment_id=writer.segment_id, start=1, stop=6)
    head = sl.append_entries(store, writer.session_id, child.segment_id, _turn_entries(), idem="one")
    assert head == sl.Head(writer.session_id, child.segment_id, 1, len(lines(store, child)[0]) + 1)
    assert sl.find_idem(store, writer.session_id, half, "two") is None


def _turn_entries() -> list[sl.LogEntry]:
    return [
        sl.Invoke(ts=7, trigger="user_send"),
        sl.UserInput(ts=7, segments=(sl.TextInput("hi"),)),
        sl.AssistantItem(ts=7, item=sl.Message.assistant("hello")),
        sl.TurnEnd(ts=7, turn_count=70),
        sl.RunCompleted(ts=7, interrupted=False, result="finished"),
    ]


def test_a_compaction_and_a_copy_carry_the_keys(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """And hand them on: a copy of a compaction has them too; other content is a conflict there as well."""
    turn(writer, "one")
    writer.save_user_input("undone", idem="undone")
    writer.rollback(6)
    copy = sl.SegmentWriter.resume(store, writer.session_id, writer.fork_at_entry(8, copy_history=True))
    writer.compact(sl.SegmentStartState())
    second = sl.SegmentWriter.resume(store, writer.session_id, writer.fork_at_entry(1, copy_history=True))

    for each in (writer, copy, second):
        assert turn(each, "one") == 1
        with pytest.raises(sl.IdempotencyConflict, match="behind entry 1"):
            each.save_user_input("x", idem="one")
        assert each.save_user_input("undone", idem="undone") == 2
        found = sl.find_idem(store, each.session_id, each.segment_id, "one")
        assert found == sl.KeyedAppend(key="one", entries=1, segment_id=each.segment_id, start=None, stop=None)


def test_a_key_of_another_form_is_nobody_s(writer: sl.SegmentWriter, store: sl.Store) -> None:
    """What others wrote there, lone surrogates too, is read over, and keeps nobody from copying or compacting."""
    for odd in (rb"\ud800", b"", rb"\u0000", "ü".encode(), b"x" * 201):
        line = b'{"kind":"dream","ts":1,"idem":"%b"}' % odd
        store.append(writer.session_id, writer.segment_id, [line])
    again = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)
    again.save_user_input("hi", idem="k")
    copy = sl.SegmentWriter.resume(store, writer.session_id, again.fork_at_entry(7, copy_history=True))
    again.compact(sl.SegmentStartState())

    assert again.save_user_input("hi", idem="k") == copy.save_user_input("hi", idem="k") == 1
    assert b'"idem":[{"key":"k","content":' in lines(store, again)[0]


def test_a_compaction_carries_the_newest_keys(tmp_path: Path) -> None:
    """MAX_CARRIED_KEYS of them; the one used before those is forgotten, and can be recorded again."""
    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    for number in range(MAX_CARRIED_KEYS + 1):
        writer.append(sl.Invoke(ts=1, trigger="notify", idem=str(number)))

    writer.compact(sl.SegmentStartState())

    again = [sl.Invoke(ts=1, trigger="notify")]
    assert writer.append_entries(again, idem="1") == 1
    assert writer.append_entries(again, idem=str(MAX_CARRIED_KEYS)) == 1
    assert writer.append_entries(again, idem="0") == 2


# ── when others write ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on_conflict", ["fork", "raise"])
def test_what_others_got_in_first_is_adopted(store: sl.Store, on_conflict: Any) -> None:
    """The one that comes second gets the position, has it in its state, and goes on in the same segment."""
    one = sl.SegmentWriter.create(store, on_conflict=on_conflict)
    two = sl.SegmentWriter.resume(store, one.session_id, one.segment_id, on_conflict=on_conflict)
    assert turn(one, "t") == 6

    assert turn(two, "t") == 6
    assert (two.segment_id, two.state) == (one.segment_id, one.state)
    assert two.save_user_input("on") == 7
    assert store.list_segments(one.session_id) == [one.segment_id]


def test_what_others_recorded_behind_it_stays_theirs(store: sl.Store) -> None:
    """The second stands behind the keyed append; what follows it in the segment makes its next append a fork."""
    one = sl.SegmentWriter.create(store)
    two = sl.SegmentWriter.resume(store, one.session_id, one.segment_id)
    one.save_user_input("before")
    turn(one, "t")
    one.save_user_input("behind")

    assert turn(two, "t") == 7
    assert two.segment_id == one.segment_id
    two.save_user_input("mine")
    assert two.segment_id != one.segment_id
    assert [item.text for item in two.state.history if isinstance(item, sl.Message)] == [
        "before",
        "hi",
        "hello",
        "mine",
    ]
    assert turn(two, "t") == 1


def test_other_content_of_others_is_a_conflict_and_no_fork(store: sl.Store) -> None:
    one = sl.SegmentWriter.create(store)
    two = sl.SegmentWriter.resume(store, one.session_id, one.segment_id)
    turn(one, "t")

    with pytest.raises(sl.IdempotencyConflict):
        turn(two, "t", "other")
    assert (two.segment_id, two.head.entries) == (one.segment_id, 1)
    assert store.list_segments(one.session_id) == [one.segment_id]


def test_without_the_key_a_conflict_is_what_it_was(store: sl.Store) -> None:
    """A key nobody used: fork or HeadMoved, as the writer was asked; what was rolled back by others is not there."""
    one = sl.SegmentWriter.create(store)
    two = sl.SegmentWriter.resume(store, one.session_id, one.segment_id)
    three = sl.SegmentWriter.resume(store, one.session_id, one.segment_id, on_conflict="raise")
    intrude(store, one)
    turn(one, "t")
    one.rollback(1)

    with pytest.raises(sl.HeadMoved):
        turn(three, "t")
    assert turn(two, "t") == 6
    assert two.segment_id != one.segment_id
    assert turn(two, "t") == 6
    with pytest.raises(sl.HeadMoved):
        sl.append_entries(store, one.session_id, one.segment_id, _turn_entries(), expected=1, idem="t")


@pytest.mark.parametrize("on_conflict", ["fork", "raise"])
def test_what_an_exclusive_writer_recorded_is_found(store: sl.Store, on_conflict: Any) -> None:
    """Nobody can append beside it; a retry of what it recorded needs not."""
    waiting = sl.SegmentWriter.create(store, on_conflict=on_conflict)
    with sl.SegmentWriter.resume(store, waiting.session_id, waiting.segment_id, exclusive=True) as holder:
        turn(holder, "t")

        assert turn(waiting, "t") == 6
        assert waiting.state == holder.state
        assert turn(holder, "t") == 6
        head = sl.append_entries(store, holder.session_id, holder.segment_id, _turn_entries(), idem="t")
        assert head == holder.head
    assert store.list_segments(waiting.session_id) == [waiting.segment_id]


class LetsOthersIn(sl.MemoryStore):
    """A store in memory on which somebody else appends just before the next append."""

    others: Callable[[], Any] | None = None

    def append(self, session_id: str, segment_id: str, lines: Sequence[bytes], **more: Any) -> int:
        others, self.others = self.others, None
        if others is not None:
            others()
        return super().append(session_id, segment_id, lines, **more)


@pytest.mark.parametrize("same", [True, False])
def test_without_a_writer_it_looks_again_when_others_got_in(same: bool) -> None:
    """Between the look for the key and the append: theirs, if it is the same, else a place behind theirs."""
    store = LetsOthersIn()
    ids = sl.create_segment(store)
    store.others = lambda: sl.save_user_input(store, *ids, "hi", idem="k" if same else "other")

    assert sl.save_user_input(store, *ids, "hi", idem="k") == (2 if same else 3)
    store.others = lambda: sl.save_user_input(store, *ids, "ho", idem="k2")
    with pytest.raises(sl.IdempotencyConflict):
        sl.save_user_input(store, *ids, "hi", idem="k2")
