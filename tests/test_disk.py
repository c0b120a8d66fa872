"""The laws of disk usage: every byte of every file is in one sum, and every line in one kind."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from session_log._references import Progress
from session_log.disk import Amount, disk_usage
from session_log.facts import set_facts
from session_log.keys import open_or_create
from session_log.lifecycle import delete_session
from strategies import SESSION_ID, histories
from test_forks import Entries


@settings(max_examples=25)
@given(tale=histories(max_turns=3), torn=st.binary(max_size=20))
def test_every_line_is_in_one_kind(tmp_path_factory: pytest.TempPathFactory, tale: Entries, torn: bytes) -> None:
    """By kind, lines and bytes are those of the file; a torn end is in the file's bytes alone."""
    store = sl.FsStore(tmp_path_factory.mktemp("r"), durability="process", feed=False)
    segment_id = sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in tale])
    path = store.segment_path(SESSION_ID, segment_id)
    committed = path.stat().st_size
    with path.open("ab") as file:
        file.write(torn.replace(b"\n", b""))

    usage = disk_usage(store)

    assert sum(found.count for found in usage.entries.values()) == len(tale)
    assert sum(found.bytes for found in usage.entries.values()) == committed
    assert usage.files == {"segments": Amount(1, path.stat().st_size)}
    assert usage.sessions == {SESSION_ID: usage.files["segments"]}
    assert usage.entries["segment_start"].count == 1


def everything(root: Path) -> tuple[sl.FsStore, str]:
    store = sl.FsStore(root)
    session_id, segment_id, _ = open_or_create(store, "key")
    sl.save_user_input(store, session_id, segment_id, "text")
    set_facts(store, session_id, title="x")
    store.append_trace(session_id, segment_id, [b'{"ts":1,"turn":0,"kind":"lifecycle","label":"x"}'])
    path = store.segment_path(session_id, segment_id)
    for name in (".torn", ".damage", ".trace.torn", ".owner"):
        path.with_suffix(name).write_text("x")
    path.with_name(".0123456789abcdef.tmp").write_text("x")
    path.with_name("notes.txt").write_text("xyz")
    path.with_name("link.jsonl").symlink_to("/etc/passwd")
    store.put_blob(b"payload")
    sl.FsPodStore(root).write(sl.PodMetadata("p"))
    delete_session(store, sl.create_segment(store)[0])
    (root / "feed.jsonl").write_text("{}\n")
    (root / "pods" / "link").symlink_to("/etc")
    return store, session_id


def test_every_byte_is_in_one_sum(tmp_path: Path) -> None:
    """The kinds of files add up to what is on the disk; links are not followed, nothing is made."""
    store, session_id = everything(tmp_path)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]

    usage = disk_usage(store)

    assert usage.total == Amount(len(found), sum(path.stat().st_size for path in found))
    assert {name: amount.count for name, amount in usage.files.items()} == {
        "segments": 1,
        "traces": 1,
        "facts": 1,
        "torn": 2,
        "damage": 1,
        "temporary": 1,
        "blobs": 1,
        "pods": 2,
        "keys": 17,
        "trash": 3,
        "other": 2,
        "feed": 1,
    }
    assert usage.trace_entries["lifecycle"].count == 1
    assert usage.files["blobs"].bytes == 7
    assert set(usage.sessions) == {session_id}


def test_one_session_alone(tmp_path: Path) -> None:
    """Only its own files, and NotFound if there is none; progress tells of each session."""
    store, session_id = everything(tmp_path)
    other = sl.create_segment(store)[0]
    told: list[Progress] = []

    usage = disk_usage(store, other, progress=told.append)

    assert usage.total == usage.sessions[other] == usage.files["segments"]
    assert [(found.done, found.total) for found in told] == [(0, 1)]
    assert set(disk_usage(store).sessions) == {session_id, other}
    with pytest.raises(sl.NotFound):
        disk_usage(store, sl.new_session_id())
    with pytest.raises(sl.CallerError):
        disk_usage(sl.MemoryStore())


def test_a_kind_is_found_wherever_it_stands_and_damage_counts(tmp_path: Path) -> None:
    """Lines of others, with spaces and kind last, damaged ones and blank ones."""
    store = sl.FsStore(tmp_path)
    session_id, segment_id = sl.create_segment(store)
    path = store.segment_path(session_id, segment_id)
    with path.open("ab") as file:
        file.write(b'{ "ts": 1, "kind": "invoke" }\n\n  \r\ngarbage\n\xff\n{"kind":"later_kind"}\n')

    usage = disk_usage(store)

    assert {kind: found.count for kind, found in usage.entries.items()} == {
        "segment_start": 1,
        "invoke": 1,
        "?": 2,
        "later_kind": 1,
    }


def test_an_empty_root_takes_nothing(tmp_path: Path) -> None:
    """Nothing is there, nothing is made."""
    usage = disk_usage(sl.FsStore(tmp_path / "none"))

    assert usage.total == Amount(0, 0)
    assert os.listdir(tmp_path) == []
