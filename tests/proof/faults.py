"""Every system call fails once, and every write comes short at every length: what is said then is true."""

import errno
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from proof.crew import Case, Crew, crew
from proof.job import Report
from proof.lab import Lab, Tried
from proof.strace import Call, need_strace, traced

_FULL = ("ENOSPC", "EDQUOT")
_OPEN = (*_FULL, "EIO", "EACCES", "EMFILE")
_NAME = (*_FULL, "EIO", "EACCES")
ERRORS = {
    "write": (*_FULL, "EIO", "EINTR"),
    "pwrite64": (*_FULL, "EIO", "EINTR"),
    "fdatasync": (*_FULL, "EIO", "EINTR"),
    "fsync": (*_FULL, "EIO", "EINTR"),
    "ftruncate": (*_FULL, "EIO", "EINTR"),
    "openat": (*_OPEN, "EINTR"),
    "flock": ("EIO", "ENOLCK", "EINTR"),
    "rename": _NAME,
    "renameat": _NAME,
    "link": _NAME,
    "linkat": _NAME,
    "mkdir": _NAME,
    "mkdirat": _NAME,
    "unlink": ("EIO", "EACCES"),
    "unlinkat": ("EIO", "EACCES"),
    "lseek": ("EIO",),
    "fstat": ("EIO",),
    "newfstatat": ("EIO", "EACCES"),
    "read": ("EIO", "EINTR"),
    "pread64": ("EIO", "EINTR"),
}
"""What each call may fail with. EINTR is not for those that never wait."""
PLACES = frozenset(ERRORS) - {"openat", "lseek", "fstat", "newfstatat", "read", "pread64", "unlink", "unlinkat"}
"""The calls that change or lock something: when one of them fails, somebody is told."""
QUIET = (
    re.compile(r"\.owner>"),  # a note, without which others wait longer
    re.compile(r'"deleted\.json"|-[0-9a-f]{12}/\.tmp-\w+>'),  # a note, without which the time of the move counts
    re.compile(r"/keys/[0-9a-f]\.jsonl>"),  # an entry of a key that was taken away, which misleads nobody
    re.compile(r"LOCK_UN\b"),  # closing frees the lock, too
    re.compile(r"^fsync\(.*/blobs/../\w+>"),  # a blob that is there already is written anew
)
"""Calls that may fail in silence."""
LOCKED = re.compile(r"LOCK_EX\|LOCK_NB\) += 0$")
_ANEW = ("fdatasync", "fsync", "rename")
WITNESSES = {"flock": ("flock", "write"), "fdatasync": _ANEW, "fsync": _ANEW}
"""The calls that show how a failure was made good."""
OPENDIR = re.compile(r"O_NONBLOCK\|O_CLOEXEC\|O_DIRECTORY")
"""What os.scandir begins with. Python makes every other interrupted call again, but not this one."""
MOST_MET = 0.75
"""What part of the planned faults must be met, for the proof to mean something."""
QUICK_FAULTS = 16
"""How many faults of each call the short version tries."""
QUICK_LENGTHS = 250


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The ``at``-th ``call`` of an errand fails with ``error``."""

    case: Case
    call: str
    at: int
    error: str

    def __str__(self) -> str:
        return f"{self.case}, {self.call} {self.at}, {self.error}"


@dataclass
class Results:
    """What was planned and tried, by call, and what did not hold."""

    planned: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=dict)

    def row(self, call: str) -> Tried:
        """Return the row of a call."""
        broken = self.broken.get(call, [])
        if self.tried[call] < MOST_MET * self.planned[call]:
            broken.append(f"only {self.tried[call]} of {self.planned[call]} planned faults were met")
        return Tried(
            promise=f"{call} fails once: raised, named, nothing half there, and it can be gone on",
            unit="faults",
            tried=self.tried[call],
            broken=tuple(broken),
            figures=", ".join(ERRORS[call]),
        )


def faults(lab: Lab) -> list[Tried]:
    """Let each system call of each errand fail once, with each error that it may have."""
    need_strace()
    results = Results()
    chance = lab.random("faults")
    with lab.folder("faults") as folder, crew(folder) as workers:
        planned = _plan(workers, folder / "log")
        for call, errors in ERRORS.items():
            some = [fault for fault in planned if fault.call == call]
            if lab.quick:
                some = chance.sample(some, min(QUICK_FAULTS, len(some)))
            for error in errors:
                lab.report(f"faults: {call} {error} …")
                _inject(workers, folder / "log", [fault for fault in some if fault.error == error], results)
            results.planned[call] = len(some)
    return [results.row(call) for call in ERRORS if results.planned[call]]


def _plan(workers: Crew, path: Path) -> list[Fault]:
    """Perform each errand once, and return everything that can fail in it."""
    with traced(workers.pid, path, list(ERRORS)) as log:
        numbers = {workers.perform(case).number: case for case in workers.cases}
    made = log.errands()
    return [fault for number, case in numbers.items() for fault in _faults_of(case, made[number])]


def _faults_of(case: Case, made: Sequence[Call]) -> list[Fault]:
    found: list[Fault] = []
    seen: Counter[str] = Counter()
    for call in made:
        seen[call.name] += 1
        found += [
            Fault(case=case, call=call.name, at=seen[call.name], error=error)
            for error in ERRORS[call.name]
            if error != "EACCES" or "AT_EMPTY_PATH" not in call.text  # what is open was allowed to be
        ]
    return found


def _inject(workers: Crew, path: Path, planned: Sequence[Fault], results: Results) -> None:
    """Try faults of one call and one error: in each child, the call with the same number fails."""
    if not planned:
        return
    call, error, last = planned[0].call, planned[0].error, max(fault.at for fault in planned)
    with traced(workers.pid, path, WITNESSES.get(call, (call,)), f"{call}:error={error}:when={last}") as log:
        done = [(fault, workers.perform(fault.case, call=call, skip=last - fault.at)) for fault in planned]
    made = log.errands()
    for fault, report in done:
        calls = made.get(report.number, [])
        hit = next((at for at, found in enumerate(calls) if found.injected), None)
        if hit is None:
            continue  # the errand ended before it came so far: how often a writer looks at its file depends on time
        results.tried[call] += 1
        wrong = [*report.broken, *silence(calls[hit:], report, error)]
        if wrong:
            results.broken.setdefault(call, []).append(f"{fault}: {calls[hit].text}: {'; '.join(wrong)}")


def silence(calls: Sequence[Call], report: Report, error: str) -> list[str]:
    """Return what is wrong with what was told of a call that failed; ``calls`` are it, and those behind it."""
    failed = calls[0].text
    if error == "EINTR":
        again = not report.told or OPENDIR.search(failed)
        return [] if again else [f"an interrupted call is made again, not reported: {report.told}"]
    if report.told or calls[0].name not in PLACES or any(pattern.search(failed) for pattern in QUIET):
        return []
    return [] if _made_good(calls[0], calls[1:]) else ["nobody was told"]


def _made_good(failed: Call, behind: Sequence[Call]) -> bool:
    """Tell whether a lock was taken after all, or what could not be synced was put into a new file."""
    if failed.name == "flock":
        return any(LOCKED.search(call.text) for call in takewhile(lambda call: call.name != "write", behind))
    path = re.escape(failed.text.partition("<")[2].partition(">")[0])
    anew = rf'sync\(\d+<(?P<new>[^>]+)>\) += 0\n(?:.*\n)*?rename\("(?P=new)", "{path}"\) += 0$'
    return re.search(anew, "\n".join(call.text for call in behind), re.MULTILINE) is not None


def short_writes(lab: Lab) -> list[Tried]:
    """Let no file grow beyond each size in turn, so that every write comes short at every length."""
    tried, broken = 0, []
    with lab.folder("short-writes") as folder, crew(folder) as workers:
        strictest = {case.errand: case for case in workers.cases}.values()
        planned = [(case, limit) for case in strictest for limit in range(workers.largest[str(case)])]
        if lab.quick:
            planned = lab.random("short-writes").sample(planned, min(QUICK_LENGTHS, len(planned)))
        for case, limit in planned:
            report = workers.perform(case, limit=limit)
            wrong = report.broken if report.told else (*report.broken, "nobody was told")
            tried += 1
            if wrong:
                broken.append(f"{case}, files of {limit} bytes at most: {'; '.join(wrong)}")
    promise = "a write comes short, at every length: raised, named, taken back, and it can be gone on"
    return [
        Tried(promise=promise, unit="lengths", tried=tried, broken=tuple(broken), figures=errno.errorcode[errno.EFBIG])
    ]
