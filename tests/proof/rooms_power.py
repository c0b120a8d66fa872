"""Proof: a crash leaves what stands beside the entries as it was acknowledged, or whole as it was before.

The states that a disk may be left in are found as for :mod:`proof.power`; what is judged is in
:mod:`proof.rooms_laws`.
"""

from proof.crashes import Crashes
from proof.history import History
from proof.lab import Lab, Tried
from proof.play import DURABILITIES, Durability
from proof.power import DEATH, KINDS, Bench
from proof.recording import Job, record
from proof.rooms_laws import judge
from proof.rooms_scenarios import ROOM_SCENARIOS

_PROMISES: dict[Durability, str] = {
    "process": "what is damaged is reported, feed and keys can be made anew",
    "turn": "blobs before their lines; facts, keys, deletions, detached forks as acknowledged; finished turns",
    "power": "the same, and every checkpoint and text",
}


class RoomsBench(Bench):
    """Judges what stands beside the entries."""

    def judge(self, history: History, told: int, durability: Durability | None) -> list[str]:
        """Return what is wrong with what is laid out, if so much was said before."""
        return judge(self.disk / "root", [promise.said for promise in history.promises[:told]], durability)


def rooms_power(lab: Lab) -> list[Tried]:
    """Try every kind of crash on every scenario of the rooms."""
    jobs = [Job(scenario, durability) for scenario in ROOM_SCENARIOS for durability in DURABILITIES]
    with lab.folder("recordings") as folder:
        recorded = record(folder, jobs)
    with lab.folder("states") as folder:
        bench = RoomsBench(lab, folder)
        for job in jobs:
            lab.report(f"rooms-power: {job}")
            dice = lab.random(f"rooms-power/{job}")
            crashes = Crashes(recorded[job], dice, stride=lab.amount(40, 900), samples=lab.amount(150, 6))
            for name, kind in KINDS.items():
                bench.try_all(name, job, crashes, kind, most=lab.amount(400, 8))
        return [
            Tried(
                promise=f"rooms: {name}, durability={durability!r}: "
                + ("all as acknowledged" if name == DEATH else _PROMISES[durability]),
                unit="states",
                tried=tally.tried,
                broken=tuple(tally.broken),
                figures=f"of {tally.states:,} different states that were found",
            )
            for (name, durability), tally in bench.tallies.items()
        ]
