"""The targets of the fuzzers: what is made, what it is given to, and what must be true afterwards."""

import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import session_log as sl
from proof import fuzz_doors as doors
from proof import hostile, mutations
from proof.fuzz_laws import Specimen, answer, broken_reference, check_reading, demand, same
from proof.fuzz_writing import check_going_on
from proof.mutations import FAMILY, SESSION_ID
from session_log._trace import decode_trace, encode_trace

Chance = random.Random
SEGMENT_ID: Final = "0197b2c4-1a05-7d41-8b22-000000000001"
LINE_READERS: Final = (sl.InvalidEntry,)


class Bench:
    """The folder of one process: a root with the golden family in it, and a tree beside the root, not to be touched.

    Out of the root leads, by symlinks that nobody may follow: a session, a segment, a pod and a folder of blobs.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.beside = folder / "beside"
        self.session = self.root / SESSION_ID
        for made in (self.session, self.root / "pods", self.root / "blobs", self.beside / SESSION_ID):
            made.mkdir(parents=True)
        self.family = {segment_id: mutations.golden(name) for name, segment_id in FAMILY.items()}
        for segment_id, data in self.family.items():
            (self.session / f"{segment_id}.jsonl").write_bytes(data)
        (self.beside / "canary.json").write_bytes(b'{"pod_name":"canary"}\n')
        (self.beside / ("ab" * 32)).write_bytes(b"canary")
        stranger = self.beside / SESSION_ID / f"{doors.STRANGER}.jsonl"
        stranger.write_bytes(mutations.golden("full-turn"))
        (self.root / doors.STRANGER).symlink_to(stranger.parent)
        (self.session / stranger.name).symlink_to(stranger)
        (self.root / "pods" / "canary.json").symlink_to(self.beside / "canary.json")
        (self.root / "blobs" / "ab").symlink_to(self.beside)
        self._kept = {path: set(os.listdir(path)) for path in (self.root, self.session, *self.root.glob("[pb]*"))}

    def put(self, data: bytes, segment_id: str = SEGMENT_ID, suffix: str = ".jsonl") -> None:
        """Write a new file into the session."""
        fd = os.open(f"{self.session}/{segment_id}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def tidy(self) -> None:
        """Remove what the last input left in the session."""
        kept = self._kept[self.session]
        for name in os.listdir(self.session):
            if name not in kept:
                os.unlink(f"{self.session}/{name}")

    def tidy_all(self) -> None:
        """Remove what the last input left anywhere below the root."""
        for folder, kept in self._kept.items():
            for name in os.listdir(folder):
                if name not in kept:
                    path = folder / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is fuzzed, how often, and how one input is made and checked. The check returns whether it was accepted."""

    promise: str
    full: int
    quick: int
    make: Callable[[Chance, int], Any]
    check: Callable[[Bench, Chance, Any], bool]


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_line(chance: Chance, number: int = 0) -> bytes:
    """Return a line: mostly a real one, changed."""
    kind = chance.random()
    if kind < 0.75:
        return mutations.line(chance)
    if kind < 0.9:
        return hostile.junk(chance)
    return hostile.marked(chance, mutations.line(chance))


def check_line(bench: Bench, chance: Chance, line: bytes) -> bool:
    """An entry, or InvalidEntry. What an entry is written as reads back as the same entry."""
    entry = answer(LINE_READERS, lambda: sl.decode_line(line))
    with_newline = answer(LINE_READERS, lambda: sl.decode_line(line + chance.choice((b"\n", b"\r\n"))))
    if isinstance(entry, sl.SessionLogError):
        demand(isinstance(with_newline, sl.SessionLogError), "a line is an entry only with its newline")
        demand(entry.path.startswith("$") and bool(entry.reason), "the error names no place")  # type: ignore[attr-defined]
        raw = sl.UnknownEntry(kind="x", raw=line)
        demand(isinstance(answer(LINE_READERS, lambda: sl.encode_line(raw)), sl.InvalidEntry), "raw junk is written")
        return False
    demand(same(entry, with_newline), "a newline changes the entry")
    state = answer(LINE_READERS, lambda: sl.collect_state([entry]))
    demand(isinstance(state, sl.SessionLogError) or state.entries_count == 1, "one entry is not one")
    written = answer(LINE_READERS, lambda: sl.encode_line(entry))
    if isinstance(written, bytes):
        demand(b"\n" not in written, "a line was written as two")
        again = sl.decode_line(written)
        demand(same(again, entry), f"read back as {again!r:.300}")
        demand(sl.encode_line(again) == written, "written twice, it is two lines")
    return True


def check_trace_line(line: bytes) -> bool:
    """As check_line, of a line of a trace."""
    entry = answer(LINE_READERS, lambda: decode_trace(line))
    if isinstance(entry, sl.SessionLogError):
        return False
    written = answer(LINE_READERS, lambda: encode_trace(entry))
    demand(isinstance(written, sl.SessionLogError) or same(decode_trace(written), entry), "a trace reads differently")
    return True


# ── segments ───────────────────────────────────────────────────────────────────────────────────────────────────────


def arbitrary_bytes(chance: Chance, number: int = 0) -> bytes:
    """Return bytes that no segment ever had: junk alone, or behind a sound beginning."""
    pieces = [hostile.junk(chance) for _ in range(chance.randint(0, 3))]
    if chance.random() < 0.7:
        pieces.insert(0, hostile.START % SESSION_ID.encode())
    return chance.choice((b"\n", b"\n", b"")).join([*pieces, b""])


def check_bytes(bench: Bench, chance: Chance, data: bytes) -> bool:
    """The laws of reading."""
    bench.put(data)
    try:
        found = Specimen(bench.root, SESSION_ID, SEGMENT_ID)
        check_reading(found, chance)
        return isinstance(found.strict, sl.RestoredState)
    finally:
        bench.tidy()


def check_segment(bench: Bench, chance: Chance, data: bytes) -> bool:
    """The laws of reading, and those of going on."""
    bench.put(data)
    try:
        found = Specimen(bench.root, SESSION_ID, SEGMENT_ID)
        check_reading(found, chance)
        check_going_on(found, chance)
        return isinstance(found.strict, sl.RestoredState)
    finally:
        bench.tidy()


def marked_segment(chance: Chance, number: int = 0) -> bytes:
    """Return a segment whose batch marks went wild, cut somewhere now and then."""
    data = mutations.mark_lines(chance, chance.choice(mutations.segments()))
    return data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data


# ── lineage ────────────────────────────────────────────────────────────────────────────────────────────────────────

RELATIVES: Final = [f"0197b2c4-1a05-7d41-8b22-0000000001{at:02x}" for at in range(4)]
CHAIN: Final = [f"0197b2c4-1a05-7d41-8b22-0000000002{at:02x}" for at in range(140)]
"""More generations than there may be."""
_BODIES: Final = (
    b"",
    b'{"kind":"turn_end","ts":1,"turn_count":1}\n',
    b'{"kind":"turn_end","ts":1,"turn_count":2',
    b"\n",
)


def relatives(chance: Chance, number: int = 0) -> list[tuple[str, bytes]]:
    """Return segments that say of one another what is not so, by id; rarely a chain too long."""
    if chance.random() < 0.002:
        ids = CHAIN[: chance.choice((126, 128, 129, 130, 140))]
        return list(zip(ids, hostile.chain(SESSION_ID, ids), strict=True))
    ids = RELATIVES[: chance.randint(1, 4)]
    bodies = [*_BODIES, chance.choice(mutations.segments()).partition(b"\n")[2]]
    return list(zip(ids, hostile.family(chance, SESSION_ID, ids, bodies), strict=True))


def check_relatives(bench: Bench, chance: Chance, files: list[tuple[str, bytes]]) -> bool:
    """The laws, for the youngest; and no relative is changed by it."""
    for segment_id, data in files:
        bench.put(data, segment_id)
    try:
        found = Specimen(bench.root, SESSION_ID, files[-1][0])
        check_reading(found, chance)
        check_going_on(found, chance)
        if isinstance(found.strict, sl.RestoredState):
            fault = broken_reference({**bench.family, **dict(files)}, files[-1][0])
            demand(fault is None, f"restored, although {fault}")
        for segment_id, data in files[:-1]:
            path = bench.session / f"{segment_id}.jsonl"
            demand(path.read_bytes() == data, "a relative was changed")
        return isinstance(found.strict, sl.RestoredState)
    finally:
        bench.tidy()


# ── bombs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


PAIRS: Final = len(hostile.bombs()) * len(hostile.PLACES)
STRIDE: Final = 101
"""Prime to their number: the first dozen are of every kind."""


def a_bomb(chance: Chance, number: int) -> bytes:
    """Return a line with a bomb in it, each in each place in turn; every hundredth is as long as a line may be."""
    bombs = list(hostile.bombs().values())
    at = number * STRIDE % PAIRS
    place = hostile.PLACES[at % len(hostile.PLACES)]
    if number % 100 < 99:
        return place % bombs[at // len(hostile.PLACES)]
    room = hostile.LINE_BYTES - len(place) + 2 + chance.randint(0, 1)
    filling = chance.choice((b"x", b"\\\\", b" ", b"\0", b"[", b'{"a":', b"9", b"\xff", "\u2028".encode()))
    core = (filling * (room // len(filling) + 1))[: room - 2]
    return place % (b'"%b"' % core)


def check_bomb(bench: Bench, chance: Chance, line: bytes) -> bool:
    """A line like any other: alone, in a segment, in a trace, in a pod's file."""
    accepted = check_line(bench, chance, line)
    check_trace_line(line)
    answer(LINE_READERS, lambda: sl.decode_pod_metadata(line))
    start = hostile.START % SESSION_ID.encode()
    turn_end = b'{"kind":"turn_end","ts":1,"turn_count":1}'
    check_segment(bench, chance, b"\n".join((start, line, turn_end, b"")))
    return accepted


TARGETS: Final[Mapping[str, Target]] = {
    "line": Target(
        promise="any line is an entry that reads back the same, or InvalidEntry",
        full=800_000, quick=6_000, make=a_line, check=check_line,
    ),
    "bytes": Target(
        promise="any bytes restore, or are refused by name; reading changes nothing, salvage keeps the prefix",
        full=80_000, quick=600, make=arbitrary_bytes, check=check_bytes,
    ),
    "segment": Target(
        promise="a segment that bad luck changed: the same; what is accepted goes on, what is damaged is mended",
        full=50_000, quick=500, make=lambda chance, number: mutations.segment(chance), check=check_segment,
    ),
    "marks": Target(
        promise="batch marks gone wild: readers agree on what is committed, the next append is found",
        full=25_000, quick=250, make=marked_segment, check=check_segment,
    ),
    "lineage": Target(
        promise="a hostile lineage is refused by name; no relative is changed",
        full=20_000, quick=200, make=relatives, check=check_relatives,
    ),
    "trace": Target(
        promise="any trace file is read or refused by name, and goes on",
        full=30_000, quick=300, make=doors.a_trace, check=doors.check_trace,
    ),
    "pod": Target(
        promise="any pod file is metadata that reads back the same, or refused by name and replaceable",
        full=20_000, quick=200, make=doors.a_pod_file, check=doors.check_pod_file,
    ),
    "name": Target(
        promise="an id or name is what it must be or refused; no path leads out of the root",
        full=60_000, quick=500, make=doors.a_name, check=doors.check_name,
    ),
    "bomb": Target(
        promise="JSON bombs, up to lines of 64 MiB, cost what their size allows",
        full=720, quick=12, make=a_bomb, check=check_bomb,
    ),
}  # fmt: skip
