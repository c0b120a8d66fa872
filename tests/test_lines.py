"""Lines and texts found from either end, and with what a store keeps beside them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from session_log.cli._output import cut, width
from session_log.exports import export_markdown
from session_log.lines import Selection, last_lines, read_lines, read_trace_lines, select, select_trace
from session_log.search import Query, count_hits, every_segment, search
from session_log.transcripts import transcript

KINDS = ("invoke", "user_input", "turn_end", "assistant_item", "tool_result")
ENTRIES = (
    sl.Invoke(ts=1, trigger="x"),
    sl.UserInput(ts=2, segments=(sl.TextInput("aa\nb" + "x" * 70_000),)),  # longer than what is read at once
    sl.UserInput(ts=3, segments=(sl.TextInput("a"),)),
    sl.AssistantItem(ts=4, item=sl.ToolCall("c", "shell", "{}")),
    sl.ToolResultEntry(ts=5, item=sl.ToolResult("c", "a")),
    sl.TurnEnd(ts=6, turn_count=1),
)
PICKED = st.lists(st.integers(0, len(ENTRIES) - 1), max_size=12)
SELECTION = st.builds(
    Selection,
    kinds=st.frozensets(st.sampled_from(KINDS), max_size=2),
    roles=st.frozensets(st.sampled_from(("user", "tool")), max_size=1),
    tools=st.frozensets(st.just("shell"), max_size=1),
    since=st.none() | st.integers(0, 7),
    until=st.none() | st.integers(0, 7),
    last=st.integers(0, 12),
)


@settings(max_examples=60, deadline=None)
@given(picked=PICKED, selection=SELECTION, blank=st.booleans())
def test_the_last_lines_are_the_last_of_all(
    tmp_path_factory: pytest.TempPathFactory, picked: list[int], selection: Selection, blank: bool
) -> None:
    """Looked for from the end, they are those that a look from the beginning finds, with the same places."""
    store = sl.FsStore(tmp_path_factory.mktemp("root"), durability="process")
    with sl.SegmentWriter.create(store) as writer:
        writer.append_entries([ENTRIES[at] for at in picked])
    key = writer.session_id, writer.segment_id
    if blank:
        with open(store.segment_path(*key), "ab") as file:
            file.write(b"\n")

    assert last_lines(store, *key, selection) == list(select(read_lines(store, *key), selection))


@settings(max_examples=60, deadline=None)
@given(picked=PICKED, last=st.none() | st.integers(0, 5), most=st.none() | st.integers(1, 3))
def test_counts_are_those_of_the_hits(picked: list[int], last: int | None, most: int | None) -> None:
    store = sl.MemoryStore()
    for _ in range(2):
        with sl.SegmentWriter.create(store) as writer:
            writer.append_entries([ENTRIES[at] for at in picked])
    query = Query.of("a", most=most, before=1)

    hits = search(store, every_segment(store), query)
    counts = {found.segment_id: found.count for found in count_hits(store, every_segment(store), query)}
    kept = search(store, every_segment(store), Query.of("a", most=most, before=1, selection=Selection(last=last)))

    assert counts == {
        segment_id: len({hit.line for hit in hits if hit.segment_id == segment_id and not hit.context})
        for segment_id in {hit.segment_id for hit in hits}
    }
    assert kept == (hits if last is None else hits[len(hits) - last :] if last < len(hits) else hits)


def test_what_cannot_be_searched_is_listed_or_raised(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("a")
    gone = writer.session_id, sl.new_segment_id()
    errors: list[sl.SessionLogError] = []

    assert len(search(store, [gone, (writer.session_id, writer.segment_id)], Query.of("a"), errors=errors)) == 1
    assert [type(error) for error in errors] == [sl.NotFound]
    with pytest.raises(sl.NotFound):
        search(store, [gone], Query.of("a"))
    assert count_hits(store, [gone], Query.of("a"), resolve=True, errors=errors) == []
    assert len(errors) == 2


def test_a_trace_is_selected_by_kind_label_and_time(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    key = sl.create_segment(store)
    for ts, label in ((1, "request_start"), (2, "request_end"), (3, "request_start")):
        sl.append_trace(store, *key, sl.TraceEntry.lifecycle(ts=ts, turn=0, label=label))
    damage: list[sl.Damage] = []

    def numbers(**how: object) -> list[int]:
        return [line.number for line in select_trace(read_trace_lines(store, *key), Selection(**how), damage)]  # type: ignore[arg-type]

    assert numbers() == [1, 2, 3]
    assert numbers(kinds={"request_start"}) == [1, 3]
    assert numbers(kinds={"lifecycle"}, since=2) == [2, 3]
    assert numbers(until=2, last=1) == [2]
    assert numbers(kinds={"invoke"}) == []
    with pytest.raises(sl.CallerError, match="no roles"):
        numbers(roles={"user"})
    with open(store.trace_path(*key), "ab") as file:
        file.write(b"no entry\n")
    assert numbers(kinds={"request_end"}) == [2]
    assert [found.line for found in damage] == [4]


def spilled(store: sl.Store) -> tuple[str, str, str]:
    """Record what is too long for its lines; return the segment, and a text that is whole in blobs only."""
    text = "".join(f"{n:06}" for n in range(2000))
    image = base64.b64encode(b"i" * 3000).decode()
    with sl.SegmentWriter.create(store, max_inline_bytes=1024) as writer:
        writer.save_user_input(f"user {text}")
        result = sl.ToolResult("c", "done", f"tool {text}", attachments=(sl.Attachment("image/png", image),))
        writer.save_delta([sl.ToolCall("c", "shell", "{}"), result, sl.Message.assistant(f"said {text}")])
        writer.save_turn_end()
    return writer.session_id, writer.segment_id, text


def test_a_transcript_is_whole_with_blobs_and_says_what_is_attached(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    *key, text = spilled(store)
    lines = list(read_lines(store, *key))

    short = {block.what: block for block in transcript(lines)}
    whole = {block.what: block for block in transcript(lines, blobs=store)}

    assert text not in short["user"].text
    assert whole["user"].text == f"user {text}"
    assert whole["assistant"].text == f"said {text}"
    assert text in str(whole["call"].result)
    assert str(whole["call"].result).endswith("\n[image/png, 3000 bytes]")
    assert "[image/png, 3000 bytes, in blob " in str(short["call"].result)
    assert f"said {text}" in "\n".join(export_markdown(iter(lines), blobs=store))


def test_what_blobs_do_not_have_is_damage_and_shown_short(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    *key, _ = spilled(store)
    for blob in (tmp_path / "blobs").glob("*/*"):
        blob.unlink()
    damage: list[sl.Damage] = []

    blocks = list(transcript(read_lines(store, *key), damage, blobs=store))

    assert blocks == list(transcript(read_lines(store, *key)))
    assert [found.line for found in damage] == [2, 4, 5]


@given(text=st.text(), room=st.integers(0, 20))
def test_what_is_cut_fits(text: str, room: int) -> None:
    """However wide its characters are; what fits is whole."""
    shown = cut(text, room)

    assert width(shown) <= room or shown == text
    assert (shown == text) == (width(text) <= room) or shown.endswith("…")


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("größe", 5), ("日本", 4), ("e\u0301", 1), ("👍", 2), ("", 0)]
)
def test_wide_characters_take_two_columns(text: str, columns: int) -> None:
    assert width(text) == columns
