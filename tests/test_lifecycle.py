"""The laws of deleting: to the trash, never while anybody refers to it or writes it, and nobody loses anything else."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from oracle import Folded, folded
from session_log._forking import create_child
from session_log._references import Progress
from session_log.branches import read_tree
from session_log.facts import move_active, set_facts
from session_log.lifecycle import StillReferenced, delete_segment, delete_session, detach_segment, plan_deletion
from session_log.places import walk_back
from session_log.trash import list_trash, undelete_segment
from session_log.usage import read_ledger
from strategies import SESSION_ID, histories
from test_forks import ACTIONS, Entries, grow
from test_golden import FAMILY, bytes_of, plain, stored
from test_golden import SESSION_ID as SESSION
from test_golden import expected as golden

Ids = tuple[str, str]


def talk(store: sl.Store, turns: int = 3) -> Ids:
    """Create a session of some turns."""
    with sl.SegmentWriter.create(store) as writer:
        for turn in range(turns):
            writer.save_user_input(f"question {turn}")
            writer.save_delta([sl.Message.assistant(f"answer {turn}")])
            with writer.batch():
                writer.save_turn_end()
                writer.save_usage(2, 10, 0, 0, 1, model="m")
        return writer.session_id, writer.segment_id


def states_of(store: sl.Store, session_id: str) -> dict[str, list[Folded]]:
    """Return the state of every segment after each of its lines, but for those that cannot be cut there."""
    found: dict[str, list[Folded]] = {}
    for segment_id in store.list_segments(session_id):
        for entries in range(1, store.length(session_id, segment_id) + 1):
            state = sl.restore(store, session_id, segment_id, at_entries=entries)
            found.setdefault(segment_id, []).append(folded(state))
    return found


def files(store: sl.FsStore) -> dict[str, bytes]:
    """Return every file below the root, the feed, and the notes and locks of the lifecycle, left out."""
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in store.root.rglob("*")
        if path.is_file() and path.name not in (".lock", "deleted.json", "feed.jsonl")
    }


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


@settings(max_examples=25)
@given(
    tales=st.lists(histories(max_turns=2), min_size=1, max_size=4),
    actions=st.lists(ACTIONS, min_size=1, max_size=4),
    pick=st.integers(0, 99),
)
def test_whoever_goes_on_from_a_deleted_segment_stays_what_it_was(
    tales: list[Entries], actions: list[tuple[str, int]], pick: int
) -> None:
    """F23: after a detaching deletion every other segment, children's children too, is the same at each line."""
    with tempfile.TemporaryDirectory() as folder:
        store = sl.FsStore(folder, durability="process")
        grow(store, tales, actions)
        before = states_of(store, SESSION_ID)
        usage = read_ledger(store).total
        if len(before) == 1:
            return
        doomed = sorted(before)[pick % len(before)]

        deletion = delete_segment(store, SESSION_ID, doomed, detach=True)

        del before[doomed]
        assert states_of(store, SESSION_ID) == before
        assert states_of(sl.FsStore(folder), SESSION_ID) == before
        assert deletion.segments == (doomed,)
        assert not set(deletion.detached) - set(before)
        if not deletion.detached:
            return
        assert read_ledger(store).total.input_tokens <= usage.input_tokens


def test_a_detached_segment_keeps_its_lines_and_their_numbers(store: sl.FsStore) -> None:
    """Behind the first line it is the same bytes; what stood there is in the new one, as text."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 2)
    sl.save_user_input(store, session_id, child, "on")
    old = list(store.read(session_id, child))

    assert detach_segment(store, session_id, child)

    new = list(store.read(session_id, child))
    start = sl.decode_line(new[0])
    assert new[1:] == old[1:]
    assert isinstance(start, sl.SegmentStart)
    assert start.detached == old[0].decode()
    assert start.forked_from == sl.SegmentOrigin(parent, 2)
    assert [item.text for item in start.history if isinstance(item, sl.Message)] == [
        *("question 0", "answer 0"),
        *("question 1", "answer 1"),
    ]
    assert not detach_segment(store, session_id, child)
    assert list(store.read(session_id, child)) == new


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_forks_of_a_detached_segment_hold_made_before_or_after(store: sl.FsStore, cut: int) -> None:
    """A reference into it counts lines: it holds though they begin elsewhere now, for every way to read."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    for text in "ab":
        sl.save_user_input(store, session_id, child, text)
    older = sl.fork_at_entry(store, session_id, child, cut)
    expected = folded(sl.restore(store, session_id, older))
    walked = [found.item for found in walk_back(store, session_id, older, limit=99)]

    delete_segment(store, session_id, parent, detach=True)

    younger = sl.fork_at_entry(store, session_id, child, cut)
    other = sl.FsStore(store.root)
    for one in (older, younger, sl.fork_at_entry(other, session_id, child, cut)):
        assert folded(sl.restore(other, session_id, one)) == expected
        assert [found.item for found in walk_back(other, session_id, one, limit=99)] == walked
    detach_segment(store, session_id, older)
    assert folded(sl.restore(other, session_id, older)) == expected


def test_a_reference_to_other_lines_of_a_detached_segment_is_found_out(store: sl.FsStore) -> None:
    """That its offsets are not compared any more is no reason to believe all: the hash of the last line is."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    sl.save_user_input(store, session_id, child, "text")
    older = sl.fork_at_entry(store, session_id, child, 2)
    detach_segment(store, session_id, child)
    path = store.segment_path(session_id, child)
    path.write_bytes(path.read_bytes().replace(b'"text"}]', b'"twxt"}]'))

    with pytest.raises(sl.CorruptSegment, match="hash"):
        sl.restore(store, session_id, older)


def test_a_store_that_knew_a_segment_goes_on_after_somebody_detached_it(store: sl.FsStore) -> None:
    """Cuts and positions that a store remembers are found out of date, lines appended since or not."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    sl.save_user_input(store, session_id, child, "a")
    sl.fork_at_entry(store, session_id, child, 2)

    detach_segment(sl.FsStore(store.root), session_id, child)
    sl.save_user_input(sl.FsStore(store.root), session_id, child, "b")
    fork_id = sl.fork_at_entry(store, session_id, child, 3)

    assert sl.restore(store, session_id, fork_id).history[-2:] == (sl.Message.user("a"), sl.Message.user("b"))


def test_a_deletion_is_refused_while_anybody_refers_to_it(store: sl.FsStore) -> None:
    """F23: the error names the child, the pointer and the pods, those that cannot be read too; nothing has changed."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    copy = sl.fork_at(store, session_id, parent, 1, copy_history=True)
    move_active(store, session_id, parent)
    pods = sl.FsPodStore(store.root)
    pods.write(sl.PodMetadata("one", sl.PodActiveSegmentRef(session_id, parent)))
    pods.write(sl.PodMetadata("elsewhere", sl.PodActiveSegmentRef(session_id, child)))
    (store.root / "pods" / "two.json").write_bytes(b"{")
    before = files(store)

    with pytest.raises(StillReferenced) as caught:
        delete_segment(store, session_id, parent)

    assert caught.value.references == (
        f"segment {child}",
        "pointer 'main'",
        "pod 'one'",
        "pod 'two' (cannot be read)",
    )
    assert isinstance(caught.value, sl.CallerError)
    assert files(store) == before
    with pytest.raises(StillReferenced, match="pointer 'main'"):
        delete_segment(store, session_id, parent, detach=True)
    with pytest.raises(StillReferenced, match="pod 'elsewhere'"):
        delete_segment(store, session_id, child, recursive=True)
    with pytest.raises(StillReferenced, match="pod 'elsewhere', pod 'one', pod 'two'"):
        delete_session(store, session_id)
    assert files(store) == before
    pods.delete_by_name("two")
    delete_segment(store, session_id, copy)
    delete_session(store, session_id, even_if_referenced=True)
    assert store.list_sessions() == []


def test_descendants_go_along_when_asked(store: sl.FsStore) -> None:
    """Forks of forks by reference go, children first; copies stay, and nothing dangles."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 2)
    grandchild = sl.fork_at(store, session_id, child, 1)
    sl.save_user_input(store, session_id, child, "on")
    below = sl.fork_at_entry(store, session_id, child, 2)
    copy = sl.fork_at(store, session_id, parent, 1, copy_history=True)
    told: list[Progress] = []

    deletion = delete_segment(store, session_id, parent, recursive=True, progress=told.append)

    assert set(deletion.segments) == {parent, child, grandchild, below}
    assert store.list_segments(session_id) == [copy]
    assert [found.done for found in told] == [0, 1, 2, 3]
    assert told[-1].what == f"deleting {parent}"
    assert {found.segment_id for found in list_trash(store)} == set(deletion.segments)


def test_what_accompanies_a_segment_goes_and_comes_with_it(store: sl.FsStore) -> None:
    """Trace, torn and damaged bytes; byte for byte there and back."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    store.append_trace(session_id, child, [b'{"ts":1,"turn":0,"kind":"lifecycle","label":"x"}'])
    for suffix in (".torn", ".damage", ".trace.torn"):
        store.segment_path(session_id, child).with_suffix(suffix).write_bytes(suffix.encode())
    before = files(store)

    delete_segment(store, session_id, child)

    assert [name for name in files(store) if child in name and not name.startswith("trash/")] == []
    assert sorted(files(store).values()) == sorted(before.values())
    assert store.list_segments(session_id) == [parent]
    undelete_segment(store, session_id, child)
    assert files(store) == before
    with pytest.raises(sl.NotFound):
        undelete_segment(store, session_id, child)


def test_a_segment_that_is_written_stays(store: sl.FsStore) -> None:
    """SegmentBusy, with the owner and all paths that are held, for deleting, detaching and going along."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    before = files(store)
    with sl.SegmentWriter.resume(store, session_id, child, exclusive=True):
        for call in (
            lambda: delete_segment(store, session_id, child),
            lambda: delete_segment(store, session_id, parent, detach=True),
            lambda: delete_segment(store, session_id, parent, recursive=True),
            lambda: detach_segment(store, session_id, child),
            lambda: delete_session(store, session_id),
        ):
            with pytest.raises((sl.SegmentBusy, sl.CallerError)) as caught:
                call()
            assert "nothing would be left" in str(caught.value) or f"process {os.getpid()}" in str(caught.value)
        with pytest.raises(sl.SegmentBusy):  # what is appended meanwhile would be lost
            detach_segment(store, session_id, child, even_if_running=True)
    assert files(store) == before
    set_facts(store, session_id, status="running")
    with pytest.raises(sl.SegmentBusy, match="running"):
        delete_segment(store, session_id, child)
    delete_segment(store, session_id, child, even_if_running=True)
    delete_session(store, session_id, even_if_running=True)
    assert store.list_sessions() == []


def test_a_held_segment_goes_when_asked_and_its_writer_learns_of_it(store: sl.FsStore) -> None:
    """With even_if_running, the writer's next append is NotFound; the entry is in no file."""
    session_id, parent = talk(store)
    child = sl.fork_at(store, session_id, parent, 1)
    with sl.SegmentWriter.resume(store, session_id, child, exclusive=True, on_conflict="raise") as writer:
        writer.save_user_input("before")
        delete_segment(store, session_id, child, even_if_running=True)

        with pytest.raises(sl.NotFound):
            writer.save_user_input("lost")

    assert not any(b"lost" in data for data in files(store).values())


def test_what_cannot_be_done_is_refused_in_our_words(store: sl.FsStore) -> None:
    """The last segment, both ways at once, a store without files, a damaged first line, and what is not there."""
    session_id, parent = talk(store)
    with pytest.raises(sl.CallerError, match="nothing would be left"):
        delete_segment(store, session_id, parent)
    with pytest.raises(sl.CallerError, match="one of them"):
        delete_segment(store, session_id, parent, detach=True, recursive=True)
    with pytest.raises(sl.CallerError, match="FsStore"):
        delete_segment(sl.MemoryStore(), session_id, parent)
    with pytest.raises(sl.NotFound):
        delete_segment(store, session_id, sl.new_segment_id())
    with pytest.raises(sl.NotFound):
        delete_session(store, sl.new_session_id())
    with pytest.raises(sl.NotFound):
        delete_segment(sl.FsStore(store.root / "nowhere"), session_id, parent)
    assert not (store.root / "nowhere").exists()
    child = sl.fork_at(store, session_id, parent, 1)
    path = store.segment_path(session_id, child)
    path.write_bytes(b"{}" + path.read_bytes())
    with pytest.raises(sl.CorruptSegment):  # whom does it refer to?
        delete_segment(store, session_id, parent)
    memory = sl.MemoryStore()
    ids = sl.create_segment(memory)
    assert delete_session(memory, ids[0]).segments == (ids[1],)
    with pytest.raises(sl.SessionDeleted):
        sl.create_segment_with_ids(memory, *ids, sl.SegmentStartState())


def test_a_child_of_a_parent_that_went_meanwhile_is_taken_back(store: sl.FsStore) -> None:
    """A fork that was decided before the deletion and written after it does not dangle."""
    session_id, parent = talk(store)
    sl.fork_at(store, session_id, parent, 1, copy_history=True)
    origin = sl.SegmentOrigin(parent, 0, 1, 1, "00" * 32)
    delete_segment(store, session_id, parent)
    before = files(store)

    with pytest.raises(sl.MissingAncestor, match="nothing was created"):
        create_child(store, session_id, origin, None, sl.RequestConfig())

    assert files(store) == before
    assert not any(branch.link == "fork" for branch in read_tree(store, session_id))


@pytest.mark.parametrize("recursive", [False, True])
def test_a_fork_made_at_the_last_moment_keeps_its_parent(store: sl.FsStore, recursive: bool) -> None:
    """Who deletes looks for children once more, when nobody can fork any more without seeing that."""
    session_id, parent = talk(store)
    sl.fork_at(store, session_id, parent, 1, copy_history=True)
    forks: list[str] = []

    with pytest.raises(StillReferenced) as caught:
        delete_segment(
            store,
            session_id,
            parent,
            recursive=recursive,
            progress=lambda told: forks.append(sl.fork_at(store, session_id, parent, 1)),
        )

    assert caught.value.references == (f"segment {forks[0]}",)
    assert len(sl.restore(store, session_id, forks[0]).history) == 2
    assert list_trash(store) == ()
    assert delete_segment(store, session_id, parent, recursive=True).segments == (parent, forks[0])


def test_what_does_not_fit_into_a_line_is_not_detached(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_LINE_BYTES holds for what a detached segment would begin with; nothing has changed."""
    session_id, parent = talk(store)
    sl.fork_at(store, session_id, parent, 1)
    before = files(store)
    monkeypatch.setattr("session_log._detach.MAX_LINE_BYTES", 600)

    with pytest.raises(sl.InvalidEntry, match="at most 600"):
        delete_segment(store, session_id, parent, detach=True)

    assert files(store) == before


def test_a_detached_segment_is_for_ever_what_the_golden_file_says(tmp_path: Path) -> None:
    """The bytes that detaching writes, and that a fork of the detached segment restores to what it was."""
    store, grandchild = stored(tmp_path, "valid", "fork-grandchild")

    delete_segment(store, SESSION, FAMILY["fork-parent"], detach=True)

    assert store.segment_path(SESSION, FAMILY["fork-child"]).read_bytes() == bytes_of("valid", "fork-detached")
    assert plain(sl.restore(store, SESSION, grandchild)) == golden("valid", "fork-grandchild")


def test_a_plan_is_what_a_deletion_does_or_why_it_is_refused(store: sl.FsStore) -> None:
    """And writes nothing."""
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("one")
        child = writer.fork_at(0)
    session_id, segment_id = writer.session_id, writer.segment_id
    before = sorted(store.root.rglob("*"))

    whole = plan_deletion(store, session_id)
    detached = plan_deletion(store, session_id, segment_id, detach=True)
    for refused in ({}, {"recursive": True}, {"detach": True, "recursive": True}):
        with pytest.raises(sl.CallerError):
            plan_deletion(store, session_id, segment_id, **refused)
    with pytest.raises(sl.NotFound):
        plan_deletion(store, session_id, sl.new_segment_id())
    with sl.SegmentWriter.resume(store, session_id, child, exclusive=True):
        for held in (None, child):
            with pytest.raises(sl.SegmentBusy):
                plan_deletion(store, session_id, held)
        assert plan_deletion(store, session_id, child, even_if_running=True).segments == (child,)
    assert sorted(store.root.rglob("*")) == before
    assert delete_segment(store, session_id, segment_id, detach=True) == detached
    assert set(whole.segments) == {segment_id, child}
    assert delete_session(store, session_id).segments == (child,)
