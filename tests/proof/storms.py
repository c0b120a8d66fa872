"""Kill storms: processes write to the same sessions and are killed at random moments; then the files are compared.

A round starts several writers and a follower on sessions that several of them share. Each writer says what it is about
to append, and what has returned. Most are killed (SIGKILL): at any moment, or when they say that they append, or, by
themselves, in the middle of a large write; some are asked to end. When all are dead, everything that was ever
acknowledged in these sessions must be on file, once, in its place and whole; what was in flight is there whole or not
at all; what raised has left nothing. A few rounds go on with the files as they were left, torn tails and all; then new
sessions begin. The seed repeats what the writers do; who gets how far is the machine's.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import session_log as sl
from proof.filed import Files
from proof.lab import Lab, Stopwatch, Tried
from proof.ledger import Acknowledged, Failed, Followed, Intended, Ledger, Made, Refused, Restored, RolledBack
from proof.scribe import Task
from proof.workers import Crew, Watch, Worker, user_texts

WRITERS: Final = 5
SESSIONS: Final = 4
"""The first is the one that half of all writing goes to."""
FOLLOWED: Final = 12
_SAME_SESSIONS: Final = 0.75
"""How likely a round goes on with the sessions of the one before."""
_LONGEST_LIFE_S: Final = 0.15
_LONGEST_WAIT_S: Final = 0.5
"""How long a writer may take to begin the append in which it is killed."""
_HUNG_S: Final = 60.0
Kinds = Intended | Acknowledged | Refused | Made | RolledBack | Followed | Restored | Failed


@dataclass
class Tally:
    """How often what was tried, and what did not hold."""

    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    refused: int = 0
    made: int = 0
    looks: int = 0
    restored: int = 0
    torn: int = 0
    moved_aside: int = 0
    failures: list[str] = field(default_factory=list)
    appends_broken: list[str] = field(default_factory=list)
    made_broken: list[str] = field(default_factory=list)
    looks_broken: list[str] = field(default_factory=list)
    restores_broken: list[str] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether anything did not hold."""
        lists = self.failures, self.appends_broken, self.made_broken, self.looks_broken, self.restores_broken
        return any(lists)

    def rows(self) -> list[Tried]:
        """Return the rows of the table."""
        torn = f"{self.torn:,} torn tails, {self.moved_aside:,} of them moved aside by the next writer"
        figures = f"{self.kills:,} writers killed, {self.in_flight:,} appends in flight, {torn}"
        return [
            Tried(
                promise="kill storms: nothing hangs or raises what it should not",
                unit="rounds",
                tried=self.rounds,
                broken=tuple(self.failures),
                figures=figures,
            ),
            Tried(
                promise="acknowledged entries are there once, in place, whole; in flight: all or nothing; raised: none",
                unit="entries",
                tried=self.acknowledged,
                broken=tuple(self.appends_broken),
                figures=f"{self.refused:,} entries refused",
            ),
            Tried(
                promise="acknowledged forks, compactions and rollbacks are what they should be",
                unit="segments",
                tried=self.made,
                broken=tuple(self.made_broken),
            ),
            Tried(
                promise="every segment restores, strictly, to what its lines and its ancestors' say",
                unit="restores",
                tried=self.restored,
                broken=tuple(self.restores_broken),
            ),
            Tried(
                promise="followers and readers see what is committed, in order, batches whole",
                unit="looks",
                tried=self.looks,
                broken=tuple(self.looks_broken),
            ),
        ]


def storms(lab: Lab) -> list[Tried]:
    """Let writers be killed, round after round, and compare what they were told with what is on file."""
    rounds = lab.amount(240, 6)
    chance = lab.random("storms")
    tally = Tally()
    while tally.rounds < rounds and not tally.broken:
        with lab.folder("storms") as root:
            sessions = Sessions(root, lab.seed)
            while tally.rounds < rounds and not tally.broken:
                lab.report(f"storms: round {tally.rounds + 1} of {rounds}, {tally.kills} writers killed")
                sessions.round(chance, tally)
                if chance.random() > _SAME_SESSIONS:
                    break
            sessions.count(tally)
    return tally.rows()


class Sessions:
    """The sessions of a few rounds, and all that was said of them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.ledger = Ledger()
        self._sizes: dict[str, int] = {}
        self._torn: dict[str, bytes] = {}
        with sl.FsStore(root) as store:
            self.shared, *_ = [sl.create_segment(store)[0] for _ in range(SESSIONS)]

    def round(self, chance: random.Random, tally: Tally) -> None:
        """Have everybody write, kill them, and compare."""
        tally.rounds += 1
        name = f"round {tally.rounds} of seed {self.seed}"
        with Crew(Kinds) as crew:
            self._storm(crew, chance, tally)
            tally.failures += [f"{name}: {failure}" for failure in crew.failures]
        files = Files(self.root)
        ledger = self.ledger
        tally.looks += len(ledger.followed) + len(ledger.restored)
        tally.looks_broken += [f"{name}: {found}" for found in ledger.check_seen(files)]
        tally.appends_broken += [f"{name}: {found}" for found in ledger.check_appends(files)]
        tally.appends_broken += [f"{name}: {found}" for found in self._torn_and_gone(files, tally)]
        tally.made_broken += [f"{name}: {found}" for found in ledger.check_made(files)]
        tally.restores_broken += [f"{name}: {found}" for found in self._restored_otherwise(files, tally)]
        ledger.followed.clear()
        ledger.restored.clear()

    def count(self, tally: Tally) -> None:
        """Add up what was tried, when these sessions are left."""
        ledger = self.ledger
        tally.acknowledged += ledger.entries(Acknowledged)
        tally.refused += ledger.entries(Refused)
        tally.in_flight += sum(append.outcome is None for append in ledger.appends)
        tally.made += len(ledger.made) + len(ledger.rolled_back)

    def _storm(self, crew: Crew, chance: random.Random, tally: Tally) -> None:
        watch = Stopwatch()
        seed = f"{self.seed}/{tally.rounds}"
        task = Watch(root=str(self.root), seed=seed, most=FOLLOWED)
        follower = crew.start(f"r{tally.rounds}", "workers:watch", task)
        ends = [self._end_of(crew, f"r{tally.rounds}w{at}", seed, chance) for at in range(WRITERS)]
        while any(end.worker in crew.alive for end in ends):
            for worker, report in crew.listen(0.005):
                self.ledger.hear(worker.name, report)
                if isinstance(report, Intended):
                    for end in ends:
                        end.appends(worker, watch.seconds)
            for end in ends:
                end.pass_time(watch.seconds)
            _refuse_to_hang(crew, watch)
        tally.kills += sum(end.worker.wanted_dead for end in ends)
        follower.ask_to_end()
        while crew.alive:
            for worker, report in crew.listen(0.1):
                self.ledger.hear(worker.name, report)
            _refuse_to_hang(crew, watch)

    def _end_of(self, crew: Crew, name: str, seed: str, chance: random.Random) -> "End":
        way = chance.choices(("kill", "kill an append", "fall", "ask"), (3, 3, 3, 1))[0]
        task = Task(root=str(self.root), name=name, seed=f"{seed}/{name}", shared=self.shared, falls=way == "fall")
        worker = crew.start(name, "scribe:write", task)
        worker.wanted_dead = task.falls
        return End(worker, way, chance.random() * _LONGEST_LIFE_S)

    def _torn_and_gone(self, files: Files, tally: Tally) -> Iterator[str]:
        """Yield each torn tail that was there after the round before, and now is neither there nor moved aside."""
        torn = {segment_id: segment.torn for segment_id, segment in files.segments.items() if segment.torn}
        for segment_id, before in self._torn.items():
            if torn.get(segment_id) == before:
                continue
            tally.moved_aside += 1
            if before not in files.aside.get(files.segments[segment_id].path.with_suffix(".torn"), b""):
                yield f"{len(before)} torn bytes of {segment_id} are gone, and not in its .torn"
        tally.torn += sum(self._torn.get(segment_id) != found for segment_id, found in torn.items())
        self._torn = torn

    def _restored_otherwise(self, files: Files, tally: Tally) -> Iterator[str]:
        """Yield each segment that does not restore to its lines; those that nothing happened to were tried before."""
        with sl.FsStore(self.root) as store:
            for segment_id, segment in files.segments.items():
                if self._sizes.get(segment_id) == segment.size:
                    continue
                self._sizes[segment_id] = segment.size
                tally.restored += 1
                try:
                    state = sl.restore(store, segment.path.parent.name, segment_id)
                except sl.SessionLogError as exc:
                    yield f"{segment_id} does not restore: {exc}"
                    continue
                found = state.entries_count, state.torn_bytes, user_texts(state)
                if found != (len(segment.entries), len(segment.torn), files.history(segment_id)):
                    yield f"{segment_id} restores to something else than its lines: {found[:2]}"


@dataclass
class End:
    """How and when a writer ends: ``after_s`` seconds after its first append began.

    It is killed then (``kill``), or when it begins its next append (``kill an append``), unless it falls by itself
    (``fall``); or it is asked to end (``ask``).
    """

    worker: Worker
    way: str
    after_s: float
    _due_s: float | None = None

    def appends(self, worker: Worker, now_s: float) -> None:
        """Take note that a writer begins an append."""
        if worker is not self.worker:
            return
        if self._due_s is None:
            self._due_s = now_s + self.after_s
        elif self.way == "kill an append" and now_s >= self._due_s:
            worker.kill()

    def pass_time(self, now_s: float) -> None:
        """End the writer if it is time."""
        if self._due_s is None or now_s < self._due_s:
            return
        if self.way == "ask":
            self.worker.ask_to_end()
        elif self.way == "kill" or now_s >= self._due_s + _LONGEST_WAIT_S:
            self.worker.kill()


def _refuse_to_hang(crew: Crew, watch: Stopwatch) -> None:
    if watch.seconds > _HUNG_S:
        for worker in crew.alive:
            crew.failures.append(f"{worker.name} did not end within {_HUNG_S:.0f} s")
            worker.kill()
