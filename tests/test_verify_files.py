"""Verify: what is wrong with blobs, chains, and files as such, on real files, each with its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from session_log import facts
from session_log.verify import verify
from verified import Session, found, only

HASH = "ab" * 32


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with sl.FsStore(tmp_path / "root", durability="process") as store:
        yield Session(store)


# ── blobs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blob_that_is_not_there_is_told_once_where_it_is_named_first(session: Session) -> None:
    session.blob_path.unlink()

    assert only(session, "missing_blob") == (str(session.path), 10, session.offset(10))
    assert found(session, "missing_blob", blobs=False) == []


def test_a_blob_that_is_named_in_the_facts_or_a_trace(session: Session) -> None:
    number, place = session.append(
        b'{"ts":1,"turn":0,"kind":"lifecycle","label":"blobs/ab/%b"}\n' % HASH.encode(), session.trace_path
    )
    assert only(session, "missing_blob") == (str(session.trace_path), number, place)

    facts.set_facts(session.store, session.session_id, task=f"see blobs/cd/{'cd' * 32}")
    both = [(each.path, each.line) for each in found(session, "missing_blob")]
    assert both == [(str(session.trace_path), number), (str(session.facts_path), 3)]


def test_a_blob_that_is_not_what_its_name_says(session: Session) -> None:
    session.blob_path.write_bytes(b"Payload")

    assert only(session, "corrupt_blob") == (str(session.blob_path), None, None)


def test_any_other_hash_is_nobodys_business(session: Session) -> None:
    """A user's own hash is no blob; but if a blob has it, it is one that is named."""
    other = session.store.put_blob(b"other")
    assert verify(session.store).unreferenced_blobs == 1
    sl.save_extension(session.store, session.session_id, session.segment_id, "d", [HASH, {"sha256": HASH}])
    assert found(session, "missing_blob") == []
    sl.save_extension(session.store, session.session_id, session.segment_id, "d", [other.sha256])

    assert verify(session.store).unreferenced_blobs == 0
    assert verify(session.store, session.session_id).unreferenced_blobs is None
    assert verify(session.store, blobs=False).unreferenced_blobs is None


# ── chains ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_changed_byte_that_is_still_an_entry(session: Session) -> None:
    """It is told at the link that does not hold; in the parent's file, not in that of each child."""
    session.change(3, lambda line: line.replace(b'"x"', b'"y"'))
    (one,) = found(session, "chain_broken")

    assert (one.path, one.line, one.byte_offset) == (str(session.path), 7, session.offset(7))
    assert "from line 1 (byte 0) to here" in one.what


def test_a_link_that_was_changed_itself(session: Session) -> None:
    place = session.change(7, lambda line: line.replace(b'"chain"', b'"chaim"'))

    assert only(session, "chain_malformed") == (str(session.path), 7, place)


def test_lines_that_no_link_covers_yet(session: Session) -> None:
    sl.save_user_input(session.store, session.session_id, session.segment_id, "behind the last link")
    (one,) = found(session, "chain_open")

    assert (one.path, one.line, one.byte_offset) == (str(session.path), 12, session.offset(12))
    assert f"bytes {session.offset(12)} to {session.path.stat().st_size} " in one.what


def test_a_fork_without_a_chain_of_a_segment_with_one(session: Session) -> None:
    child = sl.fork_at(session.store, session.session_id, session.segment_id, 1)
    sl.save_user_input(session.store, session.session_id, child, "not linked")

    path = str(session.store.segment_path(session.session_id, child))
    assert only(session, "chain_open") == (path, 1, 0)


def test_a_link_over_what_is_not_there_is_not_checked_but_the_next_is(session: Session) -> None:
    with sl.SegmentWriter.resume(session.store, session.session_id, session.child, chain=True) as writer:
        writer.save_user_input("a")
        writer.save_turn_end()
    session.path.unlink()
    assert only(session, "chain_unchecked") == (str(session.child_path), 2, session.offset(2, session.child_path))
    session.change(3, lambda line: line.replace(b'"a"', b'"b"'), session.child_path)

    assert only(session, "chain_broken") == (str(session.child_path), 4, session.offset(4, session.child_path))


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "mode", "remedy"),
    [
        ("path", 0o640, "chmod 600 "),
        ("facts_path", 0o602, "chmod 600 "),
        ("trace_path", 0o700, "chmod 600 "),
        ("blob_path", 0o604, "chmod 600 "),
        ("session folder", 0o750, "chmod 700 "),
        ("blobs", 0o701, "chmod 700 "),
        ("blobs/ab", 0o710, "chmod 700 "),
        ("root", 0o777, "chmod 700 "),
        ("feed.jsonl", 0o644, "chmod 600 "),
        ("pods/p.json", 0o644, "chmod 600 "),
        ("keys/0.jsonl", 0o644, "chmod 600 "),
    ],
)
def test_what_others_may_use(session: Session, name: str, mode: int, remedy: str) -> None:
    root = session.store.root
    folders = {"session folder": session.path.parent, "root": root, "blobs/ab": session.blob_path.parent}
    path: Path = folders[name] if name in folders else getattr(session, name, root / name)
    if not path.exists():
        path.parent.mkdir(0o700, exist_ok=True)
        path.touch()
    path.chmod(mode)
    (one,) = found(session, "open_mode")

    assert (one.path, one.line, one.byte_offset) == (str(path), None, None)
    assert one.remedy == remedy + str(path)
    assert verify(session.store).is_sound


def test_a_root_that_others_may_read_and_files_with_less_than_usual(session: Session) -> None:
    session.store.root.chmod(0o755)
    session.path.chmod(0o400)

    assert found(session, "open_mode") == []


def test_files_of_other_names_are_nobodys_business(session: Session) -> None:
    """Notes of a user, remains of a crash, files of later versions: no listing shows them either."""
    root = session.store.root
    for folder in (root, session.path.parent, root / "blobs", session.blob_path.parent, root / "pods"):
        folder.mkdir(0o700, exist_ok=True)
        (folder / "notes").mkdir(0o755)
        (folder / ".tmp-1").touch(0o644)
        (folder / "link").symlink_to("/")
    report = verify(session.store)

    assert report.findings == () and report.unreferenced_blobs == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")
def test_what_belongs_to_somebody_else(session: Session) -> None:
    os.chown(session.path, 12345, -1)
    (one,) = found(session, "foreign_owner")

    assert (one.path, one.line) == (str(session.path), None)
    assert one.remedy == f"chown {os.geteuid()} {session.path}"


@pytest.mark.parametrize("place", ["segment", "fifo", "session", "blobs", "blob", "keys"])
def test_what_is_no_plain_file_or_folder(session: Session, place: str, tmp_path: Path) -> None:
    """Neither followed nor opened: a FIFO would hang, a symlink may lead anywhere."""
    root = session.store.root
    path = {
        "segment": session.path.with_name(f"{sl.new_segment_id()}.jsonl"),
        "fifo": session.path.with_name(f"{sl.new_segment_id()}.jsonl"),
        "session": root / sl.new_session_id(),
        "blobs": root / "blobs",
        "blob": session.blob_path,
        "keys": root / "keys",
    }[place]
    if path.exists():
        path.rename(tmp_path / "away")
    if place == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to(tmp_path / "away")
    paths = {(each.path, each.line) for each in found(session, "unsafe_path")}

    assert (str(path), None) in paths and len(paths) <= 2


def test_what_may_not_be_read(session: Session) -> None:
    """As another user than the superuser, who may read all."""
    for path in [session.store.root, *session.store.root.rglob("*")]:
        os.chown(path, 12345 if os.geteuid() == 0 else -1, -1)
    session.child_path.chmod(0)
    locked = session.store.root / sl.new_session_id()
    locked.mkdir(0)
    session.facts_path.chmod(0)
    inside = os.open(session.store.root, os.O_RDONLY)
    before, user = Path.cwd(), os.geteuid()
    try:
        os.fchdir(inside)
        if user == 0:
            os.seteuid(12345)
        report = verify(_relative(session.store))
    finally:
        os.seteuid(user)
        os.chdir(before)
        os.close(inside)

    names = {Path(each.path).name for each in report.findings if each.kind == "unreadable"}
    assert names == {session.child_path.name, session.facts_path.name, locked.name}
    assert not report.is_sound and report.lines > 5


def _relative(store: sl.FsStore) -> sl.FsStore:
    """The same store by a path for which the folders above it need not be open to everyone."""
    twin = sl.FsStore(store.root)
    twin.root, twin._root = Path(), "."
    return twin
