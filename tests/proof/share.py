"""The share that one process has in a soak: it records turn after turn into its sessions, and measures itself."""

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

import session_log as sl
from proof.filed import text_of
from proof.workers import say, told_to_end

_TOKENS: Final = (12, 20_000, 15_000, 4_000, 600)
_COUNTS_A_REPORT: Final = 200
STATUS: Final = Path("/proc/self/status")
"""What Linux says of a process: ``RssAnon`` is its own memory, without the files it has mapped."""
Step = Callable[[], object]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions ``first`` to ``first + sessions - 1``, each with so many turns.

    ``at_once`` writers are open, then the next. If it is 0, no writer is: each entry goes through the free functions,
    and the turns of all sessions are mixed.
    """

    root: str
    first: int
    sessions: int
    turns: int
    at_once: int


class Began(msgspec.Struct, frozen=True, tag=True):
    """A session was created."""

    number: int
    session_id: str
    segment_id: str


class Measured(msgspec.Struct, frozen=True, tag=True):
    """The process as it is with ``open_sessions`` writers in their ``turn``-th turn."""

    turns_done: int
    turn: int
    open_sessions: int
    rss_kib: int
    descriptors: int


class Timed(msgspec.Struct, frozen=True, tag=True):
    """How many appends took how long, by :func:`bucket_of`; ``synced`` are those that end a turn."""

    synced: bool
    counts: dict[int, int]


def bucket_of(duration_ns: int) -> int:
    """Return the number of a range that is 3 % wide, at most."""
    shift = max(duration_ns.bit_length() - 6, 0)
    return shift << 6 | duration_ns >> shift


def duration_of(bucket: int) -> int:
    """Return the nanoseconds at which a range begins."""
    return (bucket & 63) << (bucket >> 6)


def script(number: int, turn: int) -> list[tuple[str, str]]:
    """Return the entries of a turn: kind, and what makes it this one; about 10 kB on file."""
    name = f"{number}.{turn}"
    return [
        ("invoke", "user_send"),
        ("user_input", text_of(f"{name}.question", 400)),
        ("assistant_item", text_of(f"{name}.call", 150)),
        ("tool_result", text_of(f"{name}.result", 6_000)),
        ("assistant_item", text_of(f"{name}.answer", 2_500)),
        ("turn_end", str(turn)),
        ("llm_usage", str(turn)),
        ("run_completed", "finished"),
    ]


def said_in(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the same of an entry as it is on file."""
    kind = entry["kind"]
    match kind:
        case "user_input":
            return kind, "".join(part["content"] for part in entry["segments"])
        case "assistant_item" if entry["item"]["kind"] == "tool_call":
            return kind, entry["item"]["arguments"]
        case "assistant_item":
            return kind, "".join(part["text"] for part in entry["item"]["content"])
        case "tool_result":
            return kind, entry["item"]["content"]
    told = {"invoke": "trigger", "turn_end": "turn_count", "llm_usage": "history_len", "run_completed": "result"}
    return kind, str(entry[told[kind]])


def record(task: Share) -> None:
    """Record the whole share, and say how long the appends took."""
    meter = Meter()
    numbers = range(task.first, task.first + task.sessions)
    with sl.FsStore(task.root) as store:
        if task.at_once:
            for at in range(0, task.sessions, task.at_once):
                _with_writers(store, numbers[at : at + task.at_once], task.turns, meter)
        else:
            _without_writers(store, numbers, task.turns, meter)
    meter.tell()


def _with_writers(store: sl.FsStore, numbers: range, turns: int, meter: "Meter") -> None:
    """Record some sessions, their writers being open all the time; every other has its state looked at."""
    writers = [sl.SegmentWriter.create(store) for _ in numbers]
    for number, writer in zip(numbers, writers, strict=True):
        say(Began(number, writer.session_id, writer.segment_id))
    for turn in range(1, turns + 1):
        for number, writer in zip(numbers, writers, strict=True):
            meter.time(_steps(writer, _ended(writer, turn), number, turn))
            if number % 2 and writer.state.turn_count != turn:
                raise AssertionError(f"session {number}: turn {turn} is not in the state")
        meter.measure(turn, len(numbers), last=turn == turns)
    for writer in writers:
        writer.close()
    del writer
    writers.clear()
    meter.measure(0, 0, last=True)


def _ended(writer: sl.SegmentWriter, turn: int) -> Step:
    def end() -> None:
        with writer.batch():
            writer.save_turn_end(turn)
            writer.save_usage(turn, *_TOKENS[1:])
            writer.save_run_completed()

    return end


class Free:
    """The free functions, with the ids in hand."""

    def __init__(self, store: sl.FsStore) -> None:
        ids = sl.create_segment(store)
        self.ids = ids
        self.save_invoke = partial(sl.save_invoke, store, *ids)
        self.save_user_input = partial(sl.save_user_input, store, *ids)
        self.save_delta = partial(sl.save_delta, store, *ids)
        self._append = partial(sl.append_entries, store, *ids)

    def end(self, turn: int) -> None:
        """End a turn in one write."""
        ts = sl.now_ms()
        usage = sl.LlmUsage(
            ts=ts,
            history_len=turn,
            input_total_tokens=_TOKENS[1],
            cache_read_tokens=_TOKENS[2],
            cache_write_tokens=_TOKENS[3],
            output_tokens=_TOKENS[4],
        )
        completed = sl.RunCompleted(ts=ts, interrupted=False, result="finished")
        self._append([sl.TurnEnd(ts=ts, turn_count=turn), usage, completed])


def _without_writers(store: sl.FsStore, numbers: range, turns: int, meter: "Meter") -> None:
    pens = {number: Free(store) for number in numbers}
    for number, pen in pens.items():
        say(Began(number, *pen.ids))
    for turn in range(1, turns + 1):
        for number, pen in pens.items():
            meter.time(_steps(pen, partial(pen.end, turn), number, turn))
        meter.measure(turn, len(numbers), last=turn == turns)


def _steps(pen: sl.SegmentWriter | Free, end: Step, number: int, turn: int) -> list[Step]:
    """Return the appends of a turn: each item is on file before the runtime acts on it; the end is one batch."""
    _, (_, question), (_, call), (_, result), (_, answer), *_ = script(number, turn)
    call_id = f"call_{turn}"
    return [
        partial(pen.save_invoke, "user_send"),
        partial(pen.save_user_input, question),
        partial(pen.save_delta, [sl.ToolCall(call_id, "read", call)]),
        partial(pen.save_delta, [sl.ToolResult(call_id, "read it", result)]),
        partial(pen.save_delta, [sl.Message.assistant(answer)]),
        end,
    ]


class Meter:
    """What a process measures of itself; it takes no more memory at the end than at the beginning."""

    def __init__(self) -> None:
        self._counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self._turns = 0

    def time(self, steps: list[Step]) -> None:
        """Do the steps, the last of which is synced."""
        for step in steps:
            start = time.perf_counter_ns()
            step()
            self._counts[step is steps[-1]][bucket_of(time.perf_counter_ns() - start)] += 1
        self._turns += 1

    def measure(self, turn: int, open_sessions: int, *, last: bool) -> None:
        """Say how large the process is; ``last``: without garbage, to be compared."""
        if told_to_end():
            raise BrokenPipeError
        if last:
            gc.collect()
        own = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
        descriptors = len(os.listdir("/proc/self/fd"))
        say(Measured(self._turns, turn, open_sessions, int(own.split()[1]), descriptors))

    def tell(self) -> None:
        """Say how long everything took."""
        for synced, counts in enumerate(self._counts):
            pairs = sorted(counts.items())
            for at in range(0, len(pairs), _COUNTS_A_REPORT):
                say(Timed(bool(synced), dict(pairs[at : at + _COUNTS_A_REPORT])))
