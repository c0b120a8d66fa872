"""What every benchmark is given: a directory to write in, how many rounds, and the logs to read."""

import functools
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.measure import WARM_UP_ROUNDS
from benchmarks.turns import turns
from session_log import (
    FsStore,
    LogEntry,
    SegmentStartState,
    create_segment,
    decode_line,
    encode_line,
    now_ms,
)

SEED = 1
DISTINCT_TURNS = 500
"""A long log repeats its turns after so many: 5 MB, which no processor cache keeps."""
AHEAD_MS = 3_600_000
"""The entries are dated an hour ahead: after every segment_start of the run, so that no clock has to be mended."""


@dataclass(frozen=True)
class Log:
    """A segment on file, in a store of its own root, written entry by entry."""

    store: FsStore
    session_id: str
    segment_id: str
    turns: int

    @property
    def path(self) -> Path:
        """The segment's file."""
        return Path(self.store.segment_path(self.session_id, self.segment_id))

    @property
    def size_bytes(self) -> int:
        """The size of the segment's file."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Bench:
    """The setting of one run; ``quick`` trades the narrowness of the spread for time."""

    directory: Path
    quick: bool = False
    _logs: dict[int, Log] = field(default_factory=dict)

    def rounds(self, full: int) -> int:
        """Return how many rounds to count: ``full``, or a fifth of them, but at least three."""
        return max(3, full // 5) if self.quick else full

    def fresh_root(self, name: str) -> Path:
        """Return a new directory to be the root of a store."""
        number = 1 + sum(1 for _ in self.directory.glob(f"{name}-*"))
        root = self.directory / f"{name}-{number}"
        root.mkdir()
        return root

    def log(self, turn_count: int) -> Log:
        """Return a log of that many turns; it is written once and then shared."""
        if turn_count not in self._logs:
            self._logs[turn_count] = self._write_log(turn_count)
        return self._logs[turn_count]

    def _write_log(self, turn_count: int) -> Log:
        store = FsStore(self.fresh_root("log"), durability="process", feed=False)
        session_id, segment_id = create_segment(store, SegmentStartState())
        templates = turn_lines(min(turn_count, DISTINCT_TURNS))
        for number in range(turn_count):
            for line in templates[number % len(templates)]:
                store.append(session_id, segment_id, (_numbered(line, number + 1),))
        return Log(store, session_id, segment_id, turn_count)


def _numbered(line: bytes, turn_count: int) -> bytes:
    """Return the line with the turn's number in it, if it is one that carries it."""
    if not line.startswith(b'{"kind":"turn_end"'):
        return line
    head, _, _ = line.rpartition(b":")
    return b"%b:%d}" % (head, turn_count)


@functools.cache
def turn_lines(count: int) -> list[list[bytes]]:
    """Return the encoded lines of so many turns, dated after now."""
    dated = turns(count, seed=SEED, first_ts=now_ms() + AHEAD_MS)
    return [[encode_line(entry) for entry in turn] for turn in dated]


def rounds_of_lines(rounds: int, turns_per_round: int) -> list[list[bytes]]:
    """Return the lines of so many rounds, warm-up included: an entry is encoded once in its life, so none repeats."""
    per_turn = turn_lines((rounds + WARM_UP_ROUNDS) * turns_per_round)
    return [
        [line for turn in per_turn[at : at + turns_per_round] for line in turn]
        for at in range(0, len(per_turn), turns_per_round)
    ]


def as_dicts(lines: list[bytes]) -> list[object]:
    """Return the equal dicts, their strings as fresh as those of :func:`as_entries`."""
    return [orjson.loads(line) for line in lines]


def as_entries(lines: list[bytes]) -> list[LogEntry]:
    """Return new entries of these lines. Fresh, because a string keeps its UTF-8 once it has been encoded."""
    return [decode_line(line) for line in lines]


def environment() -> dict[str, str]:
    """Return an environment in which a new interpreter imports what this one imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
