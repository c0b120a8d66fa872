"""The laws of spilling: what is too long for a line goes into a blob, and comes back as it was."""

import base64
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import session_log as sl
from item_strategies import input_segments, items, system_items, texts
from session_log._check import scrub
from session_log._spill import MAX_END_BYTES, spilling
from session_log.places import walk_back

LIMIT = sl.MIN_INLINE_BYTES
LONG = "".join(f"line {at}: größer 🙂\n" for at in range(300))
PIXELS = bytes(range(256)) * 12
PNG = base64.b64encode(PIXELS).decode()


def long_texts() -> SearchStrategy[str]:
    """Texts around the limit and far above it, of one to four bytes a character, and some that UTF-8 cannot say."""
    letters = st.sampled_from(["x", "ä", "東", "🙂", "\u2028", "\0", '"', "line\n", "a\ud83d", "{}"])
    sizes = st.sampled_from([0, LIMIT // 3, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT])
    return st.builds(lambda letter, size, tail: letter * size + tail, letters, sizes, texts())


def evenly(*strategies: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Draw from each of them as often; ``|`` would draw from one of many kinds as often as it has kinds."""
    return st.sampled_from(strategies).flatmap(lambda chosen: chosen)


def long_data() -> SearchStrategy[str]:
    """Base64 as it should be, and in the ways it should not."""
    canonical = st.binary(min_size=LIMIT // 2, max_size=2 * LIMIT).map(lambda data: base64.b64encode(data).decode())
    odd = canonical.map(lambda data: data[:76] + "\n" + data[76:]) | canonical.map(lambda data: data.rstrip("=") + "=")
    return evenly(canonical, odd, long_texts())


def long_items() -> SearchStrategy[sl.Item]:
    attachments = st.lists(st.builds(sl.Attachment, st.just("image/png"), long_data()), max_size=2).map(tuple)
    results = st.builds(
        sl.ToolResult, st.sampled_from(["call_1", "call_2"]), texts(), long_texts(), st.booleans(), attachments
    )
    parts = st.lists(st.builds(sl.Text, long_texts()) | st.builds(sl.Refusal, texts()), max_size=2).map(tuple)
    return evenly(results, st.builds(sl.Message, st.sampled_from(["assistant", "system"]), parts), items())


def long_inputs() -> SearchStrategy[tuple[sl.InputSegment, ...]]:
    pastes = st.builds(sl.PasteInput, id=st.just(1), chars=st.just(2), lines=st.just(3), content=long_texts())
    kinds = evenly(st.builds(sl.TextInput, long_texts()), pastes, input_segments())
    return st.lists(kinds, max_size=3).map(tuple)


def long_entries() -> SearchStrategy[list[sl.LogEntry]]:
    files = st.builds(sl.FileAttachment, texts(), long_texts())
    one = evenly(
        long_items().map(lambda item: sl.classify_history_item(item, 1)),
        long_inputs().map(lambda segments: sl.UserInput(ts=1, segments=segments)),
        evenly(files, system_items()).map(lambda item: sl.SystemItemEntry(ts=1, item=item)),
        st.just(sl.TurnEnd(ts=1, turn_count=1)),
    )
    return st.lists(one, max_size=6)


def state_of(store: sl.Store, writer: sl.SegmentWriter, **how: Any) -> sl.RestoredState:
    return sl.restore(store, writer.session_id, writer.segment_id, **how)


def comparable(state: sl.RestoredState) -> sl.RestoredState:
    """A state without what differs between two sessions of the same content."""
    return msgspec.structs.replace(state, session_id=None, head=None)


def parted(store: sl.Store, **options: Any) -> sl.SegmentWriter:
    """A writer that has recorded one long thing of each kind."""
    writer = sl.SegmentWriter.create(store, **options)
    writer.save_user_input([sl.TextInput("look: "), sl.PasteInput(1, len(LONG), 300, LONG), sl.FileRef("a.py")])
    writer.append_system_item(sl.FileAttachment("a.py", LONG + "file"))
    writer.save_delta([
        sl.Message.assistant(LONG + "said"),
        sl.ToolCall("c", "run", "{}"),
        sl.ToolResult("c", "ok", LONG + "found", attachments=(sl.Attachment("image/png", PNG),)),
    ])  # fmt: skip
    writer.save_turn_end()
    return writer


@given(long_entries())
def test_what_was_handed_in_is_given_back(entries: list[sl.LogEntry]) -> None:
    """A log that was spilled is restored, its blobs resolved, to the state of the same log that was not."""
    store, plain = sl.MemoryStore(), sl.MemoryStore()
    writer = sl.SegmentWriter.create(store, max_inline_bytes=LIMIT)
    bare = sl.SegmentWriter.create(plain)
    writer.append_entries(entries)
    bare.append_entries(entries)

    found = state_of(store, writer, resolve_blobs=True)
    assert comparable(found) == comparable(state_of(plain, bare))
    assert sl.resolve_blobs(store, writer.state) == found
    assert sl.resolve_items(store, writer.state.history) == found.history
    assert writer.state == state_of(store, writer)


@given(long_entries())
@example([sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "", attachments=(sl.Attachment("a/b", "ä" * LIMIT),)))])
def test_no_text_of_a_line_is_longer_than_it_may_be(entries: list[sl.LogEntry]) -> None:
    """Of what can be spilled, nothing longer than the limit stays in a line; what is not longer stays as it is."""
    store = sl.MemoryStore()
    shape = spilling(store.put_blob, LIMIT)

    for entry in entries:
        short = shape(entry)
        for path, text in _spillable(short):
            assert len(scrub(text).encode()) <= LIMIT, path
        if all(len(scrub(text).encode()) <= LIMIT for _, text in _spillable(entry)):
            assert short is entry


def _spillable(entry: Any) -> list[tuple[str, str]]:
    item = getattr(entry, "item", None)
    found: list[tuple[str, Any]] = []
    if isinstance(item, sl.ToolResult):
        found.append(("content", item.content))
        found += [("data", part.data) for part in item.attachments if isinstance(part, sl.Attachment)]
    if isinstance(item, sl.Message):
        found += [("text", part.text) for part in item.content if isinstance(part, sl.Text)]
    if isinstance(item, sl.FileAttachment):
        found.append(("body", item.body))
    for segment in getattr(entry, "segments", ()):
        found.append(("segment", getattr(segment, "content", None)))
    return [(path, text) for path, text in found if isinstance(text, str)]


def test_a_line_keeps_both_ends_and_says_what_is_left_out() -> None:
    """The golden line of a spilled result: text is text, an image leaves nothing, the blobs are named by their hash."""
    store = sl.MemoryStore()
    writer = parted(store, max_inline_bytes=LIMIT)
    line = next(line for line in store.read(writer.session_id, writer.segment_id) if b'"tool_result"' in line)
    item = json.loads(line)["item"]
    whole = (LONG + "found").encode()
    ref, image = item["content_blob"], item["attachments"][0]

    head, mark, tail = re.fullmatch(r"(.*)\n\[… (.*) …\]\n(.*)", item["content"], re.DOTALL).groups()  # type: ignore[union-attr]
    assert mark == f"{len(whole)} bytes in all, in blob {ref['sha256']}"
    assert whole.startswith(head.encode()) and whole.endswith(tail.encode()) and tail.endswith("found")
    assert LIMIT // 4 - 4 < len(head.encode()) <= LIMIT // 4
    assert list(ref) == ["sha256", "size_bytes", "kind"] and ref["kind"] == "tool_output"
    assert store.get_blob(ref["sha256"]) == whole
    assert list(image) == ["kind", "mime_type", "data", "data_blob"] and image["data"] == ""
    assert image["data_blob"]["media_type"] == "image/png" and image["data_blob"]["kind"] == "attachment"
    assert store.get_blob(image["data_blob"]["sha256"]) == PIXELS
    assert len(line) < 2 * LIMIT


def test_an_older_reader_reads_on() -> None:
    """Without the extra keys, every line is an entry of the format as it was: texts are texts, attachments complete."""
    store = sl.MemoryStore()
    writer = parted(store, max_inline_bytes=LIMIT)
    for line in store.read(writer.session_id, writer.segment_id):
        older = json.loads(line, object_hook=lambda found: {k: v for k, v in found.items() if "blob" not in k})
        entry = sl.decode_line(json.dumps(older).encode())

        assert not isinstance(entry, sl.UnknownEntry)
        for path, text in _spillable(entry):
            assert isinstance(text, str), path


def test_nothing_is_spilled_unless_asked_for() -> None:
    """Off by default: the same lines as ever, and no blob."""
    store = sl.MemoryStore()
    writer = parted(store)

    assert store._blobs == {}
    assert not any(b"_blob" in line for line in store.read(writer.session_id, writer.segment_id))
    assert state_of(store, writer, resolve_blobs=True) == state_of(store, writer)


@pytest.mark.parametrize("bad", [0, -1, LIMIT - 1, True, 4096.0, "4096"], ids=repr)
def test_a_limit_that_makes_no_sense_is_refused_before_anything_is_made(bad: Any) -> None:
    """Below MIN_INLINE_BYTES, what takes the place of a text could be longer than it."""
    store = sl.MemoryStore()

    with pytest.raises(sl.CallerError, match="max_inline_bytes"):
        sl.SegmentWriter.create(store, max_inline_bytes=bad)
    assert store.list_sessions() == []


def test_the_limit_is_in_bytes_and_what_reaches_it_stays() -> None:
    """So many bytes in UTF-8, or of base64, stay in the line; one more goes."""
    store = sl.MemoryStore()
    shape = spilling(store.put_blob, LIMIT)
    for text in ("x" * LIMIT, "ä" * (LIMIT // 2), "🙂" * (LIMIT // 4)):
        for entry, longer in (
            (sl.ToolResult("c", "", text), sl.ToolResult("c", "", text + "y")),
            (
                sl.ToolResult("c", "", attachments=(sl.Attachment("a/b", text),)),
                sl.ToolResult("c", "", attachments=(sl.Attachment("a/b", text + "y"),)),
            ),
        ):
            kept, gone = sl.ToolResultEntry(ts=1, item=entry), sl.ToolResultEntry(ts=1, item=longer)
            assert shape(kept) is kept
            assert shape(gone) != gone


@pytest.mark.parametrize(
    "data", [PNG[:76] + "\n" + PNG[76:], PNG + "=", PNG[:-2] + "B", "A" * 2049, "_-" * LIMIT, "ä" * LIMIT, PNG]
)
def test_an_image_comes_back_letter_by_letter(data: str) -> None:
    """Base64 that is spelled in another way than ours, or none at all, is kept as its letters."""
    store = sl.MemoryStore()
    result = sl.ToolResult("c", "", attachments=(sl.Attachment("image/png", data),))
    short = spilling(store.put_blob, LIMIT)(sl.ToolResultEntry(ts=1, item=result))

    assert isinstance(short, sl.ToolResultEntry) and short.item != result
    assert sl.resolve_items(store, [short.item]) == (result,)


def test_the_ends_are_bounded() -> None:
    """However much may stay in a line, no end is longer than MAX_END_BYTES."""
    store = sl.MemoryStore()
    entry = sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "", "x" * 200_000))
    short = spilling(store.put_blob, 100_000)(entry)

    assert isinstance(short, sl.ToolResultEntry) and isinstance(short.item, sl.ToolResult)
    assert short.item.content is not None and len(short.item.content) < 2 * MAX_END_BYTES + 120
    assert short.item.content.startswith("x" * MAX_END_BYTES + "\n[…")


def test_what_is_spilled_already_goes_as_it_is() -> None:
    """Items of a restored state, recorded again, keep their references: nothing is shortened twice."""
    store = sl.MemoryStore()
    short = parted(store, max_inline_bytes=LIMIT).state
    again = sl.SegmentWriter.create(store, max_inline_bytes=LIMIT)
    again.append_entries([sl.classify_history_item(item, 1) for item in short.history])

    assert again.state.history == short.history


def test_the_same_payload_in_two_lines_is_one_blob(tmp_path: Any) -> None:
    """A result that comes again is stored once."""
    with sl.FsStore(tmp_path) as store, sl.SegmentWriter.create(store, max_inline_bytes=LIMIT) as writer:
        for at in range(3):
            writer.save_delta([sl.ToolCall(f"c{at}", "cat", "{}"), sl.ToolResult(f"c{at}", "", LONG)])

    assert sum(path.is_file() for path in (tmp_path / "blobs").rglob("*")) == 1


@pytest.mark.parametrize("make", [sl.MemoryStore, None], ids=["memory", "files"])
def test_references_survive_forks_copies_compactions_batches_and_a_resume(make: Any) -> None:
    """Wherever a spilled item goes, its reference goes along, and the whole comes back there."""
    with tempfile.TemporaryDirectory() as folder:
        store = make() if make else sl.FsStore(folder, compress_blobs="zlib")
        writer = parted(store, max_inline_bytes=LIMIT)
        ids = writer.session_id, writer.segment_id
        whole = sl.restore(store, *ids, resolve_blobs=True)
        children = [
            sl.fork_at(store, *ids, 1),
            sl.fork_at(store, *ids, 1, copy_history=True),
            sl.create_compacted_segment(store, sl.SegmentStartState(history=writer.state.history), *ids, 1),
        ]
        found = [sl.restore_by_segment(store, child, resolve_blobs=True) for child in children]
        alone = sl.restore(store, *sl.fork(store, writer.state), resolve_blobs=True)

        assert all(one.history == whole.history and one.user_segments == whole.user_segments for one in found)
        assert alone.history == whole.history
        writer.close()
        with sl.SegmentWriter.resume(store, *ids, max_inline_bytes=LIMIT) as later:
            with later.batch():
                later.save_user_input(LONG + "batched")
                later.save_delta([sl.Message.assistant(LONG)])
            assert later.state == sl.restore(store, *ids)
            assert sl.restore(store, *ids, resolve_blobs=True).history[-2:] == (
                sl.Message.user(LONG + "batched"),
                sl.Message.assistant(LONG),
            )


def test_items_read_backwards_carry_their_references() -> None:
    """What walk_back returns resolves to the same items as a restore."""
    store = sl.MemoryStore()
    writer = parted(store, max_inline_bytes=LIMIT)
    found = [place.item for place in walk_back(store, writer.session_id, writer.segment_id)][::-1]

    assert sl.resolve_items(store, found) == state_of(store, writer, resolve_blobs=True).history


def test_a_fork_by_conflict_keeps_spilling() -> None:
    """A writer that goes on in a fork, because somebody else wrote, spills there as well."""
    store = sl.MemoryStore()
    writer = parted(store, max_inline_bytes=LIMIT)
    before = writer.segment_id
    sl.save_extension(store, writer.session_id, before, "other", None)
    writer.save_delta([sl.Message.assistant(LONG)])

    assert writer.segment_id != before
    assert b"text_blobs" in list(store.read(writer.session_id, writer.segment_id))[-1]
    assert state_of(store, writer, resolve_blobs=True).history[-1] == sl.Message.assistant(LONG)


def test_a_mark_that_a_user_typed_is_a_text_like_any_other() -> None:
    """Nobody parses a mark: one that was typed, or printed by a tool, comes back as it is."""
    store = sl.MemoryStore()
    forged = f"\n[… 5 bytes in all, in blob {'a' * 64} …]\n"
    writer = sl.SegmentWriter.create(store, max_inline_bytes=LIMIT)
    writer.save_user_input(forged)
    writer.save_user_input(forged * 40)

    history = state_of(store, writer, resolve_blobs=True).history
    assert history == (sl.Message.user(forged), sl.Message.user(forged * 40))


@pytest.mark.parametrize(
    "entry",
    [
        sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "", LONG, attachments=3)),  # type: ignore[arg-type]
        sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "", LONG, is_error="no")),  # type: ignore[arg-type]
        sl.AssistantItem(ts=1, item=sl.Message("assistant", (sl.Text(LONG), 3))),  # type: ignore[arg-type]
        sl.AssistantItem(ts=1, item=sl.Message("assistant", None)),  # type: ignore[arg-type]
        sl.UserInput(ts=1, segments=(sl.TextInput(LONG), None)),  # type: ignore[arg-type]
        sl.UserInput(ts=1, segments=3),  # type: ignore[arg-type]
        sl.SystemItemEntry(ts=1, item=sl.FileAttachment("p", LONG.encode())),  # type: ignore[arg-type]
        sl.AssistantItem(ts=1, item=sl.Message("a", (sl.Text("x", None),))),  # type: ignore[arg-type]
        sl.AssistantItem(ts=1, item=sl.Message("a", (sl.Text("x", ("blob",)),))),  # type: ignore[arg-type]
        sl.UserInput(ts=1, segments=(sl.TextInput("x", "blob"),)),  # type: ignore[arg-type]
        sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "", content_blob={"sha256": "a"})),  # type: ignore[arg-type]
    ],
    ids=lambda entry: repr(entry)[-40:],
)
@pytest.mark.parametrize("limit", [None, LIMIT])
def test_what_is_no_entry_is_refused_as_ever(entry: sl.LogEntry, limit: int | None) -> None:
    """A value of a wrong type is InvalidEntry, spilled or not, in the new fields too; the log stays as it was."""
    store = sl.MemoryStore()
    writer = sl.SegmentWriter.create(store, max_inline_bytes=limit)

    with pytest.raises(sl.InvalidEntry):
        writer.append(entry)
    assert writer.state == state_of(store, writer) and writer.head.entries == 1


def test_the_golden_segment_of_spilled_items_is_what_is_written_and_resolves() -> None:
    """``golden/valid/spilled.jsonl``: the same lines from the same items, and the whole items from these lines."""
    store = sl.MemoryStore()
    lines = (Path(__file__).parent / "golden" / "valid" / "spilled.jsonl").read_bytes().splitlines()
    start = sl.decode_line(lines[0])
    assert isinstance(start, sl.SegmentStart)
    segment_id = "0197b2c4-1a05-7d41-8b22-000000000001"
    store.create_segment(start.session_id, segment_id, lines[:1])
    shape = spilling(store.put_blob, LIMIT)
    output, paste = "".join(f"ok {at}\n" for at in range(200)), "größer\n" * 150
    result = sl.ToolResult("call_1", "200 ok", output, attachments=(sl.Attachment("image/png", PNG[:4000]),))
    segments = (sl.TextInput("read this: "), sl.PasteInput(1, len(paste), 150, paste))
    entries: list[sl.LogEntry] = [
        sl.UserInput(ts=1751450000007, segments=segments),
        sl.SystemItemEntry(ts=1751450000014, item=sl.FileAttachment("notes.txt", output[::-1])),
        sl.AssistantItem(ts=1751450000021, item=sl.ToolCall("call_1", "test", "{}")),
        sl.ToolResultEntry(ts=1751450000028, item=result),
        sl.AssistantItem(ts=1751450000035, item=sl.Message.assistant(paste.upper())),
        sl.TurnEnd(ts=1751450000042, turn_count=1),
    ]

    assert [sl.encode_line(shape(entry)) for entry in entries] == lines[1:]
    for line in lines[1:]:
        store.append(start.session_id, segment_id, [line])
    found = sl.restore(store, start.session_id, segment_id, resolve_blobs=True)
    assert found.user_segments == (segments,)
    assert found.history == (
        sl.Message.user("read this: " + paste),
        sl.Message.system(output[::-1]),
        sl.ToolCall("call_1", "test", "{}"),
        result,
        sl.Message.assistant(paste.upper()),
    )
