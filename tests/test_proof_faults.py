"""That the proof of the faults sees what it is there to see: each promise is broken once, and it says so."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import session_log as sl
from proof import faults
from proof.account import Account
from proof.before import IDS, everything, resume, typed
from proof.crew import Case
from proof.errands import ERRANDS
from proof.injected import Calls, perform
from proof.job import Job, Report
from proof.lab import Lab, Skipped
from proof.stage import Broken, Stage
from proof.strace import Call, Log
from session_log import _repair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the proof needs strace, which is of Linux")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "sessions").mkdir()
    found = Stage(tmp_path / "sessions", "turn", Account())
    everything(found)
    found.voices.clear()
    assert found.account.compare(found.root) == []
    return found


def path_of(stage: Stage, suffix: str = ".jsonl") -> Path:
    return stage.root / IDS[0] / (IDS[1] + suffix)


def unsaid(stage: Stage) -> None:
    """Write an entry that nobody is told of."""
    sl.save_user_input(sl.FsStore(stage.root), *IDS, "nobody said so")


# ── the stage ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Failing:
    """Fails the first time."""

    def __init__(self, error: Exception, act: Callable[[], object] = lambda: None) -> None:
        self.errors = [error]
        self.act = act

    def __call__(self) -> object:
        if self.errors:
            self.act()
            raise self.errors.pop()
        return "done"


def test_what_failed_once_is_done_again_and_told(stage: Stage) -> None:
    """A typed error that names a file, and nothing written: that is how it should be."""
    assert stage.act("it", Failing(sl.StoreUnavailable(str(path_of(stage)), "no room"))) == "done"

    assert (len(stage.told), stage.broken) == (1, [])


def test_an_error_that_names_no_file_is_no_good(stage: Stage) -> None:
    """It does not say which disk is full."""
    stage.act("it", Failing(sl.StoreUnavailable("somewhere", "no room")))

    assert "names no file" in stage.broken[0]


def test_nothing_was_written_must_be_true(stage: Stage) -> None:
    """The error says so, and a reader looks."""
    stage.act("it", Failing(sl.StoreUnavailable(str(path_of(stage)), "no room"), lambda: unsaid(stage)))

    assert "after it" in stage.broken[0]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), sl.NotFound("x"), sl.WriterClosed("x", "y")])
def test_any_other_error_is_no_good(stage: Stage, error: Exception) -> None:
    """Neither one of the system nor one that says something else than happened."""
    with pytest.raises(Broken, match=type(error).__name__):
        stage.act("it", Failing(error))


def test_what_goes_on_failing_is_no_good(stage: Stage) -> None:
    """The system failed once."""
    failing = Failing(sl.StoreUnavailable(str(path_of(stage)), "no room"))
    failing.errors *= 2

    with pytest.raises(Broken, match="failed again"):
        stage.act("it", failing)


@pytest.mark.parametrize("done", [False, True])
def test_an_unknown_outcome_is_all_or_nothing_and_the_writer_is_refused(stage: Stage, done: bool) -> None:
    """A writer that goes on after it could not know whether it did is no good, even if what it does is right."""
    with stage.store() as store:
        voice = resume(stage, store)
        failing = Failing(
            sl.AppendUnknown(str(path_of(stage)), "?"), lambda: voice.writer.save_user_input("x") if done else None
        )
        voice.record("it", lambda writer: failing() and writer.save_user_input("x"), [typed("x")])
        voice.writer.close()

    assert "a writer whose outcome is unknown went on" in stage.broken[0]


def test_memory_that_is_ahead_of_the_file_is_found(stage: Stage) -> None:
    """F19: the entry is on file, and was never acknowledged."""
    with stage.store() as store:
        voice = resume(stage, store)
        voice.writer.save_user_input("x")
        stage.compare("it")
        voice.writer.close()

    assert any("in memory" in broken for broken in stage.broken)


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    (tmp_path / "calls").mkdir()
    with_all = Calls(str(tmp_path / "calls"))
    yield with_all
    with_all.close()


def done(tmp_path: Path, calls: Calls, errand: str, durability: str = "turn", limit: int | None = None) -> Report:
    case = Case(errand, durability, tmp_path / "template").prepare()
    root = case.template / "sessions"
    job = Job(number=1, errand=errand, durability=durability, root=root, account=case.account, limit=limit)
    with ERRANDS[errand].attend(root):
        return perform(pickle.loads(pickle.dumps(job)), calls)


@pytest.mark.parametrize("errand", ERRANDS)
def test_an_errand_that_nothing_disturbs_finds_nothing(tmp_path: Path, calls: Calls, errand: str) -> None:
    """And tells nothing, either."""
    report = done(tmp_path, calls, errand)

    assert (report.told, report.broken) == ((), ())


@pytest.mark.parametrize("errand", ["record a turn", "begin", "fork", "trace", "pods", "blobs"])
def test_a_write_that_comes_short_is_told_and_taken_back(tmp_path: Path, calls: Calls, errand: str) -> None:
    """No file grows beyond a size that is in the middle of what the errand writes."""
    report = done(tmp_path, calls, errand, limit=1200 if errand == "record a turn" else 60)

    assert len(report.told) == 1
    assert report.broken == ()


def test_a_library_that_leaves_half_a_line_is_found_out(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1: without the step that takes a short write back, there is half a line."""
    monkeypatch.setattr(_repair, "take_back", lambda fd, path, length: None)

    report = done(tmp_path, calls, "record a turn", limit=1200)

    assert "uncommitted bytes at its end" in report.broken[0]


def test_a_library_that_leaves_its_temporary_files_is_found_out(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a descriptor left open."""
    monkeypatch.setattr(os, "unlink", lambda *args, **how: None)

    report = done(tmp_path, calls, "blobs", limit=60)

    assert "left over" in report.broken[0]


def test_each_call_can_be_made_without_harm(calls: Calls) -> None:
    """As often as it takes to come to the one that fails."""
    for _ in range(2):
        for call in calls.by_name.values():
            call()

    assert set(calls.by_name) == set(faults.ERRORS)


# ── what strace says ───────────────────────────────────────────────────────────────────────────────────────────────

LOG = """\
7 openat(AT_FDCWD</>, "/before", O_RDONLY) = 3</before>
7 fadvise64(-1, 41, 1, POSIX_FADV_NORMAL) = -1 EBADF (Bad file descriptor)
7 openat(AT_FDCWD</>, "/a", O_RDONLY) = 3</a>
7 write(3</a>, "x", 1)                    = -1 EIO (Input/output error) (INJECTED)
7 fadvise64(-1, 41, 2, POSIX_FADV_NORMAL) = -1 EBADF (Bad file descriptor)
7 openat(AT_FDCWD</>, "/behind", O_RDONLY) = 3</behind>
"""


def test_only_calls_between_the_marks_count(tmp_path: Path) -> None:
    """What the program does before and behind is not the library's."""
    (tmp_path / "log").write_text(LOG, encoding="utf-8")

    errands = Log(tmp_path / "log").errands()

    assert list(errands) == [41]
    assert [(call.name, call.injected) for call in errands[41]] == [("openat", False), ("write", True)]


@pytest.mark.parametrize("strace", [None, "#!/bin/sh\necho strace: ptrace: Operation not permitted >&2\nexit 1\n"])
def test_a_machine_on_which_nothing_can_be_traced_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strace: str | None
) -> None:
    """Neither without strace nor where tracing is forbidden is anything left running."""
    if strace is not None:
        (tmp_path / "strace").write_text(strace, encoding="utf-8")
        (tmp_path / "strace").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Skipped, match="missing" if strace is None else "Operation not permitted"):
        faults.faults(Lab(tmp_path, 1, quick=True))

    assert list(tmp_path.iterdir()) == ([] if strace is None else [tmp_path / "strace"])


def call(text: str) -> Call:
    return Call(text.partition("(")[0], text)


@pytest.mark.parametrize(
    ("text", "error", "told", "wrong"),
    [
        ("fsync(3</r/a.jsonl>) = -1", "EIO", (), True),
        ("fsync(3</r/a.jsonl>) = -1", "EIO", ("it",), False),
        ("write(3</r/a.jsonl>) = -1", "EINTR", (), False),
        ("write(3</r/a.jsonl>) = -1", "EINTR", ("it",), True),
        ("write(3</r/a.owner>) = -1", "EIO", (), False),
        ("flock(3</r/a.jsonl>, LOCK_UN) = -1", "EIO", (), False),
        ("flock(3</r/a.jsonl>, LOCK_EX|LOCK_NB) = -1", "EIO", (), True),
        ("flock(3</r/a>, LOCK_EX|LOCK_NB) = -1\nflock(3</r/a>, LOCK_EX|LOCK_NB) = 0", "EIO", (), False),
        ("flock(3</r/a>, LOCK_EX|LOCK_NB) = -1\nwrite(3) = 1\nflock(3</r/a>, LOCK_EX|LOCK_NB) = 0", "EIO", (), True),
        ('fdatasync(3</r/a>) = -1\nfsync(4</r/.b>) = 0\nrename("/r/.b", "/r/a") = 0', "EIO", (), False),
        ('fdatasync(3</r/a>) = -1\nfsync(4</r/.b>) = 0\nrename("/r/.b", "/r/c") = 0', "EIO", (), True),
        ('fdatasync(3</r/a>) = -1\nfsync(4</r/.c>) = 0\nrename("/r/.b", "/r/a") = 0', "EIO", (), True),
        ("newfstatat(3</r>) = -1", "EIO", (), False),
        ("fsync(3</r/blobs/ab/ab12>) = -1", "EIO", (), False),
        ("fsync(3</r/blobs/ab/.tmp-1>) = -1", "EIO", (), True),
    ],
)
def test_what_changes_something_does_not_fail_in_silence(
    text: str, error: str, told: tuple[str, ...], wrong: bool
) -> None:
    """But for what may, each with its reason; and what was only interrupted is made again."""
    report = Report(number=1, account=None, told=told, broken=())

    assert bool(faults.silence([call(line) for line in text.splitlines()], report, error)) is wrong


def test_faults_that_were_planned_and_never_met_are_no_proof() -> None:
    """A proof that tries nothing would hold for ever."""
    results = faults.Results()
    results.planned["write"] = 10
    results.tried["write"] = 5

    assert results.row("write").broken == ("only 5 of 10 planned faults were met",)
