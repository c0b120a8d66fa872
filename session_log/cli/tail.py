"""``session-log tail``."""

import sys
import time
from collections.abc import Iterable

import click
import msgspec

from session_log import Damage, FsStore, InvalidEntry, LogEntry, TraceEntry
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, filters, shared
from session_log.cli._output import Output, cut, json_escaped, width
from session_log.following import Key, Notice, Place, follow_lines, whole_root, with_forks
from session_log.lines import (
    Line,
    Selection,
    kind_of,
    last_lines,
    matches,
    read_lines,
    read_trace_lines,
    select,
    select_trace,
)
from session_log.texts import text_of_trace, texts_of

_COLORS = {"user": "cyan", "assistant": "green", "call": "magenta", "result": "blue", "error": "red"}


SHOWN = 10
"""How many lines are shown without ``-n``."""


@click.command(
    epilog=examples(
        "session-log tail @last",
        "session-log tail b1bbb -n 3 --role user",
        "session-log tail @last -n 2 --resolve --json",
        "session-log tail -n 1 --kind turn_end --tool shell --since 2h --until 2030-01-01 --raw @last",
        "session-log tail @last --trace",
        "timeout 1 session-log tail -f --follow-forks @last",
        "timeout 1 session-log tail -f --all -n 0",
    )
)
@click.argument("ref", type=REF, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is committed from now on, until Ctrl-C.")
@click.option("--follow-forks", is_flag=True, help="Also what is forked from it meanwhile (with -f).")
@click.option("--all", "everything", is_flag=True, help="Everything below the root (with -f), in place of REF.")
@click.option("--resolve", is_flag=True, help="Also the lines that a fork inherits.")
@click.option("--trace", is_flag=True, help="The trace in place of the segment.")
@filters
@shared(raw=True)
def tail_command(
    given: Shared,
    ref: str | None,
    follow: bool,
    follow_forks: bool,
    everything: bool,
    resolve: bool,
    trace: bool,
    selection: Selection,
) -> int:
    """Print the last entries (10, or -n), a line each: time, place, what it is, what was said."""
    out = given.output
    if (ref is None) != everything:
        raise click.UsageError("give REF, or --all to follow everything")
    if (follow_forks or everything) and not follow:
        raise click.UsageError("--follow-forks and --all need -f")
    if trace:
        if follow:
            raise click.UsageError("a trace is not followed; its file is what path --trace prints")
        _print_trace(out, given.resolve(str(ref)), selection)
        return Exit.YES
    several = follow_forks or everything
    store, targets = given.store, whole_root(given.store)
    start: dict[Key, Place] = {}
    if ref is not None:
        found = given.resolve(ref)
        key = found.session_id, found.segment()
        if isinstance(found.store, FsStore):
            store, start = found.store, {key: found.store.position(*key)}
            targets = with_forks(store, *key) if follow_forks else lambda: [key]
        elif follow:
            raise click.UsageError("only what lies in a store can be followed")
        for line in _last(found, key, selection, resolve, end=start[key][0] if key in start else None):
            _print(out, line, several)
    if follow:
        _follow(out, follow_lines(store, targets, start=start), selection, several)
    return Exit.YES


def _last(found: Address, key: Key, selection: Selection, resolve: bool, *, end: int | None) -> Iterable[Line]:
    """Return the last lines up to the end from where they are followed."""
    selection = _limited(selection)
    if not resolve and found.line is None and found.turn is None:
        lines = last_lines(found.store, *key, selection)
        if end is None or not lines or lines[-1].number <= end:
            return lines
    all_of = read_lines(found.store, *key, line=found.line, turn=found.turn, resolve=resolve)
    return select((line for line in all_of if end is None or line.inherited or line.number <= end), selection)


def _limited(selection: Selection) -> Selection:
    return selection if selection.last is not None else msgspec.structs.replace(selection, last=SHOWN)


def _print_trace(out: Output, found: Address, selection: Selection) -> None:
    damage: list[Damage] = []
    lines = read_trace_lines(found.store, found.session_id, found.segment())
    for line in select_trace(lines, _limited(selection), damage):
        if out.json:
            out.bytes(_sourced(out, line))
            continue
        entry = line.trace_entry()
        out.line(
            _fitted(
                out, f"{_clock(entry)} {out.style(str(line.number), fg='yellow')} {entry.kind}", text_of_trace(entry)
            )
        )
    if damage:
        out.note(f"{len(damage)} lines are damaged, the first is line {damage[0].line}")


def _follow(out: Output, lines: Iterable[Line | Notice], selection: Selection, several: bool) -> None:
    calls: set[str] = set()
    sys.stdout.flush()
    for new in lines:
        if isinstance(new, Notice):
            out.note(f"{out.id(new.segment_id)} {new.what}")
        elif selection.is_all or _matches(new, selection, calls):
            _print(out, new, several)
            sys.stdout.flush()


def _matches(line: Line, selection: Selection, calls: set[str]) -> bool:
    try:
        entry = line.entry()
    except InvalidEntry:
        return False
    return entry is not None and matches(entry, selection, calls)


def _print(out: Output, line: Line, several: bool) -> None:
    try:
        entry = line.entry()
    except InvalidEntry as exc:
        out.note(out.text(f"{out.id(line.segment_id)}:{line.number}: is no entry ({exc})"))
        return
    if entry is None:
        return
    if out.json:
        out.bytes(_sourced(out, line))
        return
    out.line(_row(out, line, entry, several))


def _sourced(out: Output, line: Line) -> bytes:
    head = f'{{"v":1,"session_id":"{line.session_id}","segment_id":"{line.segment_id}","line":{line.number},"entry":'
    return head.encode() + (line.line if out.raw else json_escaped(line.line)) + b"}\n"


def _row(out: Output, line: Line, entry: LogEntry, several: bool) -> str:
    said = next(texts_of(entry), None)
    what = said.what if said is not None else kind_of(entry)
    text = said.text if said is not None else _detail(entry)
    place = f"{out.id(line.segment_id)}:{line.number}" if several else str(line.number)
    head = f"{_clock(entry)} {out.style(place, fg='yellow')} {out.style(out.text(what), fg=_COLORS.get(what))}"
    return _fitted(out, head, text)


def _fitted(out: Output, head: str, text: str) -> str:
    """Return a row: on a terminal, one that does not wrap."""
    if out.room is None:
        return f"{head} {out.text(text)}".rstrip()
    room = max(out.room - width(click.unstyle(head)) - 1, 0)
    return f"{head} {cut(out.text(' '.join(text[: 4 * (room + 1)].split())), room)}".rstrip()


def _clock(entry: LogEntry | TraceEntry) -> str:
    ts = getattr(entry, "ts", None)
    return time.strftime("%H:%M:%S", time.localtime(ts / 1000)) if ts is not None else "--:--:--"


def _detail(entry: LogEntry) -> str:
    """Return what is worth a look in an entry that says nothing."""
    parts = []
    for name in ("trigger", "turn_count", "result", "model", "input_total_tokens", "output_tokens"):
        value = getattr(entry, name, None)
        if value is not None:
            parts.append(f"{name}={value}")
    return " ".join(parts)
