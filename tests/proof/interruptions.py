"""Interruptions: Ctrl-C wherever the interpreter lets one in, and an exception at every bytecode of the library.

Each entrance is tried in a forked child, which is killed if it hangs: a lock of the process may have been left behind.
"""

import contextlib
import functools
import gc
import linecache
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import session_log as sl
from proof.aftermath import reopened, settle
from proof.entrances import ENTRANCES, Entrance
from proof.lab import Lab, Tried
from proof.offspring import Child, Died, in_child
from proof.pending import Pending, Place, Raised, Traced, spot
from proof.scene import Files, Scene, Wrong, descriptors, recorded

SHORT = 2
"""Points of each entrance that the short version tries, and bytecodes."""
LONG = 500
"""Bytecodes of each entrance that the long version tries: all of an append, one in a few of what takes more."""
HANGS_S, LOCKED_S = 60, 4
"""When a child is taken to hang: at a point that is a defect; at a bytecode, a lock whose release was interrupted."""
HOME = str(Path(sl.__file__).parent)


class Unforeseen(BaseException):
    """What is raised at a bytecode: no code expects it."""


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """One act at one entrance, interrupted; and what there was to say about it.

    ``broken``: the promise that did not hold. ``leaked``: descriptors that stay open. ``alone``: only Python could have
    closed them. ``renewed``: the writer has to be opened anew. ``locked``: nobody can write before the process ends.
    """

    name: str
    event: int
    place: str = "an unknown place"
    broken: str | None = None
    leaked: int = 0
    alone: bool = False
    renewed: bool = False
    locked: bool = False

    def __str__(self) -> str:
        return f"{self.name}, interrupted at {self.place} (event {self.event})"


class Trial:
    """One act at one entrance on a fresh scene, traced."""

    def __init__(self, root: Path, files: Files, name: str, traced: Traced) -> None:
        self.name = name
        self.traced = traced
        self.dropped = self.renewed = self.locked = False
        self.broken: str | None = None
        before = descriptors()
        try:
            self._try(root, files, ENTRANCES[name])
        except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
            self.broken = f"{type(exc).__name__}: {exc}".replace(str(root), "")
        if descriptors() > before:
            gc.collect()  # an error may hold itself, and with it the frames that it came through
        self.leaked = max(0, descriptors() - before)
        shutil.rmtree(root)

    def _try(self, root: Path, files: Files, entrance: Entrance) -> None:
        scene = Scene(root, files)
        try:
            entrance.before(scene)
            seen = entrance.look(scene)
            interrupted, result = self._act(scene, entrance)
            if isinstance(self.traced, Raised):
                self._reopen(scene, entrance)
            else:
                settle(scene, entrance, "interrupted" if interrupted else "returned", result, seen)
        finally:
            scene.close()

    def _act(self, scene: Scene, entrance: Entrance) -> tuple[bool, Any]:
        interrupted, result = False, None
        with ignored_by_the_interpreter() as ignored, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = self.traced.run(lambda: entrance.act(scene))
            except (KeyboardInterrupt, Unforeseen):
                interrupted = True
            except RuntimeError:  # of a lock whose release was interrupted where no signal arrives
                if isinstance(self.traced, Pending):
                    raise
                interrupted = True
        self.dropped = bool(ignored)
        if self.traced.reached and not interrupted and not ignored:
            raise Wrong("the interrupt was swallowed")
        return interrupted, result

    def _reopen(self, scene: Scene, entrance: Entrance) -> None:
        try:
            scene.locks_are_free()
            scene.state_is_on_file()
        except Exception:  # noqa: BLE001  counted; what must hold is looked at below
            self.renewed = True
        scene.close()
        self.locked = not reopened(scene, entrance)

    def summary(self) -> Interruption:
        """Return what there is to say."""
        return Interruption(
            name=self.name,
            event=self.traced.at,
            place=spot(self.traced.place),
            broken=self.broken,
            leaked=self.leaked,
            alone=self._leaks_alone(),
            renewed=self.renewed,
            locked=self.locked,
        )

    def _leaks_alone(self) -> bool:
        """Tell whether what leaks was never handed over: ``os.open`` returned, but to nobody; or a finalizer ended."""
        code, offset = self.traced.place
        if self.dropped or code is None:
            return True
        lines = (line for start, stop, line in code.co_lines() if start <= offset < stop and line)
        return any("os.open(" in linecache.getline(code.co_filename, line) for line in lines)


@contextlib.contextmanager
def ignored_by_the_interpreter() -> Iterator[list[BaseException | None]]:
    """Collect what was raised in a finalizer: Python itself drops that, whatever it is."""
    found: list[BaseException | None] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda what: found.append(what.exc_value)
    try:
        yield found
    finally:
        sys.unraisablehook = before


def rehearsed(root: Path, files: Files, name: str) -> list[Place]:
    """Return every bytecode of an act that nothing interrupts."""
    for _ in range(2):  # the first time imports something, perhaps
        traced = Traced()
        trial = Trial(root, files, name, traced)
    if trial.broken is not None:
        raise Wrong(f"{name}, not interrupted: {trial.broken}")
    return traced.seen


def interruptions(lab: Lab) -> list[Tried]:
    """Interrupt every entrance at the points where a signal arrives, and at every bytecode."""
    points: list[Interruption] = []
    anywhere: list[Interruption] = []
    with lab.folder("interruptions") as root:
        files = recorded(root / "recorded")
        for name in ENTRANCES:
            try:
                seen = rehearsed(root / "scene", files, name)
            except Wrong as exc:
                points.append(Interruption(name=name, event=0, place="no place", broken=str(exc)))
                continue
            lab.report(f"interrupts: {name}, {len(seen):,} bytecodes")
            points += _at_points(lab, root / "scene", files, name, seen)
            anywhere += _anywhere(lab, root / "scene", files, name, seen)
    return [*_of_points(points), _of_bytecodes(anywhere)]


def _at_points(lab: Lab, root: Path, files: Files, name: str, seen: list[Place]) -> Iterator[Interruption]:
    """Try all points in a child; where that ends or hangs, go on behind it in another one."""
    last = len(seen)
    events = lab.random(f"points/{name}").sample(range(1, last + 1), min(SHORT, last)) if lab.quick else None
    event = 0
    while event <= last:
        try:
            with Child(functools.partial(_points, root, files, name, seen, event + 1, events)) as child:
                for event, found in child.results():  # noqa: B007  the last one is what it died of
                    if found is not None:
                        yield found
                return
        except Died as exc:
            yield _after_death(root, name, event, str(exc))


def _points(
    root: Path, files: Files, name: str, seen: list[Place], at: int, events: Sequence[int] | None
) -> Iterator[tuple[int, Interruption | None]]:
    """Yield each event before it is tried, and what came of it; ``events``: only these, else all from ``at`` on."""
    while at <= len(seen):
        if events is None or at in events:
            yield at, None
            signal.alarm(HANGS_S)
            traced = Pending(at)
            trial = Trial(root, files, name, traced)
            if traced.reached or trial.broken is not None:
                yield at, trial.summary()
            if traced.reached and events is None:
                at = traced.next_after(seen)
                continue
        at += 1


def _anywhere(lab: Lab, root: Path, files: Files, name: str, seen: list[Place]) -> Iterator[Interruption]:
    """Try bytecodes of the library, each in its own child: what it leaves in the process must harm no other."""
    ours = [at for at, (code, _) in enumerate(seen, 1) if code is not None and code.co_filename.startswith(HOME)]
    count = min(lab.amount(LONG, SHORT), len(ours))
    for at in sorted(lab.random(f"bytecodes/{name}").sample(ours, count)):
        try:
            found = in_child(functools.partial(_bytecode, root, files, name, at))
        except Died as exc:
            found = _after_death(root, name, at, str(exc))
        if found is not None:
            yield found


def _bytecode(root: Path, files: Files, name: str, at: int) -> Interruption | None:
    signal.alarm(LOCKED_S)
    trial = Trial(root, files, name, Raised(at, Unforeseen))
    return trial.summary() if trial.traced.reached or trial.broken is not None else None


def _after_death(root: Path, name: str, event: int, how: str) -> Interruption:
    """Look at the files of a child that ended or hung."""
    how = how.strip().splitlines()[-1]
    broken = None if how == "killed by SIGALRM" else how
    scene = Scene(root, {})
    try:
        reopened(scene, ENTRANCES[name])
    except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
        broken = f"{how}; then {type(exc).__name__}: {exc}".replace(str(root), "")
    finally:
        scene.close()
        shutil.rmtree(root, ignore_errors=True)
    return Interruption(
        name=name, event=event, place=f"a place where it {how}", broken=broken, renewed=True, locked=True
    )


def _of_points(found: Sequence[Interruption]) -> list[Tried]:
    leaks = [one for one in found if one.leaked and not one.broken]
    ours = [f"{one}: {one.leaked} stay open" for one in leaks if not one.alone]
    places = len({one.place for one in found})
    return [
        Tried(
            promise="Ctrl-C where Python delivers it: state, file and locks agree, nothing lost or doubled, all go on",
            unit="points",
            tried=len(found),
            broken=tuple(f"{one}: {one.broken or 'it hung'}" for one in found if one.broken or one.locked),
            figures=f"{len(ENTRANCES)} entrances, {places:,} places in the code",
        ),
        Tried(
            promise="and no descriptor stays open",
            unit="points",
            tried=len(found),
            broken=tuple(ours),
            figures=f"{len(leaks) - len(ours)} behind os.open itself or in a finalizer, where Python drops the number",
        ),
    ]


def _of_bytecodes(found: Sequence[Interruption]) -> Tried:
    renewed, locked = sum(one.renewed for one in found), sum(one.locked for one in found)
    return Tried(
        promise="an exception at any bytecode: what was acknowledged is on file, whole; opened anew, it goes on",
        unit="bytecodes",
        tried=len(found),
        broken=tuple(f"{one}: {one.broken}" for one in found if one.broken),
        figures=f"{renewed} left a writer to be opened anew, {locked} a lock for as long as the process lives",
    )
