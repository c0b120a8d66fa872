"""Mutations: what bad luck, bad disks and bad programs make of a segment that was sound, by chance and repeatable."""

import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from proof import hostile

Chance = random.Random
Mutation = Callable[[Chance, bytes], bytes]

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SESSION_ID = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
"""The session of every golden file."""
FAMILY = {
    "fork-parent": "0197b2c4-1a05-7d41-8b22-000000000011",
    "fork-child": "0197b2c4-1a05-7d41-8b22-000000000012",
    "fork-grandchild": "0197b2c4-1a05-7d41-8b22-000000000013",
}
"""Golden files that refer to one another, and the ids they do it by."""
MOST_MUTATIONS = 4
SECTOR = 512
_NUMBER = re.compile(rb"-?\d+")
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d[\d.eE+-]*|[a-z]+|[{}\[\]:,]')


@cache
def segments() -> tuple[bytes, ...]:
    """Return the real segments that everything starts from: every golden file that is valid."""
    return tuple(path.read_bytes() for path in sorted((GOLDEN / "valid").glob("*.jsonl")))


@cache
def golden(name: str) -> bytes:
    """Return one of them."""
    return (GOLDEN / "valid" / f"{name}.jsonl").read_bytes()


@cache
def lines() -> tuple[bytes, ...]:
    """Return every line of the real segments."""
    return tuple(line for data in segments() for line in data.split(b"\n") if line.strip())


def segment(chance: Chance) -> bytes:
    """Return a real segment with one to four mutations."""
    return several(chance, chance.choice(segments()), SEGMENT_MUTATIONS)


def line(chance: Chance) -> bytes:
    """Return a real line with one to four mutations, most of them of its values: JSON it still is, an entry hardly."""
    of_values = chance.random() < 0.7
    return several(chance, chance.choice(lines()), VALUE_MUTATIONS if of_values else BYTE_MUTATIONS)


def several(chance: Chance, data: bytes, mutations: Sequence[Mutation]) -> bytes:
    """Return ``data`` with one to four of the mutations."""
    for _ in range(chance.choice((1, 1, 2, MOST_MUTATIONS))):
        data = chance.choice(mutations)(chance, data)
    return data


# ── bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _span(chance: Chance, data: bytes, most: int = 64) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.randint(0, chance.choice((1, 8, most))))


def _flip_bits(chance: Chance, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(chance: Chance, data: bytes) -> bytes:
    return data[: chance.randint(0, len(data))]


def _leave_out(chance: Chance, data: bytes) -> bytes:
    start, stop = _span(chance, data)
    return data[:start] + data[stop:]


def _double(chance: Chance, data: bytes) -> bytes:
    start, stop = _span(chance, data, 512)
    return data[:stop] + data[start:stop] * chance.randint(1, 3) + data[stop:]


def _zeros(chance: Chance, data: bytes) -> bytes:
    start, stop = _span(chance, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def _insert(chance: Chance, data: bytes) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(hostile.PIECES) + data[at:]


def _overwrite(chance: Chance, data: bytes) -> bytes:
    start, stop = _span(chance, data, 16)
    return data[:start] + chance.randbytes(stop - start) + data[stop:]


def _change_number(chance: Chance, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    start, stop = chance.choice(found).span()
    return data[:start] + chance.choice(hostile.NUMBERS) + data[stop:]


# ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _value_spans(data: bytes) -> list[tuple[int, int]]:
    """Return where the values of a line of JSON are, objects and arrays whole."""
    spans, opened = [], []
    tokens = [(found[0], found.start(), found.end()) for found in _TOKEN.finditer(data)]
    for at, (token, start, stop) in enumerate(tokens):
        if token in (b"{", b"["):
            opened.append(start)
        elif token in (b"}", b"]"):
            if opened:
                spans.append((opened.pop(), stop))
        elif token not in (b":", b",") and tokens[at + 1 : at + 2] != [(b":", stop, stop + 1)]:
            spans.append((start, stop))
    return spans


def _change_value(chance: Chance, data: bytes) -> bytes:
    spans = _value_spans(data)
    if not spans:
        return data
    start, stop = chance.choice(spans)
    return data[:start] + hostile.value(chance) + data[stop:]


def _swap_values(chance: Chance, data: bytes) -> bytes:
    spans = _value_spans(data)
    if len(spans) < 2:
        return data
    (start, stop), (first, last) = chance.choice(spans), chance.choice(spans)
    return data[:start] + data[first:last] + data[stop:]


def _add_member(chance: Chance, data: bytes) -> bytes:
    """Put a member into one of the objects, first or last, often with a key that is there already."""
    keys = [found[0] for found in _TOKEN.finditer(data) if found[0][:1] == b'"']
    key = chance.choice(keys or [b'"x"']) if chance.random() < 0.5 else chance.choice(hostile.KEYS)
    member = key + b":" + hostile.value(chance)
    if chance.random() < 0.5 and data[-1:] == b"}":
        return data[:-1] + b"," + member + b"}"
    braces = [at for at, byte in enumerate(data) if byte == 0x7B]
    if not braces:
        return data
    at = chance.choice(braces) + 1
    return data[:at] + member + b"," + data[at:]


def _drop_member(chance: Chance, data: bytes) -> bytes:
    found = list(re.finditer(rb'"\w+":(?:"[^"\\]*"|\[\]|\{\}|[^,{}\[\]"]+),', data))
    if not found:
        return data
    start, stop = chance.choice(found).span()
    return data[:start] + data[stop:]


# ── lines of a segment ─────────────────────────────────────────────────────────────────────────────────────────────


def _swap_lines(chance: Chance, data: bytes) -> bytes:
    split = data.split(b"\n")
    one, other = chance.randrange(len(split)), chance.randrange(len(split))
    split[one], split[other] = split[other], split[one]
    return b"\n".join(split)


def _double_lines(chance: Chance, data: bytes) -> bytes:
    split = data.split(b"\n")
    at = chance.randrange(len(split))
    stop = at + chance.randint(1, 4)
    return b"\n".join(split[:stop] + split[at:])


def _drop_line(chance: Chance, data: bytes) -> bytes:
    split = data.split(b"\n")
    del split[chance.randrange(len(split))]
    return b"\n".join(split)


def _splice(chance: Chance, data: bytes) -> bytes:
    other = chance.choice(segments())
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _foreign_line(chance: Chance, data: bytes) -> bytes:
    split = data.split(b"\n")
    split.insert(chance.randint(0, len(split)), line(chance))
    return b"\n".join(split)


def _change_line(chance: Chance, data: bytes) -> bytes:
    split = data.split(b"\n")
    at = chance.randrange(len(split))
    split[at] = several(chance, split[at], VALUE_MUTATIONS)
    return b"\n".join(split)


def _zero_sector(chance: Chance, data: bytes) -> bytes:
    at = SECTOR * chance.randint(0, len(data) // SECTOR)
    zeros = bytes(min(SECTOR * chance.randint(1, 3), max(0, len(data) - at)))
    return data[:at] + zeros + data[at + len(zeros) :]


def _end_in_zeros(chance: Chance, data: bytes) -> bytes:
    return _cut(chance, data) + bytes(chance.choice((1, 7, SECTOR))) + chance.choice((b"", b"\n", b"}\n"))


def mark_lines(chance: Chance, data: bytes) -> bytes:
    """Put batch marks where they belong and where they do not."""
    split = data.split(b"\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(split))
        split[at] = hostile.marked(chance, split[at])
    return b"\n".join(split)


BYTE_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits, _cut, _leave_out, _double, _zeros, _insert, _insert, _overwrite, _change_number,
)  # fmt: skip
VALUE_MUTATIONS: tuple[Mutation, ...] = (_change_value, _change_value, _swap_values, _add_member, _drop_member)
SEGMENT_MUTATIONS: tuple[Mutation, ...] = (
    *BYTE_MUTATIONS, _swap_lines, _double_lines, _drop_line, _splice, _foreign_line, _change_line, _change_line,
    _zero_sector, _end_in_zeros, mark_lines,
)  # fmt: skip
