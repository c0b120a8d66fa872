"""Storms in the rooms: many processes with different trades on one root, killed at random; then the files are compared.

Authors write with a chain, spilled texts, idempotency keys, checkpoints and requests; openers meet under external
keys; a clerk changes facts; a keeper makes feed and index anew; a collector collects payloads; a remover deletes,
detaches, brings back and purges; an inspector verifies; a watcher follows everything. Most are killed: from outside at
any moment, or by themselves before any change to a file. Then everything that was acknowledged must be on file, once;
what an author did not hear the answer of is appended again under its key in the next round; nothing that a line refers
to may be gone; no key may have two sessions, no id be used twice; the feed must say what the sessions do; and this
process must be able to do everything at once: no lock is left. The seed repeats what everybody does; who gets how far
is the machine's.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import session_log as sl
from proof.audit import Audit
from proof.lab import Lab, Stopwatch, Tried
from proof.residents import Again, Duty
from proof.rooms_after import Laws
from proof.tidings import Began, Tidings, Told, payloads_of
from proof.workers import Crew, Worker

TRADES: Final = (
    *("author",) * 4,
    *("opener",) * 2,
    "clerk",
    "keeper",
    "collector",
    "remover",
    "inspector",
)
SHARED: Final = 4
"""Segments that are there from the beginning; the sessions of the first two are not deleted."""
KEYS: Final = 5
MOST_CHANGES: Final = 300
_SAME_ROOT: Final = 0.7
_LONGEST_LIFE_S: Final = 0.7
_LONGEST_FALL_S: Final = 1.5
_HUNG_S: Final = 90.0


@dataclass
class Tally:
    """How often what was tried, and what did not hold, by the name of its law."""

    rounds: int = 0
    kills: int = 0
    lines: int = 0
    in_flight: int = 0
    again: int = 0
    payloads: int = 0
    collected: int = 0
    facts: int = 0
    opened: int = 0
    events: int = 0
    moved: int = 0
    segments: int = 0
    failures: list[str] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)

    def found(self, law: str, where: str, faults: Iterator[str]) -> None:
        """Note what does not hold of a law."""
        broken = self.broken.setdefault(law, [])
        try:
            broken.extend(f"{where}: {fault}" for fault in faults)
        except sl.SessionLogError as exc:
            broken.append(f"{where}: {type(exc).__name__}: {exc}")

    @property
    def any_broken(self) -> bool:
        """Whether anything did not hold."""
        return bool(self.failures) or any(self.broken.values())

    def rows(self) -> list[Tried]:
        """Return the rows of the table."""

        def row(law: str, promise: str, unit: str, tried: int, figures: str = "") -> Tried:
            broken = tuple(self.broken.get(law, ()))
            return Tried(promise=promise, unit=unit, tried=tried, broken=broken, figures=figures)

        figures = f"{self.kills:,} processes of {len(TRADES)} trades a round killed"
        return [
            Tried(
                promise="storms in the rooms: nothing hangs or raises what it should not, no lock is left",
                unit="rounds",
                tried=self.rounds,
                broken=tuple(self.failures),
                figures=figures,
            ),
            row(
                "lines",
                "acknowledged texts, checkpoints, references and ends of turns are there once, in place, whole",
                "lines",
                self.lines,
                f"{self.in_flight:,} in flight, {self.again:,} of them appended again under their idempotency key",
            ),
            row(
                "payloads",
                "no payload that a line or request refers to is gone",
                "payloads",
                self.payloads,
                f"{self.collected:,} collected",
            ),
            row("facts", "acknowledged changes of facts are there once", "changes", self.facts),
            row(
                "ids",
                "a key has one session, no id is used twice, what was deleted is in the trash",
                "sessions",
                self.opened,
                f"{self.moved:,} deleted, detached, brought back or purged",
            ),
            row(
                "feed", "the watcher missed nothing; the feed made anew is what the sessions say", "events", self.events
            ),
            row("sound", "every segment restores, and verify finds no damage", "segments", self.segments),
        ]


def rooms(lab: Lab) -> list[Tried]:
    """Let residents be killed, round after round, and compare what they were told with what is on file."""
    rounds = lab.amount(70, 3)
    chance = lab.random("rooms")
    tally = Tally()
    while tally.rounds < rounds and not tally.any_broken:
        with lab.folder("rooms") as root:
            house = House(root, lab.seed, purges=chance.random() < 0.3)
            while tally.rounds < rounds and not tally.any_broken:
                lab.report(f"rooms: round {tally.rounds + 1} of {rounds}, {tally.kills} processes killed")
                house.round(chance, tally)
                if chance.random() > _SAME_ROOT:
                    break
            house.count(tally)
    return tally.rows()


class House:
    """The root of a few rounds, and all that was said of it."""

    def __init__(self, root: Path, seed: int, *, purges: bool) -> None:
        self.root, self.seed, self.purges = root, seed, purges
        self.told = Told()
        self._again: list[Again] = []
        self._laws = Laws(root, self.told)
        with sl.FsStore(root) as store:
            self.places = tuple(sl.create_segment(store) for _ in range(SHARED))

    def round(self, chance: random.Random, tally: Tally) -> None:
        """Have everybody live and die, and compare."""
        tally.rounds += 1
        name = f"round {tally.rounds} of seed {self.seed}"
        self._age(tally.rounds)
        with Crew(Tidings) as crew:
            self._storm(crew, chance, tally)
            tally.failures += [f"{name}: {failure}" for failure in crew.failures]
        laws = self._laws
        tally.failures += [f"{name}: {fault}" for fault in laws.unexpected(tally.rounds)]
        with sl.FsStore(self.root) as store:
            audit = Audit(self.root, self.told)
            tally.found("lines", name, audit.lines(store))
            tally.found("payloads", name, audit.payloads(store))
            tally.found("lines", name, audit.keyed(store))
            tally.found("facts", name, audit.known())
            tally.found("ids", name, laws.identities(audit, store))
            tally.found("feed", name, laws.announced(tally.rounds))
            tally.found("feed", name, laws.recent(store))
            tally.found("sound", name, laws.sound(audit, store))
            tally.payloads += len(audit.files.references)
        if not tally.any_broken:
            tally.failures += [f"{name}: afterwards: {fault}" for fault in laws.everything_at_once()]
        self._again = [
            Again(deed.began.ids, deed.began.text, deed.began.size)
            for deed in self.told.of("say")
            if deed.round == tally.rounds and deed.in_doubt and deed.began.keyed
        ]
        tally.again += len(self._again)

    def count(self, tally: Tally) -> None:
        """Add up what was tried, when this root is left."""
        told = self.told
        tally.lines += len(told.done("say", "blob", "checkpoint", "turn", "run"))
        tally.in_flight += sum(deed.in_doubt for deed in told.of("say", "blob", "checkpoint"))
        tally.segments += self._laws.restored
        tally.facts += len(told.done("rename", "archive"))
        tally.opened += len(told.done("open", "create"))
        tally.events += len(told.saw)
        tally.moved += len(told.done("delete", "delete segment", "detach", "undelete", "purge"))
        tally.collected += sum(deed.done().at for deed in told.done("collect"))

    def _age(self, number: int) -> None:
        """Put the payloads of the round, and let a day pass: whoever collects takes what is there for old."""
        with sl.FsStore(self.root, durability="process") as store:
            for payload in payloads_of(f"r{number}"):
                store.put_blob(payload)
        for path in self.root.glob("blobs/??/*"):
            os.utime(path, (0, 0))

    # ── the storm ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _storm(self, crew: Crew, chance: random.Random, tally: Tally) -> None:
        watch = Stopwatch()
        number = tally.rounds
        watcher = crew.start(f"r{number}watcher", "residents:watcher", self._duty("watcher", number, 0))
        while not any(at == number and saw.kind == "ready" for at, saw in self.told.saw) and watch.seconds < _HUNG_S:
            self._listen(crew, number, 0.1)
        ends = [self._end_of(crew, at, trade, chance, number) for at, trade in enumerate(TRADES)]
        while any(end.worker in crew.alive for end in ends):
            for worker, said in self._listen(crew, number, 0.01):
                if isinstance(said, Began):
                    for end in ends:
                        end.begins(worker, watch.seconds)
            for end in ends:
                end.pass_time(watch.seconds)
            _refuse_to_hang(crew, watch)
        tally.kills += sum(end.worker.wanted_dead for end in ends)
        watcher.ask_to_end()
        while crew.alive:
            self._listen(crew, number, 0.1)
            _refuse_to_hang(crew, watch)

    def _listen(self, crew: Crew, number: int, timeout_s: float) -> list[tuple[Worker, object]]:
        heard = list(crew.listen(timeout_s))
        for worker, said in heard:
            self.told.hear(worker.name, said, number)
        return heard

    def _duty(self, name: str, number: int, falls: int, again: tuple[Again, ...] = ()) -> Duty:
        return Duty(
            root=str(self.root),
            seed=f"{self.seed}/{number}/{name}",
            name=f"r{number}{name}",
            keys=tuple(f"key {at} of {self.seed}" for at in range(KEYS)),
            places=self.places,
            again=again,
            purges=self.purges,
            falls=falls,
        )

    def _end_of(self, crew: Crew, at: int, trade: str, chance: random.Random, number: int) -> "End":
        way = chance.choices(("kill", "fall", "ask"), (4, 4, 2))[0]
        falls = chance.randint(1, MOST_CHANGES) if way == "fall" else 0
        life_s = chance.random() * _LONGEST_LIFE_S
        again = tuple(self._again) if at == 0 else tuple(self._again[:1]) if at == 1 else ()
        duty = self._duty(f"{trade}{at}", number, falls, again)
        worker = crew.start(duty.name, f"{'authors' if trade == 'author' else 'residents'}:{trade}", duty)
        worker.wanted_dead = way == "fall"
        return End(worker, way, life_s)


@dataclass
class End:
    """How and when a resident ends: ``after_s`` seconds after its first deed began; ``fall``: by itself, if it can."""

    worker: Worker
    way: str
    after_s: float
    _due_s: float | None = None

    def begins(self, worker: Worker, now_s: float) -> None:
        """Take note that a resident begins a deed."""
        if worker is self.worker and self._due_s is None:
            self._due_s = now_s + (_LONGEST_FALL_S if self.way == "fall" else self.after_s)

    def pass_time(self, now_s: float) -> None:
        """End the resident if it is time."""
        if self._due_s is None or now_s < self._due_s:
            return
        if self.way == "ask":
            self.worker.ask_to_end()
        else:
            self.worker.kill()


def _refuse_to_hang(crew: Crew, watch: Stopwatch) -> None:
    if watch.seconds > _HUNG_S:
        for worker in crew.alive:
            crew.failures.append(f"{worker.name} did not end within {_HUNG_S:.0f} s")
            worker.kill()
