"""The residents: processes that live on one root, each with a trade, and say what they begin and what is done.

Some fall by themselves: SIGKILL before a system call, any of those that change something.
"""

import os
import random
import signal
from collections.abc import Callable
from typing import Final

import msgspec

import session_log as sl
from proof.filed import text_of
from proof.tidings import Began, Declined, Done, Ids, Saw
from proof.workers import say, told_to_end
from session_log.collection import UncertainMarks, collect_blobs
from session_log.facts import archive, set_facts, unarchive
from session_log.feed import reindex, watch
from session_log.keys import open_or_create, reindex_keys
from session_log.lifecycle import delete_segment, delete_session, detach_segment
from session_log.trash import Trashed, list_trash, purge, undelete_segment, undelete_session
from session_log.verify import verify

GRACE_S: Final = 3600.0
"""Payloads that were there before the round are older than that: their files' times are set back."""
_STEPS: Final = (
    "write",
    "open",
    "link",
    "unlink",
    "rename",
    "replace",
    "mkdir",
    "rmdir",
    "fsync",
    "utime",
    "ftruncate",
)
Place = tuple[str, str, int]


class Again(msgspec.Struct, frozen=True):
    """An append that nobody heard the answer of, to be made again under its key."""

    ids: Ids
    token: str
    size: int


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """Who a resident is; ``places`` are segments to share, ``falls``: after how many changes it dies (0: never)."""

    root: str
    seed: str
    name: str
    keys: tuple[str, ...]
    places: tuple[Ids, ...]
    again: tuple[Again, ...] = ()
    purges: bool = False
    falls: int = 0


class Resident:
    """What all residents can do."""

    def __init__(self, task: Duty) -> None:
        self.task = task
        self.chance = random.Random(task.seed)
        self.store = sl.FsStore(task.root, durability=self.chance.choice(("process", "process", "turn")))
        self._number = 0
        if task.falls:
            fall_after(task.falls)

    def token(self) -> str:
        """Return a word that nobody else says."""
        self._number += 1
        return f"{self.task.name}.{self._number}"

    def does(
        self,
        deed: str,
        act: Callable[[], Place],
        ids: Ids = ("", ""),
        text: str = "",
        size: int = 0,
        keyed: bool = False,
    ) -> Place | None:
        """Do something, and say so before and after; return where, or None if the library declined."""
        self._number += 1
        number = self._number
        say(Began(number, deed, ids, text, size, keyed))
        try:
            *place, at = act()
        except (sl.SessionLogError, UncertainMarks) as exc:
            say(Declined(number, type(exc).__name__, str(exc)[-600:]))
            return None
        say(Done(number, (place[0], place[1]), at))
        return place[0], place[1], at

    def somewhere(self) -> Ids | None:
        """Return any segment."""
        sessions = self.store.list_sessions()
        try:
            segments = self.store.list_segments(session_id := self.chance.choice(sessions)) if sessions else []
        except sl.NotFound:
            return None
        return (session_id, self.chance.choice(segments)) if segments else None


def fall_after(changes: int) -> None:
    """Have this process killed before its so many-th change to a file."""
    left = changes

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return instead

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))


# ── who comes with a key ─────────────────────────────────────────────────────────────────────────────────────────────


def opener(task: Duty) -> None:
    """Open sessions by keys that all share, and say something there, the key being all that is known of them."""
    life = Resident(task)
    while not told_to_end():
        key, token = life.chance.choice(task.keys), life.token()

        def open_it(key: str = key) -> Place:
            session_id, segment_id, created = open_or_create(life.store, key)
            return session_id, segment_id, int(created)

        found = life.does("open", open_it, text=key)
        if found is None:
            continue
        ids = found[:2]

        def speak(ids: Ids = ids, token: str = token) -> Place:
            return *ids, sl.save_user_input(life.store, *ids, text_of(token, 60), idem=token)

        for _ in range(life.chance.randint(1, 2)):
            life.does("say", speak, ids, token, 60, keyed=True)


# ── who keeps house ────────────────────────────────────────────────────────────────────────────────────────────────


def clerk(task: Duty) -> None:
    """Rename sessions, put them into the archive, and take them out again."""
    life = Resident(task)
    while not told_to_end():
        ids = life.chance.choice(task.places) if life.chance.random() < 0.5 else life.somewhere()
        if ids is None:
            continue
        title, session_id = life.token(), ids[0]

        def rename(session_id: str = session_id, title: str = title) -> Place:
            set_facts(life.store, session_id, title=title, custom={task.name: title}, labels=(title,))
            return session_id, "", 0

        def shelve(session_id: str = session_id) -> Place:
            archive(life.store, session_id)
            unarchive(life.store, session_id)
            return session_id, "", 0

        if life.chance.random() < 0.8:
            life.does("rename", rename, (session_id, ""), title)
        else:
            life.does("archive", shelve, (session_id, ""))


def keeper(task: Duty) -> None:
    """Make the feed and the index of keys anew, again and again."""
    life = Resident(task)

    def anew() -> Place:
        reindex(life.store)
        reindex_keys(life.store)
        return "", "", 0

    while not told_to_end(life.chance.randrange(30)):
        life.does("reindex", anew)


def collector(task: Duty) -> None:
    """Collect payloads, again and again."""
    life = Resident(task)
    while not told_to_end(life.chance.randrange(10)):
        life.does("collect", lambda: ("", "", collect_blobs(life.store, grace_s=GRACE_S).removed))


def remover(task: Duty) -> None:
    """Delete sessions and segments, detach segments, bring back what was deleted, and perhaps purge."""
    life = Resident(task)
    store = life.store
    while not told_to_end(life.chance.randrange(30)):
        trashed = list_trash(store)
        item = life.chance.choice(trashed) if trashed else None
        ids = life.somewhere()
        which = life.chance.random()
        if which < 0.4 and item is not None:
            _bring_back(life, item)
        elif which < 0.45 and task.purges:
            life.does("purge", lambda: ("", "", len(purge(store))))
        elif ids is not None and ids not in task.places[:2]:
            _remove(life, ids, which)


def _bring_back(life: Resident, item: Trashed) -> None:
    def restore() -> Place:
        if item.segment_id is None:
            undelete_session(life.store, item.session_id)
        else:
            undelete_segment(life.store, item.session_id, item.segment_id)
        return item.session_id, item.segment_id or "", 0

    life.does("undelete", restore, (item.session_id, item.segment_id or ""))


def _remove(life: Resident, ids: Ids, which: float) -> None:
    store = life.store
    if which < 0.65:
        life.does("delete", lambda: (delete_session(store, ids[0]).session_id, "", 0), (ids[0], ""))
    elif which < 0.8:
        life.does("detach", lambda: (*ids, int(detach_segment(store, *ids))), ids)
    else:
        alone = which < 0.9

        def delete() -> Place:
            return *ids, len(delete_segment(store, *ids, detach=alone, recursive=not alone).segments)

        life.does("delete segment", delete, ids)


# ── who only looks ─────────────────────────────────────────────────────────────────────────────────────────────────


def inspector(task: Duty) -> None:
    """Verify and restore; say what was found that should not be."""
    life = Resident(task)

    def inspect() -> Place:
        report = verify(life.store)
        errors = [finding for finding in report.findings if finding.severity == "error"]
        if errors:
            raise sl.StorageError(str(errors[0]))
        return "", "", report.lines

    while not told_to_end(life.chance.randrange(20)):
        life.does("verify", inspect)
        ids = life.somewhere()
        if ids is not None:
            life.does("restore", lambda ids=ids: (*ids, sl.restore(life.store, *ids).entries_count), ids)  # type: ignore[misc]


def watcher(task: Duty) -> None:
    """Follow the whole root, and say everything that is announced."""
    store = sl.FsStore(task.root)
    ready = False

    def stop() -> bool:
        nonlocal ready
        if not ready:
            ready = True
            say(Saw("ready", ("", None)))
        return told_to_end()

    for event in watch(store, stop=stop):
        say(Saw(event.kind, (event.session_id, event.segment_id), event.title))
