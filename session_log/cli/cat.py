"""``session-log cat``."""

import sys
from collections.abc import Iterator

import click
import orjson

from session_log import Damage
from session_log.addresses import Address
from session_log.cli._options import REF, Shared, examples, filters, shared
from session_log.cli._output import escaped
from session_log.lines import Line, Selection, read_lines, select


@click.command(
    epilog=examples(
        "session-log cat @last | jq -c .kind",
        "session-log cat @last --resolve --with-source -n 3",
        "session-log cat @last --kind user_input --role user --since 2h --until 2030-01-01",
        "session-log cat @last --tool shell --raw",
        "session-log cat @last --trace",
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
        for line in select(_lines(found, resolve, trace), selection, damage):
            data = _sourced(line) if with_source else line.line
            if given.output.is_terminal and not given.output.raw:
                data = escaped(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            given.output.bytes(data + b"\n")
    if damage:
        given.output.note(f"{len(damage)} lines are no entries, and were left out, the first at line {damage[0].line}")
    sys.stdout.flush()


def _lines(found: Address, resolve: bool, trace: bool) -> Iterator[Line]:
    segment_id = found.segment()
    if trace:
        offset = 0
        for number, line in enumerate(found.store.read_trace(found.session_id, segment_id), 1):
            yield Line(session_id=found.session_id, segment_id=segment_id, number=number, byte_offset=offset, line=line)
            offset += len(line) + 1
        return
    yield from read_lines(found.store, found.session_id, segment_id, line=found.line, turn=found.turn, resolve=resolve)


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
