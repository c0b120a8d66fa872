"""Real file systems, shut down under real writers: what was acknowledged is there when they are mounted again.

Each round, six processes write to one file system on a loop device: two for each durability, which share a segment, so
that they fork away from one another. In the middle of it the file system stops without a flush of its log; half of the
time it was written back as a whole shortly before. Half of the time the writers die in that instant, else they run into
its errors first. Then it is mounted again, which recovers its log, and the acknowledgements, which came over pipes, are
compared with the files.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, get_args

import session_log as sl
from proof import mounts
from proof.books import Books
from proof.deeds import Deed, Hand, Place
from proof.lab import Lab, Skipped, Tried

KINDS = ("ext4", "xfs")
Durability = Literal["process", "turn", "power"]
DURABILITIES: tuple[Durability, ...] = get_args(Durability)
PROMISES = {
    "power": "no acknowledged entry lost",
    "turn": "nothing lost up to the last finished turn",
    "process": "a prefix, or reported damage",
}
HANDS_OF_EACH = 2
LONGEST_S = 0.4
"""After at most this the file system stops: some hundred deeds of each hand, a few dozen with a sync each."""
LAST_WORDS_S = 5.0
"""How long writers that run into errors may go on before they are killed."""
MOST_FAILURES = 5
"""So many deeds of a hand may fail before it gives up."""
_fork = multiprocessing.get_context("fork")


@dataclass
class Score:
    """What came of the rounds of one durability."""

    rounds: int = 0
    entries: int = 0
    damaged: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, books: Books, round_name: str) -> None:
        """Count a round; it is broken once, however much of it is."""
        self.rounds += 1
        self.entries += books.entries
        self.damaged += len(books.damaged)
        if books.faults:
            more = f" (and {len(books.faults) - 1} more)" if len(books.faults) > 1 else ""
            self.broken.append(f"{round_name}: {books.faults[0]}{more}")


def shutdown(lab: Lab) -> list[Tried]:
    """Shut each kind of file system down under writers, many times.

    Raises:
        Skipped: not root, no loop devices, mounting not permitted, or no tools.
    """
    with lab.folder("shutdown") as folder:
        reasons = {kind: mounts.missing(folder, kind) for kind in KINDS}
        if all(reasons.values()):
            raise Skipped("; ".join(str(reason) for reason in reasons.values()))
        rows = [row for kind in KINDS if reasons[kind] is None for row in _rows(lab, folder, kind)]
    untried = [f"not tried: {kind} ({reason})" for kind, reason in reasons.items() if reason is not None]
    return [*rows[:-1], replace(rows[-1], figures="; ".join((rows[-1].figures, *untried)))]


def _rows(lab: Lab, folder: Path, kind: str) -> list[Tried]:
    scores = {durability: Score() for durability in DURABILITIES}
    rounds = lab.amount(60, 4)
    with mounts.volume(folder, kind) as volume:
        for number in range(1, rounds + 1):
            lab.report(f"shutdown: {kind}, round {number} of {rounds}")
            name = f"shutdown/{kind}/{number}"
            told, cut_at = _round(volume, lab.random(name), volume.place / f"{number}")
            where = f"{kind}, round {number} of --seed {lab.seed} (what is done is the seed's, the moment is not)"
            for durability, deeds in told.items():
                scores[durability].add(_checked(volume.place / f"{number}", durability, deeds, cut_at), where)
            shutil.rmtree(volume.place / f"{number}")
    return [
        Tried(
            promise=f"{kind} shut down under writers, durability {durability!r}: {PROMISES[durability]}",
            unit="rounds",
            tried=score.rounds,
            broken=tuple(score.broken),
            figures=f"{score.entries:,} entries acknowledged"
            + f", {score.damaged:,} segments gone or reported damaged" * (score.damaged > 0),
        )
        for durability, score in scores.items()
    ]


def _checked(root: Path, durability: Durability, deeds: list[Deed], cut_at: float) -> Books:
    """Compare what was told with what is there, as a process would that was started after the power cut."""
    books = Books(deeds, durability, cut_at=cut_at)
    with sl.FsStore(root / durability, durability=durability) as store:
        books.check(store)
        books.check_going_on(store)
    return books


# ── a round ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _round(volume: mounts.Volume, chance: random.Random, root: Path) -> tuple[dict[Durability, list[Deed]], float]:
    """Let writers write, shut the volume down, mount it again; return what they told, and when it was shut down."""
    root.mkdir()
    _sync(root.parent)
    told: dict[Durability, list[Deed]] = {durability: [] for durability in DURABILITIES}
    with _hands(root, chance, told) as (hands, pipes):
        _listen(pipes, chance.uniform(0, LONGEST_S))
        if chance.random() < 0.5:
            volume.write_back()
            _listen(pipes, chance.uniform(0, LONGEST_S / 4))
        cut_at = time.monotonic()
        volume.shut_down()
        if chance.random() < 0.5:
            _kill(hands)
        _listen(pipes, LAST_WORDS_S)
    volume.remount()
    return told, cut_at


def _sync(folder: Path) -> None:
    """Make the round's folder outlast it: that is the proof's business, not the library's."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _hands(
    root: Path, chance: random.Random, told: dict[Durability, list[Deed]]
) -> Iterator[tuple[list[BaseProcess], dict[Connection, list[Deed]]]]:
    """Start the writers; when the block ends, however it does, none of them is left."""
    hands: list[BaseProcess] = []
    pipes: dict[Connection, list[Deed]] = {}
    try:
        for durability in DURABILITIES:
            with sl.FsStore(root / durability, durability=durability) as store:
                shared = sl.create_segment(store)
            told[durability].append(Deed("session", shared, ("SegmentStart",), "done", 1, final=True))
            for number in range(HANDS_OF_EACH):
                receiving, sending = _fork.Pipe(duplex=False)
                pipes[receiving] = told[durability]
                seed = chance.getrandbits(64)
                args = (root / durability, durability, f"{durability}-{number}", seed, shared, sending)
                hands.append(_fork.Process(target=_work, args=args, daemon=True))
                with mounts.undisturbed():  # until the hand ignores Ctrl-C itself
                    hands[-1].start()
                sending.close()
        yield hands, pipes
    finally:
        _kill(hands)
        for pipe in pipes:
            pipe.close()


def _kill(hands: list[BaseProcess]) -> None:
    for hand in hands:
        if hand.pid is not None:
            hand.kill()
    for hand in hands:
        if hand.pid is not None:
            hand.join()


def _listen(pipes: dict[Connection, list[Deed]], seconds: float) -> None:
    """Take down what the hands tell, until the time is over or all have gone."""
    until = time.monotonic() + seconds
    while (pending := [pipe for pipe in pipes if not pipe.closed]) and (left := until - time.monotonic()) > 0:
        for pipe in wait(pending, left):
            assert isinstance(pipe, Connection)
            try:
                pipes[pipe].append(pipe.recv())
            except EOFError:
                pipe.close()


def _work(root: Path, durability: Durability, name: str, seed: int, shared: Place, pipe: Connection) -> None:
    """Write until the file system fails, in a process of its own, which does not outlive the proof."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    warnings.simplefilter("ignore")
    failures = 0

    def tell(deed: Deed) -> None:
        nonlocal failures
        failures += deed.outcome != "done"
        pipe.send(deed)

    parent = os.getppid()
    hand = Hand(sl.FsStore(root, durability=durability), name, random.Random(seed), tell, shared=shared)
    while failures < MOST_FAILURES and os.getppid() == parent:
        hand.step()
