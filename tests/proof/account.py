"""The account: what is on file, if what the library said is true. Anybody can compare it with the files."""

import fcntl
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import session_log as sl
from oracle import Folded, folded
from session_log.facts import read_facts
from session_log.keys import find_key


@dataclass
class Account:
    """Every segment by its ids with its state, every pod, blob and trace, and every byte that had to be kept.

    ``unnamed``: the states of new segments whose ids nobody was told. ``locked``: segments that somebody holds.
    ``titles``: of a session, its title and status; ``keys``: the sessions that they name (None: none).
    ``torn``: by ids, bytes at the end that were never committed; ``damaged``: lines that are no entries. ``traces``:
    by ids, the labels traced; those of ``lossy`` may be missing. ``temporaries``: temporary files may be left over.
    """

    states: dict[tuple[str, str], Folded] = field(default_factory=dict)
    unnamed: list[Folded] = field(default_factory=list)
    locked: set[tuple[str, str]] = field(default_factory=set)
    torn: dict[tuple[str, str], tuple[bytes, ...]] = field(default_factory=dict)
    damaged: dict[tuple[str, str], tuple[bytes, ...]] = field(default_factory=dict)
    pods: dict[str, sl.PodMetadata] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)
    trash: set[str] = field(default_factory=set)
    traces: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    lossy: set[str] = field(default_factory=set)
    temporaries: bool = False
    titles: dict[str, tuple[str, str]] = field(default_factory=dict)
    keys: dict[str, str | None] = field(default_factory=dict)

    def compare(self, root: Path) -> list[str]:
        """Return how the files below ``root`` differ from the account, as readers of their own find them."""
        with sl.FsStore(root) as store:
            try:
                return [
                    *self._segments(store),
                    *self._traces(store),
                    *self._pods(root),
                    *self._blobs(store),
                    *self._known(store),
                    *self._rest(root),
                ]
            except (sl.SessionLogError, OSError) as exc:
                return [f"a reader of its own: {type(exc).__name__}: {exc}"]

    def _segments(self, store: sl.FsStore) -> list[str]:
        wrong = []
        listed = {(session, segment) for session in store.list_sessions() for segment in store.list_segments(session)}
        wrong += [f"{ids[1]} is gone" for ids in self.states if ids not in listed]
        spare = list(self.unnamed)
        for ids in sorted(listed):
            state = sl.restore(store, *ids, salvage=ids in self.damaged)
            now = folded(state)
            if ids not in self.states and now in spare:
                spare.remove(now)
            elif ids not in self.states:
                wrong.append(f"{ids[1]} is there, and nobody was told: {now}")
            elif now != self.states[ids]:
                wrong.append(difference(ids[1], self.states[ids], now))
            if state.torn_bytes and ids not in self.torn:
                wrong.append(f"{ids[1]} has {state.torn_bytes} uncommitted bytes at its end")
            if ids not in self.locked and not _lockable(store.segment_path(*ids)):
                wrong.append(f"{ids[1]} is locked")
        return wrong + [f"a new segment is nowhere: {state}" for state in spare] + self._kept(store)

    def _kept(self, store: sl.FsStore) -> list[str]:
        wrong = []
        for suffix, lost in ((".torn", self.torn), (".damage", self.damaged)):
            for ids, pieces in lost.items():
                path = store.segment_path(*ids)
                kept = path.with_suffix(suffix)
                found = path.read_bytes() + (kept.read_bytes() if kept.exists() else b"")
                wrong += [f"{ids[1]}: the bytes {piece!r} are nowhere" for piece in pieces if piece not in found]
        return wrong

    def _traces(self, store: sl.FsStore) -> list[str]:
        wrong = []
        for ids, labels in self.traces.items():
            found = [str(entry.label) for entry in sl.read_trace(store, *ids)]
            certain = [label for label in labels if label not in self.lossy]
            if found not in (labels, certain):
                wrong.append(f"the trace of {ids[1]} is {found}, not {labels}")
        return wrong

    def _known(self, store: sl.FsStore) -> list[str]:
        known = {session_id: read_facts(store, session_id) for session_id in self.titles}
        titles = {session_id: (str(facts.title), facts.status) for session_id, facts in known.items()}
        wrong = [] if titles == self.titles else [f"the facts are {titles}, not {self.titles}"]
        owners = {key: find_key(store, key) for key in self.keys}
        named = {key: facts.session_id if facts is not None else None for key, facts in owners.items()}
        return wrong if named == self.keys else [*wrong, f"the keys are {named}, not {self.keys}"]

    def _pods(self, root: Path) -> list[str]:
        pods = sl.FsPodStore(root)
        found = {name: pods.read_by_name(name) for name in pods.list_names()}
        return [] if found == self.pods else [f"the pods are {found}, not {self.pods}"]

    def _blobs(self, store: sl.FsStore) -> list[str]:
        found = [store.get_blob(hashlib.sha256(data).hexdigest()) for data in self.blobs]
        return [] if found == self.blobs else [f"the blobs are {found}, not {self.blobs}"]

    def _rest(self, root: Path) -> list[str]:
        trash = root / "trash"
        found = {path.name for path in trash.iterdir() if path.name != ".lock"} if trash.is_dir() else set()
        wrong = [] if found == self.trash else [f"the trash holds {sorted(found)}, not {sorted(self.trash)}"]
        names = Counter(path.name for path in root.rglob(".*") if path.name != ".lock")
        if names and not self.temporaries:
            wrong.append(f"left over: {', '.join(sorted(names))}")
        return wrong


def difference(what: str, expected: Folded, found: Folded) -> str:
    """Say in which fields two states differ."""
    fields = [name for name in vars(expected) if getattr(expected, name) != getattr(found, name)]
    told = (f"{name}: expected {getattr(expected, name)!r}, found {getattr(found, name)!r}" for name in fields)
    return f"{what}: {'; '.join(told)}"


def _lockable(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
