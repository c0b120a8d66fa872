"""The feed: what it says after any history, in which order, and what is found by it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from feeding import feed_file, feed_lines, ids_of, run, thrice, ticking
from lookers import Watched
from session_log.facts import archive, rename, set_facts, unarchive
from session_log.feed import RecentSession, recent_sessions, reindex, watch
from session_log.keys import open_or_create

GOLDEN = Path(__file__).parent / "golden" / "feed"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process") as found:
        yield found


# ── any history ────────────────────────────────────────────────────────────────────────────────────────────────────


def _last(store: sl.FsStore, pick: int) -> tuple[str, str]:
    sessions = store.list_sessions()
    session_id = sessions[pick % len(sessions)]
    segments = store.list_segments(session_id)
    return session_id, segments[pick % len(segments)]


def _writer(store: sl.FsStore, pick: int) -> sl.SegmentWriter:
    return sl.SegmentWriter.resume(store, *_last(store, pick), exclusive=pick % 3 == 0)


def _a_run(store: sl.FsStore, pick: int) -> None:
    with _writer(store, pick) as writer:
        run(writer)


def _a_batch(store: sl.FsStore, pick: int) -> None:
    with _writer(store, pick) as writer, writer.batch():
        run(writer)


def _unfinished(store: sl.FsStore, pick: int) -> None:
    with _writer(store, pick) as writer:
        writer.save_invoke()
        writer.save_turn_end()
        nested = {"kind": "run_completed", "ts": 5, "forked_from": {"kind": "run_errored"}}
        writer.save_extension("mine", [nested, '\n{"kind":"run_completed","ts":9}'])


def _failed(store: sl.FsStore, pick: int) -> None:
    sl.save_run_errored(store, *_last(store, pick), "out of luck")


def _compact(store: sl.FsStore, pick: int) -> None:
    history = (sl.Message.user('"forked_from"'),)
    turns = sl.restore(store, *(ids := _last(store, pick))).turn_count
    sl.create_compacted_segment(store, sl.SegmentStartState(history=history), *ids, turns)


def _fork(store: sl.FsStore, pick: int) -> None:
    sl.fork_at_entry(store, *_last(store, pick), 1, copy_history=pick % 2 == 0)


ACTIONS: dict[str, Callable[[sl.FsStore, int], object]] = {
    "create": lambda store, pick: sl.create_segment(store),
    "key": lambda store, pick: open_or_create(store, f"key {pick % 3}"),
    "run": _a_run,
    "batch": _a_batch,
    "unfinished": _unfinished,
    "failed": _failed,
    "fork": _fork,
    "compact": _compact,
    "rename": lambda store, pick: rename(store, _last(store, pick)[0], f"title {pick}" * pick if pick % 5 else None),
    "archive": lambda store, pick: archive(store, _last(store, pick)[0]),
    "unarchive": lambda store, pick: unarchive(store, _last(store, pick)[0]),
    "status": lambda store, pick: set_facts(
        store, _last(store, pick)[0], status=("archived", "running", None)[pick % 3], labels=[str(pick % 2)]
    ),
    "delete": lambda store, pick: store.delete_session(_last(store, pick)[0]),
    "reindex": lambda store, pick: reindex(store),
}
HISTORIES = st.lists(st.tuples(st.sampled_from([*ACTIONS]), st.integers(0, 99)), max_size=25)


@given(history=HISTORIES, durability=st.sampled_from(["process", "turn"]), limit=st.integers(0, 4))
def test_after_any_history_feed_scan_and_rebuilt_feed_agree(
    history: list[tuple[str, int]], durability: Any, limit: int
) -> None:
    """Which sessions were active last, of which status; and all that a rebuilt feed says, the old one said."""
    with tempfile.TemporaryDirectory() as root, ticking() as now:
        store = sl.FsStore(root, durability=durability)
        sl.create_segment(store)
        for action, pick in history:
            if store.list_sessions() or action in ("create", "key"):
                ACTIONS[action](store, pick)

        everything = thrice(store, 99)
        assert sorted(ids_of(everything)) == sorted(store.list_sessions())
        assert thrice(store, limit).sessions == everything.sessions[:limit]
        thrice(store, limit, status="archived")
        thrice(store, limit, labels=["1"])
        thrice(store, limit, before=now[0] - 20)
        store.close()


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────────


def _golden_history(store: sl.FsStore) -> None:
    session_id, segment_id = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01", "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"
    other_id = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c05"
    sl.create_segment_with_ids(store, session_id, segment_id, sl.SegmentStartState(history=(sl.Message.user("Hi"),)))
    with sl.SegmentWriter.resume(store, session_id, segment_id) as writer:
        run(writer)
        writer.save_run_errored("no more tokens")
    origin = sl.SegmentOrigin(segment_id, 1)
    plain = sl.SegmentStart(
        ts=1_751_450_000_100, session_id=session_id, system_prompt=None, config=sl.RequestConfig(), history=()
    )
    forked = msgspec.structs.replace(plain, forked_from=origin)
    store.create_segment(session_id, "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c03", [sl.encode_line(forked)])
    compacted = msgspec.structs.replace(plain, compacted_from=origin)
    store.create_segment(session_id, "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c04", [sl.encode_line(compacted)])
    rename(store, session_id, 'Wie spät ist es? "x" 🕘\n' * 9)
    rename(store, session_id, None)
    archive(store, session_id)
    unarchive(store, session_id)
    sl.create_segment_with_ids(store, other_id, other_id, sl.SegmentStartState())
    store.delete_session(other_id)


def test_the_lines_are_those_of_the_golden_file(store: sl.FsStore) -> None:
    """What is written today reads, and is written, as ever."""
    with ticking(1_751_450_000_000):
        _golden_history(store)

    assert feed_file(store).read_text() == (GOLDEN / "feed.jsonl").read_text()


def test_a_rebuilt_feed_is_the_golden_file(store: sl.FsStore) -> None:
    with ticking(1_751_450_000_000):
        _golden_history(store)
        old = feed_file(store).stat()
        report = reindex(store)

    places = f'"replaced":[{old.st_dev:20d},{old.st_ino:20d}]'
    golden = (GOLDEN / "rebuilt.jsonl").read_text().replace('"replaced":[DEVICE,INODE]', places)
    assert feed_file(store).read_text() == golden
    assert (report.sessions, report.lines, report.carried, report.damaged) == (1, 6, 0, ())
    assert feed_file(store).stat().st_size == int(golden.split('"carried":')[1][:15])


def test_a_line_is_short_whatever_the_title(store: sl.FsStore) -> None:
    """A line is one write of less than a kilobyte, and a title of control characters grows sixfold."""
    session_id = sl.create_segment(store)[0]

    for title in ("\x01" * 5_000, "🕘" * 5_000, '"\\' * 5_000):
        rename(store, session_id, title)

    lines = feed_file(store).read_bytes().split(b"\n")
    assert max(map(len, lines)) < 1024
    assert [line["title"] for line in feed_lines(store)[1:]] == ["\x01" * 100, "🕘" * 100, '"\\' * 50]
    assert not recent_sessions(store).scanned


@pytest.mark.parametrize("durability", ["process", "turn", "power"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_every_way_of_ending_a_run_says_so_once(tmp_path: Path, durability: Any, exclusive: bool) -> None:
    """One line an append, however it is made; with the time of the entry."""
    store = sl.FsStore(tmp_path, durability=durability)
    ids = sl.create_segment(store)
    ended = sl.RunCompleted(ts=7, interrupted=False, result="finished")
    ways: list[Callable[[], object]] = [
        lambda: sl.append_entry(store, *ids, ended),
        lambda: sl.append_entries(store, *ids, [ended]),
        lambda: sl.append_entries(store, *ids, [sl.Invoke(ts=1, trigger="a"), ended, ended]),
        lambda: sl.append_entries(store, *ids, [ended], token="t"),
        lambda: store.append(*ids, [sl.encode_line(sl.RunErrored(ts=7, interrupted=False, message="x"))]),
    ]
    for way in ways:
        way()
    with sl.SegmentWriter.resume(store, *ids, exclusive=exclusive) as writer:
        writer.append(ended)
        writer.append(ended)
        writer.append_entries([ended])
        writer.append_entries([ended, sl.Invoke(ts=8, trigger="a")])
        writer.append_entries([sl.Invoke(ts=6, trigger="a"), ended])
        with writer.batch():
            writer.append(ended)
            writer.append(sl.TurnEnd(ts=8, turn_count=1))

    runs = [line for line in feed_lines(store) if line["kind"] == "run_end"]
    assert runs == [{"kind": "run_end", "ts": 7, "session_id": ids[0], "segment_id": ids[1]}] * (len(ways) + 6)


def test_without_a_feed_nothing_is_written(tmp_path: Path) -> None:
    """``feed=False``: not by any verb; and a reader writes none, either."""
    store = sl.FsStore(tmp_path, feed=False)
    with ticking():
        session_id = open_or_create(store, "k")[0]
        with sl.SegmentWriter.create(store) as writer:
            run(writer)
        rename(store, session_id, "x")

    found = recent_sessions(sl.FsStore(tmp_path))

    assert ids_of(found) == [session_id, writer.session_id]
    assert "is missing" in str(found.reason)
    assert not feed_file(store).exists()


# ── which sessions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_order_is_that_of_the_feed_though_the_clock_is_set_back(store: sl.FsStore) -> None:
    """What was done last comes first, whatever its time says."""
    with ticking(1_800_000_000_000):
        early = sl.SegmentWriter.create(store)
        run(early)
    with ticking(1_700_000_000_000):
        late = sl.SegmentWriter.create(store)
        run(late)

    assert ids_of(recent_sessions(store)) == [late.session_id, early.session_id]
    assert recent_sessions(store, 1).sessions[0].ts < 1_700_001_000_000


def test_a_file_s_time_does_not_matter(store: sl.FsStore) -> None:
    sessions = [sl.create_segment(store) for _ in range(3)]
    for at, ids in enumerate(sessions):
        os.utime(store.segment_path(*ids), (9 - at, 9 - at))

    assert ids_of(recent_sessions(store)) == [ids[0] for ids in reversed(sessions)]


def test_what_never_came_to_be_is_not_shown(store: sl.FsStore) -> None:
    """A line about a session, or a segment, that is not there is passed over; deleted sessions are."""
    session_id, segment_id = sl.create_segment(store)
    gone = sl.create_segment(store)[0]
    store.delete_session(gone)
    assert store.feed is not None
    store.feed.announce("fork", 9, session_id, sl.new_segment_id())
    store.feed.announce("create", 9, sl.new_session_id(), sl.new_segment_id())
    store.feed.announce("delete", 9, session_id)

    found = recent_sessions(store)

    assert not found.scanned
    assert [(one.session_id, one.segment_id, one.kind) for one in found] == [(session_id, segment_id, "create")]


def test_a_session_of_before_the_feed_is_found_too(tmp_path: Path) -> None:
    """By reading the sessions, and it is said why; after a rebuild, by the feed."""
    old = sl.create_segment(sl.FsStore(tmp_path, feed=False))[0]
    store = sl.FsStore(tmp_path)
    new = sl.create_segment(store)[0]

    found = recent_sessions(store)
    assert ids_of(found) == [new, old] and "does not go back to the first session" in str(found.reason)

    reindex(store)
    assert ids_of(recent_sessions(store)) == [new, old] and not recent_sessions(store).scanned


@pytest.mark.parametrize("kind", ["memory", "lines"])
def test_a_store_without_files_is_scanned(kind: str) -> None:
    """The same sessions in the same order, and it is said why; facts, watching and rebuilding need files."""
    memory = sl.MemoryStore()
    store: Any = memory if kind == "memory" else Watched(memory)
    with ticking():
        writers = [sl.SegmentWriter.create(store) for _ in range(3)]
        for writer in (writers[2], writers[0]):
            run(writer)
        child = sl.fork_at(store, writers[1].session_id, writers[1].segment_id, 0)

    found = recent_sessions(store, 2)

    assert "keeps no feed" in str(found.reason)
    assert [(one.session_id, one.segment_id, one.kind) for one in found] == [
        (writers[1].session_id, child, "fork"),
        (writers[0].session_id, writers[0].segment_id, "run_end"),
    ]
    for refused in (lambda: recent_sessions(store, status="idle"), lambda: reindex(store), lambda: watch(store)):
        with pytest.raises(sl.CallerError, match="FsStore"):
            refused()


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"limit": "x"}, {"before": -1}, {"status": "x"}, {"labels": "x"}])
def test_what_makes_no_sense_is_refused(store: sl.FsStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(sl.CallerError):
        recent_sessions(store, **wrong)


def test_a_segment_is_looked_up_in_the_feed_first(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look into other sessions' folders; what the feed says wrongly, or not, is looked for."""
    sessions = [sl.create_segment(store) for _ in range(5)]
    asked: list[str] = []
    real = store.exists

    def exists(session_id: str, segment_id: str) -> bool:
        asked.append(session_id)
        return real(session_id, segment_id)

    monkeypatch.setattr(store, "exists", exists)

    assert store.lookup_session_of(sessions[0][1]) == sessions[0][0]
    assert asked == [sessions[0][0]]

    assert store.feed is not None
    store.feed.announce("fork", 9, sessions[3][0], sessions[1][1])
    assert store.lookup_session_of(sessions[1][1]) == sessions[1][0]
    feed_file(store).unlink()
    assert store.lookup_session_of(sessions[1][1]) == sessions[1][0]
    assert store.lookup_session_of(sl.new_segment_id()) is None


def test_a_page_goes_on_before_the_last_one(store: sl.FsStore) -> None:
    """``before``: sessions whose last activity was earlier; one that was active since is not among them."""
    with ticking():
        writers = [sl.SegmentWriter.create(store) for _ in range(6)]
        page = recent_sessions(store, 2)
        run(writers[0])
    rest = recent_sessions(store, before=page.sessions[-1].ts)

    assert ids_of(rest) == [writer.session_id for writer in reversed(writers[1:4])]
    assert isinstance(page.sessions[0], RecentSession) and len(page) == 2
