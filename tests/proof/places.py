"""Places that are not as they should be: read-only, deleted, replaced, cut, something else in their place.

Each circumstance meets each entrance, with descriptors open and without. A call returns and has done what it says, or
raises an error of the library that names the place and has changed nothing. Where the circumstance can be undone,
everything then goes on. Root may do everything, so all of this happens in a child without that privilege.
"""

import contextlib
import ctypes
import functools
import os
import resource
import shutil
import stat
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import session_log as sl
from proof.aftermath import settle
from proof.entrances import ENTRANCES, Entrance
from proof.lab import Lab, Tried
from proof.offspring import in_child
from proof.scene import SEGMENT_ID, SESSION_ID, Files, Scene, files_below, must, recorded

SHORT = 2
"""Of each circumstance, the entrances that the short version tries."""
_CAPABILITIES_3 = 0x20080522
_OTHER_SESSION = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c09"


@dataclass(frozen=True)
class Circumstance:
    """What happens to the place; ``undo`` brings it back, if that is possible."""

    happen: Callable[[Scene], object]
    undo: Callable[[Scene], object] | None = None


def _folder(scene: Scene) -> Path:
    return scene.root / SESSION_ID


def _allowed(where: Callable[[Scene], Path], mode: int, before: int) -> Circumstance:
    def undo(scene: Scene) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was deleted, as it should be
            where(scene).chmod(before)

    return Circumstance(lambda scene: where(scene).chmod(mode), undo)


def _instead(where: Callable[[Scene], Path], put: Callable[[Path, Path], object]) -> Circumstance:
    """Something else stands in the place; what was there is beside it, out of the way of listings."""

    def happen(scene: Scene) -> None:
        place = where(scene)
        put(place, place.rename(place.with_name(place.name + ".away")))

    def undo(scene: Scene) -> None:
        place = where(scene)
        away = place.with_name(place.name + ".away")
        if away.exists():  # else it went to the trash with its folder, as it should
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
            away.rename(place)

    return Circumstance(happen, undo)


def _segment(scene: Scene) -> Path:
    return scene.segment


def _root(scene: Scene) -> Path:
    return scene.root


def _replaced(change: Callable[[bytes], bytes]) -> Circumstance:
    """Another file stands in the place: by a rename, so that open descriptors go on with the old one."""

    def happen(scene: Scene) -> None:
        other = scene.segment.with_name("other")
        other.write_bytes(change(scene.segment.read_bytes()))
        other.replace(scene.segment)

    return Circumstance(happen)


def _cut(length: Callable[[bytes], int]) -> Circumstance:
    return Circumstance(lambda scene: os.truncate(scene.segment, length(scene.segment.read_bytes())))


def _other_session(data: bytes) -> bytes:
    return data.replace(SESSION_ID.encode(), _OTHER_SESSION.encode())


def _nothing(place: Path, away: Path) -> None:
    return None


def _link(place: Path, away: Path) -> None:
    place.symlink_to(away)


def _dangling(place: Path, away: Path) -> None:
    place.symlink_to("nowhere")


def _few_descriptors(left: int) -> Circumstance:
    taken: list[int] = []

    def happen(scene: Scene) -> None:
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(left):
                os.close(taken.pop())

    def undo(scene: Scene) -> None:
        while taken:
            os.close(taken.pop())

    return Circumstance(happen, undo)


CIRCUMSTANCES: dict[str, Circumstance] = {
    "root read-only": _allowed(_root, 0o500, 0o700),
    "root closed": _allowed(_root, 0, 0o700),
    "session folder read-only": _allowed(_folder, 0o500, 0o700),
    "session folder not to be entered": _allowed(_folder, 0o600, 0o700),
    "session folder closed": _allowed(_folder, 0, 0o700),
    "segment read-only": _allowed(_segment, 0o400, 0o600),
    "segment closed": _allowed(_segment, 0, 0o600),
    "pods read-only": _allowed(lambda s: s.root / "pods", 0o500, 0o700),
    "pod closed": _allowed(lambda s: s.root / "pods" / "pod.json", 0, 0o600),
    "lock of pods closed": _allowed(lambda s: s.root / "pods" / ".lock", 0, 0o600),
    "blobs closed": _allowed(lambda s: s.root / "blobs", 0, 0o700),
    "segment deleted": Circumstance(lambda s: s.segment.unlink()),
    "session folder deleted": Circumstance(lambda s: shutil.rmtree(_folder(s))),
    "root deleted": Circumstance(lambda s: shutil.rmtree(s.root)),
    "segment moved away": _instead(_segment, _nothing),
    "session folder moved away": _instead(_folder, _nothing),
    "segment replaced by its copy": _replaced(lambda data: data),
    "segment replaced by a longer copy": _replaced(
        lambda data: data + sl.encode_line(sl.Invoke(ts=1, trigger="x")) + b"\n"
    ),
    "segment replaced by its beginning": _replaced(lambda data: data[: data.index(b"\n") + 1]),
    "segment replaced by another session's": _replaced(_other_session),
    "segment replaced by an empty file": _replaced(lambda data: b""),
    "segment replaced by no segment": _replaced(lambda data: b"x" * len(data)),
    "segment cut to nothing": _cut(lambda data: 0),
    "segment cut in the middle of its last line": _cut(lambda data: len(data) - 7),
    "segment cut between lines": _cut(lambda data: data.rindex(b"\n", 0, len(data) - 1) + 1),
    "folder in place of the segment": _instead(_segment, lambda place, away: place.mkdir()),
    "symlink in place of the segment": _instead(_segment, _link),
    "symlink to nothing in place of the segment": _instead(_segment, _dangling),
    "FIFO in place of the segment": _instead(_segment, lambda place, away: os.mkfifo(place)),
    "symlink in place of the session folder": _instead(_folder, _link),
    "file in place of the session folder": _instead(_folder, lambda place, away: place.write_bytes(b"")),
    "file in place of the pods": _instead(lambda s: s.root / "pods", lambda place, away: place.write_bytes(b"")),
    "symlink in place of the pods": _instead(lambda s: s.root / "pods", _link),
    "symlink in place of the blobs": _instead(lambda s: s.root / "blobs", _link),
    "folder in place of the trace": _instead(
        lambda s: _folder(s) / f"{SEGMENT_ID}.trace.jsonl", lambda place, away: place.mkdir()
    ),
    "file in place of the trash": Circumstance(
        lambda s: (s.root / "trash").write_bytes(b""), lambda s: (s.root / "trash").unlink()
    ),
    **{f"{left} descriptors left": _few_descriptors(left) for left in range(5)},
}


def without_privileges() -> None:
    """Give up what root may do beyond the owner of a file (Linux); elsewhere root stays root."""
    if os.geteuid() == 0 and sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
        must(ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) == 0, "root stays root")


def places(lab: Lab) -> list[Tried]:
    """Let each circumstance meet each entrance, in a child without privileges."""
    with lab.folder("places") as root:
        files = recorded(root / "recorded")
        return in_child(functools.partial(_places, lab, root, files))


def _places(lab: Lab, root: Path, files: Files) -> list[Tried]:
    without_privileges()
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    names = list(ENTRANCES)
    broken: list[str] = []
    tried = refused = 0
    for what, circumstance in CIRCUMSTANCES.items():
        for name in lab.random(f"places/{what}").sample(names, SHORT) if lab.quick else names:
            for warm in (False, True):
                tried += 1
                try:
                    refused += _tried(root / "scene", files, circumstance, ENTRANCES[name], warm=warm)
                except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
                    place = f"{name}, {'open' if warm else 'not open'}, {what}"
                    broken.append(f"{place}: {type(exc).__name__}: {exc}".replace(str(root), ""))
    promise = (
        "something is wrong with the place: done as said, or an error that names it and nothing changed; then all go on"
    )
    figures = f"{len(CIRCUMSTANCES)} circumstances, {len(names)} entrances, {refused} errors"
    return [Tried(promise=promise, unit="meetings", tried=tried, broken=tuple(broken), figures=figures)]


def _tried(root: Path, files: Files, circumstance: Circumstance, entrance: Entrance, *, warm: bool) -> bool:
    """Return whether the entrance refused."""
    scene = Scene(root, files, warm=warm)
    happened = False
    try:
        entrance.before(scene)
        seen = entrance.look(scene)
        files = files_below(root)
        circumstance.happen(scene)
        happened = True
        if circumstance.undo is None:
            files = files_below(root)
        raised, result = _met(scene, entrance)
        if circumstance.undo is not None:
            circumstance.undo(scene)
            happened = False
        if raised is not None and not isinstance(raised, sl.AppendUnknown):
            changed = sorted(name for name, _ in files.items() ^ files_below(root).items())
            must(not changed, f"it raised {raised!r}, and changed {changed}")
        if circumstance.undo is not None:
            settle(scene, entrance, "returned" if raised is None else "raised", result, seen)
        elif raised is None and entrance.marks:
            must(scene.marks() == entrance.marks, "it returned, and its lines are not on file")
        return raised is not None
    finally:
        if happened and circumstance.undo is not None:
            circumstance.undo(scene)
        scene.close()
        _remove(root)


def _met(scene: Scene, entrance: Entrance) -> tuple[sl.SessionLogError | None, Any]:
    """Act, and return the error of the library, which must name the place, or what the act returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return None, entrance.act(scene)
        except sl.SessionLogError as exc:
            raised = exc
    must(str(scene.root) in str(raised) or SESSION_ID in str(raised), f"the error names no place: {raised}")
    return raised, None


def _remove(root: Path) -> None:
    if root.exists():
        root.chmod(stat.S_IRWXU)
        for folder, below, _ in os.walk(root):
            for name in below:
                if not Path(folder, name).is_symlink():
                    Path(folder, name).chmod(stat.S_IRWXU)
        shutil.rmtree(root)
