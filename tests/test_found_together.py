"""Found where parts meet that were built apart: each defect with its story. All at once: test_together.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from feeding import feed_lines, ticking
from session_log import _chained, _forking
from session_log._at_fork import parent_locks
from session_log._atomic import Folder
from session_log._lineage import restore_span
from session_log.collection import collect_blobs
from session_log.exports import export_lines
from session_log.feed import reindex
from session_log.lifecycle import detach_segment
from session_log.redaction import redacted, seen_whole
from session_log.verify import verify

LONG, HIDDEN = "SECRET " + "ä" * 3000, "ä" * 1500 + " SECRET " + "ä" * 1500


def hide(text: str) -> str:
    return text.replace("SECRET", "[hidden]")


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


def again(store: sl.Store, writer: sl.SegmentWriter, **options: Any) -> sl.SegmentWriter:
    return sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, **options)


def broken(store: sl.Store) -> list[str]:
    return [str(found) for found in verify(store).findings if found.severity != "note"]


def whole(store: sl.Store, writer: sl.SegmentWriter, segment_id: str | None = None) -> sl.RestoredState:
    return sl.restore(store, writer.session_id, segment_id or writer.segment_id, resolve_blobs=True)


def test_a_link_behind_a_keyed_append_that_somebody_else_made(store: sl.FsStore) -> None:
    """Two writers with a chain append the same under a key: the second goes on behind the first's lines, as they are.

    (It had hashed its own, which end at the same byte and have another time: its next link was broken for ever.)
    """
    with ticking(), sl.SegmentWriter.create(store, chain=True) as first:
        second = again(store, first, chain=True)
        first.save_user_input("x", idem="k")
        second.save_user_input("x", idem="k")
        second.save_turn_end()

    assert second.segment_id == first.segment_id
    assert broken(store) == []


@pytest.mark.parametrize("chained", [(True, True), (True, False), (False, True)])
def test_a_run_end_under_a_key_is_the_same_with_a_link_and_without(
    store: sl.FsStore, chained: tuple[bool, bool]
) -> None:
    """A retry of a turn whose end has a link is no conflict.

    (The link of a run's end counted as content.)
    """

    def turn(writer: sl.SegmentWriter) -> int | None:
        with writer.batch(idem="k") as inside:
            inside.save_user_input("x")
            inside.save_turn_end(1)
            inside.save_run_completed()
        return writer.head.entries

    writer = sl.SegmentWriter.create(store, chain=chained[0])
    assert turn(writer) == turn(again(store, writer, chain=chained[1])) == 4
    with pytest.raises(sl.IdempotencyConflict):
        writer.append_entries([sl.RunErrored(ts=1, interrupted=False, message="x")], idem="k")


ITEMS: dict[str, Any] = {
    "message": sl.Message.assistant(LONG),
    "output": sl.ToolResult("c", "short", LONG),
    "image": sl.ToolResult("c", "short", attachments=(sl.Attachment("image/png", "QUJD" * 800),)),
    "no image": sl.ToolResult("c", "short", attachments=(sl.Attachment("image/png", "?" * 3000),)),
}


@pytest.mark.parametrize("name", ["input", *ITEMS])
@pytest.mark.parametrize("limits", [(None, 1024), (1024, None), (1024, 2048)])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_key_holds_when_a_text_is_spilled_otherwise(
    store: sl.FsStore, name: str, limits: tuple[int | None, int | None], compacted: bool
) -> None:
    """After a restart with another ``max_inline_bytes`` a retry is a retry.

    (It was a conflict: the line differs.)
    """
    entries = [sl.UserInput(ts=1, segments=(sl.PasteInput(1, 3, 1, LONG),))]
    other = [sl.UserInput(ts=1, segments=(sl.PasteInput(1, 3, 1, LONG + "!"),))]
    if name != "input":
        entries = [sl.classify_history_item(ITEMS[name], 1)]  # type: ignore[list-item]
    with sl.SegmentWriter.create(store, max_inline_bytes=limits[0]) as writer:
        length = writer.append_entries(entries, idem="k")
        if compacted:
            writer.compact(sl.SegmentStartState())
            length = 1
    with again(store, writer, max_inline_bytes=limits[1]) as second:
        assert second.append_entries(entries, idem="k") == length
        assert second.head.entries == length
        with pytest.raises(sl.IdempotencyConflict):
            second.append_entries(other, idem="k")


def spilled(store: sl.Store, text: str) -> sl.SegmentWriter:
    with sl.SegmentWriter.create(store, max_inline_bytes=1024) as writer:
        writer.save_user_input(text)
        writer.save_delta([sl.Message.assistant(text), sl.ToolCall("c", "run", "{}"), sl.ToolResult("c", "s", text)])
        writer.append_system_item(sl.FileAttachment("f", text))
    return writer


def texts(state: sl.RestoredState) -> list[str | None]:
    history = [item for item in state.history if not isinstance(item, sl.ToolCall)]
    return [item.content if isinstance(item, sl.ToolResult) else getattr(item, "text", None) for item in history]


def compact(writer: sl.SegmentWriter) -> str:
    return writer.compact(sl.SegmentStartState(history=writer.state.history))


def copy(writer: sl.SegmentWriter) -> str:
    return writer.fork_at_entry(writer.head.entries, copy_history=True)


@pytest.mark.parametrize("act", [compact, copy])
@pytest.mark.parametrize("text", [LONG, HIDDEN])
@pytest.mark.parametrize("limit", [None, 2048])
def test_what_is_written_anew_refers_to_no_secret_in_a_blob(
    store: sl.FsStore, act: Callable[[sl.SegmentWriter], str], text: str, limit: int | None
) -> None:
    """The hook sees all of a text that an older log has in a blob, and what it says can be restored.

    (It saw the ends that the line keeps. What it changed there no longer fitted the reference, and the compacted
    segment could not be resolved; what it did not see, the blob, was referred to again.)
    """
    old = spilled(store, text)
    with again(store, old, redact=hide, max_inline_bytes=limit) as writer:
        made = act(writer)

    state = whole(store, writer, made)
    assert all("[hidden]" in str(found) and "SECRET" not in str(found) for found in texts(state))
    assert [hide(str(found)) for found in texts(whole(store, old))] == texts(state)
    assert "SECRET" not in str(state.user_segments)
    assert store.put_blob(text.encode()).sha256 not in store.segment_path(writer.session_id, made).read_text()
    assert broken(store) == []


@pytest.mark.parametrize("act", [compact, copy])
def test_a_blob_that_a_hook_leaves_as_it_is_is_kept(store: sl.FsStore, act: Callable[[sl.SegmentWriter], str]) -> None:
    """Nothing is stored again of what the hook does not change."""
    old = spilled(store, "ä" * 3000)
    with again(store, old, redact=hide) as writer:
        made = act(writer)

    assert texts(whole(store, writer, made)) == texts(whole(store, old))
    assert collect_blobs(store, grace_s=0).blobs == 1


def test_an_export_without_secrets_has_none_in_its_blobs(store: sl.FsStore) -> None:
    """What is exported through a hook can be resolved, and says what the hook says of the whole."""
    old = spilled(store, HIDDEN)
    see = seen_whole(store)
    lines = export_lines(store, old.session_id, old.segment_id, change=lambda entry: redacted(entry, hide, see))
    assert set(texts(sl.collect_state([*map(sl.decode_line, lines)]))) == {hide(HIDDEN)}

    short = spilled(store, LONG)
    lines = export_lines(store, short.session_id, short.segment_id, change=lambda entry: redacted(entry, hide))
    state = sl.collect_state([*map(sl.decode_line, lines)])  # nobody gets at the blob: its reference goes
    assert "blob=BlobRef" not in str(state.history)
    assert "SECRET" not in str(state)


def test_time_does_not_go_back_behind_a_rollback(store: sl.FsStore) -> None:
    """With a clock that was set back, what follows a rollback is not before it.

    (Its time was forgotten.)
    """
    with ticking() as now, sl.SegmentWriter.create(store) as writer:
        writer.save_invoke()
        now[0] += 1000
        writer.rollback(1)
        now[0] -= 5000
        writer.save_invoke()

    assert broken(store) == []


def test_a_writer_that_was_left_behind_forks_when_it_writes(store: sl.FsStore) -> None:
    """A fork by a conflict begins when it is made, and the feed has the end of the run that it begins with.

    (It had the time of the writer's last line, hours ago, and so had the session's last activity. The end of its run
    was announced of the segment in which it is not.)
    """
    with ticking() as now, sl.SegmentWriter.create(store) as first:
        late = again(store, first)
        first.save_run_completed()
        now[0] += 3_600_000
        began = now[0]
        late.save_run_errored("x")

    assert late.segment_id != first.segment_id
    said = feed_lines(store)
    assert [line["kind"] for line in said] == ["create", "run_end", "fork", "run_end"]
    assert all(line["segment_id"] == late.segment_id and line["ts"] > began for line in said[2:])
    reindex(store)
    assert feed_lines(store) == said


@pytest.mark.parametrize("take", [Folder.share, Folder.claim])
def test_a_forked_child_does_not_keep_a_folder_locked(tmp_path: Path, take: Callable[[Folder], Any]) -> None:
    """A child forked while another thread puts or collects blobs does not hold that lock until it ends.

    (``flock`` belongs to all copies of a descriptor: every later ``put_blob`` waited for the child.)
    """
    folder = Folder.open(tmp_path)
    take(folder)
    ends, told = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends[1])
        os.write(told[1], b"x")
        os.read(ends[0], 1)  # until the parent closes it
        os._exit(0)
    try:
        os.read(told[0], 1)
        folder.close()
        with Folder.open(tmp_path) as other:
            assert other.claim()
    finally:
        for fd in (*ends, *told):
            os.close(fd)
        os.waitpid(child, 0)
    assert not parent_locks


def forked(store: sl.FsStore) -> tuple[sl.SegmentWriter, str, str]:  # the writer, a fork, and a fork of that
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("x")
        child = writer.fork_at_entry(2)
        with sl.SegmentWriter.resume(store, writer.session_id, child) as other:
            other.save_user_input("y")
            return writer, child, other.fork_at_entry(2)


@pytest.mark.parametrize("whose", [1, 2])
def test_a_chain_goes_on_from_what_is_detached_just_then(
    store: sl.FsStore, whose: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a segment with a chain while it, or what it inherits, is detached looks again: the bytes have moved.

    (It was told that the segment is damaged, or would have hashed other bytes.)
    """
    found = forked(store)
    session_id = found[0].session_id

    def then_detach(*args: Any) -> Any:
        state = restore_span(*args)
        detach_segment(store, session_id, found[whose])  # type: ignore[arg-type]
        return state

    monkeypatch.setattr(_chained, "restore_span", then_detach)
    with sl.SegmentWriter.resume(store, session_id, found[2], chain=True) as writer:
        writer.save_turn_end()

    assert writer.segment_id == found[2]
    assert broken(store) == []


def test_a_copy_of_what_is_detached_just_then(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copies a segment while what it inherits is detached looks again.

    (It was told that a reference is broken.)
    """
    (writer, child, grandchild), gather = forked(store), _forking._gather

    def detach_before(*args: Any) -> None:
        monkeypatch.setattr(_forking, "_gather", gather)
        detach_segment(store, writer.session_id, child)
        gather(*args)

    monkeypatch.setattr(_forking, "_gather", detach_before)
    made = sl.fork_at_entry(store, writer.session_id, grandchild, 1, copy_history=True)

    assert texts(whole(store, writer, made)) == ["x", "y"]
