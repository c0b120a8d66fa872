"""The laws of what idempotency keys need: the key stays in its line, and a compare-and-append is one step."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools

from session_log import Extension, IdempotencyConflict, LogEntry, append_entries, find_idem, new_segment_id
from session_log.testing._law import Ids, Trial, expect, law, line, marked, refused, start, together

_KEY = b',"idem":"request 1 https://example.org/?a={1}"}'


@law
def a_key_stays_in_its_line(trial: Trial) -> None:
    """The extra key ``idem`` of a line comes back byte for byte, before the marks, and an append keeps it as it is."""
    ids = trial.segment()
    first = line(1)[:-1] + _KEY
    lines = [first, line(2), line(3)]
    trial.store.append(*ids, [first])
    trial.store.append(*ids, lines)
    trial.store.append(*ids, marked(lines))
    trial.store.append(*ids, lines, token="t")
    trial.store.append(*ids, lines, token="t")
    written = [start(ids), first, *marked(lines), *marked(lines), *marked(lines, "t")]
    expect("the lines", trial.lines(ids), written)
    other = ids[0], new_segment_id()
    trial.store.create_segment(*other, [start(ids), first, *marked(lines)])
    expect("the lines of a segment created with them", trial.lines(other), [start(ids), first, *marked(lines)])


@law
def a_key_is_used_once(trial: Trial) -> None:
    """Of equal appends under one key at once one is written, all return the position behind it, and others conflict."""
    ids = trial.segment()
    for number in range(8):
        racers = [functools.partial(_append, trial, ids, number, racer) for racer in range(4)]
        expect("what the racing repeats returned", together(*racers), [3 + 2 * number] * 4)
        found = find_idem(trial.other, *ids, f"key {number}")
        expect("where the key is", found and (found.start, found.stop), (1 + 2 * number, 3 + 2 * number))
        before = trial.lines(ids)
        expect("the number of lines", len(before), 3 + 2 * number)
        other = functools.partial(append_entries, trial.store, *ids, _entries(-1), idem=f"key {number}")
        refused("other content under a used key", IdempotencyConflict, other)
        expect("the lines after a conflict", trial.lines(ids), before)


def _append(trial: Trial, ids: Ids, number: int, racer: int) -> int:
    store = trial.handles[racer % len(trial.handles)]
    return append_entries(store, *ids, _entries(number), idem=f"key {number}").entries


def _entries(number: int) -> list[LogEntry]:
    return [Extension(ts=1, domain="contract", payload=[number, part]) for part in range(2)]
