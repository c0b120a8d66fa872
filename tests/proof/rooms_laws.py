"""The laws of what a crash leaves beside the entries: looked at with the real library, and gone on with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import session_log as sl
from proof.play import Durability, Kept, Said
from proof.rooms_scenarios import GONE, LIVE, TRASHED, large_text
from proof.tidings import state_of
from session_log.checkpoints import load_checkpoint
from session_log.facts import facts_history, read_facts
from session_log.feed import recent_sessions, reindex
from session_log.keys import open_or_create, reindex_keys
from session_log.trash import list_trash

Ids = tuple[str, str]


def judge(root: Path, told: Sequence[Said], durability: Durability | None) -> list[str]:
    """Return which laws do not hold below ``root``, after all that was ``told``; None: only the process died."""
    try:
        with sl.FsStore(root, durability="process") as store:
            return list(Verdict(store, [said for said in told if isinstance(said, Kept)], durability).faults())
    except Exception as exc:  # noqa: BLE001  whatever the library raises here, it should not have
        return [f"{type(exc).__name__}: {exc}"]


class Verdict:
    """One look at one root."""

    def __init__(self, store: sl.FsStore, told: Sequence[Kept], durability: Durability | None) -> None:
        self._store = store
        self._told = told
        self._durability = durability
        self._due = [kept for kept in told if kept.done and self._survives(kept)]

    def _survives(self, kept: Kept) -> bool:
        return self._durability != "process" and (kept.final or self._durability != "turn")

    def faults(self) -> Iterator[str]:
        """Look at everything, then go on with it."""
        for kept in self._due:
            yield from (f"{kept.what} {kept.text!r}: {fault}" for fault in self._kept(kept))
        yield from self._places()
        if self._durability != "process":
            yield from self._blobs()
        yield from self._feed()
        yield from self._keys()

    # ── what was acknowledged ──────────────────────────────────────────────────────────────────────────────────────

    def _kept(self, kept: Kept) -> Iterator[str]:
        laws: dict[str, Callable[[Ids, str], str]] = {
            "text": self._text,
            "inherits": self._inherits,
            "checkpoint": self._checkpoint,
            "title": self._title,
            "archived": self._archived,
            "key": self._key,
            "alone": self._alone,
        }
        if (law := laws.get(kept.what)) is not None and (fault := law(kept.ids, kept.text)):
            yield fault

    def _text(self, ids: Ids, note: str) -> str:
        return "" if large_text(note) in self._texts(ids) else "is not in the history, with its payload"

    def _inherits(self, ids: Ids, note: str) -> str:
        return "" if note in "".join(self._texts(ids)) else "is not inherited any more"

    def _checkpoint(self, ids: Ids, name: str) -> str:
        found = load_checkpoint(self._store, *ids, name, salvage=self._durability == "turn")
        return "" if found.state == state_of(name) else "another state is loaded"

    def _title(self, ids: Ids, title: str) -> str:
        known = (change.changes.get("title") for change in facts_history(self._store, ids[0]))
        return "" if title in known else "is not among the facts"

    def _archived(self, ids: Ids, _: str) -> str:
        return "" if read_facts(self._store, ids[0]).status == "archived" else "is not in the archive"

    def _key(self, ids: Ids, key: str) -> str:
        session_id, segment_id, created = open_or_create(self._store, key)
        if not created and session_id == ids[0] and self._store.exists(session_id, segment_id):
            return ""
        return f"opens {session_id}, which is {'new' if created else 'another'}"

    def _alone(self, ids: Ids, _: str) -> str:
        alone = b'"detached"' in next(iter(self._store.read(*ids, 0, 1)))
        return "" if alone else "refers to its parent again"

    def _texts(self, ids: Ids) -> list[str]:
        state = sl.restore(self._store, *ids, resolve_blobs=True, salvage=self._durability == "turn")
        return [item.text for item in state.history if isinstance(item, sl.Message)]

    def _places(self) -> Iterator[str]:
        """What is deleted, brought back or purged is in one of the places where it may be, and its id is taken."""
        allowed: dict[Ids, tuple[str, ...]] = {}
        for kept in self._told:
            if kept.what == "place" and (self._survives(kept) or not kept.done):
                allowed[kept.ids] = (kept.text,) if kept.done else (*allowed.get(kept.ids, ()), kept.text)
        if self._durability == "process":
            return
        for ids, places in allowed.items():
            found = self._place(ids)
            if found not in places:
                yield f"{ids} is {found}, not one of {places}"
            if not ids[1] and found != LIVE:
                try:
                    sl.create_segment_with_ids(self._store, ids[0], sl.new_segment_id(), sl.SegmentStartState())
                except sl.SessionDeleted:
                    continue
                yield f"the id of {ids[0]} is free again"

    def _place(self, ids: Ids) -> str:
        if ids[0] in self._store.list_sessions() and (not ids[1] or self._store.exists(*ids)):
            return LIVE
        trashed = [(item.session_id, item.segment_id or "") for item in list_trash(self._store)]
        return TRASHED if ids in trashed else GONE

    # ── what must be so in any case ────────────────────────────────────────────────────────────────────────────────

    def _blobs(self) -> Iterator[str]:
        """A line that is there has its payloads: they were on the disk before it."""
        for session_id in self._store.list_sessions():
            for segment_id in self._store.list_segments(session_id):
                try:
                    sl.restore(self._store, session_id, segment_id, resolve_blobs=True)
                    load_checkpoint(self._store, session_id, segment_id)
                except (sl.CorruptSegment, sl.NotFound):
                    if self._durability in (None, "power") and not self._restores(session_id, segment_id):
                        yield f"{segment_id} does not restore"
                except sl.StorageError as exc:
                    yield f"{segment_id}: {exc}"

    def _restores(self, session_id: str, segment_id: str) -> bool:
        with suppress(sl.CorruptSegment):
            sl.restore(self._store, session_id, segment_id)
            return True
        return False

    def _feed(self) -> Iterator[str]:
        """The feed tells no session that is not there; made anew, it tells all that are; after a kill, before, too."""
        store = self._store
        there = set(store.list_sessions())  # some perhaps without a segment: it was lost, and a title was not
        live = {session_id for session_id in there if store.list_segments(session_id)}
        before = {session.session_id for session in recent_sessions(store)}
        if not before <= there or (self._durability is None and before != live):
            yield f"the feed tells {sorted(before)}, there are {sorted(live)}"
        try:
            damaged = set(reindex(store).damaged)
        except sl.NotFound:
            return
        anew = recent_sessions(store)
        found = {session.session_id for session in anew}
        if anew.scanned or not live - damaged <= found <= there:
            yield f"made anew, the feed tells {sorted(found)} ({anew.reason}), there are {sorted(live)}"

    def _keys(self) -> Iterator[str]:
        """Every key opens one session, the same one again, which has it; the index can be made anew."""
        with suppress(*([sl.CorruptSegment] if self._durability in ("process", "turn") else [])):
            for key in {kept.text for kept in self._told if kept.what == "key"}:
                first = open_or_create(self._store, key)
                reindex_keys(self._store)
                again = open_or_create(self._store, key)
                if first[:2] != again[:2] or read_facts(self._store, first[0]).external_key != key:
                    yield f"{key!r} opens {first}, then {again}"
