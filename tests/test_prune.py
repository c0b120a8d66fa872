"""The laws of pruning: a plan says what would go and why; what is protected stays; nothing goes unasked."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._activity import last_activity
from session_log.facts import set_facts
from session_log.prune import PINNED, _excess, _Limits, _Seen, apply_prune, plan_prune
from session_log.trash import list_trash

HOUR_MS = 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


def aged(store: sl.FsStore, hours: int, size: int = 0) -> str:
    """Create a session whose last entry is so old, and whose file is not."""
    session_id, segment_id = sl.create_segment(store)
    ts = sl.now_ms() - hours * HOUR_MS
    path = store.segment_path(session_id, segment_id)
    start = path.read_bytes().splitlines()[0]
    line = sl.encode_line(sl.UserInput(ts=ts, segments=(sl.TextInput("x" * size),)))
    path.write_bytes(re.sub(rb'"ts":\d+', b'"ts":%d' % (ts - 1), start) + b"\n" + line + b"\n")
    return session_id


def ids_of(candidates: Any) -> list[str]:
    return [found.session_id for found in candidates]


def test_age_is_that_of_the_last_entry(store: sl.FsStore) -> None:
    """F15: not file time; the plan is longest unused first and says why, and nothing has gone."""
    older, newer, fresh = aged(store, 50), aged(store, 30), aged(store, 1)

    plan = plan_prune(store, older_than_ms=24 * HOUR_MS)

    assert ids_of(plan.doomed) == [older, newer]
    assert f"more than {24 * HOUR_MS}" in plan.doomed[0].why
    assert plan.protected == ()
    assert len(store.list_sessions()) == 3
    assert apply_prune(store, plan).deleted == (older, newer)
    assert store.list_sessions() == [fresh]
    assert {found.session_id for found in list_trash(store)} == {older, newer}


def test_the_newest_stay_whatever_their_age(store: sl.FsStore) -> None:
    """keep_last is a promise: with an age it protects, alone it says what is too many."""
    sessions = [aged(store, hours) for hours in (90, 80, 70, 60)]

    assert ids_of(plan_prune(store, older_than_ms=0, keep_last=3).doomed) == sessions[:1]
    assert ids_of(plan_prune(store, keep_last=1).doomed) == sessions[:3]
    assert plan_prune(store, keep_last=9).doomed == ()
    assert ids_of(plan_prune(store, keep_last=0).doomed) == sessions


def test_what_was_used_longest_ago_goes_until_the_rest_fits(store: sl.FsStore) -> None:
    """max_bytes counts what stays, that which is protected too."""
    large, protected, small = aged(store, 9, 10_000), aged(store, 8, 10_000), aged(store, 7, 10)
    set_facts(store, protected, labels=[PINNED])
    room = sum(path.stat().st_size for path in (store.root / protected).iterdir())

    plan = plan_prune(store, max_bytes=room + 2_000)

    assert ids_of(plan.doomed) == [large]
    assert plan.size_bytes > 10_000
    assert ids_of(plan_prune(store, max_bytes=2_000).doomed) == [large, small]


def test_protected_sessions_stay_and_the_plan_says_why(store: sl.FsStore) -> None:
    """Pods, running, held, pinned, keyed and damaged ones; a pod that cannot be read protects everything."""
    named = {
        name: aged(store, 99) for name in ("pod", "running", "held", "pinned", "keyed", "damaged", "facts", "free")
    }
    sl.FsPodStore(store.root).write(sl.PodMetadata("p", sl.PodActiveSegmentRef(named["pod"])))
    set_facts(store, named["running"], status="running")
    set_facts(store, named["pinned"], labels=[PINNED, "x"])
    set_facts(store, named["keyed"], external_key="thread")
    set_facts(store, named["facts"], title="x")
    (store.root / named["facts"] / "session.jsonl").write_bytes(b"garbage\n")
    store.segment_path(named["damaged"], store.list_segments(named["damaged"])[0]).write_bytes(b"garbage\n")
    held = store.list_segments(named["held"])[0]
    with sl.SegmentWriter.resume(store, named["held"], held, exclusive=True):
        plan = plan_prune(store, older_than_ms=HOUR_MS)
        everything = plan_prune(store, keep_last=0, keyed=True)

    why = {found.session_id: found.why for found in everything.protected}
    assert ids_of(plan.doomed) == [named["free"]]
    assert sorted(ids_of(everything.doomed)) == sorted([named["free"], named["keyed"]])
    assert why[named["pod"]] == "pod 'p'"
    assert why[named["running"]] == "its status is running"
    assert "is held by process" in why[named["held"]]
    assert why[named["pinned"]] == "has the label 'pinned'"
    assert "no entry" in why[named["damaged"]]
    assert "session.jsonl:1" in why[named["facts"]]
    assert "external key" in next(found.why for found in plan.protected if found.session_id == named["keyed"])
    (store.root / "pods" / "q.json").write_bytes(b"{")
    assert plan_prune(store, keep_last=0, keyed=True).doomed == ()


def test_labels_and_statuses_say_which_are_looked_at(store: sl.FsStore) -> None:
    """All of the labels, none of those without, one of the statuses; a session without facts is idle."""
    plain, a, ab, failed = (aged(store, hours) for hours in (9, 8, 7, 6))
    set_facts(store, a, labels=["a"])
    set_facts(store, ab, labels=["a", "b"])
    set_facts(store, failed, status="failed")

    assert ids_of(plan_prune(store, labels=["a"]).doomed) == [a, ab]
    assert ids_of(plan_prune(store, labels=["a"], without_labels=["b"]).doomed) == [a]
    assert ids_of(plan_prune(store, statuses=["failed"]).doomed) == [failed]
    assert ids_of(plan_prune(store, statuses=["idle"], without_labels=["a"]).doomed) == [plain]
    assert ids_of(plan_prune(store, labels=["a"], keep_last=1).doomed) == [a]
    assert ids_of(plan_prune(store, labels=["a"], older_than_ms=100 * HOUR_MS).doomed) == []


def test_without_a_limit_nothing_is_planned(store: sl.FsStore) -> None:
    """F22: no limit at all is an error, and so is one that is none; a store without files has no plan."""
    for wrong in (
        {},
        {"without_labels": ["x"]},
        {"older_than_ms": -1},
        {"keep_last": True},
        {"max_bytes": 1.5},
        {"labels": "x"},
    ):
        with pytest.raises(sl.CallerError):
            plan_prune(store, **wrong)
    with pytest.raises(sl.CallerError):
        plan_prune(sl.MemoryStore(), keep_last=1)


def test_what_changed_since_the_plan_stays(store: sl.FsStore) -> None:
    """Used, pinned, taken by a pod, running or deleted meanwhile: left, with the reason; the others go."""
    used, pinned, taken, running, gone, free = (aged(store, 9) for _ in range(6))
    plan = plan_prune(store, keep_last=0)
    sl.save_user_input(store, used, store.list_segments(used)[0], "again")
    set_facts(store, pinned, labels=[PINNED])
    sl.FsPodStore(store.root).write(sl.PodMetadata("p", sl.PodActiveSegmentRef(taken)))
    set_facts(store, running, status="running")
    store.delete_session(gone)

    done = apply_prune(store, plan)

    assert done.deleted == (free,)
    why = {found.session_id: found.why for found in done.left}
    assert why[used] == "was used since the plan was made"
    assert "pinned" in why[pinned] and "pod 'p'" in why[taken] and "running" in why[running]
    assert "not found" in why[gone]


@given(st.lists(st.integers(0, 5000), max_size=3), st.binary(max_size=50))
def test_the_last_activity_is_the_time_of_the_last_committed_line(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], torn: bytes
) -> None:
    """Of all segments, found from the end, blank lines and a torn end passed over, however long the last line is."""
    store = sl.FsStore(tmp_path_factory.mktemp("r"), durability="process")
    session_id, segment_id = sl.create_segment(store)
    sl.fork_at(store, session_id, segment_id, 0)
    far = 4_000_000_000_000
    for size in sizes:
        far += 1
        sl.append_entry(store, session_id, segment_id, sl.UserInput(ts=far, segments=(sl.TextInput("x" * size),)))
    with store.segment_path(session_id, segment_id).open("ab") as file:
        file.write(b"  \n" + torn.replace(b"\n", b""))

    found = last_activity(store, session_id)

    if sizes:
        assert found == far
    else:
        assert abs(found - sl.now_ms()) < HOUR_MS


def test_a_clock_set_back_makes_nothing_old() -> None:
    """A last entry in the future has a negative age, which exceeds no limit."""
    limits = _Limits(
        older_than_ms=0,
        keep_last=None,
        max_bytes=None,
        labels=frozenset(),
        without_labels=frozenset(),
        statuses=frozenset(),
        keyed=False,
    )
    seen = _Seen(session_id="s", last_ts=10, size_bytes=1, facts=None, trouble=None)

    assert _excess(seen, limits, 5, 1) is None
    assert _excess(seen, limits, 11, 1) is not None
