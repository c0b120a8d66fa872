"""The history of a recording: what each segment ever held, and what a crash at some point may not take away."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from proof.disk import Cut, Disk, Enter, Move, Op, Told, Write, whole
from proof.play import Blob, Deletion, Durability, Entries, Pod, Said, Settled, Spared, Traced

SEGMENT = re.compile(r"(?P<segment>[0-9a-f-]{36})\.jsonl")
_FINAL = ("turn_end", "run_completed", "run_errored")


def unit_ends(data: bytes) -> list[int]:
    """Return where the whole units (lines and batches) of ``data`` end. Written anew here, from FORMAT.md."""
    ends = []
    at = 0
    while (end := _unit_end(data, at)) is not None:
        ends.append(end)
        at = end
    return ends


def _unit_end(data: bytes, at: int) -> int | None:
    newline = data.find(b"\n", at)
    if newline < 0:
        return None
    count = _read(data[at:newline]).get("batch")
    for _ in range(count - 1 if isinstance(count, int) else 0):
        newline = data.find(b"\n", newline + 1)
        if newline < 0:
            return None
    return None if b"\0" in data[at:newline] else newline + 1


def _read(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass
class Segment:
    """All that a segment ever held: each content before something of it was taken away, and the last one.

    ``scars`` is what was overwritten in place; ``made`` is how much it was made with, or was settled at.
    """

    contents: list[bytes] = field(default_factory=list)
    scars: list[tuple[int, int]] = field(default_factory=list)
    made: int = 0

    def holds_prefix(self, data: bytes) -> bool:
        """Tell whether ``data`` is a prefix of something that was here, of whole units."""
        return data in self._prefixes or self.masked(data) in self._prefixes

    @cached_property
    def _prefixes(self) -> frozenset[bytes]:
        found = {b""}
        for content in self.contents:
            found.update(self.masked(content[:end]) for end in unit_ends(content))
        return frozenset(found)

    def masked(self, data: bytes) -> bytes:
        """Return ``data`` with what was overwritten in place made equal."""
        for start, stop in self.scars:
            data = data[:start] + b"?" * (min(stop, len(data)) - start) + data[stop:]
        return data

    @cached_property
    def lines(self) -> frozenset[bytes]:
        """Every line that was ever here."""
        return frozenset(line for content in self.contents for line in content.split(b"\n"))


@dataclass(frozen=True)
class Demand:
    """What must be there after a crash: of segments, their first bytes; payloads; spared bytes; lines of traces.

    ``pods`` has what each may be (None: absent). ``sound``: no damage at all is allowed.
    """

    sound: bool
    segments: dict[tuple[str, str], bytes] = field(default_factory=dict)
    traces: dict[tuple[str, str], int] = field(default_factory=dict)
    pods: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    spared: list[Spared] = field(default_factory=list)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Promise:
    """What was said, after how many operations; of entries, the bytes they took, and those that end a turn or run."""

    at: int
    said: Said
    data: bytes = b""
    turns: bytes = b""


class History:
    """What the operations of a recording wrote, and what they were promised; ``faults``: what was never true."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.segments: dict[str, Segment] = defaultdict(Segment)
        self.promises: list[Promise] = []
        self.faults: list[str] = []
        self._inodes: dict[int, str] = {}
        self._disk = Disk()
        for at, op in enumerate(ops):
            self._take(at, op)
        for inode, name in self._inodes.items():
            self.segments[name].contents.append(self._content(inode))
        self._demands: dict[tuple[int, str], Demand] = {}

    def _content(self, inode: int) -> bytes:
        return bytes(self._disk.files[inode])

    def _take(self, at: int, op: Op) -> None:
        match op:
            case Write() | Cut() if op.inode in self._inodes:
                self._overwritten(op, self.segments[self._inodes[op.inode]])
            case Told():
                self._told(at, op.said)
        self._disk.apply(op, whole(op))
        if isinstance(op, Enter) and (found := SEGMENT.fullmatch(op.name)):
            self._inodes[op.inode] = found["segment"]
            self.segments[found["segment"]].made = len(self._disk.files[op.inode])
        if isinstance(op, Move) and (found := SEGMENT.fullmatch(op.to_name)):
            self._replaced(found["segment"], self._disk.folder(op.to_folder)[op.to_name])

    def _replaced(self, name: str, new: int) -> None:
        """Go on with the file that was put in place of a segment after a failed sync."""
        for inode in [inode for inode, known in self._inodes.items() if known == name]:
            self.segments[name].contents.append(self._content(inode))
            del self._inodes[inode]
        self._inodes[new] = name

    def _overwritten(self, op: Write | Cut, segment: Segment) -> None:
        content = self._content(op.inode)
        start = op.offset if isinstance(op, Write) else op.length
        if start < len(content):
            segment.contents.append(content)
        if start < len(content) and isinstance(op, Write):
            segment.scars.append((op.offset, op.offset + len(op.data)))

    def _told(self, at: int, said: Said) -> None:
        data = turns = b""
        if isinstance(said, Settled):
            for inode, name in self._inodes.items():
                ends = unit_ends(self._content(inode))
                self.segments[name].made = ends[-1] if ends else 0
        if isinstance(said, Entries):
            (inode,) = (inode for inode, name in self._inodes.items() if name == said.segment_id)
            content = self._content(inode)
            data = b"".join(content.splitlines(keepends=True)[: said.entries])
            turns = data[: max(self.segments[said.segment_id].made, *_turn_ends(data))]
            if not all(note.encode() in data for note in said.notes) or said.entries != data.count(b"\n"):
                self.faults.append(f"{said} was acknowledged and is not in the file")
        self.promises.append(Promise(at, said, data, turns))

    def told(self, ops_done: int) -> int:
        """Return how much had been said after so many operations."""
        return sum(promise.at < ops_done for promise in self.promises)

    def demand(self, told: int, durability: Durability | None) -> Demand:
        """Return what must be there if the power goes after so much was said; ``None``: only the process dies."""
        survives = durability or "death"
        key = told, survives
        if key not in self._demands:
            self._demands[key] = self.demand_of(self.promises[:told], survives, sound=survives in ("death", "power"))
        return self._demands[key]

    def demand_of(self, promises: Sequence[Promise], survives: str, *, sound: bool) -> Demand:
        """Return what these promises demand after the ``death`` of the process, or a power cut."""
        demand = Demand(sound=sound)
        for promise in promises:
            _add(demand, promise, survives)
        return demand


def _turn_ends(data: bytes) -> Iterator[int]:
    yield 0
    yield 0
    start = 0
    for end in unit_ends(data):
        if any(_read(line).get("kind") in _FINAL for line in data[start:end].splitlines()):
            yield end
        start = end


def _add(demand: Demand, promise: Promise, survives: str) -> None:
    said = promise.said
    synced = survives != "process"
    match said:
        case Entries():
            key = said.session_id, said.segment_id
            data = {"process": b"", "turn": promise.turns}.get(survives, promise.data)
            if said.synced:
                data = promise.data
            if data:
                demand.segments[key] = max(data, demand.segments.get(key, b""), key=len)
        case Traced() if survives == "death":
            demand.traces[said.session_id, said.segment_id] = said.lines
        case Pod():
            before = () if said.done else demand.pods.get(said.name, (None,))
            demand.pods[said.name] = (*before, said.metadata)
        case Blob() if synced:
            demand.blobs.add(said.sha256)
        case Spared() if synced:
            demand.spared.append(said)
        case Deletion():
            demand.deleting.add(said.session_id)
            if said.done and synced:
                demand.deleted.add(said.session_id)
