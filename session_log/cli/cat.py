"""``session-log cat``."""

import sys
from collections.abc import Iterator

import click
import orjson

from session_log import Damage
from session_log.addresses import Address
from session_log.cli._options import REF, Shared, examples, filters, shared
from session_log.lines import Line, Selection, read_lines, read_trace_lines, select, select_trace


@click.command(
    epilog=examples(
        "session-log cat @last | jq -c .kind",
        "session-log cat @last --resolve --with-source -n 3",
        "session-log cat @last --kind user_input --role user --since 2h --until 2030-01-01",
        "session-log cat @last --tool shell --raw",
        "session-log cat @last --trace --kind request_start",
    )
)
@click.argument("refs", metavar="REF...", type=REF, nargs=-1, required=True)
@click.option("--resolve", is_flag=True, help="First the lines that a fork inherits.")
@click.option("--with-source", is_flag=True, help="As objects: session, segment, line, and the entry.")
@click.option("--trace", is_flag=True, help="The trace in place of the segment.")
@filters
@shared(json=False, raw=True)
def cat_command(
    given: Shared, refs: tuple[str, ...], resolve: bool, with_source: bool, trace: bool, selection: Selection
) -> None:
    """Print committed lines as they are, nothing else: of whole segments, SEG:LINE, or up to SEG@TURN."""
    damage: list[Damage] = []
    for ref in refs:
        found = given.resolve(ref)
        for line in _lines(found, resolve, trace, selection, damage):
            data = _sourced(line) if with_source else line.line
            given.output.bytes(data + b"\n")
    if damage:
        given.output.note(f"{len(damage)} lines are no entries, and were left out, the first at line {damage[0].line}")
    sys.stdout.flush()


def _lines(found: Address, resolve: bool, trace: bool, selection: Selection, damage: list[Damage]) -> Iterator[Line]:
    key = found.session_id, found.segment()
    if trace:
        return select_trace(read_trace_lines(found.store, *key), selection, damage)
    lines = read_lines(found.store, *key, line=found.line, turn=found.turn, resolve=resolve)
    return select(lines, selection, damage)


def _sourced(line: Line) -> bytes:
    """Return the line as a part of an object that says where it is; what is no JSON object is a text beside it."""
    head = orjson.dumps({"v": 1, "session_id": line.session_id, "segment_id": line.segment_id, "line": line.number})
    if _is_object(line.line):
        return head[:-1] + b',"entry":' + line.line.strip() + b"}"
    return head[:-1] + b',"entry":null,"text":' + orjson.dumps(line.line.decode("utf-8", "replace")) + b"}"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
