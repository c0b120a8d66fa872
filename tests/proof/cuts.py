"""Proof: whatever file is cut at whatever byte, whole units are left, and the next append repairs.

Every scenario is performed once; then each of its files is cut at every byte, the others being whole. No crash makes a
segment shorter than it was made, or a parent shorter than what a child refers to: such a cut must be reported.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import orjson

import session_log as sl
from proof.disk import Tree
from proof.history import SEGMENT, History, Promise
from proof.lab import Lab, Tried
from proof.laws import judge, lay_out
from proof.play import Blob, Entries, Play, Spared, Traced
from proof.scenarios import SCENARIOS
from proof.watching import Watch, tree_of
from session_log import pods

SEGMENTS = "a segment cut: whole units are left, the next append repairs, a second repair changes nothing"
UNREAL = "a segment cut into its first lines, or into what a child inherits: reported, nothing else lost"
TRACES = "a trace cut: whole lines are left, the next append repairs"
BESIDE = "a file of kept bytes, or of the trash, cut: no segment is the worse for it"
PODS = "pod metadata cut: read as it was, or reported; writing it again mends it"
BLOBS = "a blob cut: reported; putting it again mends it"


@dataclass
class Count:
    """How often a kind of file was cut, in how many files, and what did not hold."""

    cuts: int = 0
    files: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


def cuts(lab: Lab) -> list[Tried]:
    """Cut every file of every scenario."""
    counts: dict[str, Count] = {promise: Count() for promise in (SEGMENTS, UNREAL, TRACES, BESIDE, PODS, BLOBS)}
    for name, scenario in SCENARIOS.items():
        lab.report(f"cuts: {name}")
        with lab.folder("scenario") as folder:
            watch = Watch(folder)
            play = Play(folder / "root", "power", watch.told)
            scenario(play)
            play.close()
            watch.look()
            whole = tree_of(folder)
        history = History(watch.ops)
        counts[SEGMENTS].broken += [f"{name}: {fault}" for fault in history.faults]
        with lab.folder("cut") as folder:
            desk = Desk(folder, whole, history)
            for path, data in whole.items():
                for at in _places(data or b"", lab.random(f"cuts/{name}"), stride=lab.amount(1, 12)):
                    promise, faults = desk.cut(path, at)
                    count = counts[promise]
                    count.cuts += 1
                    count.files.add(f"{name}/{path}")
                    count.broken += [f"{name}: {path} cut at byte {at}: {'; '.join(faults)}"] if faults else []
    return [
        Tried(
            promise=promise,
            unit="cuts",
            tried=count.cuts,
            broken=tuple(count.broken),
            figures=f"{len(count.files)} files of {len(SCENARIOS)} scenarios",
        )
        for promise, count in counts.items()
    ]


def _places(data: bytes, dice: random.Random, *, stride: int) -> list[int]:
    """Return where to cut: everywhere, or, with a stride, here and there and around every newline."""
    near = {at + step for at, byte in enumerate(data) if byte == 10 for step in (0, 1)} if stride > 1 else set()
    near.update(range(dice.randrange(stride), len(data), stride))
    return sorted(at for at in near if at < len(data))


class Desk:
    """Where the files of one scenario are cut, and what is left is judged."""

    def __init__(self, folder: Path, whole: Tree, history: History) -> None:
        self._disk = folder / "disk"
        self._whole = whole
        self._history = history
        self._references = dict(self._referred())

    def _referred(self) -> Iterator[tuple[str, tuple[str, int]]]:
        """For each segment that inherits by reference: from which one, up to which byte."""
        for path, data in self._whole.items():
            if data and (found := SEGMENT.fullmatch(PurePosixPath(path).name)):
                origin = orjson.loads(data.split(b"\n")[0]).get("forked_from") or {}
                if "byte_offset" in origin:
                    yield found["segment"], (origin["segment_id"], origin["byte_offset"])

    def cut(self, path: str, at: int) -> tuple[str, list[str]]:
        """Cut a file; return which promise that is about, and what does not hold."""
        data = self._whole[path] or b""
        lay_out({**self._whole, path: data[:at]}, self._disk)
        name = PurePosixPath(path).name
        if path.startswith("root/pods/"):
            return PODS, list(self._pod(data, at))
        if path.startswith("root/blobs/"):
            return BLOBS, self._left(Blob(name)) + list(self._blob(data))
        if name.endswith(".trace.jsonl"):
            session_id, segment_id = PurePosixPath(path).parent.name, name.removesuffix(".trace.jsonl")
            return TRACES, list(self._trace(session_id, segment_id, data[:at])) + self._left(Traced("", segment_id, 0))
        found = SEGMENT.fullmatch(name)
        if found is None or path.startswith("root/trash/"):
            return BESIDE, self._beside(name)
        return self._segment(found["segment"], at)

    def _segment(self, segment_id: str, at: int) -> tuple[str, list[str]]:
        lost = {segment_id} if at < self._history.segments[segment_id].made else set()
        lost |= {child for child, (parent, end) in self._references.items() if parent == segment_id and at < end}
        for _ in self._references:
            lost |= {child for child, (parent, _) in self._references.items() if parent in lost}
        left = []
        for promise in self._history.promises:
            said = promise.said
            later = isinstance(said, Entries) and said.segment_id == segment_id and len(promise.data) > at
            if not later and not (isinstance(said, Entries) and said.segment_id in lost):
                left.append(promise)
        return (UNREAL if lost else SEGMENTS), self._judged(left, sound=not lost)

    def _judged(self, left: list[Promise], *, sound: bool = True) -> list[str]:
        return judge(self._disk, self._history, self._history.demand_of(left, "death", sound=sound))

    def _left(self, gone: Blob | Traced) -> list[str]:
        """Judge, but for the promises about one blob or trace."""
        key = gone.sha256 if isinstance(gone, Blob) else gone.segment_id
        about = "sha256" if isinstance(gone, Blob) else "segment_id"
        return self._judged(
            [
                promise
                for promise in self._history.promises
                if type(promise.said) is not type(gone) or getattr(promise.said, about) != key
            ]
        )

    def _beside(self, name: str) -> list[str]:
        trashed = SEGMENT.fullmatch(name)
        left = [
            promise
            for promise in self._history.promises
            if not isinstance(promise.said, Spared)
            and not (trashed and isinstance(promise.said, Entries) and promise.said.segment_id == trashed["segment"])
        ]
        return self._judged(left)

    def _pod(self, data: bytes, at: int) -> Iterator[str]:
        store = pods.FsPodStore(self._disk / "root")
        whole = pods.decode_pod_metadata(data)
        try:
            if store.read_by_name(whole.pod_name) != whole:
                yield "another value is read"
        except pods.CorruptPodMetadata:
            if at == len(data.rstrip()):
                yield "only the newline is missing, and it cannot be read"
        store.write(whole)
        if store.read_by_name(whole.pod_name) != whole:
            yield "writing it again does not mend it"

    def _blob(self, data: bytes) -> Iterator[str]:
        with sl.FsStore(self._disk / "root", durability="process") as store:
            ref = store.put_blob(data)
            if store.get_blob(ref) != data:
                yield "putting it again does not mend it"

    def _trace(self, session_id: str, segment_id: str, left: bytes) -> Iterator[str]:
        with sl.FsStore(self._disk / "root", durability="process") as store:
            lines = left.split(b"\n")[:-1]
            for more in range(3):
                if list(store.read_trace(session_id, segment_id)) != lines + [b"{}"] * more:
                    yield f"not whole lines after {more} appends"
                store.append_trace(session_id, segment_id, [b"{}"])
