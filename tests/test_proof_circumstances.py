"""The proof ``circumstances`` can fail, and its parts do what they say."""

from __future__ import annotations

import functools
import inspect
import os
import random
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import session_log as sl
from proof import entrances, interruptions, places
from proof.clocks import CLOCKS
from proof.entrances import ENTRANCES, Entrance
from proof.interruptions import Interruption, Trial
from proof.memory import Failure
from proof.offspring import Died, in_child
from proof.pending import Pending, Raised, Traced, spot
from proof.scene import MARK, Files, Scene, Wrong, files_below, recorded

LIKE_ANOTHER = {
    "save_invoke": "append",
    "append": "append",
    "append_system_item": "append",
    "save_run_completed": "save_turn_end",
    "save_run_errored": "save_turn_end",
    "save_usage": "append",
    "save_config_changed": "append of what is not plain",
    "save_pod_scope": "append of what is not plain",
    "trace_lifecycle": "trace",
    "create_segment": "create_segment",
    "read": "restore",
    "length": "head",
}
"""Public methods that no entrance calls by name, and the entrance that goes the same way."""
NO_WAY_IN = {"capabilities"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return recorded(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("door", [sl.SegmentWriter, sl.Store, sl.FsPodStore])
def test_every_public_method_is_an_entrance(door: type) -> None:
    """A method that comes later is tried in all circumstances, too, or says whose way it goes."""
    source = inspect.getsource(entrances)
    names = {name for name, found in inspect.getmembers(door, inspect.isfunction) if not name.startswith("_")}
    missing = {name for name in names if f".{name}(" not in source} - NO_WAY_IN

    assert {name for name in missing if LIKE_ANOTHER.get(name) not in ENTRANCES} == set()


# ── interrupts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def add(one: int) -> int:
    return one + 1


def worked(done: list[str]) -> None:
    try:
        done.append("a")
        add(1)
        for number in range(2):
            done.append("b" * number)  # noqa: PERF401  a loop is what this is for
    finally:
        done.append("end")


def test_a_signal_arrives_where_the_interpreter_looks_for_one_and_nowhere_else() -> None:
    """Behind calls of C code, when a function begins, when a loop goes round; its handlers run as for any exception."""
    rehearsal = Traced()
    rehearsal.run(functools.partial(worked, []))
    places, at = set(), 1
    while at <= len(rehearsal.seen):
        done: list[str] = []
        pending = Pending(at)
        try:
            pending.run(functools.partial(worked, done))
            assert not pending.reached
            break
        except KeyboardInterrupt:
            pass
        code, _ = pending.place
        if code is worked.__code__ and "a" in done:
            assert done[-1] == "end", "the finally did not run"
        places.add(spot(pending.place))
        at = pending.next_after(rehearsal.seen)

    assert len(places) < len(rehearsal.seen) / 3
    assert any("in add" in place for place in places)
    assert len([place for place in places if "in worked" in place]) >= 4


def test_an_error_can_be_raised_at_every_bytecode() -> None:
    """Also where no signal ever arrives."""
    rehearsal = Traced()
    rehearsal.run(lambda: worked([]))

    for at in range(1, len(rehearsal.seen) + 1):
        with pytest.raises(ZeroDivisionError):
            Raised(at, ZeroDivisionError).run(lambda: worked([]))
    assert Raised(len(rehearsal.seen) + 1, ZeroDivisionError).run(lambda: add(1)) == 2


def swallow(scene: Scene) -> None:
    try:
        scene.writer.save_user_input("x")
    except KeyboardInterrupt:
        pass


def keep_a_lock(scene: Scene) -> None:
    scene.kept = sl.SegmentWriter.resume(scene.store, *scene.at, exclusive=True)  # type: ignore[attr-defined]


def double(scene: Scene) -> None:
    scene.writer.save_user_input(MARK)
    scene.writer.save_user_input(MARK)


def lose(scene: Scene) -> None:
    """Say that something is recorded that is not."""


def leave_a_batch_open(scene: Scene) -> None:
    scene.kept = scene.writer.batch()  # type: ignore[attr-defined]
    scene.kept.__enter__()  # type: ignore[attr-defined]


def forget_what_was(scene: Scene) -> None:
    data = scene.segment.read_bytes()
    scene.segment.write_bytes(data.replace(b"recorded before", b"recorded behind"))


BAD: dict[str, tuple[Callable[[Scene], None], int, str]] = {
    "keeps a lock": (keep_a_lock, 0, "a lock"),
    "doubles": (double, 1, "2 marked lines are on file, not 1"),
    "loses": (lose, 1, "0 marked lines are on file, not 1"),
    "leaves a batch open": (leave_a_batch_open, 0, "same thread is not on file"),
    "forgets": (forget_what_was, 0, "state is not what its segment restores to"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_entrance_that_breaks_a_promise_is_caught(
    tmp_path: Path, files: Files, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each promise of the aftermath has an act that breaks it."""
    act, marks, expected = BAD[name]
    monkeypatch.setitem(ENTRANCES, name, Entrance(act=act, marks=marks))

    trial = Trial(tmp_path / "scene", files, name, Traced())

    assert expected in str(trial.broken)


def test_an_interrupt_that_is_swallowed_is_caught(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who presses Ctrl-C wants the program to stop."""
    monkeypatch.setitem(ENTRANCES, "swallows", Entrance(act=swallow))

    trial = Trial(tmp_path / "scene", files, "swallows", Pending(100))

    assert "swallowed" in str(trial.broken)


def test_a_descriptor_that_stays_open_is_caught(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number was handed over, and nobody closed it."""
    opened: list[int] = []
    leak = Entrance(act=lambda scene: opened.append(os.dup(0)))
    monkeypatch.setitem(ENTRANCES, "leaks", leak)

    trial = Trial(tmp_path / "scene", files, "leaks", Traced())

    os.close(opened[0])
    assert trial.leaked == 1


@pytest.mark.parametrize("name", ENTRANCES)
def test_every_entrance_keeps_its_promises_when_nothing_happens(tmp_path: Path, files: Files, name: str) -> None:
    """Or the proof would find fault with itself."""
    trial = Trial(tmp_path / "scene", files, name, Traced())

    assert (trial.broken, trial.leaked) == (None, 0)


# ── places, memory, clocks ─────────────────────────────────────────────────────────────────────────────────────────


def test_root_is_stopped_by_permissions_in_the_child(tmp_path: Path) -> None:
    """Or the circumstances of permission would be none."""
    closed = tmp_path / "closed"
    closed.write_bytes(b"x")
    closed.chmod(0)

    def readable() -> bool:
        places.without_privileges()
        return os.access(closed, os.R_OK, effective_ids=True)

    assert not in_child(readable)


@pytest.mark.parametrize("what", places.CIRCUMSTANCES)
def test_every_circumstance_changes_something_and_can_be_undone(tmp_path: Path, files: Files, what: str) -> None:
    """A circumstance that does nothing proves nothing."""
    circumstance = places.CIRCUMSTANCES[what]
    scene = Scene(tmp_path / "scene", files)

    def look() -> object:
        modes = {
            str(path): path.lstat().st_mode for path in [scene.root, *scene.root.rglob("*")] if scene.root.exists()
        }
        return files_below(scene.root), modes

    def happened() -> bool:
        before = look()
        circumstance.happen(scene)
        if "descriptors left" in what:
            return True
        changed = look() != before or what == "segment replaced by its copy"
        if circumstance.undo is not None:
            circumstance.undo(scene)
            changed = changed and look() == before
        return changed

    assert in_child(happened)
    scene.close()


def test_a_failure_says_how_to_see_it_again() -> None:
    """The entrance, the allocation, and what broke."""
    assert str(Failure("append", 7, True, broken="x")) == "append, allocation 7 alone: x"
    assert str(Interruption(name="append", event=3)) == "append, interrupted at an unknown place (event 3)"


def test_every_clock_does_what_its_name_says() -> None:
    """Those that jump or go back do so within the steps of the short version."""
    for name, clock in CLOCKS.items():
        ticks = clock(random.Random(1))
        times = [next(ticks) for _ in range(300)]
        assert (len(set(times)) == 1) == (name == "stands still")
        assert name == "stands still" or any(later < sooner for sooner, later in pairwise(times))


# ── children ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_hands_its_result_over_or_says_how_it_ended() -> None:
    """A result, an exception, a signal, an end without a word."""
    assert in_child(lambda: [1, "two"]) == [1, "two"]
    with pytest.raises(Died, match="ZeroDivisionError"):
        in_child(lambda: 1 / 0)
    with pytest.raises(Died, match="SIGKILL"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Died, match="said nothing"):
        in_child(lambda: os._exit(3))


def test_a_wrong_rehearsal_stops_the_proof(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not even work undisturbed is no base for counting."""
    monkeypatch.setitem(ENTRANCES, "loses", Entrance(act=lose, marks=1))

    with pytest.raises(Wrong, match="loses, not interrupted"):
        interruptions.rehearsed(tmp_path / "scene", files, "loses")
