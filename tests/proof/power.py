"""Proof: whatever a crash leaves of what was recorded, nothing acknowledged is missing, and no damage is silent.

The system calls of every scenario are recorded; from them follow the states in which a disk may be found. Each is laid
out in files and judged with the real library (:mod:`proof.laws`).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from proof.crashes import Crashes, State
from proof.disk import Op, Sync, Tree, image
from proof.history import History
from proof.lab import Lab, Tried
from proof.laws import judge, lay_out
from proof.play import DURABILITIES, Durability
from proof.recording import Job, record
from proof.scenarios import SCENARIOS

Kind = Callable[[Crashes], Iterator[State]]
DEATH = "process death"
FAILED = "failed sync"
KINDS: Mapping[str, Kind] = {
    DEATH: Crashes.process_death,
    "power loss in order": Crashes.in_order,
    "power loss in any order": Crashes.any_order,
    "torn writes": Crashes.torn,
}
_ALL = "nothing acknowledged lost"
_PROMISES: Mapping[Durability, str] = {
    "process": "a prefix, or damage that is reported",
    "turn": "no finished turn lost, no damage unreported",
    "power": f"{_ALL}, no damage, no parent missing",
}


@dataclass
class Tally:
    """How many states of a kind there were, how many of them were tried, and what did not hold."""

    states: int = 0
    tried: int = 0
    broken: list[str] = field(default_factory=list)


class Bench:
    """Where states are laid out and judged; remembers what it judged."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.disk = folder / "disk"
        self.tallies: dict[tuple[str, Durability], Tally] = {}

    def try_all(self, name: str, job: Job, crashes: Crashes, kind: Kind, *, most: int, label: str = "") -> None:
        """Judge the states of a kind, each content once: if there are more than ``most``, a sample of them."""
        tally = self.tallies.setdefault((name, job.durability), Tally())
        history = History(crashes.ops)
        states = self._different(crashes, kind)
        tally.states += len(states)
        tally.broken += [f"{job}{label}: {fault}" for fault in history.faults]
        if len(states) > most:
            barest = [(state, tree) for state, tree in states if state == State(len(crashes.ops), visible=False)]
            states = barest + self._lab.random(f"{name}/{job}/{label}").sample(states, most - len(barest))
        for state, tree in states:
            lay_out(tree, self.disk)
            tally.tried += 1
            faults = self.judge(history, history.told(state.ops_done), None if name == DEATH else job.durability)
            if faults:
                where = f"{crashes.describe(state)}; --seed {self._lab.seed}"
                tally.broken.append(f"{job}{label}: {'; '.join(faults)}; {where}")

    def judge(self, history: History, told: int, durability: Durability | None) -> list[str]:
        """Return what is wrong with what is laid out, if so much was said before."""
        return judge(self.disk, history, history.demand(told, durability))

    def _different(self, crashes: Crashes, kind: Kind) -> list[tuple[State, Tree]]:
        """Return the states of different content; of the same, the last: it has the most to keep."""
        found: dict[bytes, tuple[State, Tree]] = {}
        for state in kind(crashes):
            tree = image(crashes.ops, crashes.kept(state))
            digest = hashlib.blake2b(repr(tree).encode(), digest_size=16).digest()
            if digest not in found or found[digest][0].ops_done < state.ops_done:
                found[digest] = state, tree
        return list(found.values())

    def rows(self) -> list[Tried]:
        """Return a row for each kind and durability."""
        return [
            Tried(
                promise=f"{name}, durability={durability!r}: {_ALL if name == DEATH else _PROMISES[durability]}",
                unit="states",
                tried=tally.tried,
                broken=tuple(tally.broken),
                figures=f"of {tally.states:,} different states that were found",
            )
            for (name, durability), tally in self.tallies.items()
        ]


def power(lab: Lab) -> list[Tried]:
    """Try every kind of crash on every scenario, and every sync failing once, or from then on for ever."""
    jobs = [Job(scenario, durability) for scenario in SCENARIOS for durability in DURABILITIES]
    with lab.folder("recordings") as folder:
        recorded = record(folder, jobs)
    with lab.folder("states") as folder:
        bench = Bench(lab, folder)
        for job in jobs:
            lab.report(f"power: {job}")
            dice = lab.random(f"power/{job}")
            crashes = Crashes(recorded[job], dice, stride=lab.amount(1, 400), samples=lab.amount(300, 9))
            for name, kind in KINDS.items():
                bench.try_all(name, job, crashes, kind, most=lab.amount(900, 8))
        _failed_syncs(lab, bench, recorded)
        return bench.rows()


def _failed_syncs(lab: Lab, bench: Bench, recorded: Mapping[Job, Sequence[Op]]) -> None:
    jobs = [job for job, ops in recorded.items() if any(isinstance(op, Sync) for op in ops)]
    if lab.quick:
        for call in ("fsync", "fdatasync"):
            nth = lab.random(f"power/{call}").randrange(2, 5)
            _failed_sync(lab, bench, jobs, f"{call}:error=EIO:when={nth}")
        return
    for call, more in (("fsync", ""), ("fdatasync", ""), ("fdatasync", "+")):
        for nth in count(1):
            if not _failed_sync(lab, bench, jobs, f"{call}:error=EIO:when={nth}{more}"):
                break


def _failed_sync(lab: Lab, bench: Bench, jobs: Sequence[Job], fault: str) -> bool:
    """Try what one fault leaves; return whether it happened to any job."""
    happened = False
    with lab.folder("recordings") as folder:
        failing = record(folder, jobs, fault)
    for job in jobs:
        ops = failing[job]
        failed = [at for at, op in enumerate(ops) if isinstance(op, Sync) and not op.ok]
        if not failed:
            continue
        happened = True
        label = f" with {fault}"
        lab.report(f"power: {job}{label}")
        dice = lab.random(f"power/{job}{label}")
        crashes = Crashes(ops, dice, stride=50, samples=lab.amount(30, 3), since=failed[0] + 1)
        bench.try_all(FAILED, job, crashes, _after_failure, most=lab.amount(20, 3), label=label)
        bench.try_all(DEATH, job, crashes, Crashes.process_death, most=lab.amount(5, 1), label=label)
    return happened


def _after_failure(crashes: Crashes) -> Iterator[State]:
    return chain(crashes.in_order(), crashes.any_order())
