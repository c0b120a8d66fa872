"""The laws of external keys: one session for each, whoever asks, whatever happened to the index, whoever is killed."""

import os
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import session_log as sl
from session_log._facts import CorruptFacts, KeyTaken
from session_log.facts import facts_history, move_active, read_facts, repair_facts, set_facts
from session_log.keys import KeyCollision, open_or_create, reindex_keys

FINISHED, KILLED = 0, 9


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


def index(store: sl.FsStore) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((store.root / "keys").glob("?.jsonl")))


def rewrite_index(store: sl.FsStore, old: bytes, new: bytes) -> None:
    for path in (store.root / "keys").glob("?.jsonl"):
        path.write_bytes(path.read_bytes().replace(old, new))


def without_index(store: sl.FsStore) -> None:
    for path in (store.root / "keys").iterdir():
        path.unlink()
    (store.root / "keys").rmdir()


def test_a_key_opens_the_session_it_was_created_with(store: sl.FsStore) -> None:
    state = sl.SegmentStartState(system_prompt="Be brief.")
    session_id, segment_id, created = open_or_create(store, "user/7", state)

    assert created
    assert open_or_create(store, "user/7") == (session_id, segment_id, False)
    assert open_or_create(sl.FsStore(store.root), "user/7") == (session_id, segment_id, False)
    assert sl.restore(store, session_id, segment_id).system_prompt == "Be brief."
    facts = read_facts(store, session_id)
    assert (facts.external_key, facts.active) == ("user/7", {"main": segment_id})
    assert [change.kind for change in facts_history(store, session_id)] == ["session", "set", "point"]
    assert store.list_sessions() == [session_id]
    assert not list(store.root.glob(".*.tmp"))
    assert {path.stat().st_mode & 0o777 for path in store.root.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in store.root.rglob("*") if path.is_dir()} == {0o700}


def test_a_key_opens_the_segment_that_main_points_to(store: sl.FsStore) -> None:
    """F17: the branch that is gone on with is named; it is not the newest file."""
    session_id, segment_id, _ = open_or_create(store, "k")
    fork = sl.fork_at(store, session_id, segment_id, 0)
    assert open_or_create(store, "k")[1] == segment_id

    move_active(sl.FsStore(store.root), session_id, fork)

    assert open_or_create(store, "k") == (session_id, fork, False)


keys = st.text(max_size=6) | st.sampled_from(
    ["", "..", "../../etc", "kind", "key", '"key":"a"', "a\nb", "\0", "ä", "session_id", '{"kind":"key"}', "x" * 300]
)
deeds = st.sampled_from(["open", "open", "open", "delete", "set", "drop", "restart", "lose", "lose one", "reindex"])


@given(st.lists(st.tuples(deeds, keys, keys), max_size=14))
@example(
    [("open", "a", ""), ("set", "a", "b"), ("open", "a", ""), ("open", "b", ""), ("lose", "", ""), ("open", "a", "")]
)
@example([("open", "key", ""), ("drop", "key", ""), ("restart", "", ""), ("open", "key", "")])
def test_a_key_names_what_a_dict_would_say(deeds: list[tuple[str, str, str]]) -> None:
    """Whatever was deleted, renamed or lost of the index in between; and no session id comes back."""
    with tempfile.TemporaryDirectory() as root:
        store = sl.FsStore(root, durability="process")
        owners: dict[str, str] = {}
        gone: set[str] = set()
        for deed, key, other in deeds:
            session_id = owners.get(key)
            match deed:
                case "open":
                    found, _, created = open_or_create(store, key)
                    assert (found, created) == (session_id or found, session_id is None)
                    assert found not in gone and (not created or found not in owners.values())
                    owners[key] = found
                case "delete" if session_id:
                    store.delete_session(owners.pop(key))
                    gone.add(session_id)
                case "set" if session_id:
                    if owners.get(other, session_id) != session_id:
                        with pytest.raises(KeyTaken):
                            set_facts(store, session_id, external_key=other, title="not set")
                        assert read_facts(store, session_id).title is None
                    else:
                        assert set_facts(store, session_id, external_key=other).external_key == other
                        owners[other] = owners.pop(key)
                case "drop" if session_id:
                    assert set_facts(store, session_id, external_key=None).external_key is None
                    del owners[key]
                case "restart":
                    store = sl.FsStore(root, durability="process")
                case "lose" if (store.root / "keys").exists():
                    without_index(store)
                case "lose one" if (store.root / "keys").exists():
                    (store.root / "keys" / "0.jsonl").unlink(missing_ok=True)
                case "reindex":
                    assert reindex_keys(store).keys == len(owners)
        for key, session_id in owners.items():
            assert open_or_create(sl.FsStore(root), key)[::2] == (session_id, False)


def test_a_key_that_is_none_is_refused(store: sl.FsStore) -> None:
    for key in (5, None, b"x", "a\ud800", "x" * 5000):
        with pytest.raises(sl.InvalidEntry):
            open_or_create(store, key)  # type: ignore[arg-type]
    with pytest.raises(sl.CallerError):
        open_or_create(sl.MemoryStore(), "x")
    assert not store.root.exists()


# ── an index that does not hold ────────────────────────────────────────────────────────────────────────────────────


def test_an_index_edited_by_hand_misleads_nobody(store: sl.FsStore) -> None:
    """An entry is compared with the session's own facts; what is wrong is made anew from them."""
    one, two = (open_or_create(store, key)[0] for key in ("one", "two"))
    plain = sl.create_segment(store)[0]
    right = index(store)
    for wrong in (two, plain):
        rewrite_index(store, one.encode(), wrong.encode())
        fresh = sl.FsStore(store.root, durability="process")

        assert open_or_create(fresh, "one")[0] == one
        assert open_or_create(fresh, "two")[0] == two
        assert index(store).count(b"\n") == right.count(b"\n") and one.encode() in index(store)
    for damage in (b"\xff", b"{", b'"kind":7', b"["):
        rewrite_index(store, b'"kind":"key"', damage)
        assert open_or_create(sl.FsStore(store.root), "one")[0] == one
        assert open_or_create(sl.FsStore(store.root), "two")[0] == two


def test_an_entry_that_is_no_id_is_never_a_path(store: sl.FsStore, tmp_path: Path) -> None:
    """F24: what an index names is a session below the root, or nothing."""
    session_id = open_or_create(store, "k")[0]
    rewrite_index(store, session_id.encode(), b"../elsewhere")

    fresh = sl.FsStore(store.root, durability="process")

    assert open_or_create(fresh, "k")[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_an_index_that_is_a_link_is_not_followed(store: sl.FsStore, tmp_path: Path) -> None:
    store.root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (store.root / "keys").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(sl.UnsafePath):
        open_or_create(store, "k")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert store.list_sessions() == []


def test_cut_at_every_byte_an_index_still_leads_to_the_session(store: sl.FsStore) -> None:
    session_id = open_or_create(store, "k")[0]
    path = next(path for path in (store.root / "keys").glob("?.jsonl") if path.stat().st_size)
    data = path.read_bytes()
    newer = b'{"kind":"key","ts":1,"key":"other","session_id":null}\n'
    for end in range(len(newer)):
        path.write_bytes(data + newer[:end])
        assert open_or_create(sl.FsStore(store.root), "k")[::2] == (session_id, False)


def test_one_key_of_two_sessions_is_reported_and_stays_where_it_was(store: sl.FsStore) -> None:
    one = open_or_create(store, "k")[0]
    two = sl.create_segment(store)[0]
    set_facts(store, two, title="copied")
    path = store.root / two / "session.jsonl"
    with path.open("ab") as file:
        file.write(b'{"kind":"set","ts":1,"external_key":"k"}\n')

    report = reindex_keys(store)

    assert report.keys == 1 and report.damaged == ()
    assert report.collisions == (KeyCollision(key="k", session_ids=(two, one)),)
    assert open_or_create(sl.FsStore(store.root), "k")[0] == one
    without_index(store)
    assert open_or_create(sl.FsStore(store.root), "k")[0] == two


def test_damaged_facts_do_not_hide_a_key_in_silence(store: sl.FsStore) -> None:
    session_id = open_or_create(store, "k")[0]
    path = store.root / session_id / "session.jsonl"
    sound = path.read_bytes()
    path.write_bytes(sound + b"garbage\n")
    assert open_or_create(sl.FsStore(store.root), "k")[::2] == (session_id, False)
    assert reindex_keys(store).damaged == (session_id,)

    path.write_bytes(sound.replace(b'"external_key"', b"xxxxxxxxxxxxxx"))
    with pytest.raises(CorruptFacts):
        open_or_create(sl.FsStore(store.root), "k")
    repair_facts(store, session_id)
    assert open_or_create(sl.FsStore(store.root), "k")[2]


# ── killed at any point ────────────────────────────────────────────────────────────────────────────────────────────


def killed_at(call: int, deed: Any) -> int:
    """Do ``deed`` in a forked child that dies before its ``call``-th system call; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = call

    def count(frame: FrameType, event: str, found: Any) -> None:
        nonlocal left
        if event == "c_call" and getattr(found, "__module__", None) in ("posix", "fcntl"):
            left -= 1
            if not left:
                os._exit(KILLED)

    try:
        sys.setprofile(count)
        deed()
        sys.setprofile(None)
        os._exit(FINISHED)
    finally:
        os._exit(1)


def check_consistent(root: Path, key: str, known: str | None) -> str:
    """Whoever comes next gets one whole session for the key, and the same again; no other session has the key."""
    store = sl.FsStore(root, durability="process")
    session_id, segment_id, _ = open_or_create(store, key)
    assert known in (None, session_id)
    assert open_or_create(sl.FsStore(root), key) == (session_id, segment_id, False)
    assert sl.restore(store, session_id, segment_id).turn_count == 0
    sessions = store.list_sessions()
    assert [found for found in sessions if read_facts(store, found).external_key == key] == [session_id]
    assert all(store.list_segments(found) for found in sessions)
    report = reindex_keys(store)
    assert report.collisions == () and report.damaged == ()
    assert open_or_create(sl.FsStore(root), key) == (session_id, segment_id, False)
    return session_id


@pytest.mark.parametrize(
    ("first", "durability", "stride"), [(False, "process", 1), (False, "power", 1), (True, "turn", 9)]
)
def test_killed_before_any_system_call_a_key_gets_one_whole_session(
    tmp_path: Path, first: bool, durability: Any, stride: int
) -> None:
    """With an index and, ``first``, without one, though two other keys have sessions: its 16 files are much alike."""
    call, ends = 1 - stride, set[int]()
    while FINISHED not in ends:
        call += stride
        root = tmp_path / str(call)
        store = sl.FsStore(root, durability="process")
        others = {key: open_or_create(store, key)[0] for key in ("a", "b")}
        if first:
            without_index(store)

        ends.add(killed_at(call, lambda root=root: open_or_create(sl.FsStore(root, durability=durability), "k")))

        check_consistent(root, "k", None)
        for key, session_id in others.items():
            check_consistent(root, key, session_id)
        assert len(store.list_sessions()) == 3
    assert ends == {FINISHED, KILLED} and call > 20


def test_killed_before_any_system_call_a_key_changes_hands_or_not(tmp_path: Path) -> None:
    call, ends = 0, set[int]()
    while FINISHED not in ends:
        call += 1
        store = sl.FsStore(tmp_path / str(call), durability="process")
        session_id = open_or_create(store, "old")[0]

        ends.add(killed_at(call, lambda: set_facts(sl.FsStore(store.root), session_id, external_key="new")))  # noqa: B023

        has = read_facts(sl.FsStore(store.root), session_id).external_key
        assert has in ("old", "new")
        check_consistent(store.root, has, session_id)
        assert check_consistent(store.root, "new" if has == "old" else "old", None) != session_id
    assert ends == {FINISHED, KILLED} and call > 10
