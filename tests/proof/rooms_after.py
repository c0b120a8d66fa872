"""The laws of the rooms: what was told of a root in a round, held against what is there."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import session_log as sl
from proof.audit import NOBODY, Audit
from proof.authors import INLINE_BYTES
from proof.filed import text_of
from proof.lab import Stopwatch
from proof.tidings import Deed, Told, payload_of
from session_log.checkpoints import save_checkpoint
from session_log.collection import collect_blobs
from session_log.facts import read_facts, rename
from session_log.feed import recent_sessions, reindex
from session_log.keys import open_or_create, reindex_keys
from session_log.lifecycle import delete_session
from session_log.trash import undelete_session
from session_log.verify import verify

PATIENCE_S: Final = 90.0
_MEANWHILE: Final = frozenset(
    {
        "NotFound",  # deleted meanwhile
        "SessionDeleted",
        "MissingAncestor",
        "StillReferenced",
        "SegmentExists",
        "HeadMoved",  # of a writer that does not fork
        "SegmentBusy",
        "CorruptSegment",  # detached meanwhile, or deleted
        "WriterClosed",  # the same, to who looks for a key first
        "CallerError",  # nothing would be left of the session; there is a session of this id
    }
)
"""What may be answered because of what others do."""


class Laws:
    """What must hold of a root after each round; ``restored`` counts the segments that were."""

    def __init__(self, root: Path, told: Told) -> None:
        self.root, self.told = root, told
        self.restored = 0
        self._sizes: dict[tuple[str, str], int] = {}

    def unexpected(self, number: int) -> Iterator[str]:
        """Yield each deed that was refused for no reason that others give."""
        for deed in self.told.deeds:
            outcome = deed.outcome
            if deed.round != number or outcome is None or deed.is_done:
                continue
            error = outcome.error  # type: ignore[union-attr]
            if error not in _MEANWHILE or (error == "CallerError" and deed.began.deed in ("say", "checkpoint", "blob")):
                yield str(deed)

    def identities(self, audit: Audit, store: sl.FsStore) -> Iterator[str]:
        """Yield keys with several sessions, ids used twice, and what is neither there nor in the trash."""
        made = [deed.done().ids for deed in self.told.done("create")]
        made += [deed.done().ids for deed in self.told.done("open") if deed.done().at]
        for what, ids in (("session", [ids[0] for ids in made]), ("segment", [ids[1] for ids in made])):
            yield from (f"{what} {name} was made {count} times" for name, count in Counter(ids).items() if count > 1)
        for place in made:
            if not any(known == place[0] for known, _ in audit.files.segments) and not audit.is_purged(place):
                yield f"session {place[0]} was made, and is nowhere"
        live = set(store.list_sessions())
        for session_id in {known for known, _ in audit.files.segments} - live | audit.files.gone - live:
            try:
                sl.create_segment_with_ids(store, session_id, sl.new_segment_id(), sl.SegmentStartState())
            except sl.SessionDeleted:
                continue
            yield f"session {session_id} was deleted, and is used again"
        yield from self._keys(store, live)

    def _keys(self, store: sl.FsStore, live: set[str]) -> Iterator[str]:
        touched = {deed.began.ids[0] for deed in self.told.of("delete", "undelete")}
        owners: dict[str, set[str]] = {}
        for deed in self.told.done("open"):
            owners.setdefault(deed.began.text, set()).add(deed.done().ids[0])
        for session_id in filter(store.list_segments, live):  # a creator that was killed may leave an empty folder
            key = read_facts(store, session_id).external_key
            if key is not None:
                owners.setdefault(key, set()).add(session_id)
        back = {deed.began.ids[0] for deed in self.told.of("undelete")}
        for key, sessions in owners.items():
            steady = sessions - touched
            if len(steady) > 1:
                yield f"{key!r} has {len(steady)} sessions: {sorted(steady)}"
            if steady and not sessions & back:
                found = open_or_create(store, key)[0]
                if found not in steady:
                    yield f"{key!r} opens {found}, and is that of {steady}"

    def announced(self, number: int) -> Iterator[str]:
        """Yield each acknowledged change of this round that the watcher was not told of."""
        seen = Counter(
            (saw.kind, saw.ids[0], saw.title if saw.kind == "rename" else saw.ids[1])
            for at, saw in self.told.saw
            if at == number
        )
        some = {(kind, session_id, None if kind == "rename" else what) for kind, session_id, what in seen}
        rebuilt = sum(deed.round == number for deed in self.told.of("reindex")) > 1
        mine = (deed for deed in self.told.deeds if deed.round == number and deed.is_done)
        for event, times in Counter(event for deed in mine for event in _events(deed)).items():
            if seen[event] < times and not (rebuilt and _is_out_of_date(event, some)):
                yield f"{event} was announced {seen[event]} times, and done {times}"

    def recent(self, store: sl.FsStore) -> Iterator[str]:
        """Yield what the feed does not say, or says otherwise than the sessions; before it is made anew and then."""
        live = set(store.list_sessions())
        before = recent_sessions(store, 10**6)
        told = {session.session_id for session in before}
        filed = {each for each in live if store.list_segments(each)}
        if told != filed:
            yield f"the feed ({before.reason}) lacks {sorted(filed - told)}, and has {sorted(told - filed)}"
        reindex(store)
        anew = recent_sessions(store, 10**6)
        if anew.scanned:
            yield f"the feed was just made, and is of no use: {anew.reason}"
        feed = self.root / "feed.jsonl"
        feed.rename(feed.with_suffix(".aside"))
        scanned = recent_sessions(store, 10**6)
        feed.with_suffix(".aside").rename(feed)
        unheard = {deed.began.ids[0] for deed in self.told.deeds if not deed.is_done}  # announced, and perhaps not done
        says = {session.session_id: session for session in anew}
        for shown in scanned:
            said = says.get(shown.session_id)
            if said is None or said.ts < shown.ts or (said != shown and shown.session_id not in unheard):
                yield f"the feed says {said}, the session {shown}"
        if not scanned.scanned or len(says) != len(scanned):
            yield f"the feed says {len(says)} sessions, there are {len(scanned)} ({scanned.reason})"

    def sound(self, audit: Audit, store: sl.FsStore) -> Iterator[str]:
        """Yield damage, and segments that do not restore."""
        report = verify(store)
        yield from (str(finding) for finding in report.findings if finding.severity == "error")
        for ids, segment in audit.files.segments.items():
            if not audit.files.is_live(ids) or self._sizes.get(ids) == segment.size:
                continue
            self._sizes[ids] = segment.size
            self.restored += 1
            try:
                state = sl.restore(store, *ids)
            except sl.SessionLogError as exc:
                yield f"{ids} does not restore: {exc}"
                continue
            if state.entries_count != len(segment.entries):
                yield f"{ids} restores {state.entries_count} of {len(segment.entries)} lines"

    def everything_at_once(self) -> Iterator[str]:
        """Do everything in this process, where nobody else is: yield what cannot be done."""
        live = Stopwatch()
        with sl.FsStore(self.root) as store:
            for session_id in filter(store.list_segments, store.list_sessions()):
                rename(store, session_id, f"r{session_id}")
                for segment_id in store.list_segments(session_id):
                    with sl.SegmentWriter.resume(
                        store, session_id, segment_id, exclusive=True, on_conflict="raise", chain=True
                    ) as writer:
                        writer.save_turn_end()
            with sl.SegmentWriter.create(store, max_inline_bytes=INLINE_BYTES) as writer:
                writer.save_user_input(text_of(NOBODY, 3000))
                save_checkpoint(writer, NOBODY, {"large": payload_of("x").decode()})
            reindex(store)
            if damaged := reindex_keys(store).damaged:
                yield f"facts are damaged: {damaged}"
            collect_blobs(store, grace_s=3600)
            delete_session(store, writer.session_id)
            undelete_session(store, writer.session_id)
            delete_session(store, writer.session_id)
            if not (report := verify(store)).is_sound:
                yield f"is not sound then: {report.findings[:3]}"
        if live.seconds > PATIENCE_S:
            yield f"took {live.seconds:.0f} s"


def _events(deed: Deed) -> list[tuple[str, str, str | None]]:
    """Return what a deed that was done must have announced."""
    ids, what = deed.done().ids, deed.began.deed
    if what in ("say", "blob", "checkpoint", "turn", "run") and deed.began.ids[1] not in ("", ids[1]):
        return [("fork", *ids), *([("run_end", *ids)] if what == "run" else [])]
    announced: dict[str, list[tuple[str, str, str | None]]] = {
        "create": [("create", *ids)],
        "open": [("create", *ids)] if deed.done().at else [],
        "fork": [("fork", *ids)],
        "run": [("run_end", *ids)],
        "rename": [("rename", ids[0], deed.began.text)],
        "archive": [("archive", ids[0], None), ("unarchive", ids[0], None)],
        "delete": [("delete", ids[0], None)],
    }
    return announced.get(what, [])


def _is_out_of_date(event: tuple[str, str, str | None], some: set[tuple[str, str, str | None]]) -> bool:
    """Tell whether a feed that was made anew may leave an event out: a later one of its kind is there, or a delete.

    (One that is made anew twice between two looks of a watcher leaves out for it what is out of date.)
    """
    kind, session_id, what = event
    if kind == "delete":
        return True
    if kind in ("archive", "unarchive"):
        return bool({("archive", session_id, None), ("unarchive", session_id, None)} & some)
    return kind in ("rename", "run_end") and (kind, session_id, None if kind == "rename" else what) in some
