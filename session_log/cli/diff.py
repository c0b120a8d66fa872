"""``session-log diff``."""

from collections.abc import Iterator

import click

from session_log import Damage
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, dumps
from session_log.cli._table import table
from session_log.differences import (
    Difference,
    Piece,
    Side,
    StateDifference,
    read_difference,
    read_state_differences,
    tally,
)
from session_log.texts import Said, texts_of, texts_of_item

SHOWN_CHARACTERS = 100
"""How much of a text is shown in its line, but for ``--full``."""


@click.command(
    epilog=examples(
        "session-log diff b1bbb b2bbb",
        "session-log diff b1bbb@1 b2bbb --full --raw",
        "session-log diff b1bbb b3bbb --stat",
        "session-log diff a1aa a2aa --state",
        "session-log diff b1bbb b2bbb --json | jq -c .side",
    )
)
@click.argument("left", metavar="A", type=REF)
@click.argument("right", metavar="B", type=REF)
@click.option("--stat", is_flag=True, help="Only how much either has alone.")
@click.option("--state", is_flag=True, help="What differs between the states that they restore to.")
@click.option("--full", is_flag=True, help="Whole texts.")
@shared(raw=True)
def diff_command(given: Shared, left: str, right: str, stat: bool, state: bool, full: bool) -> int:
    """Say what A and B have in common, and what either has alone: "<" the first, ">" the second.

    Branches are compared by lines from their common ancestor on; what shares no line, by the items of the histories.
    Ends with 0 if they are the same, with 1 if they differ.
    """
    if stat and state:
        raise click.UsageError("--stat and --state exclude each other")
    out, damage = given.output, list[Damage]()
    sides = _side(given.resolve(left)), _side(given.resolve(right))
    same = _states(out, *sides, full, damage) if state else _pieces(out, *sides, stat, full, damage)
    for found in damage:
        out.note(out.text(f"{found.path}:{found.line} (byte {found.byte_offset}): {found.reason}"))
    if damage:
        return Exit.CORRUPT
    return Exit.YES if same else Exit.NO


def _side(found: Address) -> Side:
    return Side(found.store, found.session_id, found.segment(), found.line, found.turn)


def _pieces(out: Output, left: Side, right: Side, stat: bool, full: bool, damage: list[Damage]) -> bool:
    found = read_difference(left, right, salvage=True)
    damage += found.damage
    suffixes = ("left", found.left), ("right", found.right)
    if out.json:
        out.record(
            {
                "side": "both",
                "by": found.by,
                "common": found.common,
                "ancestor": found.ancestor,
                "ancestor_entries": found.ancestor_entries,
            }
        )
        for name, suffix in suffixes:
            if stat:
                out.record(tally(suffix, damage), side=name)
            else:
                for piece in suffix.pieces(damage):
                    _record(out, found, name, piece)
    elif stat:
        out.lines(_tallies(out, found, damage))
    else:
        out.lines(_listed(out, found, full, damage))
    return found.is_same


def _record(out: Output, found: Difference, side: str, piece: Piece) -> None:
    what = ("line", "entry") if found.by == "lines" else ("index", "item")
    value = out.plain({"value": piece.value})["value"]
    number = piece.number if found.by == "lines" else piece.number - 1
    out.record({"side": side, "segment_id": piece.segment_id, what[0]: number, "kind": piece.kind, what[1]: value})


def _listed(out: Output, found: Difference, full: bool, damage: list[Damage]) -> Iterator[str]:
    yield _common(out, found)
    for mark, color, suffix in (("<", "red", found.left), (">", "green", found.right)):
        for piece in suffix.pieces(damage):
            place = f"{out.id(piece.segment_id)}{':' if found.by == 'lines' else '#'}{piece.number}"
            yield out.style(f"{mark} {place} {_text(out, found, piece, full)}".rstrip(), fg=color)


def _common(out: Output, found: Difference) -> str:
    if found.by == "lines":
        return f"= {out.id(found.ancestor or '')}:{found.ancestor_entries} {found.common} lines in common"
    ancestor = f", both come from {out.id(found.ancestor)}" if found.ancestor is not None else ""
    return f"= {found.common} items in common, no line{ancestor}"


def _text(out: Output, found: Difference, piece: Piece, full: bool) -> str:
    texts: Iterator[Said] = texts_of(piece.value) if found.by == "lines" else texts_of_item(piece.value)  # type: ignore[arg-type]  # as ``by`` says
    said = [f"{text.what}: {text.text}" for text in texts]
    return _short(out, " | ".join(said), full) if said else out.text(piece.kind)


def _short(out: Output, text: str, full: bool) -> str:
    return out.text(text if full or len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")


def _tallies(out: Output, found: Difference, damage: list[Damage]) -> Iterator[str]:
    left, right = (tally(suffix, damage) for suffix in (found.left, found.right))
    yield _common(out, found)
    rows: list[tuple[str, int | None, int | None]] = [
        ("entries" if found.by == "lines" else "items", left.pieces, right.pieces)
    ]
    rows += [
        (f"  {kind}", left.kinds.get(kind, 0), right.kinds.get(kind, 0)) for kind in sorted({*left.kinds, *right.kinds})
    ]
    if found.by == "lines":
        rows += [
            ("items", left.items, right.items),
            ("turns", left.turns, right.turns),
            ("input tokens", left.input_tokens, right.input_tokens),
            ("output tokens", left.output_tokens, right.output_tokens),
            ("bytes", left.size_bytes, right.size_bytes),
        ]
    shown = [(out.text(name), *(f"{count or 0:,}" for count in counts)) for name, *counts in rows]
    yield from table(out, ("", "<", ">"), shown)


def _states(out: Output, left: Side, right: Side, full: bool, damage: list[Damage]) -> bool:
    found = read_state_differences(left, right, damage)
    for one in found:
        if out.json:
            out.record(one)
    if not out.json:
        out.lines(line for one in found for line in _state(out, one, full))
    return not found


def _state(out: Output, found: StateDifference, full: bool) -> Iterator[str]:
    yield out.style(found.name + (f", from {found.at} on" if found.at is not None else ""), bold=True)
    for mark, color, value in (("<", "red", found.left), (">", "green", found.right)):
        for one in value if found.at is not None else (value,):
            plain = out.plain({"value": one})["value"]
            text = plain if isinstance(plain, str) else dumps(plain).decode()
            yield out.style(f"{mark} {_short(out, text, full)}", fg=color)
