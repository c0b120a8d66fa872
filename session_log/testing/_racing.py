"""The laws of many at once: threads and handles on one segment."""

import functools
import threading

from session_log import HeadMoved, Store
from session_log.testing._law import Ids, Trial, expect, law, line, marked, returned, start, together, units

_RACERS = 4
_APPENDS = 24

Ack = tuple[int, list[bytes]]
"""What an append returned, and the lines it wrote."""


def append_numbered(store: Store, ids: Ids, who: int, appends: int = _APPENDS) -> list[Ack]:
    """Append lines that nobody else appends, one by one and in batches, and return what was acknowledged."""
    acknowledged = []
    for number in range(appends):
        lines = [line(who, number, part) for part in range(1 + number % 3)]
        acknowledged.append((store.append(*ids, lines), marked(lines)))
    return acknowledged


def expect_acknowledged(lines: list[bytes], acknowledged: list[list[Ack]], before: int) -> None:
    """Fail unless each acknowledged append stands once, whole, and where its acknowledgement says."""
    written = units(lines[before:])
    expected = [ack[1] for acks in acknowledged for ack in acks]
    expect("the appends found in the segment", sorted(written), sorted(expected))
    for acks in acknowledged:
        for length, appended in acks:
            expect("the lines before an acknowledged length", lines[length - len(appended) : length], appended)
        lengths = [length for length, _ in acks]
        expect("the order of one writer's appends", lengths, sorted(lengths))


@law
def racing_appends_are_all_kept(trial: Trial) -> None:
    """Of what threads and handles append at once every acknowledged line is there once, each batch in one piece."""
    ids = trial.segment(line("before"))
    outcomes = together(
        *(
            functools.partial(append_numbered, trial.handles[who % len(trial.handles)], ids, who)
            for who in range(_RACERS)
        )
    )
    expect_acknowledged(trial.lines(ids), [returned(outcome) for outcome in outcomes], 2)


@law
def one_of_racing_appends_is_expected(trial: Trial) -> None:
    """Of several appends that expect the same length exactly one writes; HeadMoved tells the others a later length."""
    ids = trial.segment()
    outcomes = together(
        *(
            functools.partial(append_expected, trial.handles[who % len(trial.handles)], ids, who)
            for who in range(_RACERS)
        )
    )
    acknowledged = [returned(outcome) for outcome in outcomes]
    expect_acknowledged(trial.lines(ids), acknowledged, 1)
    lengths = sorted(length for acks in acknowledged for length, _ in acks)
    expect("the acknowledged lengths", lengths, sorted(set(lengths)))


def append_expected(store: Store, ids: Ids, who: int, appends: int = _APPENDS // 2) -> list[Ack]:
    """Append with compare-and-append, trying again where the head moved, and return what was acknowledged."""
    acknowledged: list[Ack] = []
    length = store.length(*ids)
    while len(acknowledged) < appends:
        lines = [line(who, len(acknowledged), part) for part in range(1 + len(acknowledged) % 2)]
        try:
            found = store.append(*ids, lines, expected=length)
        except HeadMoved as exc:
            expect("the expected length that HeadMoved names", exc.expected, length)
            expect(f"whether {exc.actual} entries are more than {length}", exc.actual > length, True)
            length = exc.actual
            continue
        expect("what an append at its expected length returned", found, length + len(lines))
        acknowledged.append((found, marked(lines)))
        length = found
    return acknowledged


@law
def readers_see_whole_appends(trial: Trial) -> None:
    """Beside writers, a reader sees whole appends only, each time what it saw before and more; ``length`` agrees."""
    ids = trial.segment()
    done = threading.Event()

    def append() -> list[bytes]:
        try:
            for number in range(_APPENDS):
                big = line("x" * 20_000, number)
                trial.store.append(*ids, [big, big, line(number)])
        finally:
            done.set()
        return []

    readers = [functools.partial(_read_until, store, ids, done) for store in trial.handles]
    *seen, outcome = together(*readers, append)
    returned(outcome)
    every = trial.lines(ids)
    for lines in seen:
        expect("what was read last", returned(lines), every)


def _read_until(store: Store, ids: Ids, done: threading.Event) -> list[bytes]:
    seen = [start(ids)]
    last = False
    while not last:
        last = done.is_set()
        at_least = store.length(*ids)
        lines = list(store.read(*ids))
        at_most = store.length(*ids)
        units(lines)
        expect("what was read before", lines[: len(seen)], seen)
        expect(f"whether {at_least} <= {len(lines)} <= {at_most}", at_least <= len(lines) <= at_most, True)
        seen = lines
    return seen
