"""What can go wrong between a line and its blobs: a death, a full disk, a blob that is gone, a file edited by hand."""

import multiprocessing
import os
import re
import resource
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import session_log as sl
from session_log._errors import AppendUnknown, StoreUnavailable
from session_log.blobs import BlobRef, sha256_of

LIMIT = sl.MIN_INLINE_BYTES
LONG = "".join(f"line {at} of the output\n" for at in range(200))
SYNCED = {True: "folder", False: "content"}
NAMED = re.compile(rb'"sha256":"([0-9a-f]{64})"')


def recorded(root: Path, *, durability: Any = "process") -> tuple[str, str]:
    """A session whose second line names one blob, and whose fourth names two."""
    with sl.FsStore(root, durability=durability) as store, sl.SegmentWriter.create(store, max_inline_bytes=LIMIT) as w:
        w.save_user_input([sl.TextInput("see "), sl.PasteInput(1, 2, 3, LONG)])
        image = sl.Attachment("image/png", "QUJD" * LIMIT)
        w.save_delta([sl.ToolCall("c", "run", "{}"), sl.ToolResult("c", "ok", LONG + "end", attachments=(image,))])
        w.save_turn_end()
        return w.session_id, w.segment_id


def blobs_of(root: Path) -> list[Path]:
    return sorted(path for path in (root / "blobs").rglob("*") if path.is_file())


def blob_at(root: Path, data: str) -> Path:
    sha256 = sha256_of(data.encode())
    return root / "blobs" / sha256[:2] / sha256


@pytest.mark.parametrize("damage", ["missing", "damaged", "a symlink"])
def test_a_blob_that_cannot_be_had_is_named_with_its_line_and_item(tmp_path: Path, damage: str) -> None:
    """Without resolving, nobody misses it; resolving names it; salvage lists it and keeps the short form."""
    ids = recorded(tmp_path)
    store = sl.FsStore(tmp_path)
    place = blob_at(tmp_path, LONG + "end")
    if damage == "missing":
        place.unlink()
    elif damage == "damaged":
        place.write_bytes(b"edited")
    else:
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
    short = sl.restore(store, *ids)

    with pytest.raises(sl.UnresolvedBlob) as caught:
        sl.restore(store, *ids, resolve_blobs=True)
    path = str(store.segment_path(*ids))
    assert (caught.value.path, caught.value.line, caught.value.item) == (path, 4, "history[2].content")
    assert caught.value.sha256 == place.name and place.name in str(caught.value)
    found = sl.restore_by_segment(store, ids[1], resolve_blobs=True, salvage=True)
    result, kept = found.history[2], short.history[2]
    assert isinstance(result, sl.ToolResult) and isinstance(kept, sl.ToolResult)
    assert (result.content, result.content_blob) == (kept.content, kept.content_blob)
    assert result.attachments == (sl.Attachment("image/png", "QUJD" * LIMIT),)
    assert found.history[0] == sl.Message.user("see " + LONG)
    (told,) = found.damage
    line = list(store.read(*ids))[3]
    assert (told.path, told.line, told.length_bytes) == (path, 4, len(line))
    assert Path(path).read_bytes()[told.byte_offset :].startswith(line)
    assert told.reason.startswith(f"history[2].content: blob {place.name}: ")


def test_every_blob_that_is_gone_is_told_of(tmp_path: Path) -> None:
    """All blobs lost: the state is the short one, and each item that lost one is listed; a fork names the parent."""
    ids = recorded(tmp_path)
    store = sl.FsStore(tmp_path)
    child = sl.fork_at(store, *ids, 1)
    shutil.rmtree(tmp_path / "blobs")
    found = sl.restore(store, ids[0], child, resolve_blobs=True, salvage=True)

    assert msgspec.structs.replace(found, damage=()) == sl.restore(store, ids[0], child)
    assert [told.reason.split(":")[0] for told in found.damage] == [
        "history[0].content[0].text",
        "history[2].content",
        "history[2].attachments[0].data",
        "user_segments[0][1].content",
    ]
    assert {told.path for told in found.damage} == {str(store.segment_path(*ids))}
    assert [told.line for told in found.damage] == [2, 4, 4, 2]
    with pytest.raises(sl.UnresolvedBlob, match=re.escape(str(store.segment_path(*ids)))):
        sl.resolve_blobs(store, sl.restore(store, ids[0], child))
    with pytest.raises(sl.UnresolvedBlob) as caught:
        sl.resolve_items(store, found.history)
    assert caught.value.line is None and caught.value.path == "items"


def test_the_first_line_that_names_a_blob_is_told(tmp_path: Path) -> None:
    """Of several lines with the same payload, it is the first whose position is given."""
    with sl.FsStore(tmp_path) as store, sl.SegmentWriter.create(store, max_inline_bytes=LIMIT) as writer:
        for _ in range(3):
            writer.save_user_input(LONG)
        shutil.rmtree(tmp_path / "blobs")
        found = sl.resolve_blobs(store, writer.state, salvage=True)

    assert {told.line for told in found.damage} == {2} and len(found.damage) == 6


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "another hash": lambda line: NAMED.sub(b'"sha256":"' + b"0" * 64 + b'"', line),
    "no hash": lambda line: NAMED.sub(b'"sha256":"../../etc/passwd"', line),
    "another size": lambda line: re.sub(rb'"size_bytes":\d+', b'"size_bytes":7', line),
    "a size below zero": lambda line: re.sub(rb'"size_bytes":\d+', b'"size_bytes":-7', line),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_reference_edited_by_hand_is_damage_and_no_path(tmp_path: Path, edit: str) -> None:
    """Whatever a line says a blob is called: it is refused, or listed; nothing outside is read."""
    ids = recorded(tmp_path)
    store = sl.FsStore(tmp_path)
    path = Path(store.segment_path(*ids))
    path.write_bytes(b"\n".join(EDITS[edit](line) for line in path.read_bytes().split(b"\n")))

    with pytest.raises(sl.UnresolvedBlob):
        sl.restore(store, *ids, resolve_blobs=True)
    found = sl.restore(store, *ids, resolve_blobs=True, salvage=True)
    assert len(found.damage) == 4
    assert msgspec.structs.replace(found, damage=()) == sl.restore(store, *ids)


@pytest.mark.parametrize(
    "spans", [[(0, 999)], [(-1, 3)], [(2, -1)], [(1, 2), (2, 1)], [(2, 1), (0, 1)], [(5, 1)]], ids=repr
)
def test_spans_that_do_not_fit_their_text_are_damage(spans: list[tuple[int, int]]) -> None:
    """Spans stand in order, within the text, and do not overlap; else the short form stays."""
    store = sl.MemoryStore()
    ref = store.put_blob(b"whole")
    text = sl.Text("short", tuple(sl.BlobSpan(at, chars, ref) for at, chars in spans))
    state = sl.RestoredState(history=(sl.Message("assistant", (text,)),))

    with pytest.raises(sl.UnresolvedBlob, match="span"):
        sl.resolve_blobs(store, state)
    found = sl.resolve_blobs(store, state, salvage=True)
    assert found.history == state.history and len(found.damage) == 1


def test_a_blob_that_is_no_text_is_no_text() -> None:
    """Bytes that are no UTF-8 do not become the content of a result."""
    store = sl.MemoryStore()
    ref = store.put_blob(b"\xff\xfe")

    with pytest.raises(sl.UnresolvedBlob, match="UTF-8"):
        sl.resolve_items(store, [sl.ToolResult("c", "", "short", content_blob=ref)])


class Failing(sl.FsStore):
    """A store whose disk is full for blobs, or takes them without knowing whether they last."""

    failure: sl.SessionLogError | None = None

    def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        ref = super().put_blob(data, media_type=media_type, kind=kind)
        if self.failure is not None:
            raise self.failure
        return ref


def _batch(writer: sl.SegmentWriter) -> None:
    with writer.batch():
        writer.save_user_input("short")
        writer.save_user_input(LONG)


@pytest.mark.parametrize("failure", [StoreUnavailable("blobs", "full"), AppendUnknown("blobs", "no sync")], ids=repr)
def test_a_blob_that_could_not_be_kept_keeps_its_line_out(tmp_path: Path, failure: sl.SessionLogError) -> None:
    """StoreUnavailable, certainly nothing was recorded, also in a batch; the same writer goes on."""
    with Failing(tmp_path) as store, sl.SegmentWriter.create(store, max_inline_bytes=LIMIT) as writer:
        store.failure = failure
        for record in (writer.save_user_input, lambda text: writer.save_delta([sl.Message.assistant(text)])):
            with pytest.raises(StoreUnavailable, match="nothing was written"):
                record(LONG)
        with pytest.raises(StoreUnavailable):
            _batch(writer)
        assert writer.head.entries == 1 and writer.state == sl.restore(store, writer.session_id, writer.segment_id)
        store.failure = None
        writer.save_user_input(LONG)
        found = sl.restore(store, writer.session_id, writer.segment_id, resolve_blobs=True)

    assert found.history == (sl.Message.user(LONG),)


@pytest.mark.parametrize("durability", ["turn", "power"])
def test_the_blob_is_on_the_disk_before_the_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    """As the system sees it: content synced, moved to its name, folder synced, and only then is the line there."""
    store = sl.FsStore(tmp_path, durability=durability)
    writer = sl.SegmentWriter.create(store, max_inline_bytes=LIMIT)
    segment = Path(store.segment_path(writer.session_id, writer.segment_id))
    before = segment.stat().st_size
    steps: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            if name == "replace" or os.fstat(arguments[0]).st_ino != segment.stat().st_ino:
                assert segment.stat().st_size == before, "the line is there already"
                steps.append("moved" if name == "replace" else SYNCED[stat.S_ISDIR(os.fstat(arguments[0]).st_mode)])
            return result

        return step

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    writer.save_user_input(LONG)

    assert segment.stat().st_size > before
    assert steps[-3:] == ["content", "moved", "folder"]
    before = segment.stat().st_size
    writer.save_user_input(LONG)  # what is there already is synced again: who put it may not have
    assert steps[-2:] == ["content", "folder"]


def _dies_between(root: str, name: str, session_id: str, segment_id: str) -> None:
    class Dying(sl.FsStore):
        def put_blob(self, data: Any, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
            if name == "before the blob":
                os.kill(os.getpid(), signal.SIGKILL)
            ref = super().put_blob(data, media_type=media_type, kind=kind)
            if name == "behind the blob" or (name == "behind the second blob" and b"end" in data):
                os.kill(os.getpid(), signal.SIGKILL)
            return ref

    with sl.SegmentWriter.resume(Dying(root), session_id, segment_id, max_inline_bytes=LIMIT) as writer:
        writer.save_delta([sl.Message.assistant(LONG), sl.Message.assistant(LONG + "end")])


@pytest.mark.parametrize("when", ["before the blob", "behind the blob", "behind the second blob"])
def test_a_death_between_blob_and_line_leaves_no_line(tmp_path: Path, when: str) -> None:
    """Killed anywhere between, the log is as it was and reads whole; recorded again, what is there is used."""
    with sl.FsStore(tmp_path) as store, sl.SegmentWriter.create(store) as writer:
        ids = writer.session_id, writer.segment_id
    process = multiprocessing.get_context("spawn").Process(target=_dies_between, args=(str(tmp_path), when, *ids))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = blobs_of(tmp_path)

    state = sl.restore(store, *ids, resolve_blobs=True)
    assert state.entries_count == 1 and state.torn_bytes == 0
    with sl.SegmentWriter.resume(store, *ids, max_inline_bytes=LIMIT) as writer:
        writer.save_delta([sl.Message.assistant(LONG), sl.Message.assistant(LONG + "end")])
    assert len(blobs_of(tmp_path)) == 2 and set(left) <= set(blobs_of(tmp_path))
    assert sl.restore(store, *ids, resolve_blobs=True).history[-1] == sl.Message.assistant(LONG + "end")


def _fills_the_disk(root: str) -> None:
    store = sl.FsStore(root, durability="process")
    writer = sl.SegmentWriter.create(store, max_inline_bytes=LIMIT)
    ids = writer.session_id, writer.segment_id
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    for cut in range(0, len(LONG), 97):
        resource.setrlimit(resource.RLIMIT_FSIZE, (cut, unlimited[1]))
        try:
            writer.save_user_input(LONG)
            raise AssertionError(f"recorded with a file size of {cut}")
        except StoreUnavailable:
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert blobs_of(Path(root)) == [] and store.length(*ids) == 1
    writer.save_user_input(LONG)
    assert sl.restore(store, *ids, resolve_blobs=True).history == (sl.Message.user(LONG),)


def test_a_full_disk_leaves_neither_blob_nor_line(tmp_path: Path) -> None:
    """However many bytes fit: StoreUnavailable, no part of a blob, no line; with room again the same writer goes on."""
    process = multiprocessing.get_context("spawn").Process(target=_fills_the_disk, args=(str(tmp_path),))
    process.start()
    process.join()

    assert process.exitcode == 0


def _spills(root: str, number: int) -> None:
    with sl.FsStore(root, durability="process") as store:
        for at in range(15):
            with sl.SegmentWriter.create(store, max_inline_bytes=LIMIT) as writer:
                writer.save_user_input(LONG + str(at))
            found = sl.restore(store, writer.session_id, writer.segment_id, resolve_blobs=True)
            assert found.history == (sl.Message.user(LONG + str(at)),), number


def test_processes_spill_the_same_payloads_side_by_side(tmp_path: Path) -> None:
    """Each of them reads back what it recorded, and each payload is stored once."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_spills, args=(str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 3
    assert len(blobs_of(tmp_path)) == 15
