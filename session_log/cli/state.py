"""``session-log state``."""

import re

import click
import msgspec

from session_log import RestoredState, restore
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, dumps
from session_log.messages import FORMS, Sendable, anthropic_messages, openai_messages


@click.command(
    epilog=examples(
        "session-log state @last",
        "session-log state b1bbb --at @1",
        "session-log state b1bbb --at 4 --history --json",
        "session-log state @last --messages openai --salvage",
        "session-log state @last --resolve-blobs --json",
        "session-log state b1bbb@1 --messages anthropic | jq .messages",
    )
)
@click.argument("ref", type=REF)
@click.option("--at", metavar="@TURN|LINE", help="Not at the end, but after this turn or line.")
@click.option("--history", is_flag=True, help="The items of the history alone, one a line.")
@click.option("--messages", "form", type=click.Choice(FORMS), help="What to send to a provider to go on.")
@click.option("--resolve-blobs", is_flag=True, help="Whole texts and images in place of blobs; messages are whole.")
@click.option("--salvage", is_flag=True, help="Skip what is damaged, and say so.")
@shared()
def state_command(
    given: Shared, ref: str, at: str | None, history: bool, form: str | None, resolve_blobs: bool, salvage: bool
) -> int:
    """Print the state that REF restores to, as JSON: what a worker needs to go on."""
    out, found = given.output, _at(given.resolve(ref), at)
    state = restore(
        found.store,
        found.session_id,
        found.segment(),
        at_turn=found.turn,
        at_entries=found.line,
        salvage=salvage,
        resolve_blobs=resolve_blobs or form is not None,
    )
    if form is not None:
        _send(out, state, form)
    elif history:
        for item in state.history:
            out.record(item)
    elif out.json:
        out.record(state)
    else:
        _pretty(out, state)
    for damage in state.damage:
        out.note(out.text(f"{damage.path}:{damage.line} (byte {damage.byte_offset}): {damage.reason}"))
    return Exit.CORRUPT if state.damage else Exit.YES


def _at(found: Address, at: str | None) -> Address:
    if at is None:
        return found
    place = re.fullmatch(r"(@?)(\d{1,18})", at)
    if place is None:
        raise click.BadParameter(f"{at!r} is no place: give @TURN or LINE", param_hint="--at")
    number = int(place[2])
    return found._replace(line=None, turn=number) if place[1] else found._replace(line=number, turn=None)


def _send(out: Output, state: RestoredState, form: str) -> None:
    made: Sendable
    if form == "openai":
        made = openai_messages(state.history, state.system_prompt)
        out.bytes(dumps({"messages": made.messages}) + b"\n")
    else:
        made = anthropic_messages(state.history, state.system_prompt)
        system = {"system": made.system} if made.system is not None else {}
        out.bytes(dumps({**system, "messages": made.messages}) + b"\n")
    for name, count in made.left_out.items():
        out.note(f"left out, because it has no place there: {count} {name}")


def _pretty(out: Output, state: RestoredState) -> None:
    text = msgspec.json.format(dumps(out.plain(state)), indent=2).decode()
    out.lines(out.text(line, block=True) for line in text.split("\n"))
