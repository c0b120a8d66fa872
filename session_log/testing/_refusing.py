"""The laws of what is refused, and of the limits: with a typed error, and nothing is written."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import uuid
from collections.abc import Callable
from typing import Any

from session_log import CallerError, InvalidEntry, InvalidId, NotFound, new_segment_id, new_session_id
from session_log.testing._law import Ids, Trial, expect, law, line, marked, refused, start

_MANY = 256 << 20
"""Limits above this are not tried out."""


@law
def bad_lines_are_refused(trial: Trial) -> None:
    """What would not read back as the same lines is InvalidEntry in every append, and nothing is written."""
    ids = trial.segment(line(1))
    good = line(2)
    bad: list[Any] = [b"", b" ", b"\t\r", b"\n", good + b"\n", good + b"\r", b"{\n}", b"{\0}", good + b"\0"]
    bad += [good.decode(), None, 7, [good]]
    for append in (trial.store.append, trial.store.append_trace):
        for lines in ([], *([one] for one in bad), *([good, one] for one in bad), *([one, good] for one in bad), good):
            refused(f"the lines {lines!r:.80}", InvalidEntry, functools.partial(append, *ids, lines))
    expect("the segment after refused appends", trial.lines(ids), [start(ids), line(1)])
    expect("the trace after refused appends", list(trial.store.read_trace(*ids)), [])


@law
def stale_marks_are_refused(trial: Trial) -> None:
    """A line with the mark of a batch it is no part of is refused: readers would wait for the rest for ever."""
    ids = trial.segment(line(1))
    first, second, third = marked([line(1), line(2), line(3)])
    alone: list[list[bytes]] = [[first], [second], [first, second], [second, third], [line(9), second, first]]
    for lines in [*alone, [b"no object", line(1)], [line(1), b"no object"]]:
        refused(f"the lines {lines!r:.120}", InvalidEntry, functools.partial(trial.store.append, *ids, lines))
    for lines in ([first], marked([line(1)], "another"), marked([line(1), line(2)], "another")):
        append = functools.partial(trial.store.append, *ids, lines, token="t")
        refused(f"the lines {lines!r:.120} under a token", InvalidEntry, append)
    expect("the segment after refused appends", trial.lines(ids), [start(ids), line(1)])


@law
def bytes_are_exact(trial: Trial) -> None:
    """A line comes back byte for byte, alone and in a batch, whatever its payload spells."""
    ids = trial.segment()
    payloads = (
        '"\u2028 \u2029 \x85 \x0b \x0c"',
        '"\U0001f600 e\u0301 \u00e9 \ufeff \ufffd"',
        r'"\u0000 \ud800 \/ \" \\ \u2028 \r\n"',
        '{"batch":5,"token":"t"}',
        r'"\",\"batch\":3}"',
        '[{"batch":0},{"token":"x"}]',
        "[1e400,-0.0,123456789012345678901234567890,1.0,1E5]",
        ' { "spaced" : [ ] } ',
        '"' + "long " * 100_000 + '"',
    )
    lines = [b'{"kind":"extension","ts":1,"domain":"d","payload":%b}' % payload.encode() for payload in payloads]
    lines.append(b'{"zz":1,"kind":"of later","ts":1}')
    for one in [*lines, b' {"kind":"spaced","ts":1} ', b'{"carriage":\r1}']:
        trial.store.append(*ids, [one])
        expect("the line appended alone", list(trial.other.read(*ids))[-1], one)
    trial.store.append(*ids, lines)
    expect("the lines appended as a batch", list(trial.other.read(*ids))[-len(lines) :], marked(lines))
    expect("the same lines followed", list(trial.other.follow(*ids, stop=lambda: True)), trial.lines(ids))


@law
def large_lines_come_back(trial: Trial) -> None:
    """A line of a few MiB, and a batch of them, comes back whole; so does one of the greatest length."""
    limit = trial.store.capabilities().max_line_bytes
    size = min(5 << 20, limit // 2)
    ids = trial.segment(_of_size(size), line("small"))
    trial.store.append(*ids, [_of_size(size), _of_size(size - 1), line("small")])
    expect(
        "the lines",
        trial.lines(ids)[1:],
        [_of_size(size), line("small"), *marked([_of_size(size), _of_size(size - 1), line("small")])],
    )
    if limit <= _MANY:
        expect("an append of the longest line", trial.store.append(*ids, [_of_size(limit)]), 7)
        expect("whether it is the same", list(trial.other.read(*ids, 6)) == [_of_size(limit)], True)
        expect(
            "whether it is followed", list(trial.other.follow(*ids, 6, stop=lambda: True)) == [_of_size(limit)], True
        )


@law
def limits_are_kept(trial: Trial) -> None:
    """What exceeds a limit that ``capabilities`` names is InvalidEntry, and nothing is written; at the limit it is."""
    able = trial.store.capabilities()
    ids = trial.segment()
    too_much: list[list[bytes]] = [[line(1)] * (able.max_batch_lines + 1)]
    if able.max_line_bytes <= _MANY:
        too_much += [[_of_size(able.max_line_bytes + 1)], [line(1), _of_size(able.max_line_bytes + 1)]]
    part = _of_size(min(1 << 20, able.max_line_bytes))
    if able.max_batch_bytes <= _MANY and able.max_batch_bytes // len(part) < able.max_batch_lines:
        too_much.append([part] * (able.max_batch_bytes // len(part) + 1))
    for lines in too_much:
        for append in (trial.store.append, trial.store.append_trace):
            what = f"{len(lines)} lines of up to {max(map(len, lines))} bytes"
            refused(what, InvalidEntry, functools.partial(append, *ids, lines))
        if len(lines) <= 2:  # a segment may be created of more lines than one append takes
            other = new_session_id(), new_segment_id()
            refused(f"create with {what}", InvalidEntry, functools.partial(trial.store.create_segment, *other, lines))
            expect("exists() after a refused create", trial.store.exists(*other), False)
    expect("the segment after refused appends", trial.lines(ids), [start(ids)])
    most = [line(number) for number in range(able.max_batch_lines)]
    expect("an append of as many lines as may be", trial.store.append(*ids, most), 1 + len(most))
    expect("the lines", trial.lines(ids), [start(ids), *marked(most)])


def _of_size(size_bytes: int) -> bytes:
    around = b'{"kind":"extension","ts":1,"domain":"d","payload":"%b"}'
    return around % (b"x" * (size_bytes - len(around) + 2))


def _calls(trial: Trial, ids: Ids) -> dict[str, Callable[[], object]]:
    """Every method that names a segment."""
    store = trial.store
    return {
        "append": lambda: store.append(*ids, [line(1)]),
        "append with expected": lambda: store.append(*ids, [line(1)], expected=0),
        "append with token": lambda: store.append(*ids, [line(1)], token="t"),
        "append with both": lambda: store.append(*ids, [line(1)], expected=0, token="t"),
        "read": lambda: list(store.read(*ids)),
        "read of a part": lambda: list(store.read(*ids, 0, 1)),
        "length": lambda: store.length(*ids),
        "follow": lambda: list(store.follow(*ids, stop=lambda: True)),
        "append_trace": lambda: store.append_trace(*ids, [line(1)]),
        "read_trace": lambda: list(store.read_trace(*ids)),
    }


def _create(trial: Trial, ids: Ids) -> int:
    return trial.store.create_segment(*ids, [line(1)])


@law
def what_is_no_id_is_refused(trial: Trial) -> None:
    """A text that is no UUID, where an id belongs, is InvalidId in every method; nothing is made of it."""
    good = trial.segment(line(1))
    dashes = "0197-1f3a7c11-7abc-8def-0123456789abcd"[:36]
    bad: tuple[Any, ...] = (
        "",
        "x",
        "..",
        "../../etc/passwd",
        "/",
        "trash",
        good[0] + "0",
        good[0][:-1],
        "g" * 32,
        dashes,
    )
    for one in (*bad, f"{{{good[0]}}}", good[0] + "\0", " " + good[0], None, 7, b"x" * 16):
        for ids in ((one, good[1]), (good[0], one)):
            calls = _calls(trial, ids)
            calls["create_segment"] = functools.partial(_create, trial, ids)
            calls["exists"] = functools.partial(trial.store.exists, *ids)
            for name, call in calls.items():
                refused(f"{name} of {ids!r}", InvalidId, call)
        refused(f"list_segments({one!r})", InvalidId, functools.partial(trial.store.list_segments, one))
        refused(f"lookup_session_of({one!r})", InvalidId, functools.partial(trial.store.lookup_session_of, one))
        refused(f"delete_session({one!r})", InvalidId, functools.partial(trial.store.delete_session, one))
        if one is not None:
            refused(f"before={one!r}", InvalidId, functools.partial(trial.store.list_sessions, before=one))
    expect("the sessions after refused calls", trial.store.list_sessions(), [good[0]])
    expect("the segments after refused calls", trial.store.list_segments(good[0]), [good[1]])
    expect("the lines after refused calls", trial.lines(good), [start(good), line(1)])


@law
def an_id_may_be_spelled_in_any_way(trial: Trial) -> None:
    """Upper case, without dashes, as ``uuid.UUID``: it is the same segment; what is returned is spelled canonically."""
    ids = trial.segment(line(0))
    spellings: tuple[Callable[[str], Any], ...] = (str.upper, lambda one: one.replace("-", ""), uuid.UUID)
    for number, spell in enumerate(spellings, 1):
        odd = spell(ids[0]), spell(ids[1])
        expect("append", trial.store.append(*odd, [line(number)], expected=1 + number), 2 + number)
        expect("length", trial.other.length(*odd), 2 + number)
        expect("read", list(trial.other.read(*odd)), trial.lines(ids))
        expect("exists", trial.store.exists(*odd), True)
        expect("lookup_session_of", trial.store.lookup_session_of(odd[1]), ids[0])
        expect("list_segments", trial.store.list_segments(odd[0]), [ids[1]])
        expect("list_sessions before itself", trial.store.list_sessions(before=odd[0]), [])
    made = uuid.UUID(new_session_id()), uuid.UUID(new_segment_id())
    trial.store.create_segment(*made, [start(ids)])  # type: ignore[arg-type]
    expect("a session created by uuid.UUID", trial.store.list_segments(str(made[0])), [str(made[1])])
    expect("the sessions", trial.store.list_sessions(), sorted([ids[0], str(made[0])], reverse=True))


@law
def what_is_missing_is_not_found(trial: Trial) -> None:
    """A session or segment that is not there is NotFound in every method that names it, and asking makes nothing."""
    good = trial.segment(line(1))
    other = trial.segment(line(1))
    nobody = new_session_id(), new_segment_id()
    for ids in (nobody, (good[0], nobody[1]), (nobody[0], good[1]), (good[0], other[1])):
        for name, call in _calls(trial, ids).items():
            refused(f"{name} where nothing is", NotFound, call)
        expect("exists", trial.store.exists(*ids), False)
    refused("list_segments", NotFound, lambda: trial.store.list_segments(nobody[0]))
    refused("delete_session", NotFound, lambda: trial.store.delete_session(nobody[0]))
    expect("lookup_session_of", trial.store.lookup_session_of(nobody[1]), None)
    expect("the sessions afterwards", trial.store.list_sessions(), sorted([good[0], other[0]], reverse=True))
    expect("the segments afterwards", trial.store.list_segments(good[0]), [good[1]])


@law
def a_position_is_not_negative(trial: Trial) -> None:
    """A negative position, or a negative limit of a listing, is refused: stores do not agree on what it could mean."""
    ids = trial.segment(line(1), line(2))
    store = trial.store
    refused("read(start=-1)", CallerError, lambda: list(store.read(*ids, -1)))
    refused("read(stop=-1)", CallerError, lambda: list(store.read(*ids, 0, -1)))
    refused("follow(start=-1)", CallerError, lambda: list(store.follow(*ids, -1, stop=lambda: True)))
    refused("list_sessions(limit=-1)", CallerError, lambda: store.list_sessions(limit=-1))
