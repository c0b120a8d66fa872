"""Labels: adding and removing them is one change, which nobody else's change is lost by."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from session_log.facts import change_labels, facts_history, read_facts, set_facts

LABELS = st.frozensets(st.sampled_from("abcde"))


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path, durability="process")


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(LABELS, LABELS), max_size=6))
def test_labels_are_a_set(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[str], set[str]]]) -> None:
    """What is added and removed at once is removed; what changes nothing is not written."""
    store = sl.FsStore(tmp_path_factory.mktemp("root"), durability="process")
    session_id, _ = sl.create_segment(store)
    wanted: set[str] = set()
    changes = 0

    for add, remove in steps:
        before = wanted
        wanted = (wanted | add) - remove
        changes += wanted != before
        assert change_labels(store, session_id, add=add, remove=remove).labels == tuple(sorted(wanted))

    assert read_facts(sl.FsStore(store.root), session_id).labels == tuple(sorted(wanted))
    assert sum(change.kind == "set" for change in facts_history(store, session_id)) == changes


def _add(root: str, session_id: str, names: list[str]) -> None:
    store = sl.FsStore(root, durability="process")
    for name in names:
        change_labels(store, session_id, add=[name], remove=["nobody's"])


def test_none_is_lost_between_threads_and_processes(store: sl.FsStore) -> None:
    session_id, _ = sl.create_segment(store)
    names = [[f"{who}-{number}" for number in range(20)] for who in range(4)]
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_add, args=(str(store.root), session_id, each)) for each in names[:2]]
    threads = [threading.Thread(target=_add, args=(str(store.root), session_id, each)) for each in names[2:]]
    for process, thread in zip(workers, threads, strict=True):
        process.start()
        thread.start()
    for number in range(20):
        set_facts(store, session_id, title=f"title {number}")
    for process, thread in zip(workers, threads, strict=True):
        process.join()
        thread.join()

    assert set(read_facts(store, session_id).labels) == {name for each in names for name in each}
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_label_that_is_none_is_refused(store: sl.FsStore) -> None:
    session_id, _ = sl.create_segment(store)

    with pytest.raises(sl.InvalidEntry):
        change_labels(store, session_id, add=[3])  # type: ignore[list-item]
    with pytest.raises(sl.CallerError):
        change_labels(store, session_id, add="abc")
    with pytest.raises(sl.NotFound):
        change_labels(store, sl.new_session_id(), add=["x"])
    assert read_facts(store, session_id).labels == ()
