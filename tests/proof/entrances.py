"""The entrances of the library: each way to write or read, what it adds, and what holds once it has returned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import session_log as sl
from proof.scene import BEFORE, KEPT, MARK, ROLLED_BACK_TO, SEGMENT_ID, SESSION_ID, TRACED, TURNS, Scene, must
from session_log.pods import PodMetadata


def _position(scene: Scene) -> object:
    return scene.writer.head


def _length(scene: Scene) -> object:
    return sl.head(scene.store, SESSION_ID, SEGMENT_ID)


def _nowhere(scene: Scene) -> object:
    return None


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """One way in.

    ``marks``: the marked lines it adds to the writer's segment. ``look``: where a caller looks who wants to know
    whether an interrupted call is to be made again: it is, if that has not changed. ``check``: what holds after it
    returned. ``before``: what happens first. ``behind``: afterwards others have written where the writer began.
    ``ends``: what the writer's next append raises.
    """

    act: Callable[[Scene], Any]
    marks: int = 0
    look: Callable[[Scene], object] = _position
    check: Callable[[Scene, Any], None] = lambda scene, result: None
    before: Callable[[Scene], None] = lambda scene: None
    behind: bool = False
    ends: type[sl.SessionLogError] | None = None


# ── the writer ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _intrude(scene: Scene) -> None:
    sl.save_extension(scene.other, SESSION_ID, SEGMENT_ID, "other", None)


def _entry(domain: str = "d", payload: Any = MARK) -> sl.LogEntry:
    return sl.Extension(ts=sl.now_ms(), domain=domain, payload=payload)


def _batch(scene: Scene) -> None:
    with scene.writer.batch():
        scene.writer.save_user_input(MARK)
        scene.writer.save_delta([sl.Message.assistant(MARK)])
        scene.writer.save_turn_end()


def _turn_ended(scene: Scene, result: Any) -> None:
    turns = sl.restore(scene.other, *scene.at).turn_count
    must(turns == TURNS + 1, f"there are {turns} turns, not {TURNS + 1}")


def _rolled_back(scene: Scene, result: Any) -> None:
    found = sl.restore(scene.other, *scene.at).history
    must(found == sl.restore(scene.other, SESSION_ID, SEGMENT_ID, at_entries=ROLLED_BACK_TO).history, "not rolled back")


def _compact(scene: Scene) -> str:
    return scene.writer.compact(sl.SegmentStartState(history=(sl.Message.user(MARK),)))


def _went(scene: Scene, result: Any) -> None:
    must(scene.at[1] != SEGMENT_ID, "the writer is still where it was")


def _forked_at(turn: int) -> Callable[[Scene, Any], None]:
    def check(scene: Scene, result: Any) -> None:
        state = sl.restore(scene.other, SESSION_ID, result)
        must(state.turn_count == turn, f"the fork has {state.turn_count} turns, not {turn}")

    return check


WRITERS: dict[str, Entrance] = {
    "append": Entrance(act=lambda s: s.writer.save_user_input(MARK), marks=1),
    "append of what is not plain": Entrance(act=lambda s: s.writer.save_extension("d", {"x": [MARK, 2**70]}), marks=1),
    "append_entries": Entrance(act=lambda s: s.writer.append_entries([_entry(), _entry("e", {"x": MARK})]), marks=2),
    "batch": Entrance(act=_batch, marks=2),
    "save_turn_end": Entrance(act=lambda s: s.writer.save_turn_end(), check=_turn_ended),
    "state": Entrance(act=lambda s: (s.writer.state, s.writer.head)),
    "sync": Entrance(act=lambda s: s.writer.sync()),
    "auto-fork": Entrance(
        act=lambda s: s.writer.save_user_input(MARK), marks=1, before=_intrude, check=_went, behind=True
    ),
    "auto-fork of a batch": Entrance(act=_batch, marks=2, before=_intrude, check=_went, behind=True),
    "rollback": Entrance(act=lambda s: s.writer.rollback(ROLLED_BACK_TO), check=_rolled_back),
    "rollback by a fork": Entrance(
        act=lambda s: s.writer.rollback(ROLLED_BACK_TO), before=_intrude, check=_rolled_back, behind=True
    ),
    "compact": Entrance(act=_compact, marks=1, check=_went),
    "fork_at": Entrance(act=lambda s: s.writer.fork_at(1), check=_forked_at(1)),
    "fork_at with a copy": Entrance(act=lambda s: s.writer.fork_at(2, copy_history=True), check=_forked_at(2)),
    "fork_at_entry": Entrance(act=lambda s: s.writer.fork_at_entry(3), check=_forked_at(0)),
    "trace": Entrance(act=lambda s: s.writer.trace_event({"type": "ping"}), look=_nowhere),
    "writer's close": Entrance(act=lambda s: s.writer.close(), look=_nowhere, ends=sl.WriterClosed),
}

# ── the store ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _append_freely(scene: Scene) -> int:
    return sl.append_entry(scene.store, SESSION_ID, SEGMENT_ID, _entry())


def _append_with_token(scene: Scene) -> int:
    line = sl.encode_line(sl.Extension(ts=1, domain="d", payload=MARK))
    return scene.store.append(SESSION_ID, SEGMENT_ID, [line], token="again")


def _resumed(scene: Scene, **how: Any) -> None:
    with sl.SegmentWriter.resume(scene.store, SESSION_ID, SEGMENT_ID, **how) as writer:
        writer.save_user_input(MARK)


def _exclusive(scene: Scene) -> None:
    _resumed(scene, exclusive=True, on_conflict="raise")


def _create(scene: Scene) -> tuple[str, str]:
    with sl.SegmentWriter.create(scene.store) as writer:
        return writer.session_id, writer.segment_id


def _created(scene: Scene, result: Any) -> None:
    must(sl.restore(scene.other, *result).entries_count >= 1, "what was created does not restore")


def _restored(scene: Scene, result: sl.RestoredState) -> None:
    must(sl.Message.user(BEFORE) in result.history, "what was acknowledged is not restored")


def _followed(scene: Scene) -> list[bytes]:
    return list(scene.store.follow(SESSION_ID, SEGMENT_ID, stop=lambda: True))


def _all_lines(scene: Scene, result: list[bytes]) -> None:
    must(result == list(scene.other.read(SESSION_ID, SEGMENT_ID)), "lines are missing or too many")


def _listed(scene: Scene) -> object:
    sessions, segments = scene.store.list_sessions(), scene.store.list_segments(SESSION_ID)
    return sessions, segments, scene.store.lookup_session_of(SEGMENT_ID), scene.store.exists(SESSION_ID, SEGMENT_ID)


def _deleted(scene: Scene, result: Any) -> None:
    must(not scene.other.exists(SESSION_ID, SEGMENT_ID), "the session is still there")
    must((scene.root / "trash" / SESSION_ID).is_dir(), "the session is not in the trash")


def _pod_is(extra: dict[str, Any]) -> Callable[[Scene, Any], None]:
    def check(scene: Scene, result: Any) -> None:
        found = scene.pods.read_by_name("pod")
        must(found is not None and found.extra == extra, f"the pod holds {found!r}")

    return check


def _no_pod(scene: Scene, result: Any) -> None:
    must(scene.pods.read_by_name("pod") is None, "the pod is still there")


def _blob_is_there(scene: Scene, result: sl.BlobRef) -> None:
    must(scene.other.get_blob(result) == MARK.encode(), "the blob is not what was put")


STORES: dict[str, Entrance] = {
    "append_entry": Entrance(act=_append_freely, marks=1, look=_length, behind=True),
    "append with a token": Entrance(act=_append_with_token, marks=1, look=_nowhere, behind=True),
    "resume and append": Entrance(act=_resumed, marks=1, look=_length, behind=True),
    "exclusive hold": Entrance(act=_exclusive, marks=1, look=_length, behind=True),
    "create": Entrance(act=_create, check=_created, look=_nowhere),
    "create_segment": Entrance(act=lambda s: sl.create_segment(s.store, sl.SegmentStartState()), check=_created),
    "restore": Entrance(act=lambda s: sl.restore(s.store, SESSION_ID, SEGMENT_ID), check=_restored),
    "head": Entrance(act=_length),
    "read_entries": Entrance(act=lambda s: sl.read_entries(s.store, SESSION_ID, SEGMENT_ID)),
    "follow": Entrance(act=_followed, check=_all_lines),
    "lists": Entrance(act=_listed),
    "append_trace": Entrance(act=lambda s: s.store.append_trace(SESSION_ID, SEGMENT_ID, [TRACED]), look=_nowhere),
    "read_trace": Entrance(act=lambda s: sl.read_trace(s.other, SESSION_ID, SEGMENT_ID)),
    "repair": Entrance(act=lambda s: sl.repair(s.store, SESSION_ID, SEGMENT_ID)),
    "put_blob": Entrance(act=lambda s: s.store.put_blob(MARK.encode()), check=_blob_is_there),
    "get_blob": Entrance(act=lambda s: s.store.get_blob(sl.blobs.sha256_of(KEPT))),
    "pod write": Entrance(act=lambda s: s.pods.write(PodMetadata("pod", extra={"n": 2})), check=_pod_is({"n": 2})),
    "pod update": Entrance(
        act=lambda s: s.pods.update("pod", lambda old: PodMetadata("pod", extra={"n": 1})), check=_pod_is({"n": 1})
    ),
    "pod read": Entrance(act=lambda s: (s.pods.read_by_name("pod"), s.pods.list_names())),
    "pod delete": Entrance(act=lambda s: s.pods.delete_by_name("pod"), check=_no_pod),
    "delete_session": Entrance(
        act=lambda s: s.store.delete_session(SESSION_ID), check=_deleted, look=_nowhere, ends=sl.NotFound
    ),
    "store's close": Entrance(act=lambda s: s.store.close()),
}

ENTRANCES: dict[str, Entrance] = WRITERS | STORES
"""Every way in. ``tests/test_proof_circumstances.py`` sees to it that no public verb is missing."""
