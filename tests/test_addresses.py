"""Addresses: every way to name a session, a segment, a line, a turn; and what is refused, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, ODD, OPEN, OTHER, ROOT, SESSION, STRANGE, sample
from session_log.addresses import AmbiguousAddress, resolve, resolve_trashed, short
from session_log.facts import move_active, set_facts
from session_log.lifecycle import delete_segment, delete_session
from session_log.pods import FsPodStore, PodActiveSegmentRef, PodMetadata


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


@pytest.mark.parametrize(
    ("text", "session_id", "segment_id"),
    [
        (SESSION, SESSION, None),
        (SESSION.upper(), SESSION, None),
        (SESSION.replace("-", ""), SESSION, None),
        ("a1aa", SESSION, None),
        ("A1AA", SESSION, None),
        ("00000000a1aa", SESSION, None),
        (short(SESSION), SESSION, None),
        (SESSION[-20:], SESSION, None),
        (ROOT, SESSION, ROOT),
        ("b1bbb", SESSION, ROOT),
        ("c1ccc", OTHER, OPEN),
        ("The folder", SESSION, None),
        ("the FOLDER", SESSION, None),
    ],
)
def test_an_id_its_end_and_a_title_name_things(
    store: sl.FsStore, text: str, session_id: str, segment_id: str | None
) -> None:
    found = resolve(store, text)

    assert (found.session_id, found.segment_id, found.line, found.turn) == (session_id, segment_id, None, None)


@pytest.mark.parametrize(
    ("text", "segment_id", "line", "turn"),
    [
        ("b1bbb:3", ROOT, 3, None),
        ("b1bbb@1", ROOT, None, 1),
        (f"{ROOT}:12", ROOT, 12, None),
        ("The folder@0", None, None, 0),
        ("@last:2", STRANGE, 2, None),
        ("@last@1", STRANGE, None, 1),
    ],
)
def test_a_place_is_behind_what_it_is_in(
    store: sl.FsStore, text: str, segment_id: str | None, line: int | None, turn: int | None
) -> None:
    """A session's place is one of its active segment."""
    found = resolve(store, text)

    assert (found.segment_id, found.line, found.turn) == (segment_id or store.list_segments(SESSION)[0], line, turn)


def test_a_title_may_end_like_a_place(store: sl.FsStore) -> None:
    """Exactly what was typed comes first."""
    set_facts(store, SESSION, title="fix: bug:3")
    set_facts(store, OTHER, title="fix: bug")

    assert resolve(store, "fix: bug:3")[1:] == (SESSION, None, None, None)
    assert resolve(store, "fix: bug:2")[1:] == (OTHER, OPEN, 2, None)


def test_a_key_and_a_pod_name_sessions(store: sl.FsStore) -> None:
    set_facts(store, OTHER, external_key="thread/7")
    set_facts(store, ODD, external_key="key")
    FsPodStore(store.root).write(PodMetadata("builder", active=PodActiveSegmentRef(SESSION, ROOT)))

    assert resolve(store, "key")[1:3] == (ODD, None)
    assert resolve(store, "builder")[1:3] == (SESSION, ROOT)


def test_the_active_segment_of_a_session_is_meant(store: sl.FsStore) -> None:
    move_active(store, SESSION, FORK)

    assert resolve(store, "a1aa").segment() == FORK
    assert resolve(store, "b1bbb").segment() == ROOT


def test_last_is_where_the_newest_line_is(store: sl.FsStore) -> None:
    """By activity, not by age."""
    assert resolve(store, "@last")[1:3] == (ODD, STRANGE)
    sl.save_user_input(store, OTHER, OPEN, "again")
    assert resolve(store, "@last")[1:3] == (OTHER, OPEN)


def test_ambiguity_lists_the_candidates(store: sl.FsStore) -> None:
    set_facts(store, OTHER, title="The Folder")

    with pytest.raises(AmbiguousAddress) as caught:
        resolve(store, "the folder")
    assert caught.value.candidates == (f"session {OTHER} ('The Folder')", f"session {SESSION} ('The folder')")
    store.create_segment(SESSION, "0199c700-0000-7000-8000-0000000d1bbb", list(store.read(SESSION, ROOT, 0, 1)))
    with pytest.raises(AmbiguousAddress) as caught:
        resolve(store, "1bbb")
    assert [text.split()[1][-5:] for text in caught.value.candidates] == ["d1bbb", "b1bbb"]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("0199c7", sl.CallerError, "begin with the time"),
        ("0000a", sl.NotFound, "inside"),
        ("aa", sl.NotFound, "at least 4 digits"),
        ("ffff", sl.NotFound, "no id, end of an id"),
        ("nothing so called", sl.NotFound, "no title, key or pod"),
        ("0199c700-0000-7000-8000-00000000ffff", sl.NotFound, "neither a session nor a segment"),
        ("b1bbb:0", sl.CallerError, "counted from 1"),
        ("", sl.CallerError, "is no address"),
        ("./nowhere.jsonl", sl.NotFound, "no such file"),
        ("\ud800", sl.NotFound, "no title"),
        ("a\0b", sl.NotFound, "no title"),
    ],
)
def test_what_names_nothing_says_why(store: sl.FsStore, text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        resolve(store, text)


def test_a_path_names_a_segment_of_its_own_store(store: sl.FsStore, tmp_path: Path) -> None:
    """What it inherits lies beside it."""
    found = resolve(sl.FsStore(tmp_path / "elsewhere"), str(store.segment_path(SESSION, FORK)))

    assert found[1:3] == (SESSION, FORK)
    assert sl.restore(found.store, found.session_id, found.segment()).turn_count == 2
    assert resolve(store, str(store.root / SESSION))[1:3] == (SESSION, None)


def test_a_file_anywhere_is_read_as_it_is(store: sl.FsStore, tmp_path: Path) -> None:
    """A torn tail is left out, damage is there for who looks at it; nothing is written."""
    data = store.segment_path(SESSION, ROOT).read_bytes()
    path = tmp_path / "copy.jsonl"
    path.write_bytes(data + b"not an entry\n" + b'{"torn')

    found = resolve(store, str(path))

    assert list(found.store.read(found.session_id, found.segment())) == [*data[:-1].split(b"\n"), b"not an entry"]
    assert resolve(store, "-", stdin=data).session_id == SESSION
    assert resolve(store, "-:2", stdin=data).line == 2
    assert path.read_bytes().endswith(b'{"torn')


@pytest.mark.parametrize("data", [b"", b"{}\n", b"\xff\n", b'{"kind":"invoke","ts":1,"trigger":"x"}\n', b'{"kind":"se'])
def test_what_is_no_segment_is_damage(store: sl.FsStore, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "foreign.jsonl"
    path.write_bytes(data)

    with pytest.raises(sl.CorruptSegment):
        resolve(store, str(path))
    with pytest.raises(sl.CallerError):
        resolve(store, str(tmp_path) + "/")


def test_an_end_is_looked_for_in_the_feed_and_then_everywhere(store: sl.FsStore) -> None:
    """What the feed tells of and is gone is not found; what it does not tell of is."""
    unfed = sl.FsStore(store.root, feed=False)
    child = sl.fork_at(unfed, SESSION, ROOT, 1)
    store.segment_path(SESSION, FORK).unlink()

    assert resolve(store, child[-12:])[1:3] == (SESSION, child)
    assert resolve(store, "b1bbb")[1:3] == (SESSION, ROOT)
    with pytest.raises(sl.NotFound):
        resolve(store, "b2bbb")
    (store.root / "feed.jsonl").unlink()
    assert resolve(store, "b1bbb")[1:3] == (SESSION, ROOT)


def test_what_is_in_the_trash_is_named_by_id_its_end_or_its_name_there(store: sl.FsStore) -> None:
    delete_session(store, ODD)
    delete_segment(store, SESSION, FORK)

    for text in (ODD, "a3aa", ODD.upper(), short(ODD)):
        assert resolve_trashed(store, text).session_id == ODD
    assert resolve_trashed(store, "b2bbb").segment_id == FORK
    assert resolve_trashed(store, f"segments/{SESSION}/{FORK}").segment_id == FORK
    for text in ("a1aa", "3aa", "", "nothing"):
        with pytest.raises(sl.NotFound):
            resolve_trashed(store, text)
