"""Labels: adding and removing them is one change, which nobody else's change is lost by."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
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


def _add(root: str, session_id: str, names: list[str], wait: Callable[[], object]) -> None:
    store = sl.FsStore(root, durability="process")
    wait()
    for name in names:
        change_labels(store, session_id, add=[name], remove=["nobody's"])


def test_none_is_lost_between_processes(store: sl.FsStore) -> None:
    """All begin at once, and other facts change meanwhile."""
    session_id, _ = sl.create_segment(store)
    names = [[f"{who}-{number}" for number in range(30)] for who in range(4)]
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(5)
    workers = [
        spawn.Process(target=_add, args=(str(store.root), session_id, each, barrier.wait), daemon=True)
        for each in names
    ]
    for worker in workers:
        worker.start()
    barrier.wait(60)
    for number in range(30):
        set_facts(store, session_id, title=f"title {number}")
    for worker in workers:
        worker.join(60)

    assert set(read_facts(store, session_id).labels) == {name for each in names for name in each}
    assert read_facts(store, session_id).title == "title 29"
    assert [worker.exitcode for worker in workers] == [0] * 4


class Overtaken(sl.FsStore):
    """A store in which somebody else gets in between, just before each of the first three changes is written."""

    turns = 0

    def append_data(
        self, key: tuple[str, str], data: bytes, count: int, expected: int | None = None, *, final: bool = False
    ) -> tuple[int, int]:
        if self.turns < 3:
            self.turns += 1
            change_labels(sl.FsStore(self.root), key[0], add=[f"theirs {self.turns}"], remove=["old"])
        return super().append_data(key, data, count, expected, final=final)


@pytest.mark.parametrize("first", [True, False])
def test_who_gets_in_between_loses_nothing(tmp_path: Path, first: bool) -> None:
    """Also where there were no facts before."""
    store = Overtaken(tmp_path)
    session_id, _ = sl.create_segment(store)
    if not first:
        set_facts(sl.FsStore(tmp_path), session_id, labels=["old"])

    change_labels(store, session_id, add=["ours"])

    wanted = ("ours", "theirs 1", "theirs 2", "theirs 3")
    assert (store.turns, read_facts(sl.FsStore(tmp_path), session_id).labels) == (3, wanted)


def test_a_label_that_is_none_is_refused(store: sl.FsStore) -> None:
    session_id, _ = sl.create_segment(store)

    with pytest.raises(sl.InvalidEntry):
        change_labels(store, session_id, add=[3])  # type: ignore[list-item]
    with pytest.raises(sl.CallerError):
        change_labels(store, session_id, add="abc")
    with pytest.raises(sl.NotFound):
        change_labels(store, sl.new_session_id(), add=["x"])
    assert read_facts(store, session_id).labels == ()
