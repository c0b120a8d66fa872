"""Memory that runs out: each allocation fails, alone or with some that follow, and an entry too large for what is left.

The interpreter's own test hooks make allocations fail; whatever the act then raises, the promises are those of an
interrupt. (If all that follow failed, CPython would unwind for ever: it allocates on its way into a handler.) It
happens in a forked child: an extension module may end the process, which must harm no file either.
"""

import functools
import gc
import importlib
import os
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import session_log as sl
from proof.aftermath import reopened, settle
from proof.entrances import ENTRANCES, Entrance
from proof.interruptions import ignored_by_the_interpreter
from proof.lab import Lab, Skipped, Tried
from proof.offspring import Died, in_child
from proof.scene import SEGMENT_ID, SESSION_ID, Files, Scene, recorded

LONG, SHORT, FEW = 160, 5, 4
"""Allocations of each entrance that fail in turn, one in a few of what makes more; entrances of the short version."""
RUN = 30
"""How many allocations fail in a row, if not one alone."""
MOST = 1 << 20
HEADROOM_BYTES = 64 << 20


@dataclass(frozen=True)
class Failure:
    """The ``at``-th allocation fails, alone or with those behind it; ``came`` whether it was noticed."""

    name: str
    at: int
    alone: bool
    came: bool = True
    died: bool = False
    broken: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.name}, allocation {self.at} {'alone' if self.alone else f'and {RUN - 1} behind it'}: {self.broken}"
        )


def memory(lab: Lab) -> list[Tried]:
    """Let memory run out at every entrance; at some of them in the short version."""
    hooks = _hooks()
    names = list(ENTRANCES)
    if lab.quick:
        names = lab.random("memory").sample(names, FEW)
    with lab.folder("memory") as root:
        files = recorded(root / "recorded")
        failures: list[Failure] = []
        died: list[Failure] = []
        for name in names:
            lab.report(f"memory: {name}")
            chosen = list(_chosen(lab, root / "scene", files, name, hooks))
            for failure in _all_tried(root / "scene", files, chosen, hooks):
                (died if failure.died else failures).append(failure)
        largest = _largest(root / "large", files)
    return [*_rows([failure for failure in failures if failure.came], died), largest]


def _all_tried(root: Path, files: Files, chosen: Sequence[Failure], hooks: Any) -> list[Failure]:
    """Try all in one child; if it dies, one by one, to see which one it was."""
    try:
        return in_child(lambda: [_tried(root, files, failure, hooks) for failure in chosen])
    except Died as exc:
        if len(chosen) == 1:
            return [_after_death(root, chosen[0], str(exc))]
        shutil.rmtree(root, ignore_errors=True)
    middle = len(chosen) // 2
    return [
        *_all_tried(root, files, chosen[:middle], hooks),
        *_all_tried(root, files, chosen[middle:], hooks),
    ]


def _hooks() -> Any:
    try:
        hooks = importlib.import_module("_testcapi")
    except ImportError:
        raise Skipped("this Python was built without _testcapi, which makes allocations fail") from None
    if not hasattr(hooks, "set_nomemory"):
        raise Skipped("_testcapi of this Python cannot make allocations fail")
    return hooks


def _chosen(lab: Lab, root: Path, files: Files, name: str, hooks: Any) -> Iterator[Failure]:
    _unnoticed(root, files, name, MOST, hooks)  # imports what is imported late
    count = _allocations(root, files, name, hooks)
    chance = lab.random(f"memory/{name}")
    numbers = chance.sample(range(1, count + 1), min(lab.amount(LONG, SHORT), count))
    for at in sorted(numbers):
        yield Failure(name, at, alone=bool(chance.randrange(2)))


def _allocations(root: Path, files: Files, name: str, hooks: Any) -> int:
    """Return how many allocations the act makes, about: behind them, nothing that fails is noticed."""
    low, high = 1, 64
    while not _unnoticed_in_child(root, files, name, high, hooks):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if _unnoticed_in_child(root, files, name, middle, hooks):
            high = middle
        else:
            low = middle + 1
    return low


def _unnoticed_in_child(root: Path, files: Files, name: str, at: int, hooks: Any) -> bool:
    try:
        return in_child(functools.partial(_unnoticed, root, files, name, at, hooks))
    except Died:
        return False


def _unnoticed(root: Path, files: Files, name: str, at: int, hooks: Any) -> bool:
    shutil.rmtree(root, ignore_errors=True)
    scene = Scene(root, files)
    try:
        ENTRANCES[name].before(scene)
        return not _failed(scene, ENTRANCES[name], at, False, hooks).came
    finally:
        scene.close()
        shutil.rmtree(root)


@dataclass(frozen=True)
class Noticed:
    """What came of an act while memory ran out: an error (not kept, for it holds what it came through), or a result."""

    came: bool
    complaint: str | None
    result: Any


def _failed(scene: Scene, entrance: Entrance, at: int, alone: bool, hooks: Any) -> Noticed:
    """Act while memory runs out."""
    act: Callable[[Scene], Any] = entrance.act
    came, complaint, result = False, None, None
    stop = at + (1 if alone else RUN)
    with ignored_by_the_interpreter() as ignored, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.disable()
        try:
            hooks.set_nomemory(at, stop)
            result = act(scene)
            hooks.remove_mem_hooks()
        except BaseException as exc:  # noqa: BLE001  judged here
            hooks.remove_mem_hooks()
            came = True
            if not _honest(exc):
                complaint = f"raised {exc!r}, which is not what happened"
        came = came or bool(ignored)
    gc.enable()
    gc.collect()  # an error may hold itself
    return Noticed(came, complaint, result)


def _tried(root: Path, files: Files, failure: Failure, hooks: Any) -> Failure:
    entrance = ENTRANCES[failure.name]
    scene = Scene(root, files)
    came, broken = True, None
    try:
        entrance.before(scene)
        seen = entrance.look(scene)
        noticed = _failed(scene, entrance, failure.at, failure.alone, hooks)
        came, broken = noticed.came, noticed.complaint
        settle(scene, entrance, "interrupted" if came else "returned", noticed.result, seen)
    except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
        broken = f"{type(exc).__name__}: {exc}".replace(str(root), "")
    finally:
        scene.close()
        shutil.rmtree(root)
    return Failure(failure.name, failure.at, failure.alone, came, False, broken)


def _honest(exc: BaseException) -> bool:
    """Tell whether an error of the library comes from the want of memory; Python has other words for it, too."""
    if not isinstance(exc, sl.SessionLogError):
        return True
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, (MemoryError, sl.StoreUnavailable)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _after_death(root: Path, failure: Failure, how: str) -> Failure:
    """Look at the files that a child left which did not survive."""
    broken = None
    try:
        scene = Scene(root, {})
        try:
            reopened(scene, ENTRANCES[failure.name])
        finally:
            scene.close()
            shutil.rmtree(root)
    except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
        broken = f"{how.splitlines()[-1]}; then {type(exc).__name__}: {exc}".replace(str(root), "")
    return Failure(failure.name, failure.at, failure.alone, True, True, broken)


def _rows(failures: Sequence[Failure], died: Sequence[Failure]) -> list[Tried]:
    names = len({failure.name for failure in failures})
    return [
        Tried(
            promise="an allocation fails: state and file agree, nothing lost or doubled or called damaged, all go on",
            unit="failures",
            tried=len(failures),
            broken=tuple(str(failure) for failure in failures if failure.broken is not None),
            figures=f"{names} entrances; {len(died)} more ended the process in an extension module",
        ),
        *_death_row(died),
    ]


def _death_row(died: Sequence[Failure]) -> list[Tried]:
    if not died:
        return []
    return [
        Tried(
            promise="and where that ends the process, what was acknowledged is on file, whole",
            unit="deaths",
            tried=len(died),
            broken=tuple(str(failure) for failure in died if failure.broken is not None),
        )
    ]


def _largest(root: Path, files: Files) -> Tried:
    """Append ever larger entries under a limit of the address space; after those that fail, small ones still go in."""
    Scene(root, files).close()
    acknowledged, reading = root / "acknowledged", ""
    try:
        in_child(functools.partial(_append_until, root, acknowledged))
    except Died as exc:
        reading = f"; then the process ended ({exc})".partition("\n")[0]
    said = acknowledged.read_text().split()
    acknowledged.unlink()
    state = sl.restore(sl.FsStore(root), SESSION_ID, SEGMENT_ID)
    found = [item.text.lstrip("x") for item in state.history if isinstance(item, sl.Message) and item.role == "user"]
    refused = [number for number in said if number.startswith("refused")]
    broken = [f"{number} is missing" for number in said if number not in refused and number not in found]
    broken += [f"{number} is there" for number in refused if number.removeprefix("refused:") in found]
    shutil.rmtree(root)
    promise = "an entry that memory cannot hold raises and is nowhere; the next ones are on file"
    figures = f"{len(refused)} raised{reading}"
    return Tried(promise=promise, unit="entries", tried=len(said), broken=tuple(broken), figures=figures)


def _append_until(root: Path, acknowledged: Path) -> None:
    scene = Scene(root, {})
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with acknowledged.open("a", buffering=1) as file:
        resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM_BYTES, hard))
        for size_mib in range(1, 33):
            try:
                scene.writer.save_user_input("x" * (size_mib << 20) + f"large:{size_mib}")
                file.write(f"large:{size_mib}\n")
            except MemoryError:
                file.write(f"refused:large:{size_mib}\n")
            scene.writer.save_user_input(f"small:{size_mib}")
            file.write(f"small:{size_mib}\n")
