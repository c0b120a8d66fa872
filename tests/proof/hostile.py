"""Hostile input, made on purpose: values, marks, lineages and names that somebody might choose to do harm."""

import hashlib
import random
from collections.abc import Iterator
from functools import cache

Chance = random.Random

DEEP = 100_000
"""How deep a bomb nests, and how many digits a number of one has."""
LINE_BYTES = 64 << 20
"""What the library allows a line to have."""
START = (
    b'{"kind":"segment_start","ts":1751450000000,"session_id":"%b","system_prompt":null,"config":{"max_tokens":null,'
    b'"temperature":null,"top_p":null,"top_k":null,"stop_sequences":[],"reasoning":null},"history":[],"v":1}'
)
_SURROGATE = b"\xed\xa0\x80"

NUMBERS = (
    b"0", b"-0", b"1", b"-1", b"2", b"0.5", b"-1.5", b"1.0", b"1e3", b"1e-400", b"1e999999", b"-1e999999", b"1E400",
    b"9007199254740993", b"2147483648", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551615", b"18446744073709551616", b"1" + b"0" * 30, b"-" + b"9" * 40, b"9" * 400,
    b"0." + b"3" * 400,
    b"01", b"+1", b".5", b"1.", b"0x10", b"1_000", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"nan", b"1e", b"-",
)  # fmt: skip
TEXTS = (
    b'""', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\ud83d\\ud83d"', b'"\\u2028"',
    '"\u2028\u2029\u0085"'.encode(), b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\xff\xfe"', b'"\xef\xbb\xbf"', b'"\x00"',
    b'"\x01\x1b[2J\x7f"', b'"\\x41"', b'"\\u12"', b'"\\"', b'"', b"'x'", b'"' + b"x" * 300 + b'"',
    b'"\xf4\x90\x80\x80"',
    b'"../../etc/passwd"', b'"session_log.rollback"', b'"pod.scope"', b'"segment_start"', b'"turn_end"', b'"message"',
    b'"tool_call"', b'"kind"', b'"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"', '"\u202egnp.exe"'.encode(), '"İſK"'.encode(),
)  # fmt: skip
SHAPES = (
    b"null", b"true", b"false", b"True", b"undefined", b"[]", b"{}", b"[[]]", b'{"":0}', b'{"a":1,"a":2}', b"[1,]",
    b'{"a":1,}', b"[,]", b"{1:2}", b'{"kind":null}', b'{"kind":"x"}', b'{"kind":"message"}',
    b'{"kind":"text","text":1}',
    b'[{"kind":"text","text":"x"}]', b'{"to_entries":0}', b'{"to_entries":1}', b'{"to_entries":3}',
    b'{"to_entries":1e999}', b'{"allow":[],"deny":[]}', b'{"allow":null}', b'{"\\ud800":"\\udfff"}', b'["\\ud800"]',
    b"[1e999999]", b"[NaN]", b"/**/1", b"[" * 40 + b"]" * 40, b'{"a":' * 250 + b"1" + b"}" * 250,
    b"[" * 1100 + b"]" * 1100, b"[" * 700, b'{"a":' * 1500 + b'"\\ud800"' + b"}" * 1500,
)  # fmt: skip
KEYS = (
    b'"kind"', b'"ts"', b'"batch"', b'"token"', b'"v"', b'"idem"', b'"session_id"', b'"history"', b'"forked_from"',
    b'"compacted_from"', b'"turn_count"', b'"carried"', b'"config"', b'"payload"', b'"item"', b'"extensions"', b'""',
    b'"\\u006bind"', b'"\\u0062atch"', b'"\\ud800"', b'"\\u0000"', b'"__class__"', b'"content"', b'"attachments"',
)  # fmt: skip
PIECES = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\0", b"\0" * 9, b"\n", b"\n\n", b"\r\n", b"\r", b"\t", b"\x1b",
    b"\xff", _SURROGATE, b"\xef\xbb\xbf", "\u2028".encode(), "\u0085".encode(), b"\\ud83d", b"\\u0000", b"NaN",
    b"1e999",
    b"null", b'"kind":', b'"batch":3', b',"batch":0}', b',"batch":2}\n', b"9" * 30, b" ", b"{}\n", b"[]\n", b"  \n",
    b"\xfe\xff", b"\xff\xfe", b'{"kind":"hologram"}\n', b'{"kind":"turn_end","ts":1,"turn_count":7}\n',
    b'{"kind":"extension","ts":1,"domain":"session_log.rollback","payload":{"to_entries":1}}\n',
)  # fmt: skip
MARKS = (
    b"-1", b"0", b"1", b"2", b"3", b"4", b"5", b"1023", b"1024", b"1025", b"999999999", b"9999999999", b"1e1", b"2.0",
    b"2.5", b'"2"', b"null", b"true", b"[2]", b'{"batch":2}', b"02", b"-0", b"18446744073709551616", b"1e999999",
)  # fmt: skip


def value(chance: Chance) -> bytes:
    """Return a value of JSON, or nearly so."""
    return chance.choice(chance.choice((NUMBERS, TEXTS, SHAPES)))


def junk(chance: Chance) -> bytes:
    """Return bytes that are nothing, or pieces of JSON in no order."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.choice((0, 1, 4, 20, 80)))
    pools = (PIECES, PIECES, NUMBERS, TEXTS, SHAPES, KEYS)
    return b"".join(chance.choice(chance.choice(pools)) for _ in range(chance.randint(1, 12)))


def marked(chance: Chance, line: bytes) -> bytes:
    """Return a line with a batch mark, or two, somewhere in it: last as we write it, first, in a payload, in a text."""
    mark = chance.choice((b'"batch":', b'"batch":', b'"batch" : ', b'"\\u0062atch":', b'"token":')) + chance.choice(
        MARKS
    )
    if chance.random() < 0.3:
        mark += chance.choice((b",", b" , ")) + b'"batch":' + chance.choice(MARKS)
    if chance.random() < 0.2:
        mark += b',"token":' + chance.choice((b'"t"', b'""', b'"\\""', b"5", b"null", b'"' + b"t" * 201 + b'"'))
    body = line.rstrip(b"\r\n")
    place = chance.random()
    if place < 0.6 and body[-1:] == b"}":
        return body[:-1] + b"," + mark + b"}"
    if place < 0.8 and body[:1] == b"{":
        return b"{" + mark + b"," + body[1:]
    inner = b"{" + mark + b"}"
    return b'{"kind":"extension","ts":1,"domain":"d","payload":%b}' % chance.choice((inner, b"[" + inner + b"]"))


# ── lineage ────────────────────────────────────────────────────────────────────────────────────────────────────────


_NEARLY: dict[bytes, tuple[bytes, ...]] = {
    b"entries": (b"0", b"-5", b"1", b"2", b"3", b"1" + b"0" * 18, b"9" * 30, b"1e9", b"1.0"),
    b"byte_offset": (b"0", b"1", b"-1", b"246", b"9223372036854775807", b"246.0"),
    b"tail_sha256": (b'"%b"' % (b"ab" * 32), b'""', b'"%b"' % (b"AB" * 32), b"null", b'"x"'),
}
"""What is of the right type, and wrong."""


def origin(chance: Chance, ids: list[str], parent: bytes | None) -> bytes:
    """Return what a first line says of its parent: right but for a field or two, as far as there is a ``parent``."""
    fields = {b"segment_id": b'"%b"' % chance.choice(ids).encode(), b"at_turn_index": b"1"}
    if parent is not None:
        split = parent.split(b"\n")[:-1] or [b""]
        entries = chance.randint(1, len(split))
        fields[b"entries"] = b"%d" % entries
        fields[b"byte_offset"] = b"%d" % sum(len(line) + 1 for line in split[:entries])
        fields[b"tail_sha256"] = b'"%b"' % hashlib.sha256(split[entries - 1]).hexdigest().encode()
    for _ in range(chance.choice((0, 1, 1, 2))):
        name = chance.choice(list(fields))
        near = _NEARLY.get(name, (b"null",))
        fields[name] = chance.choice(near) if chance.random() < 0.5 else value(chance)
    if chance.random() < 0.2:
        fields.pop(chance.choice(list(fields)))
    return b"{" + b",".join(b'"%b":%b' % pair for pair in fields.items()) + b"}"


def family(chance: Chance, session_id: str, ids: list[str], bodies: list[bytes]) -> list[bytes]:
    """Return a segment for each of ``ids``, which refer to one another: parents, circles, strangers, nothing."""
    made: list[bytes] = []
    for at in range(len(ids)):
        start = START % session_id.encode()
        if at == 0 and chance.random() < 0.6:
            made.append(start + b"\n" + chance.choice(bodies))
            continue
        keys = [b"forked_from"] if chance.random() < 0.8 else [b"compacted_from", b"carried", b"turn_count"]
        for key in keys:
            near = ids[max(0, at - 1) : at] or ids
            right = made[at - 1] if made and chance.random() < 0.8 else None
            said = origin(chance, near if right is not None else [*ids, ids[0][:-1] + "f"], right)
            if chance.random() < 0.1:
                said = value(chance)
            start = start[:-1] + b',"%b":%b}' % (key, said)
        if chance.random() < 0.05:
            start = start.replace(session_id.encode(), ids[0].encode())
        made.append(start + b"\n" + chance.choice(bodies))
    return made


def chain(session_id: str, ids: list[str]) -> list[bytes]:
    """Return segments each of which is the right child of the one before, however many there are."""
    made = [START % session_id.encode() + b"\n"]
    for parent in ids[:-1]:
        line = made[-1][:-1]
        said = b'{"segment_id":"%b","at_turn_index":0,"entries":1,"byte_offset":%d,"tail_sha256":"%b"}' % (
            parent.encode(),
            len(line) + 1,
            hashlib.sha256(line).hexdigest().encode(),
        )
        made.append((START % session_id.encode())[:-1] + b',"forked_from":%b}\n' % said)
    return made


# ── bombs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

PLACES = (
    b"%b", b'{"kind":"extension","ts":1,"domain":"d","payload":%b}', b'{"kind":"hologram","ts":1,"x":%b}',
    b'{"kind":"invoke","ts":1,"trigger":"x","later":%b}', b'{"kind":"turn_end","ts":1,"turn_count":%b}',
    b'{"kind":"assistant_item","ts":1,"item":{"kind":"later","x":%b}}',
    b'{"kind":"user_input","ts":1,"segments":[],"extensions":[{"domain":"d","payload":%b}]}',
    b'{"kind":"user_input","ts":1,"segments":%b}', b'{"kind":"system_item","ts":1,"item":%b}',
    b'{"kind":"extension","ts":1,"domain":"pod.scope","payload":%b}', b'{"kind":"run_errored","ts":%b}',
    b'{"kind":"extension","ts":1,"domain":"session_log.rollback","payload":{"to_entries":%b}}',
)  # fmt: skip
"""Where a bomb is put into a line."""


def _deep(levels: int, opening: bytes, core: bytes, closing: bytes) -> bytes:
    return opening * levels + core + closing * levels


@cache
def bombs() -> dict[str, bytes]:
    """Return values that are short to say and long to read, by name."""
    found = dict(_named_bombs())
    assert all(found.values())
    return found


def _named_bombs() -> Iterator[tuple[str, bytes]]:
    for levels in (300, 1_500, DEEP):
        yield f"arrays {levels} deep", _deep(levels, b"[", b"", b"]")
        yield f"objects {levels} deep", _deep(levels, b'{"a":', b"1", b"}")
        yield f"both {levels} deep, a lone surrogate inside", _deep(levels, b'[{"a":', b'"\\ud800"', b"}]")
        yield f"arrays {levels} deep, never closed", b"[" * levels
    yield "an integer of many digits", b"9" * DEEP
    yield "a fraction of many digits", b"0." + b"9" * DEEP
    yield "a power of ten", b"1e999999"
    yield "a list of powers of ten", b"[" + b"1e999999," * 10_000 + b"-1e999999]"
    yield "the same key again and again", b"{" + b'"a":1,' * DEEP + b'"a":2}'
    yield "many keys", b"{" + b",".join(b'"%d":0' % at for at in range(DEEP)) + b"}"
    yield "many empty lists", b"[" + b"[]," * DEEP + b"[]]"
    yield "many empty objects and a lone surrogate", b"[" + b"{}," * DEEP + b'"\\ud800"]'
    yield "many integers beyond 64 bits", b"[" + b"1" * 30 + (b"," + b"1" * 30) * 10_000 + b"]"
    yield "many lone surrogates", b'"' + b"\\ud800" * DEEP + b'"'
    yield "many raw surrogates", b'"' + _SURROGATE * DEEP + b'"'
    yield "many backslashes", b'"' + b"\\\\" * DEEP + b'"'
    yield "many NULs", b'"' + b"\0" * DEEP + b'"'
    yield "many line separators", b'"' + "\u2028".encode() * DEEP + b'"'
    yield "many blanks", b" " * DEEP + b"1"
    yield "many marks", b'[{"batch":2}' + b',{"batch":2}' * 20_000 + b"]"
    yield "many unknown items", b'[{"kind":"later"}' + b',{"kind":"later"}' * 20_000 + b"]"
    yield "many byte order marks", b"\xef\xbb\xbf" * DEEP
