"""The golden files: segments as they were written once, each with the state, the error or the end that it has for ever.

``valid/NAME.jsonl`` restores to what ``NAME.state.json`` says (fields that are not at their default).
``invalid/NAME.jsonl`` is refused as ``NAME.error.json`` says, or has that many committed lines and torn bytes.
FORMAT.md describes what they show.
"""

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import session_log
from session_log import (
    CorruptSegment,
    FsStore,
    InvalidEntry,
    MemoryStore,
    RestoredState,
    SegmentWriter,
    UnsupportedVersion,
    collect_state,
    decode_line,
    encode_line,
    read_entries,
    restore,
)
from session_log._codec import encode_struct
from session_log._entries import KnownEntry
from session_log._frame import committed_length, marks_of, unmarked

GOLDEN = Path(__file__).with_name("golden")
SESSION_ID = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
SEGMENT_ID = "0197b2c4-1a05-7d41-8b22-000000000001"
FAMILY = {
    "fork-parent": "0197b2c4-1a05-7d41-8b22-000000000011",
    "fork-child": "0197b2c4-1a05-7d41-8b22-000000000012",
    "fork-detached": "0197b2c4-1a05-7d41-8b22-000000000012",
    "fork-grandchild": "0197b2c4-1a05-7d41-8b22-000000000013",
    "fork-of-itself": "0197b2c4-1a05-7d41-8b22-000000000051",
}
"""Those that others refer to."""
NOT_CANONICAL = {
    "unknown-keys": "keys of later writers are not written again",
    "chain": "framing keys, and the link of the end of a run, are no part of an entry",
    "crlf-and-blank": "blank lines hold no entry",
    "batch": "framing keys are no part of an entry",
    "batch-header-only": "framing keys are no part of an entry",
    "idem": "a key of an append is written last, a field of an entry in its place",
    "idem-carried": "a key of an append is written last, a field of an entry in its place",
}
"""Files whose lines do not come back byte for byte when their entries are encoded, and why."""


def files(folder: str, suffix: str) -> list[str]:
    """Return the names of the golden files that have an expectation of this kind."""
    return sorted(path.name.removesuffix(suffix) for path in (GOLDEN / folder).glob("*" + suffix))


VALID = files("valid", ".state.json")
INVALID = files("invalid", ".error.json")
TORN = [name for name in INVALID if name.startswith("torn-")]
REFUSED = [name for name in INVALID if name not in TORN]


def bytes_of(folder: str, name: str) -> bytes:
    """Return the bytes of a golden segment."""
    return (GOLDEN / folder / f"{name}.jsonl").read_bytes()


def expected(folder: str, name: str) -> dict[str, Any]:
    """Return what is expected of a golden segment."""
    kind = "state" if folder == "valid" else "error"
    found: dict[str, Any] = json.loads((GOLDEN / folder / f"{name}.{kind}.json").read_text("ascii"))
    return found


def stored(root: Path, folder: str, name: str) -> tuple[FsStore, str]:
    """Return a store that holds the segment, and the family it may refer to, and the segment's id."""
    store = FsStore(root)
    segment_id = FAMILY.get(name, SEGMENT_ID)
    place = store.segment_path(SESSION_ID, segment_id)
    place.parent.mkdir(parents=True, exist_ok=True)
    for relative in ("fork-parent", "fork-child"):
        if name.startswith("fork-"):
            store.segment_path(SESSION_ID, FAMILY[relative]).write_bytes(bytes_of("valid", relative))
    place.write_bytes(bytes_of(folder, name))
    return store, segment_id


def in_memory(store: FsStore, *segment_ids: str) -> MemoryStore:
    """Return a store in memory with the same lines."""
    twin = MemoryStore()
    for segment_id in segment_ids:
        twin.create_segment(SESSION_ID, segment_id, list(store.read(SESSION_ID, segment_id)))
    return twin


def plain(state: RestoredState) -> dict[str, Any]:
    """Return the fields of a state that are not at their default, as JSON has them."""
    default = RestoredState()
    names = [
        name for name in state.__struct_fields__ if name != "head" and getattr(state, name) != getattr(default, name)
    ]
    return {name: _json(name, getattr(state, name)) for name in names}


def _json(name: str, value: Any) -> Any:
    if name == "extensions":  # payloads may hold what UTF-8 cannot say
        return [list(record) for record in value]
    return json.loads(encode_struct(value))


def test_every_golden_file_has_an_expectation() -> None:
    """No file is looked at by nobody."""
    assert files("valid", ".jsonl") == VALID
    assert files("invalid", ".jsonl") == INVALID


@pytest.mark.parametrize("name", VALID)
def test_a_golden_segment_restores_to_its_state(tmp_path: Path, name: str) -> None:
    """What was written once reads for ever, from files and from memory; reading changes nothing (F20)."""
    store, segment_id = stored(tmp_path, "valid", name)
    data = bytes_of("valid", name)

    state = restore(store, SESSION_ID, segment_id)

    assert plain(state) == expected("valid", name)
    assert state.head is not None
    assert (state.head.segment_id, state.head.byte_offset) == (segment_id, len(data))
    assert state.head.entries == state.entries_count == data.count(b"\n")
    assert store.segment_path(SESSION_ID, segment_id).read_bytes() == data


@pytest.mark.parametrize("name", [name for name in VALID if name != "crlf-and-blank"])
def test_a_golden_segment_restores_in_memory(tmp_path: Path, name: str) -> None:
    """The same lines in a store without files are the same state."""
    store, segment_id = stored(tmp_path, "valid", name)
    relatives = [FAMILY["fork-parent"], FAMILY["fork-child"]] if name.startswith("fork-") else []
    twin = in_memory(store, *{segment_id, *relatives})

    assert plain(restore(twin, SESSION_ID, segment_id)) == expected("valid", name)


@pytest.mark.parametrize("name", VALID)
def test_a_golden_segment_is_the_fold_of_its_entries(tmp_path: Path, name: str) -> None:
    """Restoring is reading and folding; what a segment inherits comes from its ancestors alone."""
    store, segment_id = stored(tmp_path, "valid", name)
    found = read_entries(store, SESSION_ID, segment_id)
    if name in ("fork-child", "fork-grandchild", "crlf-and-blank"):  # ancestors, and lines without an entry
        return

    assert plain(collect_state(found)) == expected("valid", name)


@pytest.mark.parametrize("name", VALID)
def test_the_lines_of_a_golden_segment_come_back_byte_for_byte(name: str) -> None:
    """``encode_line(decode_line(line)) == line`` for lines as we and the reference write them."""
    found = [line for line in bytes_of("valid", name).split(b"\n") if line.strip()]

    if name in NOT_CANONICAL:
        again = [encode_line(decode_line(line)) for line in found]
        assert again != found
        assert [encode_line(decode_line(line)) for line in again] == again
    else:
        assert [encode_line(decode_line(line)) for line in found] == found


def test_marks_are_all_that_a_batch_adds() -> None:
    """Without its framing keys, a line of a batch is the line of its entry."""
    found = bytes_of("valid", "batch").split(b"\n")[:-1]

    assert [encode_line(decode_line(line)) for line in found] == [unmarked(line) for line in found]
    assert [marks_of(line).batch for line in found] == [None, 3, 0, 0, 2, 0, None]
    assert [marks_of(line).token for line in found] == [None, None, None, None, "retry-1", None, "retry-2"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_segment_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    """F4: the error names the file, the line, the byte and the reason."""
    store, segment_id = stored(tmp_path, "invalid", name)
    want = expected("invalid", name)

    with pytest.raises((CorruptSegment, UnsupportedVersion)) as caught:
        restore(store, SESSION_ID, segment_id)
    error = caught.value

    place = store.segment_path(SESSION_ID, FAMILY.get(want.get("file", ""), segment_id))
    assert type(error) is getattr(session_log, want["error"])
    assert want["reason"] in str(error)
    assert str(error).startswith(str(place))
    if isinstance(error, CorruptSegment):
        assert (error.path, error.line, error.byte_offset) == (str(place), want["line"], want["byte_offset"])


@pytest.mark.parametrize("name", REFUSED)
def test_salvage_lists_the_damage_and_returns_the_rest(tmp_path: Path, name: str) -> None:
    """F4: nothing is skipped in silence, and one bad line costs one line."""
    want = expected("invalid", name)
    if "salvaged" not in want:
        return
    store, segment_id = stored(tmp_path, "invalid", name)
    data = bytes_of("invalid", name)

    state = restore(store, SESSION_ID, segment_id, salvage=True)

    assert (want["line"], want["byte_offset"]) in [(found.line, found.byte_offset) for found in state.damage]
    assert [found.line for found in state.damage] == want["salvaged"]
    for found in state.damage:
        line = data[found.byte_offset : found.byte_offset + found.length_bytes]
        assert data.split(b"\n")[found.line - 1] == line and want["reason"] in state.damage[0].reason
    sound = [line for at, line in enumerate(data.split(b"\n")[:-1], 1) if at not in want["salvaged"] and line.strip()]
    rest = collect_state([decode_line(line) for line in sound])
    assert msgspec.structs.replace(state, damage=(), head=None, entries_count=0) == msgspec.structs.replace(
        rest, entries_count=0
    )
    assert state.entries_count == data.count(b"\n")


@pytest.mark.parametrize("name", TORN)
def test_a_torn_tail_is_ignored_and_counted(tmp_path: Path, name: str) -> None:
    """F2, F3: what was never committed is reported and left alone by readers."""
    store, segment_id = stored(tmp_path, "invalid", name)
    want, data = expected("invalid", name), bytes_of("invalid", name)

    state = restore(store, SESSION_ID, segment_id)

    assert (state.entries_count, state.torn_bytes) == (want["committed"], want["torn_bytes"])
    assert store.length(SESSION_ID, segment_id) == want["committed"]
    assert b"".join(line + b"\n" for line in store.read(SESSION_ID, segment_id)) == data[: -want["torn_bytes"]]
    assert [item.text for item in state.history if isinstance(item, session_log.Message)] == ["kept"]
    assert store.segment_path(SESSION_ID, segment_id).read_bytes() == data


@pytest.mark.parametrize("name", TORN)
def test_the_next_writer_removes_a_torn_tail_and_keeps_its_bytes(tmp_path: Path, name: str) -> None:
    """F1, F3: the next append stands where the torn bytes began; they are beside the segment."""
    store, segment_id = stored(tmp_path, "invalid", name)
    data = bytes_of("invalid", name)
    torn_bytes = expected("invalid", name)["torn_bytes"]
    place = store.segment_path(SESSION_ID, segment_id)

    with SegmentWriter.resume(store, SESSION_ID, segment_id, on_conflict="raise") as writer:
        writer.save_user_input("after")
        state = writer.state

    assert place.read_bytes().startswith(data[:-torn_bytes] + b'{"kind":"user_input"')
    assert place.with_suffix(".torn").read_bytes() == data[-torn_bytes:].removesuffix(b"\n") + b"\n"
    assert restore(store, SESSION_ID, segment_id) == state
    assert [item.text for item in state.history if isinstance(item, session_log.Message)] == ["kept", "after"]


def test_a_damaged_line_is_refused_by_the_codec_too() -> None:
    """The reason that a restore gives is the reason of the line."""
    for name in REFUSED:
        want = expected("invalid", name)
        if want.get("in_line"):
            with pytest.raises(InvalidEntry) as caught:
                decode_line(bytes_of("invalid", name).split(b"\n")[want["line"] - 1])
            assert want["reason"] in str(caught.value)


# ── the format page ────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = Path(session_log.__file__).with_name("FORMAT.md").read_text("utf-8")


def test_the_example_of_the_format_page_is_a_segment() -> None:
    """Its lines restore, come back byte for byte but for their marks, and are committed as they stand."""
    lines = re.findall(r"^    (\{\"kind\".*)$", PAGE, re.MULTILINE)
    data = "".join(line + "\n" for line in lines).encode()

    state = collect_state([decode_line(line.encode()) for line in lines])

    assert (state.turn_count, len(state.history), state.pending_tool_calls) == (1, 3, ())
    assert [encode_line(decode_line(line.encode())) for line in lines] == [unmarked(line.encode()) for line in lines]
    assert committed_length(data, whole=True) == len(data)
    assert committed_length(data[: data.index(b'"batch":0')], whole=True) == len(lines[0]) + 1


def test_the_limits_on_the_format_page_are_those_of_the_code() -> None:
    """Each named limit, with its number."""
    rows = re.findall(r"^\| (`MAX_.*?`) \| ([\d, ]+) \|", PAGE, re.MULTILINE)
    named = {
        name: int(number)
        for names, numbers in rows
        for name, number in zip(re.findall(r"`(\w+)`", names), numbers.split(","), strict=True)
    }

    assert len(named) == 9
    assert named == {name: getattr(session_log, name) for name in named}


def test_the_format_page_names_every_kind_and_every_field() -> None:
    """The table of entries lists the fields of each class in the order in which they are written."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))

    for cls in get_args(KnownEntry):
        named = re.findall(r"`(\w+)\??`", rows.pop(cls.__struct_config__.tag))
        fields = [name for name in cls.__struct_fields__ if name not in ("ts", "idem")]
        assert [name for name in named if name in fields] == fields
    assert not {name for name in rows if not name.startswith("MAX_")}


def test_the_format_page_is_short() -> None:
    """A page that nobody reads describes nothing."""
    assert PAGE.count("\n") <= 150
