"""Soak: many writers record many sessions turn by turn while others follow and restore; then every byte is compared.

Three quarters of the processes hold writers, a few sessions at a time; the others use the free functions on more
sessions than the store keeps open. The default durability: a sync at the end of each turn.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import session_log as sl
from proof.filed import Files
from proof.lab import Lab, Skipped, Stopwatch, Tried
from proof.ledger import Failed, Followed, Ledger, Restored
from proof.share import STATUS, Began, Measured, Share, Timed, duration_of, said_in, script
from proof.workers import Crew, Watch, Worker

AT_ONCE: Final = 10
FOLLOWERS: Final = 2
FOLLOWED: Final = 8
SPARE_DESCRIPTORS: Final = 8
"""Standard streams, a directory being listed, a file being read or created."""
SPARE_MEMORY: Final = 0.1
"""How much a process may grow after its first tenth: the allocator keeps some of what is freed, in pieces."""
SPARE_KIB: Final = 2048
Kinds = Began | Measured | Timed | Followed | Restored | Failed


@dataclass
class Soaked:
    """What the processes said."""

    began: dict[int, Began] = field(default_factory=dict)
    measured: defaultdict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    times: tuple[Counter[int], Counter[int]] = field(default_factory=lambda: (Counter(), Counter()))
    seen: defaultdict[str, Ledger] = field(default_factory=lambda: defaultdict(Ledger))
    seconds: float = 0.0
    failures: tuple[str, ...] = ()

    def hear(self, worker: Worker, said: object) -> None:
        """Take note of what a process said."""
        match said:
            case Began():
                self.began[said.number] = said
            case Measured():
                self.measured[worker.name].append(said)
            case Timed():
                self.times[said.synced].update(said.counts)
            case Followed() | Restored():
                self.seen[said.segment_id].hear(worker.name, said)

    @property
    def turns(self) -> int:
        """How many turns were acknowledged so far."""
        return sum(some[-1].turns_done for some in self.measured.values())


def soak(lab: Lab) -> list[Tried]:
    """Record everything, then read everything.

    Raises:
        Skipped: the system does not say how large a process is.
    """
    if not STATUS.exists():
        raise Skipped(f"memory and descriptors of a process are read from {STATUS.parent}, which is not here")
    sessions, turns, writers = lab.amount(1000, 180), lab.amount(100, 6), lab.amount(16, 4)
    with lab.folder("soak") as root:
        shares = _shares(root, sessions, turns, writers)
        soaked = _recorded(lab, root, shares)
        entries = 1 + turns * len(script(0, 0))
        size = sum(path.stat().st_size for path in root.glob("*/*.jsonl"))
        read = _read(lab, root, soaked, turns) if not soaked.failures else Read()
        written = Tried(
            promise=f"{writers} processes, {sessions:,} sessions × {turns} turns: every entry there, once, in order",
            unit="entries",
            tried=sessions * entries,
            broken=(*soaked.failures, *read.entries_broken),
            figures=_speed(sessions * entries, size, soaked),
        )
        return [written, *read.rows(sessions), _memory(soaked, shares), _descriptors(soaked, shares)]


def _shares(root: Path, sessions: int, turns: int, writers: int) -> dict[str, Share]:
    """Deal the sessions out: a quarter of the processes take two fifths of them, without writers."""
    free = writers // 4
    in_hand = [sessions * 2 // 5 // free] * free + [sessions * 3 // 5 // (writers - free)] * (writers - free)
    shares, first = {}, 0
    for at, count in enumerate(in_hand):
        at_once = 0 if at < free else AT_ONCE
        name = f"{'functions' if at < free else 'writers'} {at}"
        shares[name] = Share(root=str(root), first=first, sessions=count, turns=turns, at_once=at_once)
        first += count
    if first != sessions:
        raise ValueError(f"{sessions} sessions cannot be dealt out to {writers} processes")
    return shares


def _recorded(lab: Lab, root: Path, shares: Mapping[str, Share]) -> Soaked:
    """Have everything recorded, under the eyes of followers and readers."""
    soaked = Soaked()
    watch = Stopwatch()
    wanted = sum(share.sessions * share.turns for share in shares.values())
    with Crew(Kinds) as crew:
        readers = [
            crew.start(f"follower {at}", "workers:watch", Watch(root=str(root), seed=f"{lab.seed}/{at}", most=FOLLOWED))
            for at in range(FOLLOWERS)
        ]
        for name, share in shares.items():
            crew.start(name, "share:record", share)
        while crew.alive and not crew.failures:
            for worker, report in crew.listen(0.2):
                soaked.hear(worker, report)
            lab.report(f"soak: {soaked.turns:,} of {wanted:,} turns, {watch.seconds:.0f} s")
            if not soaked.seconds and set(crew.alive) <= set(readers):
                soaked.seconds = watch.seconds
                for reader in readers:
                    reader.ask_to_end()
        soaked.failures = tuple(crew.failures)
    return soaked


@dataclass
class Read:
    """What is on file, against what was recorded and what was seen."""

    looks: int = 0
    entries_broken: list[str] = field(default_factory=list)
    looks_broken: list[str] = field(default_factory=list)
    restores_broken: list[str] = field(default_factory=list)

    def rows(self, sessions: int) -> list[Tried]:
        """Return the rows of the table."""
        return [
            Tried(
                promise="every session restores, strictly, to all of its turns",
                unit="sessions",
                tried=sessions,
                broken=tuple(self.restores_broken),
            ),
            Tried(
                promise="followers and readers meanwhile see what is committed, in order, batches whole",
                unit="looks",
                tried=self.looks,
                broken=tuple(self.looks_broken),
            ),
        ]


def _read(lab: Lab, root: Path, soaked: Soaked, turns: int) -> Read:
    read = Read()
    with sl.FsStore(root) as store:
        if sorted(store.list_sessions()) != sorted(began.session_id for began in soaked.began.values()):
            read.restores_broken.append("list_sessions names others than those that were created")
        for number, began in sorted(soaked.began.items()):
            lab.report(f"soak: reading session {number:,} of {len(soaked.began):,}")
            files = Files(root, began.session_id)
            read.entries_broken += _differences(number, began, files, turns)
            seen = soaked.seen[began.segment_id]
            read.looks += len(seen.followed) + len(seen.restored)
            read.looks_broken += [f"session {number}: {found}" for found in seen.check_seen(files)]
            try:
                state = sl.restore(store, began.session_id, began.segment_id)
            except sl.SessionLogError as exc:
                read.restores_broken.append(f"session {number} does not restore: {exc}")
                continue
            if (state.turn_count, len(state.history), state.last_run_interrupted) != (turns, 4 * turns, False):
                read.restores_broken.append(f"session {number} restores to {state.turn_count} turns")
    return read


def _differences(number: int, began: Began, files: Files, turns: int) -> Iterator[str]:
    """Yield the first difference between what was recorded and what is on file."""
    segment = files.segments.get(began.segment_id)
    if segment is None or len(files.segments) != 1 or files.aside:
        yield f"session {number} has not the one segment that was created"
        return
    found = [said_in(entry) if entry else ("damage", "") for entry in segment.entries[1:]]
    wanted = [entry for turn in range(1, turns + 1) for entry in script(number, turn)]
    if found != wanted or segment.torn:
        at = next((at for at, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(found))
        yield f"session {number}: {len(found)} of {len(wanted)} entries, {len(segment.torn)} bytes torn, line {at + 2}"


def _speed(entries: int, size: int, soaked: Soaked) -> str:
    seconds = soaked.seconds or 1.0
    plain, synced = (_percentiles(counts) for counts in soaked.times)
    rates = f"{entries / seconds:,.0f} entries/s, {size / seconds / 1e6:.0f} MB/s, {size / entries:,.0f} B an entry"
    return f"{rates}; an append p50/p99/p99.9/max {plain}, with its sync {synced}"


def _percentiles(counts: Counter[int]) -> str:
    total = sum(counts.values())
    if not total:
        return "unknown"
    names = []
    for share in (0.5, 0.99, 0.999, 1.0):
        below = 0
        for bucket, count in sorted(counts.items()):
            below += count
            if below >= share * total:
                names.append(f"{duration_of(bucket) / 1000:,.0f}")
                break
    return "/".join(names) + " µs"


def _memory(soaked: Soaked, shares: Mapping[str, Share]) -> Tried:
    """Compare the size of each process when nothing is open, or, without writers, in any turn, early and late."""
    broken, told = [], []
    for name, share in shares.items():
        sizes = [one.rss_kib for one in soaked.measured[name] if not (share.at_once and one.open_sessions)]
        early, late = _early_and_late(sizes)
        if late > early * (1 + SPARE_MEMORY) + SPARE_KIB:
            broken.append(f"{name}: {early:,} KiB early, {late:,} KiB late")
        told.append((late - early, early, late))
    _, early, late = max(told)
    most = max(one.rss_kib for some in soaked.measured.values() for one in some)
    return Tried(
        promise="the memory of a process does not grow with what it has written",
        unit="processes",
        tried=len(shares),
        broken=tuple(broken),
        figures=f"worst {early / 1024:.1f} → {late / 1024:.1f} MiB; with {AT_ONCE} open writers {most / 1024:.0f} MiB",
    )


def _early_and_late(sizes: Sequence[int]) -> tuple[int, int]:
    """Return the most after the first tenth, and the most of the last half; zeros if there is nothing to compare."""
    if len(sizes) < 2:
        return 0, 0
    tenth = max(1, len(sizes) // 10)
    return max(sizes[:tenth]), max(sizes[len(sizes) // 2 :])


def _descriptors(soaked: Soaked, shares: Mapping[str, Share]) -> Tried:
    broken = []
    most: Counter[bool] = Counter()
    for name, share in shares.items():
        found = max((one.descriptors for one in soaked.measured[name]), default=0)
        bound = (share.at_once or sl.MAX_OPEN_FILES) + SPARE_DESCRIPTORS
        if found > bound:
            broken.append(f"{name}: {found} descriptors open, at most {bound}")
        most[bool(share.at_once)] = max(most[bool(share.at_once)], found)
    sessions = max(share.sessions for share in shares.values() if not share.at_once)
    return Tried(
        promise="open descriptors are bounded",
        unit="processes",
        tried=len(shares),
        broken=tuple(broken),
        figures=f"{most[True]} with {AT_ONCE} writers; {most[False]} without, appending to {sessions} sessions",
    )
