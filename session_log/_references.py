"""Who refers to a segment or a session, and who is writing there: what keeps them from being deleted."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from session_log import _layout, _trash
from session_log._atomic import Folder
from session_log._codec import decode_line
from session_log._entries import SegmentStart
from session_log._errors import (
    CorruptSegment,
    InvalidEntry,
    MissingAncestor,
    NotFound,
    SegmentBusy,
    SessionLogError,
    StillReferenced,
)
from session_log._facts_file import facts_file
from session_log._feed_scan import first_line
from session_log._file_store import FsStore
from session_log._held_file import EXCLUSIVE, UNLOCK
from session_log._lineage import inherits
from session_log._owner import living_owner
from session_log.branches import Tree
from session_log.pods import CorruptPodMetadata, FsPodStore, PodActiveSegmentRef

RUNNING: Final = "running"
_PATIENCE_S: Final = 2.0
"""How long a lock is watched: an append holds it for microseconds, with a sync for milliseconds."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far something long has come: ``done`` of ``total``, and what is being looked at."""

    done: int
    total: int
    what: str


OnProgress = Callable[[Progress], None]


def tell(progress: OnProgress | None, done: int, total: int, what: str) -> None:
    """Report progress to whoever wants to know."""
    if progress is not None:
        progress(Progress(done=done, total=total, what=what))


def children_of(tree: Tree, segment_id: str) -> tuple[str, ...]:
    """Return the segments that go on from lines of this one by reference; copies and compactions stand alone."""
    return tuple(branch.segment_id for branch in tree.children(segment_id) if branch.link == "fork")


def descendants_of(tree: Tree, segment_id: str) -> tuple[str, ...]:
    """Return those that go on from this one by reference, and from those, parents before their children."""
    found = list(children_of(tree, segment_id))
    for child in found:
        found += children_of(tree, child)
    return tuple(found)


class PodAt(msgspec.Struct, frozen=True):
    """A pod and where it is; None if its file cannot be read, and it may be anywhere."""

    name: str
    active: PodActiveSegmentRef | None

    def __str__(self) -> str:
        return f"pod {self.name!r}" + ("" if self.active is not None else " (cannot be read)")


def pods_of(store: FsStore) -> list[PodAt]:
    """Return the pods that are in a session, and those that cannot be read."""
    pods = FsPodStore(store.root)
    found = []
    for name in pods.list_names():
        try:
            metadata = pods.read_by_name(name)
        except CorruptPodMetadata:
            found.append(PodAt(name, None))
            continue
        if metadata is not None and metadata.active is not None:
            found.append(PodAt(name, metadata.active))
    return found


@contextlib.contextmanager
def pods_held(store: FsStore) -> Iterator[list[PodAt]]:
    """Return the pods, and keep them where they are until the block ends."""
    try:
        folder = Folder.open(store.root, "pods")
    except NotFound:
        yield []
        return
    with folder, folder.locked():
        yield pods_of(store)


def refuse_references(
    store: FsStore, session_id: str, segments: tuple[str, ...], children: tuple[str, ...], pods: list[PodAt]
) -> None:
    """Refuse to delete segments that children, pointers or pods refer to.

    Raises:
        StillReferenced: they do.
    """
    found = [f"segment {child}" for child in children]
    with contextlib.suppress(NotFound):  # no facts
        active = facts_file(store, session_id).facts().active
        found += [f"pointer {name!r}" for name, segment_id in active.items() if segment_id in segments]
    found += [
        str(pod)
        for pod in pods
        if pod.active is None or (pod.active.session_id == session_id and pod.active.segment_id in segments)
    ]
    if found:
        where = f"{store.root}/{session_id}/{segments[0]}"
        raise StillReferenced(
            where, tuple(found), "detach or delete the segments (detach, recursive), move the pointers and pods"
        )


def refuse_running(store: FsStore, session_id: str, segments: tuple[str, ...]) -> None:
    """Refuse to touch segments that somebody writes, or a session whose status says that it is running.

    Raises:
        SegmentBusy: somebody does.
        StoreUnavailable: the status cannot be read now.
    """
    held = holders(store, session_id, segments)
    if held:
        path, owner = held[0]
        others = f" and {len(held) - 1} more: {', '.join(path for path, _ in held[1:21])}" if len(held) > 1 else ""
        raise SegmentBusy(path + others, owner)
    with contextlib.suppress(NotFound, CorruptSegment):  # damaged facts are for is_running to judge
        facts_file(store, session_id).facts()
    if is_running(store, session_id):
        raise SegmentBusy(f"{store.root}/{session_id}", "a run (the status in its facts is 'running')")


def is_running(store: FsStore, session_id: str) -> bool:
    """Tell whether the facts of a session say that it is running; if they cannot be read, nobody can tell: it is."""
    try:
        return facts_file(store, session_id).facts().status == RUNNING
    except NotFound:
        return False
    except SessionLogError:
        return True


def holders(store: FsStore, session_id: str, segments: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """Return the segments that somebody holds, each with its owner, if that is known. Writes nothing."""
    found = []
    for segment_id in segments:
        path = str(store.segment_path(session_id, segment_id))
        with contextlib.suppress(NotFound):
            if _is_held(path):
                owner = living_owner(path)
                found.append((path, str(owner) if owner is not None else None))
    return found


def _is_held(path: str) -> bool:
    fd = _layout.open_file(path, os.O_RDONLY)
    try:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, EXCLUSIVE)
            except BlockingIOError:
                if living_owner(path) is not None or time.monotonic() > give_up:
                    return True
            except OSError as exc:
                raise _layout.unavailable(path, exc) from exc
            else:
                with contextlib.suppress(OSError):  # closing frees it, too
                    fcntl.flock(fd, UNLOCK)
                return False
            time.sleep(1e-3)
    finally:
        os.close(fd)


def refuse_orphan(store: FsStore, session_id: str, path: str) -> None:
    """Refuse to bring back a fork by reference whose parent stays in the trash.

    Raises:
        MissingAncestor: so it would be. (Where the parent was purged, or the first line is damaged, waiting is no use.)
    """
    try:
        start = decode_line(first_line(path))
    except InvalidEntry:
        return
    if isinstance(start, SegmentStart) and start.forked_from is not None and inherits(start):
        parent = start.forked_from.segment_id
        if not store.exists(session_id, parent) and any(_trash.segment_places(str(store.root), session_id, parent)):
            raise MissingAncestor(path, 1, 0, f"its parent {parent} is in the trash, too: bring that back first")
