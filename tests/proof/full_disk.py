"""A really full disk: what was acknowledged before, meanwhile and after is there, and nothing that was refused.

Each round, four writers, two of them on one segment, fill what there is little of (bytes, inodes, a quota, the size a
file may have), go on being refused, and, when there is room again, go on with the same writer objects: then every kind
of deed must succeed. What each deed was told is compared with the files while the disk is full, at the end, and, on a
disk, once more after it was mounted anew: writing back may fail where writing did not.
"""

import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import session_log as sl
from proof import mounts
from proof.books import Books, disagreement
from proof.deeds import RECORDING, Deed, Hand
from proof.lab import Lab, Tried
from proof.shutdown import DURABILITIES, Durability

HANDS = 4
ROOM_BYTES = 512 << 10
"""What is left to fill of a disk, or of a quota."""
ROOM_FILES = 24
"""Inodes that are left to fill."""
FILE_BYTES = 24 << 10
"""What a file may hold where that is limited: more than the longest line of a hand."""
MOST_STEPS = 20_000
"""After so many deeds a disk should be full; the proof fails if nothing was refused by then."""


@dataclass(frozen=True)
class Scarce:
    """A place with little room. ``free`` makes enough of it; ``anew`` mounts it again."""

    root: Path
    free: Callable[[], object]
    anew: Callable[[], object] = bool


def full_disk(lab: Lab) -> list[Tried]:
    """Fill each kind of disk that can be had here; without root, that is the size a file may have."""
    rows: list[Tried] = []
    untried: list[str] = []
    with lab.folder("full-disk") as folder:
        for what, needs, lend in WAYS:
            if needs is not None and (reason := mounts.missing(folder, needs)) is not None:
                untried.append(f"not tried: {what} ({reason})")
            else:
                rows.append(_row(lab, what, partial(lend, folder)))
    return [*rows[:-1], replace(rows[-1], figures="; ".join((rows[-1].figures, *untried)))]


def _row(lab: Lab, what: str, lend: Callable[[], AbstractContextManager[Scarce]]) -> Tried:
    broken = []
    told: list[Deed] = []
    rounds = lab.amount(15, 3)
    for number in range(1, rounds + 1):
        lab.report(f"full-disk: {what}, round {number} of {rounds}")
        name = f"full-disk/{what}/{number}"
        durability = DURABILITIES[number % len(DURABILITIES)]
        with lend() as scarce:
            this = _Round(scarce, lab.random(name), durability)
            this.run(refusals=lab.amount(300, 60))
        told += this.told
        if this.faults:
            more = f" (and {len(this.faults) - 1} more)" if len(this.faults) > 1 else ""
            broken.append(f"{what}, round {number} of --seed {lab.seed}: {this.faults[0]}{more}")
    done, refused, doubt = (
        sum(len(deed.marks) for deed in told if deed.outcome == outcome) for outcome in ("done", "refused", "unknown")
    )
    return Tried(
        promise=f"{what}: all that was acknowledged is there, nothing that was refused",
        unit="rounds",
        tried=rounds,
        broken=tuple(broken),
        figures=f"{done:,} entries acknowledged, {refused:,} refused" + f", {doubt:,} in doubt" * (doubt > 0),
    )


class _Round:
    """One disk that fills up and is freed."""

    def __init__(self, scarce: Scarce, chance: random.Random, durability: Durability) -> None:
        self.told: list[Deed] = []
        self.faults: list[str] = []
        self._scarce = scarce
        self._chance = chance
        self._durability = durability

    def run(self, *, refusals: int) -> None:
        """Fill until so many deeds were refused, free, go on, and look."""
        with ExitStack() as stack:
            hands = self._hands(stack)
            self._fill(hands, refusals)
            self._check("while it was full", hands)
            self._scarce.free()
            for hand in hands:
                for kind in hand.kinds:
                    before = len(self.told)
                    hand.do(kind)
                    self._must_be_done(self.told[before:])
            self._check("after room was made", hands)
        self._scarce.anew()
        self._check("after it was mounted anew", ())

    def _hands(self, stack: ExitStack) -> list[Hand]:
        with sl.FsStore(self._scarce.root, durability=self._durability) as store:
            shared, own = sl.create_segment(store), sl.create_segment(store)
        self.told += [Deed("session", place, ("SegmentStart",), "done", 1) for place in (shared, own)]
        hands = []
        for number in range(HANDS):
            store = sl.FsStore(self._scarce.root, durability=self._durability)
            chance = random.Random(self._chance.getrandbits(64))
            place = own if number == HANDS - 1 else shared
            hands.append(Hand(store, f"hand-{number}", chance, self.told.append, shared=place))
            stack.callback(hands[-1].close)
        return hands

    def _fill(self, hands: Sequence[Hand], refusals: int) -> None:
        seen = refused = 0
        for step in range(MOST_STEPS):
            hand = hands[step % HANDS]
            hand.step()
            failed = [deed for deed in self.told[seen:] if deed.outcome != "done"]
            seen = len(self.told)
            refused += len(failed)
            for deed in failed:
                self._examine(hand.store, deed)
            if failed and refused % 10 == 0:
                self._compare(hand)
            if refused >= refusals:
                return
        self.faults.append(f"only {refused} deeds were refused: it was not full")

    def _examine(self, store: sl.FsStore, deed: Deed) -> None:
        """Look at what a deed left that was not done. Nothing else happens meanwhile."""
        if str(self._scarce.root) not in deed.said or deed.place[0] not in deed.said:
            self.faults.append(f"{deed.kind}: the error does not name the file: {deed.said}")
        if deed.kind in RECORDING:
            left = store.torn_bytes(*deed.place)
            earlier = any((told.place, told.outcome) == (deed.place, "unknown") for told in self.told)
            if left and deed.outcome == "refused" and not earlier:
                self.faults.append(f"{deed.kind}: {left} bytes of what was refused are left in {deed.place[1]}")
            if not left and deed.outcome == "unknown":
                self.faults.append(f"{deed.kind}: in doubt, though there was nothing to take back: {deed.said}")

    def _must_be_done(self, deeds: Sequence[Deed]) -> None:
        for deed in deeds:
            if deed.outcome != "done":
                self.faults.append(f"there was room again, but {deed.kind} {deed.marks}: {deed.outcome}: {deed.said}")

    def _compare(self, hand: Hand) -> None:
        if hand.writer is not None and (fault := disagreement(hand.store, hand.writer)):
            self.faults.append(fault)

    def _check(self, when: str, hands: Sequence[Hand]) -> None:
        books = Books(self.told, self._durability, cut_at=None)
        with sl.FsStore(self._scarce.root, durability=self._durability) as store:
            books.check(store)
            if not hands:
                books.check_going_on(store)
        for hand in hands:
            self._compare(hand)
        self.faults += [f"{when}: {fault}" for fault in books.faults]


# ── ways to run out ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _bytes(folder: Path, *, kind: str, size_bytes: int = 0, options: Sequence[str] = ()) -> Iterator[Scarce]:
    """Lend a disk with little room for data."""
    with mounts.volume(folder, kind, size_bytes=size_bytes, options=options) as volume:
        ballast = volume.place / "ballast"
        found = os.statvfs(volume.place)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - ROOM_BYTES)

        def free() -> None:
            os.truncate(ballast, 0)  # at once, whereas xfs frees what was unlinked when it finds the time
            volume.write_back()

        yield Scarce(volume.place / "root", free, volume.remount)


@contextmanager
def _files(folder: Path, *, kind: str, making: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[Scarce]:
    """Lend a disk with little room for files."""
    with mounts.volume(folder, kind, making=making, options=options) as volume:
        ballast = volume.place / "ballast"
        ballast.mkdir()
        for number in range(os.statvfs(volume.place).f_favail - ROOM_FILES):
            (ballast / str(number)).touch()

        def free() -> None:
            for file in ballast.iterdir():
                file.unlink()

        yield Scarce(volume.place / "root", free, volume.remount)


@contextmanager
def _quota(folder: Path) -> Iterator[Scarce]:
    """Lend a disk with room, of which little may be used.

    Of btrfs, because its quota holds for root, too; that of ext4 and xfs does not, and is not in every kernel. It needs
    room to make a file shorter: what came short cannot always be taken back, and is in doubt.
    """
    with mounts.volume(folder, "btrfs") as volume:
        limited = volume.place / "limited"
        mounts.tool("btrfs", "subvolume", "create", limited)
        mounts.tool("btrfs", "quota", "enable", volume.place)
        mounts.tool("btrfs", "qgroup", "limit", str(ROOM_BYTES), limited)
        first = "0/256"  # by its number, from outside: inside, there is no room for lifting the limit, either
        free = partial(mounts.tool, "btrfs", "qgroup", "limit", "none", first, volume.place)
        yield Scarce(limited / "root", free, volume.remount)


@contextmanager
def _file_size(folder: Path) -> Iterator[Scarce]:
    """Lend a folder, and limit the size of each file that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    root = folder / "limited"

    def limit(size_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))

    try:
        limit(FILE_BYTES)
        yield Scarce(root, partial(limit, soft))
    finally:
        limit(soft)
        shutil.rmtree(root, ignore_errors=True)


Way = tuple[str, str | None, Callable[[Path], AbstractContextManager[Scarce]]]
WAYS: tuple[Way, ...] = (
    ("full tmpfs", "tmpfs", partial(_bytes, kind="tmpfs", options=("size=2m",))),
    ("full ext4", "ext4", partial(_bytes, kind="ext4")),
    ("full xfs", "xfs", partial(_bytes, kind="xfs")),
    ("no inodes on tmpfs", "tmpfs", partial(_files, kind="tmpfs", options=("nr_inodes=100",))),
    ("no inodes on ext4", "ext4", partial(_files, kind="ext4", making=("-N", "128"))),
    ("quota of btrfs", "btrfs", _quota),
    ("size of a file (RLIMIT_FSIZE)", None, _file_size),
)
"""What runs out, what must be mounted for it, how it is made."""
