"""``session-log show``."""

import shutil
import time
from collections.abc import Iterator

import click

from session_log import Damage
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, filters, shared
from session_log.cli._output import Output
from session_log.lines import Selection, read_lines, select
from session_log.transcripts import Block, transcript

SHOWN_LINES = 12
"""So many lines of a tool's output, reasoning or extension are shown without ``--full``."""
SHOWN_CHARACTERS = 1000
"""So much of each of these lines."""
_TALK = ("user", "assistant", "system")
_QUIET = ("turn", "usage")
_COLORS = {"user": "cyan", "assistant": "green", "call": "magenta", "result": "magenta", "error": "red"}


@click.command(
    epilog=examples(
        "session-log show @last",
        "session-log show b1bbb@1 --full",
        "session-log show b2bbb --resolve --no-tools -n 6",
        "session-log show b1bbb --role user --kind user_input --tool shell --since 2030-01-01 --until 2h --json",
        "session-log show a3aa --raw",
    )
)
@click.argument("ref", type=REF)
@click.option("--full", is_flag=True, help="Everything of tools' output and reasoning, blobs included.")
@click.option("--no-tools", is_flag=True, help="Without calls and results.")
@click.option("--resolve", is_flag=True, help="First what a fork inherits.")
@filters
@shared(raw=True)
def show_command(given: Shared, ref: str, full: bool, no_tools: bool, resolve: bool, selection: Selection) -> int:
    """Show a conversation to read: a block for each thing that was said, tool calls with their results."""
    out, found = given.output, given.resolve(ref)
    damage: list[Damage] = []
    lines = read_lines(
        found.store, found.session_id, found.segment(), line=found.line, turn=found.turn, resolve=resolve
    )
    blocks = transcript(select(lines, selection, damage), damage, blobs=found.store if full else None)
    if no_tools:
        blocks = (block for block in blocks if block.what not in ("call", "result"))
    if out.json:
        for block in blocks:
            out.record(block)
    else:
        out.lines(line for block in blocks for line in _drawn(out, block, full))
    if damage:
        first = damage[0]
        out.note(f"{len(damage)} damaged lines, the first is {out.id(first.path)}:{first.line} ({first.reason})")
    return Exit.CORRUPT if damage else Exit.YES


def _drawn(out: Output, block: Block, full: bool) -> Iterator[str]:
    place = f"{out.id(block.segment_id)}:{block.line}"
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(block.ts / 1000))
    if block.what in _QUIET:
        yield out.style(f"── {out.text(block.text)} · {place}", fg="bright_black")
        yield ""
        return
    head = f"{out.text(block.what)} · {clock} · {place}" + (" · inherited" if block.inherited else "")
    yield out.style(head, fg=_COLORS.get(block.what), bold=True)
    if block.what in _TALK and out.is_terminal and not out.raw:
        yield from _markdown(out, block.text)
    else:
        yield from _body(out, block.text, full or block.what in _TALK)
    if block.result is not None:
        failed = " (failed)" if block.is_error else ""
        yield out.style(f"→ result{failed} · {out.id(block.segment_id)}:{block.result_line}", fg=_COLORS["result"])
        yield from _body(out, block.result, full, indent="  ")
    elif block.what == "call":
        yield out.style("→ no result", fg="yellow")
    yield ""


def _body(out: Output, text: str, full: bool, indent: str = "") -> Iterator[str]:
    lines = text.split("\n")
    left_out = len(lines) - SHOWN_LINES
    if full or left_out <= 1:
        yield from (indent + _line(out, line, full) for line in lines)
        return
    yield from (indent + _line(out, line, full) for line in lines[: SHOWN_LINES // 2])
    yield indent + out.style(f"… {left_out} lines more (--full) …", fg="bright_black")
    yield from (indent + _line(out, line, full) for line in lines[len(lines) - SHOWN_LINES // 2 :])


def _line(out: Output, line: str, full: bool) -> str:
    left_out = len(line) - SHOWN_CHARACTERS
    if full or left_out <= 0:
        return out.text(line)
    return out.text(line[:SHOWN_CHARACTERS]) + out.style(f" … {left_out} characters more (--full)", fg="bright_black")


def _markdown(out: Output, text: str) -> Iterator[str]:
    """Yield text as it looks on a terminal; what could move its cursor is escaped before."""
    from rich.console import Console
    from rich.markdown import Markdown

    width = shutil.get_terminal_size().columns
    console = Console(width=width, force_terminal=True, no_color=not out.color, highlight=False)
    with console.capture() as captured:
        console.print(Markdown(out.text(text, block=True)))
    yield from captured.get().rstrip("\n").split("\n")
