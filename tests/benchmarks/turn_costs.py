"""What a turn costs more when something beside the log is kept of it: the same turn with it, less the turn without."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.growing import FIRST_MS
from benchmarks.measure import Row, interleave, scaled, timed
from session_log import FsStore, Message, RunCompleted, SegmentWriter
from session_log._segment_file import UNTOUCHED_S
from session_log.checkpoints import save_checkpoint
from session_log.facts import set_facts
from session_log.records import JOB, Job

TURNS_A_ROUND = 20
MAX_KEPT_US = 10.0
ASKED = "Does the writer agree with the parser on empty headers?"
SAID = (Message.assistant("It does not: the parser accepts one, the writer never does."),)
ENDED = RunCompleted(ts=FIRST_MS, interrupted=False, result="finished")
STATE = {"step": 3, "tool": "grep", "open": ["parser.py", "writer.py"]}

Turn = Callable[[SegmentWriter, int], object]


class _Cost(NamedTuple):
    """What is done to a turn, ``turn``, in place of the plain one, which it is compared with."""

    operation: str
    turn: Turn
    target: float | None = None
    plain: Turn | None = None
    with_feed: bool = False
    chain: bool = False


def _plain(writer: SegmentWriter, number: int) -> None:
    writer.save_user_input(ASKED)
    writer.save_delta(SAID)
    writer.save_turn_end()


def _run_end(writer: SegmentWriter, number: int) -> None:
    _plain(writer, number)
    writer.append(ENDED)


def _fact(writer: SegmentWriter, number: int) -> None:
    _plain(writer, number)
    set_facts(writer._store, writer.session_id, status=("running", "idle")[number % 2])


def _domain(writer: SegmentWriter, number: int) -> None:
    _plain(writer, number)
    JOB.record(writer, Job(status="running", progress=number % 100))


def _checkpoint(writer: SegmentWriter, number: int) -> None:
    _plain(writer, number)
    save_checkpoint(writer, "latest", STATE)


def _idem(writer: SegmentWriter, number: int) -> None:
    writer.save_user_input(ASKED, idem=f"request {number}")
    writer.save_delta(SAID)
    writer.save_turn_end()


_COSTS = (
    _Cost("a turn with its status in the facts", _fact, MAX_KEPT_US),
    _Cost("  with its run's end said in the feed", _run_end, MAX_KEPT_US, plain=_run_end, with_feed=True),
    _Cost("  with a record of a domain", _domain, MAX_KEPT_US),
    _Cost("  with a checkpoint, state inline", _checkpoint),
    _Cost("  with an idempotency key", _idem),
    _Cost("  with a link of the chain", _plain, chain=True),
)


def turn_costs(bench: Bench) -> list[Row]:
    """Measure a turn of three lines, none synced, with each of these and without."""
    return [_cost(bench, cost) for cost in _COSTS]


def _cost(bench: Bench, cost: _Cost) -> Row:
    without, with_it = (
        FsStore(bench.fresh_root("turn-cost"), durability="process", feed=feed) for feed in (False, cost.with_feed)
    )
    with SegmentWriter.create(without) as bare, SegmentWriter.create(with_it, chain=cost.chain) as kept:
        limit, ours = interleave([_turns(bare, cost.plain or _plain), _turns(kept, cost.turn)], bench.rounds(150))
    return Row(
        operation=cost.operation,
        beside="the same turn without",
        unit="µs",
        compared="difference",
        ours=scaled(ours, 1e6),
        limit=scaled(limit, 1e6),
        target=cost.target,
    )


def _turns(writer: SegmentWriter, turn: Turn) -> Callable[[int], float]:
    """Return the side that times single turns: as in life, the first append of each comes after a pause."""

    def in_round(number: int) -> float:
        seconds = 0.0
        for at in range(number * TURNS_A_ROUND, (number + 1) * TURNS_A_ROUND):
            _wait()
            seconds += timed(partial(turn, writer, at))
        return seconds / TURNS_A_ROUND

    return in_round


def _wait() -> None:
    """Let the time pass within which an append trusts the one before it."""
    until = time.perf_counter() + 2 * UNTOUCHED_S
    while time.perf_counter() < until:
        continue
