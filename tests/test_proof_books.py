"""The books of the proofs: what is on file as it was told has no fault, and each way not to be so is one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from proof.books import Books, disagreement
from proof.deeds import Deed, Hand


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[sl.FsStore, list[Deed]]]:
    """Lend a store after many deeds of one hand, and what it told."""
    store = sl.FsStore(tmp_path, durability="process")
    place = sl.create_segment(store)
    told = [Deed("session", place, ("SegmentStart",), "done", 1, final=True)]
    hand = Hand(store, "hand", random.Random(1), told.append, shared=("", ""))
    assert hand._go(place)
    for kind in (*hand.kinds[:-1], *hand.kinds[:6]):
        hand.do(kind)
    yield store, told
    hand.close()


def faults(store: sl.FsStore, told: list[Deed], durability: str = "power", cut_at: float | None = None) -> str:
    books = Books(told, durability, cut_at=cut_at)
    books.check(store)
    return "\n".join(books.faults)


def test_what_is_as_it_was_told_has_no_fault(written: tuple[sl.FsStore, list[Deed]]) -> None:
    """And every kind of deed was done."""
    store, told = written

    assert faults(store, told) == ""
    assert {deed.outcome for deed in told} == {"done"}
    assert {deed.kind for deed in told} >= {"append", "turn", "rollback", "trace", "pod", "blob", "fork", "compact"}


@pytest.mark.parametrize("durability", ["power", "turn", "process"])
def test_a_lost_line_is_a_fault_as_far_as_it_was_due(durability: str, written: tuple[sl.FsStore, list[Deed]]) -> None:
    """A segment is cut to its first line, and one that a turn ended in is due with ``turn``, too."""
    store, told = written
    place = next(deed.place for deed in told if deed.kind == "turn")
    path = store.segment_path(*place)
    os.truncate(path, path.read_bytes().index(b"\n") + 1)

    found = faults(store, told, durability, cut_at=float("inf"))

    assert ("lost" in found) == (durability != "process")
    assert faults(store, told, durability, cut_at=0.0) == ""  # told after the cut


def of(told: list[Deed], kind: str) -> tuple[int, Deed]:
    return next((at, deed) for at, deed in enumerate(told) if deed.kind == kind)


def refuse(told: list[Deed], kind: str) -> None:
    at, deed = of(told, kind)
    told[at] = deed._replace(outcome="refused")


def test_what_was_refused_and_is_there_is_a_fault(written: tuple[sl.FsStore, list[Deed]]) -> None:
    """Certainly not written means that."""
    store, told = written
    refuse(told, "append")
    assert "certainly not written" in faults(store, told)


def test_a_segment_that_no_deed_made_is_a_fault(written: tuple[sl.FsStore, list[Deed]]) -> None:
    """Such as one whose creation was refused."""
    store, told = written
    sl.create_segment(store)
    assert "segments that no deed made" in faults(store, told)


def test_one_line_for_two_and_two_lines_for_one_are_faults(written: tuple[sl.FsStore, list[Deed]]) -> None:
    """Doubled in the file, or in what was told."""
    store, told = written
    _, deed = of(told, "append")
    assert "acknowledged to two" in faults(store, [*told, deed._replace(marks=("other#1",))])
    sl.save_user_input(store, *deed.place, deed.marks[0])
    assert "is on file 2 times" in faults(store, told)


@pytest.mark.parametrize("kind", ["trace", "pod", "blob"])
def test_what_is_lost_beside_the_segments_is_a_fault(kind: str, written: tuple[sl.FsStore, list[Deed]]) -> None:
    """A trace, a pod, a blob."""
    store, told = written
    _, deed = of(told, kind)
    path = {
        "trace": store.trace_path(*deed.place) if kind == "trace" else store.root,
        "pod": store.root / "pods" / "hand.json",
        "blob": store.root / "blobs" / deed.place[1][:2] / deed.place[1],
    }[kind]

    path.unlink()

    assert kind in faults(store, told)


def test_a_child_without_its_parent_is_a_fault_of_whoever_goes_on(written: tuple[sl.FsStore, list[Deed]]) -> None:
    """But with ``process`` it is reported damage."""
    store, told = written
    parent = sl.create_segment(store)
    sl.fork_at_entry(store, *parent, 1)
    store.segment_path(*parent).unlink()
    found = {}

    for durability in ("power", "process"):
        books = Books(told, durability, cut_at=0.0)
        books.check_going_on(store)
        found[durability] = books.faults

    assert [("cannot be restored" in fault) for fault in found["power"]] == [True]
    assert found["process"] == []


def test_memory_that_ran_ahead_of_the_file_is_noticed(tmp_path: Path) -> None:
    """F19: what a writer believes is what is on file."""
    store = sl.FsStore(tmp_path, durability="process")
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("on file")
        assert disagreement(store, writer) is None
        writer._fresh.append(sl.Invoke(ts=1, trigger="user_send"))

        assert disagreement(store, writer)
