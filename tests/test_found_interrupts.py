"""Faults that were found once, behind an interrupt at the entry of a function: none must come back.

There the interpreter looks for signals, before the first line of what was called to tidy up is reached. (``points``
cannot see these places on Python 3.11, which reports no opcode for them.)
"""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import session_log as sl
from oracle import folded
from points import HOME
from recorded import intrude
from session_log import _quick, _segment_file
from session_log._atomic import Folder
from session_log._committed import OpenFile
from session_log._held_file import HeldFile
from session_log.pods import FsPodStore, PodMetadata

Ids = tuple[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="turn") as found:
        yield found


FINALIZERS = {found.__del__.__code__ for found in (HeldFile, OpenFile, Folder)}
"""What is raised in them Python drops by itself."""


def in_a_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in FINALIZERS:
            return True
        frame = frame.f_back
    return False


class Entries:
    """Runs code, and raises KeyboardInterrupt at the ``at``-th entry of a function of the library (0: never)."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.place = "nowhere"

    def enter(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(HOME) and not in_a_finalizer(frame):
            self.count += 1
            if self.count == self.at:
                self.place = f"{Path(code.co_filename).name}: {code.co_qualname}"
                raise KeyboardInterrupt

    def run(self, act: Callable[[], object]) -> None:
        """Whatever else it raises is its own business."""
        before = sys.gettrace()
        sys.settrace(self.enter)
        try:
            act()
        except (KeyboardInterrupt, sl.SessionLogError):
            return
        finally:
            sys.settrace(before)


def interrupted_everywhere(prepare: Callable[[], Callable[[], object]], check: Callable[[], None]) -> int:
    """Interrupt an act at the entry of each function in turn, look what is left, and return how many there were."""
    for at in itertools.count(1):
        act = prepare()
        entries = Entries(at)
        entries.run(act)
        del act
        if entries.count < at:
            return at - 1
        try:
            check()
        except BaseException as exc:
            exc.add_note(f"interrupted at entry {at}: {entries.place}")
            raise
    raise AssertionError


def lock_is_free(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


class World:
    """A store, and a writer on the segment it began last."""

    def __init__(self, store: sl.FsStore) -> None:
        self.store = store
        self.begin()

    def begin(self, *, exclusive: bool = False, behind: bool = False) -> sl.SegmentWriter:
        self.writer = sl.SegmentWriter.create(self.store, on_conflict="raise", exclusive=exclusive)
        self.writer.save_user_input("before")
        if behind:
            intrude(self.store, self.writer)
        return self.writer

    @property
    def ids(self) -> Ids:
        return self.writer.session_id, self.writer.segment_id

    @property
    def path(self) -> Path:
        return self.store.segment_path(*self.ids)


@pytest.fixture
def world(store: sl.FsStore) -> World:
    return World(store)


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_that_was_interrupted_swallows_nothing_behind_it(world: World) -> None:
    """One that never came to its end stayed open: each later append returned and went nowhere, for ever."""

    def prepare() -> Callable[[], object]:
        writer = world.begin()

        def act() -> None:
            with writer.batch():
                writer.save_invoke()

        return act

    def check() -> None:
        writer = world.writer
        length = writer.save_user_input("behind it")
        assert length == len(list(world.store.read(*world.ids))) == writer.head.entries
        assert folded(writer.state) == folded(sl.restore(world.store, *world.ids))

    assert interrupted_everywhere(prepare, check) > 10


def test_a_batch_that_was_interrupted_swallows_nothing_while_the_interrupt_is_handled_and_kept(world: World) -> None:
    """Its traceback holds the batch, as ``sys.last_exc`` of a prompt does; so does a name for the batch."""
    kept: list[BaseException] = []
    before = sys.gettrace()
    for at in itertools.count(1):
        writer = world.begin()
        batch = writer.batch()
        entries = Entries(at)
        sys.settrace(entries.enter)
        try:
            with batch:
                writer.save_invoke()
        except KeyboardInterrupt as exc:
            sys.settrace(before)
            kept.append(exc)
            writer.save_run_errored("interrupted", interrupted=True)
        finally:
            sys.settrace(before)

        length = writer.save_invoke("notify")

        assert length == len(list(world.store.read(*world.ids))), entries.place
        if entries.count < at:
            break
    assert len(kept) > 10


# ── locks and descriptors ──────────────────────────────────────────────────────────────────────────────────────────


APPENDS: dict[str, Callable[[sl.SegmentWriter], object]] = {
    "quick": lambda writer: writer.append(sl.Invoke(ts=1, trigger="user_send")),
    "batch": lambda writer: writer.save_delta([sl.Message.assistant("x"), sl.ToolCall("c", "run", "{}")]),
}


@pytest.mark.parametrize("append", APPENDS.values(), ids=APPENDS)
@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind another"])
def test_an_append_that_was_interrupted_leaves_neither_lock_nor_busy_writer(
    world: World, monkeypatch: pytest.MonkeyPatch, append: Callable[[sl.SegmentWriter], object], behind: bool
) -> None:
    """On the way from HeadMoved to the caller the lock stayed, and the writer said for ever that it was busy."""
    for module, name in ((_quick, "UNTOUCHED_S"), (_segment_file, "UNTOUCHED_S"), (_segment_file, "_RECHECK_S")):
        monkeypatch.setattr(module, name, 1e9)  # the quick way, however slow this machine is

    def prepare() -> Callable[[], object]:
        writer = world.begin(behind=behind)
        return lambda: append(writer)

    def check() -> None:
        assert lock_is_free(world.path)
        if behind:
            with pytest.raises(sl.HeadMoved):
                world.writer.save_invoke()
        else:
            assert world.writer.save_invoke() == len(list(world.store.read(*world.ids)))

    assert interrupted_everywhere(prepare, check) >= 2


def test_a_close_that_was_interrupted_frees_the_segment_or_can_be_repeated(world: World) -> None:
    """The descriptor was given up first and closed last: in between, the lock stayed for the life of the process."""
    before = descriptors()

    def prepare() -> Callable[[], object]:
        return world.begin(exclusive=True).close

    def check() -> None:
        world.writer.close()
        assert lock_is_free(world.path)
        assert os.listdir(world.path.parent) == [world.path.name]  # nor a note that says who holds it
        world.store.close()
        assert descriptors() <= before

    assert interrupted_everywhere(prepare, check) > 3


def test_a_pod_write_that_was_interrupted_leaves_no_lock_and_no_descriptor(tmp_path: Path) -> None:
    """``pods/.lock`` stayed locked for the life of the process; a folder was open before anybody could close it."""
    pods = FsPodStore(tmp_path)
    pods.write(PodMetadata("a"))
    before = descriptors()

    def check() -> None:
        assert descriptors() == before
        assert lock_is_free(tmp_path / "pods" / ".lock")
        assert pods.update("a", lambda old: old or PodMetadata("a")).pod_name == "a"

    assert interrupted_everywhere(lambda: lambda: pods.write(PodMetadata("a")), check) > 10


def test_a_read_that_was_interrupted_leaves_no_descriptor(world: World) -> None:
    """A file that was open already was forgotten while the folder it is in was being closed."""
    world.writer.close()
    world.store.close()
    before = descriptors()
    ids = world.ids

    def check() -> None:
        assert descriptors() == before

    for act in (lambda: list(world.store.read(*ids)), lambda: world.store.last_line(*ids)):
        assert interrupted_everywhere(lambda act=act: act, check) > 3  # type: ignore[misc]


# ── the end of the interpreter ───────────────────────────────────────────────────────────────────────────────────────

LEFT_OPEN = """
import os, sys
import session_log as sl
keep = os.fsync
os.fsync = lambda fd: keep(fd)
store = sl.FsStore(sys.argv[1])
writer = sl.SegmentWriter.create(store, exclusive=True)
writer.save_invoke()
"""


def test_a_writer_that_is_open_when_the_interpreter_ends_is_silent(tmp_path: Path) -> None:
    """Where somebody has patched ``os``, it is torn down before the writer, whose finalizer then called None."""
    environment = {**os.environ, "PYTHONPATH": str(Path(HOME).parent)}

    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, tmp_path], capture_output=True, text=True, check=False, env=environment
    )

    assert (done.returncode, done.stderr) == (0, "")
