"""Deleting: a session, or a segment of one, to the trash; refused, with the list, while anybody refers to it.

>>> import tempfile
>>> from session_log import FsStore, SegmentWriter, restore
>>> from session_log.lifecycle import delete_segment
>>> store = FsStore(tempfile.mkdtemp())
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("6 × 7?")
...     child = writer.fork_at(0)
>>> delete_segment(store, writer.session_id, writer.segment_id, detach=True).detached == (child,)
True
>>> restore(store, writer.session_id, child).history
()

Nothing is lost by any of it: :mod:`session_log.trash` lists what was deleted, brings it back, and purges it.
"""

import contextlib
import os
import time

import msgspec

from session_log import _layout, _trash
from session_log._detach import detach as detach_child
from session_log._errors import CallerError, NotFound, SessionLogError, StillReferenced
from session_log._facts_file import files_of
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._references import (
    OnProgress,
    PodAt,
    children_of,
    descendants_of,
    pods_held,
    pods_of,
    refuse_references,
    refuse_running,
    tell,
)
from session_log._segment_file import UNTOUCHED_S, SegmentFile
from session_log._store import Store
from session_log.branches import Tree, read_tree

__all__ = ["Deletion", "StillReferenced", "delete_segment", "delete_session", "detach_segment", "plan_deletion"]


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion did: the segments in the trash now, and those that were made to stand alone."""

    session_id: str
    segments: tuple[str, ...]
    detached: tuple[str, ...] = ()


def delete_session(
    store: Store, session_id: str, *, even_if_running: bool = False, even_if_referenced: bool = False
) -> Deletion:
    """Move a session to the trash, with all that belongs to it. Its id is not used again.

    Raises:
        NotFound: there is no such session.
        StillReferenced: a pod is in it, or cannot be read, unless ``even_if_referenced``.
        SegmentBusy: a writer holds a segment, or its status is ``running``, unless ``even_if_running``.
    """
    session_id = parse_id(session_id)
    segments = tuple(store.list_segments(session_id))
    if not isinstance(store, FsStore):
        store.delete_session(session_id)
        return Deletion(session_id=session_id, segments=segments)
    with _locked(store):
        if not even_if_running:
            refuse_running(store, session_id, segments)
        _delete_unless_referenced(store, session_id, even_if_referenced=even_if_referenced)
    return Deletion(session_id=session_id, segments=segments)


def _delete_unless_referenced(store: FsStore, session_id: str, *, even_if_referenced: bool) -> None:
    with pods_held(store) as pods:
        if not even_if_referenced:
            _refuse_pods(store, session_id, pods)
        store.delete_session(session_id)


def detach_segment(store: Store, session_id: str, segment_id: str, *, even_if_running: bool = False) -> bool:
    """Make a fork by reference stand alone, and tell whether it did not before; it restores to the same state.

    Its id and the numbers of its lines stay, and so do forks of it. Whoever has it open for writing opens it again.

    Raises:
        CallerError: the store has no files.
        NotFound: there is no such segment.
        SegmentBusy: a writer holds it; or the session's status is ``running``, unless ``even_if_running``.
        InvalidEntry: what it inherits does not fit into a line of ``MAX_LINE_BYTES``.
    """
    files, session_id, segment_id = files_of(store), parse_id(session_id), parse_id(segment_id)
    with _locked(files):
        if not even_if_running:
            refuse_running(files, session_id, (segment_id,))
        return detach_child(files, session_id, segment_id)


def delete_segment(
    store: Store,
    session_id: str,
    segment_id: str,
    *,
    detach: bool = False,
    recursive: bool = False,
    even_if_running: bool = False,
    progress: OnProgress | None = None,
) -> Deletion:
    """Move a segment to the trash, with the files that accompany it.

    ``detach`` first makes its children by reference stand alone; with ``recursive``, they and their descendants by
    reference go along. Copies and compactions stand alone anyway. Interrupted at any point, everything can be read,
    and the same call goes on from there.

    Raises:
        CallerError: the store has no files; ``detach`` and ``recursive``; or nothing would be left of the session.
        NotFound: there is no such segment.
        StillReferenced: children by reference, pointers such as ``main``, or pods name it. Nothing was deleted.
        SegmentBusy: a writer holds one of those that would go or be detached, or the session's status is ``running``;
            with ``even_if_running``, only a writer that holds one to be detached.
        CorruptSegment: a first line of the session is damaged, so that nobody knows whom it refers to.
    """
    files, session_id, segment_id = files_of(store), parse_id(session_id), parse_id(segment_id)
    with _locked(files):
        if not files.exists(session_id, segment_id):
            return _finish(files, session_id, segment_id)
        doomed, children = _doomed(files, session_id, segment_id, detach=detach, recursive=recursive)
        if not even_if_running:
            refuse_running(files, session_id, (*doomed, *(children if detach else ())))
        detached = []
        for number, child in enumerate(children if detach else ()):
            tell(progress, number, len(children) + 1, f"detaching {child}")
            if detach_child(files, session_id, child):
                detached.append(child)
        with pods_held(files) as pods:
            refuse_references(files, session_id, doomed, (), pods)
            for number, doomed_id in enumerate(reversed(doomed), len(detached)):
                tell(progress, number, len(detached) + len(doomed), f"deleting {doomed_id}")
                _delete(files, session_id, doomed_id, hold=not even_if_running)
    return Deletion(session_id=session_id, segments=doomed, detached=tuple(detached))


def plan_deletion(
    store: Store,
    session_id: str,
    segment_id: str | None = None,
    *,
    detach: bool = False,
    recursive: bool = False,
    even_if_running: bool = False,
) -> Deletion:
    """Return what deleting a session, or a segment of it, would do now, or why it would be refused. Writes nothing.

    Raises:
        As :func:`delete_session` and :func:`delete_segment`.
    """
    files, session_id = files_of(store), parse_id(session_id)
    if segment_id is None:
        segments = tuple(files.list_segments(session_id))
        if not even_if_running:
            refuse_running(files, session_id, segments)
        _refuse_pods(files, session_id, pods_of(files))
        return Deletion(session_id=session_id, segments=segments)
    segment_id = parse_id(segment_id)
    doomed, children = _doomed(files, session_id, segment_id, detach=detach, recursive=recursive)
    if not even_if_running:
        refuse_running(files, session_id, (*doomed, *(children if detach else ())))
    return Deletion(session_id=session_id, segments=doomed, detached=children if detach else ())


def _refuse_pods(store: FsStore, session_id: str, pods: list[PodAt]) -> None:
    found = [str(pod) for pod in pods if pod.active is None or pod.active.session_id == session_id]
    if found:
        where = f"{store.root}/{session_id}"
        raise StillReferenced(where, tuple(found), "move the pods first, or delete with even_if_referenced")


def _doomed(
    store: FsStore, session_id: str, segment_id: str, *, detach: bool, recursive: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the segments that go with one, and its children by reference; refuse what must not go."""
    if detach and recursive:
        raise CallerError("detach=True, recursive=True: the children either stay or go; give one of them")
    tree = read_tree(store, session_id)
    if not store.exists(session_id, segment_id):
        raise NotFound(str(store.segment_path(session_id, segment_id)), "no such segment")
    children = children_of(tree, segment_id)
    doomed = (segment_id, *(descendants_of(tree, segment_id) if recursive else ()))
    if len(doomed) == len(tree):
        raise CallerError(f"{store.root}/{session_id}: nothing would be left of it; delete the session")
    refuse_references(store, session_id, doomed, () if detach or recursive else children, pods_of(store))
    return doomed, children


def _locked(store: FsStore) -> contextlib.AbstractContextManager[object]:
    try:
        os.stat(store.root)
    except FileNotFoundError:
        raise NotFound(str(store.root), "no such session") from None
    except OSError as exc:
        raise _layout.unavailable(str(store.root), exc) from exc
    return _trash.locked(store.root, durable=store.durability != "process")


def _delete(store: FsStore, session_id: str, segment_id: str, *, hold: bool) -> None:
    path = str(store.segment_path(session_id, segment_id))
    place = _place_for(store, session_id, segment_id)
    _trash.leave_note(place)
    holder = SegmentFile(path, durability=store.durability, exclusive=True)
    try:
        if hold:
            holder.hold()
        untrusted = time.monotonic() + UNTOUCHED_S
        with _trash.locked(store.root, _trash.SEGMENTS, durable=False):
            _move(store, session_id, segment_id, path, place)
        while time.monotonic() < untrusted:  # a writer that waits for the lock looks whether the file is still there
            continue
        store.let_go(session_id)
        _move_companions(f"{store.root}/{session_id}", place, segment_id)
    finally:
        holder.close()


def _place_for(store: FsStore, session_id: str, segment_id: str) -> str:
    """Return the folder of the trash for a segment: a new one, or that of a deletion that was interrupted."""
    durable = store.durability != "process"
    base = f"{store.root}/{_trash.TRASH}/{_trash.SEGMENTS}/{session_id}"
    for place in _trash.numbered(f"{base}/{segment_id}"):
        _layout.make_folder(place, durable=durable)
        kept = f"{place}/{_layout.segment_name(segment_id)}"
        with _layout.reported(kept):
            if not os.path.lexists(kept) or os.path.samefile(kept, store.segment_path(session_id, segment_id)):
                return place
    raise AssertionError("the numbers do not end")


def _move(store: FsStore, session_id: str, segment_id: str, path: str, place: str) -> None:
    """Give the segment a second name in the trash, look for children, and take the first name away.

    Whoever forks creates the child first, then looks at the names of its parent: one of the two sees the other. A child
    of a forker that was killed before it looked is found by a last look, and brings the segment back.
    """
    durable = store.durability != "process"
    kept = f"{place}/{_layout.segment_name(segment_id)}"
    with _layout.reported(path), contextlib.suppress(FileExistsError):
        os.link(path, kept, follow_symlinks=False)
    if durable:
        _layout.sync_folder(place)
    try:
        refuse_references(store, session_id, (segment_id,), _children_now(store, session_id, segment_id), [])
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(kept)
        raise
    with _layout.reported(path):
        os.unlink(path)
    if late := _forked_late(store, session_id, segment_id):
        with _layout.reported(path):
            os.link(kept, path, follow_symlinks=False)
            os.unlink(kept)
        refuse_references(store, session_id, (segment_id,), late, [])
    if durable:
        _layout.sync_folder(os.path.dirname(path))


def _forked_late(store: FsStore, session_id: str, segment_id: str) -> tuple[str, ...]:
    """Return the children that came between the look for them and the end of the segment's name.

    Who makes one then takes it back, unless it is killed just there.
    """
    with contextlib.suppress(SessionLogError):  # a moment ago there were none
        tree = read_tree(store, session_id, salvage=True)
        return tuple(branch.segment_id for branch in tree if branch.parent == segment_id and branch.link == "fork")
    return ()


def _children_now(store: FsStore, session_id: str, segment_id: str) -> tuple[str, ...]:
    tree: Tree = read_tree(store, session_id)
    return children_of(tree, segment_id)


def _move_companions(folder: str, place: str, segment_id: str) -> None:
    """Move the trace and the like behind their segment; the note of a holder is of no use any more."""
    kept = _layout.segment_name(segment_id)
    with _layout.reported(folder):
        for name in _names_of(folder, segment_id):
            if name == f"{segment_id}.owner":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{folder}/{name}")
            elif name != kept:
                os.rename(f"{folder}/{name}", f"{place}/{name}")


def _names_of(folder: str, segment_id: str) -> list[str]:
    with os.scandir(folder) as found:
        return sorted(e.name for e in found if e.name.startswith(f"{segment_id}.") and e.is_file(follow_symlinks=False))


def _finish(store: FsStore, session_id: str, segment_id: str) -> Deletion:
    """Finish a deletion that was interrupted after the segment itself was moved.

    Raises:
        NotFound: there is nothing to finish.
    """
    folder = f"{store.root}/{session_id}"
    places = list(_trash.segment_places(str(store.root), session_id, segment_id))
    kept = _layout.segment_name(segment_id)
    if not places or not _layout.is_there(f"{places[-1]}/{kept}") or not _names_of(folder, segment_id):
        raise NotFound(f"{folder}/{kept}", "no such segment")
    _move_companions(folder, places[-1], segment_id)
    return Deletion(session_id=session_id, segments=(segment_id,))
