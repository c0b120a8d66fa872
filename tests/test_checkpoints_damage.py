"""Checkpoints that are damaged, cut or interrupted: an error that says where and which, never another checkpoint."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._check import scrubbed
from session_log._checkpoint_lines import Manifest
from session_log.checkpoints import (
    MAX_INLINE_PART_BYTES,
    BrokenPart,
    checkpoint_at,
    delete_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_part,
    restore_at_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from strategies import payloads

GOLDEN = Path(__file__).with_name("golden") / "valid" / "checkpoints.jsonl"
SESSION_ID = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
DOMAIN = "session_log.checkpoint"
LARGE = ["x" * MAX_INLINE_PART_BYTES]


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def place(writer: sl.SegmentWriter) -> tuple[str, str]:
    return writer.session_id, writer.segment_id


def put(writer: sl.SegmentWriter, payload: Any) -> int:
    """A line of the domain as a later version, or a hand, may have written it."""
    return writer.append(sl.Extension(ts=0, domain=DOMAIN, payload=payload))


# ── the format ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_golden_lines_are_read_and_written(fs: sl.FsStore) -> None:
    """What FORMAT-BESIDE.md shows: byte for byte, but for times and random ids."""
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(
            writer, "turn 7", {"step": 3}, parts={"plugins": LARGE, "execution_state": b"\0\xff"},
            revisions={"plugins": 7}, label="vor dem Löschen", revision=3,
        )  # fmt: skip
        save_checkpoint(writer, "mark")
        delete_checkpoint(writer, "mark")
        save_checkpoint(writer, "turn 7", None)
        written = list(fs.read(*place(writer)))
    golden = GOLDEN.read_bytes().splitlines()
    segment_id = sl.new_segment_id()
    fs.create_segment(SESSION_ID, segment_id, golden)
    found = list_checkpoints(fs, SESSION_ID, segment_id, past=True).checkpoints

    def without_chance(line: bytes) -> bytes:
        return re.sub(rb'"ts":\d+|"save_id":"[0-9a-f]{16}"', b"", line)

    assert [without_chance(line) for line in written[1:]] == [without_chance(line) for line in golden[1:]]
    assert [(one.id, one.line, one.save_id[-2:], one.ts) for one in found] == [
        ("turn 7", 5, "a3", 1751450000004),
        ("mark", 3, "a2", 1751450000002),
        ("turn 7", 2, "a1", 1751450000001),
    ]
    assert restore_at_checkpoint(fs, found[2]).parts == {
        "state": {"step": 3},
        "plugins": LARGE,
        "execution_state": b"\0\xff",
    }


def test_what_later_versions_add_is_ignored(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        put(writer, {"id": "a", "later": {"\udc00": 1}, "parts": {"p": {"json": 1, "codec": "zstd"}}})

        assert load_checkpoint(fs, *place(writer), "a").parts == {"p": 1}


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def manifests() -> st.SearchStrategy[Any]:
    """Anything JSON can say, much of it nearly a manifest."""
    part = st.fixed_dictionaries(
        {},
        optional={
            "json": payloads(),
            "sha256": st.sampled_from(["0" * 64, "0" * 63, 7]),
            "size_bytes": st.sampled_from([0, -1, 1 << 64]),
            "form": st.sampled_from(["json", "bytes", "x"]),
        },
    )
    parts = st.dictionaries(st.text(max_size=3), part | payloads(), max_size=3) | payloads()
    return payloads() | st.fixed_dictionaries(
        {"id": st.sampled_from(["a", "b", "", 7])},
        optional={"parts": parts, "deleted": st.booleans() | payloads(), "label": payloads(), "save_id": payloads()},
    )


def is_manifest(payload: Any) -> bool:
    try:
        msgspec.convert(scrubbed(payload), Manifest)
    except msgspec.ValidationError:
        return False
    return True


@given(found=st.lists(manifests(), max_size=5))
def test_any_payload_is_a_checkpoint_a_deletion_or_damage_with_its_place(found: list[Any]) -> None:
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        for payload in found:
            put(writer, payload)
        listed = list_checkpoints(store, *place(writer), past=True)
        lines = list(store.read(*place(writer)))

        assert sorted([one.line for one in listed.checkpoints] + [one.line for one in listed.damage]) == [
            at + 2 for at, payload in enumerate(found) if not (is_manifest(payload) and payload.get("deleted") is True)
        ]
        for one in listed.damage:
            assert one.byte_offset == sum(len(line) + 1 for line in lines[: one.line - 1])
            assert one.length_bytes == len(lines[one.line - 1]) and one.reason.startswith("$.payload")
            with pytest.raises(sl.CorruptSegment) as raised:
                checkpoint_at(store, *place(writer), one.line)
            assert (raised.value.line, raised.value.byte_offset) == (one.line, one.byte_offset)
        try:
            load_checkpoint(store, *place(writer), salvage=True)
        except (sl.NotFound, BrokenPart) as exc:
            assert str(exc)


@pytest.mark.parametrize("payload", [7, {"parts": 7}, {"id": "a", "parts": 7}, {"id": "a", "parts": {"p": {}}}])
def test_a_damaged_line_that_may_be_the_newest_is_never_passed_over_in_silence(fs: sl.FsStore, payload: Any) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(writer, "b", 0)
        save_checkpoint(writer, "a", 1)
        line = put(writer, payload)

        for verb in (load_checkpoint, restore_checkpoint):
            with pytest.raises(sl.CorruptSegment) as raised:
                verb(fs, *place(writer), "a")
            assert (raised.value.line, raised.value.path) == (line, str(fs.segment_path(*place(writer))))
        passed = load_checkpoint(fs, *place(writer), "a", salvage=True)
        assert passed.state == 1 and [one.line for one in passed.damage] == [line]
        save_checkpoint(writer, "a", 2)
        assert load_checkpoint(fs, *place(writer), "a").state == 2
        assert load_checkpoint(fs, *place(writer)).state == 2


def test_damage_of_another_id_does_not_matter(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(writer, "a", 1)
        put(writer, {"id": "b", "parts": 7})

        assert load_checkpoint(fs, *place(writer), "a").state == 1


def test_a_line_that_is_no_entry_is_damage_as_for_restore(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(writer, "a", 1)
        with fs.segment_path(*place(writer)).open("ab") as file:
            file.write(b"garbage\n")

        assert [one.line for one in list_checkpoints(fs, *place(writer)).damage] == [3]
        assert load_checkpoint(fs, *place(writer), salvage=True).state == 1
        with pytest.raises(sl.CorruptSegment):
            load_checkpoint(fs, *place(writer))


def test_a_blob_that_is_gone_or_damaged_is_an_error_that_names_checkpoint_and_part(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        saved = save_checkpoint(writer, "a", parts={"sound": 1, "tool_state": LARGE})
        sha256 = saved.parts["tool_state"].sha256
        assert sha256 is not None
        blob = fs.root / "blobs" / sha256[:2] / sha256
        for content in (b"", b"[1]", None):
            if content is None:
                blob.unlink()
            else:
                blob.write_bytes(content)
            with pytest.raises(BrokenPart, match="part 'tool_state' of checkpoint 'a'") as raised:
                load_checkpoint(fs, *place(writer), "a")
            assert (raised.value.checkpoint_id, raised.value.part) == ("a", "tool_state")
            assert raised.value.path == f"{fs.segment_path(*place(writer))}:2"
            assert read_part(fs, saved, "sound") == 1
            with pytest.raises((sl.CorruptBlob, sl.NotFound)):
                save_checkpoint(writer, "b", parts=saved.parts)
        save_checkpoint(writer, "c", parts={"tool_state": LARGE})  # the value, put again, mends it
        assert load_checkpoint(fs, *place(writer), "a").parts["tool_state"] == LARGE


def test_a_blob_that_is_no_json_is_a_broken_part(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        ref = fs.put_blob(b"\0\xff")
        put(writer, {"id": "a", "parts": {"p": {"sha256": ref.sha256, "size_bytes": 2}}})
        put(writer, {"id": "b", "parts": {"p": {"sha256": ref.sha256, "size_bytes": 3, "form": "bytes"}}})

        for checkpoint_id in "ab":
            with pytest.raises(BrokenPart):
                load_checkpoint(fs, *place(writer), checkpoint_id)


def test_a_part_or_place_that_is_not_there_is_said(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        saved = save_checkpoint(writer, "a", parts={"p": 1})
        delete_checkpoint(writer, "a")

        with pytest.raises(sl.NotFound, match="has no part 'q'; it has 'p'"):
            read_part(fs, saved, "q")
        with pytest.raises(sl.NotFound, match="deleted checkpoint 'a'"):
            checkpoint_at(fs, *place(writer), 3)
        for line in (-1, 0, 1, 4):
            with pytest.raises(sl.NotFound, match="saved no checkpoint"):
                checkpoint_at(fs, *place(writer), line)
        with pytest.raises(sl.CallerError):
            checkpoint_at(fs, *place(writer), "2")  # type: ignore[arg-type]
        with pytest.raises(sl.NotFound):
            list_checkpoints(fs, writer.session_id, sl.new_segment_id())


# ── cut, killed ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_cut_anywhere_has_the_checkpoints_of_its_whole_lines(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        for number in range(3):
            save_checkpoint(writer, "a", number)
    path = fs.segment_path(*place(writer))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole) + 1):
        path.write_bytes(whole[:end])
        with sl.FsStore(fs.root) as again:
            found = list_checkpoints(again, *place(writer), past=True)

            assert len(found.checkpoints) == whole[first:end].count(b"\n")
            assert found.damage == ()


KILLED = """
import os, signal, sys
import session_log as sl
from session_log.checkpoints import save_checkpoint
store = sl.FsStore(sys.argv[1], durability="turn")
writer = sl.SegmentWriter.resume(store, *sys.argv[2:4])
save_checkpoint(writer, "first", ["x" * 2000])
append = writer._append_many
def die(lines, entries):
    os.kill(os.getpid(), signal.SIGKILL)
writer._append_many = die
save_checkpoint(writer, "second", ["y" * 2000])
"""


def test_a_process_killed_between_blob_and_line_leaves_a_blob_that_nobody_names(fs: sl.FsStore) -> None:
    """The blob is on file before the line is; without the line there is no checkpoint, and saving again finds it."""
    session_id, segment_id = sl.create_segment(fs)
    done = subprocess.run([sys.executable, "-c", KILLED, fs.root, session_id, segment_id], check=False)

    assert done.returncode == -signal.SIGKILL
    assert len(list(fs.root.glob("blobs/*/*"))) == 2
    found = list_checkpoints(fs, session_id, segment_id, past=True)
    assert [one.id for one in found.checkpoints] == ["first"] and found.damage == ()
    with sl.SegmentWriter.resume(fs, session_id, segment_id) as writer:
        save_checkpoint(writer, "second", ["y" * 2000])
        assert len(list(fs.root.glob("blobs/*/*"))) == 2
        assert load_checkpoint(fs, *place(writer)).state == ["y" * 2000]


SAVES = """
import sys
import session_log as sl
from session_log.checkpoints import save_checkpoint
store = sl.FsStore(sys.argv[1], durability="process")
writer = sl.SegmentWriter.resume(store, *sys.argv[2:4])
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    saved = save_checkpoint(writer, sys.argv[4], [number, "x" * 1000], parts={"same": ["s" * 1000]})
    print(saved.segment_id, saved.line, flush=True)
"""


def test_processes_that_save_at_once_lose_nothing(fs: sl.FsStore) -> None:
    """Each goes on in a fork of its own when it is behind; every place that was returned holds what was saved there."""
    session_id, segment_id = sl.create_segment(fs)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SAVES, fs.root, session_id, segment_id, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "two", "three")
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    said = {}
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for name, worker in zip(("one", "two", "three"), workers, strict=True):
        said[name] = worker.communicate(timeout=120)[0].split("\n")[:-1]
        assert worker.returncode == 0
    for name, places in said.items():
        assert len(places) == 20
        for number, where in enumerate(places):
            segment, line = where.split()
            saved = checkpoint_at(fs, session_id, segment, int(line))
            assert saved.id == name
            assert restore_at_checkpoint(fs, saved).parts == {"state": [number, "x" * 1000], "same": ["s" * 1000]}
    assert len(list(fs.root.glob("blobs/*/*"))) == 21
    assert os.listdir(fs.root / session_id)
