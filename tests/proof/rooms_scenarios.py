"""The scenarios of what stands beside the entries: small programs that say what was acknowledged to them."""

from collections.abc import Callable, Mapping

import session_log as sl
from proof.play import Kept, Play
from proof.tidings import state_of
from session_log.checkpoints import save_checkpoint
from session_log.facts import archive, set_facts
from session_log.keys import open_or_create
from session_log.lifecycle import delete_segment, delete_session, detach_segment
from session_log.trash import purge, undelete_segment, undelete_session

Scenario = Callable[[Play], None]
LIVE, TRASHED, GONE = "live", "trashed", "gone"
INLINE_BYTES = 1024


def large_text(note: str) -> str:
    """Return a text that a writer spills."""
    return f"{note} " + "spilled " * 300


def spilled_texts(play: Play) -> None:
    """Texts that are put into blobs, one by one, as a batch, and one whose blob is there already."""
    with sl.SegmentWriter.create(play.store(), max_inline_bytes=INLINE_BYTES) as writer:
        ids = writer.session_id, writer.segment_id
        notes = [play.note() for _ in range(4)]
        for note in notes[:2]:
            writer.save_user_input(large_text(note))
            play.tell(Kept("text", ids, note, final=False))
        with writer.batch():
            for note in (notes[2], notes[0]):
                writer.save_user_input(large_text(note))
            writer.save_turn_end()
        for note in notes[:3]:
            play.tell(Kept("text", ids, note))
        writer.save_delta([sl.ToolResult("a", large_text(notes[3]))])


def checkpoints(play: Play) -> None:
    """Checkpoints with parts as blobs, some of them shared, between turns."""
    with sl.SegmentWriter.create(play.store()) as writer:
        ids = writer.session_id, writer.segment_id
        for name in ("one", "two", "three"):
            save_checkpoint(writer, name, state_of(name))
            play.tell(Kept("checkpoint", ids, name, final=False))
            if name != "three":
                writer.save_turn_end()
                play.tell(Kept("checkpoint", ids, name))


def facts(play: Play) -> None:
    """Facts are set, changed, and the status alone; a session is put into the archive."""
    store = play.store()
    ids = sl.create_segment(store)
    for title in ("one", "two"):
        set_facts(store, ids[0], title=title, labels=["a", title])
        play.tell(Kept("title", ids, title))
    set_facts(store, ids[0], status="running")
    archive(store, ids[0])
    play.tell(Kept("archived", ids, "yes"))


def keys(play: Play) -> None:
    """Sessions are opened by their keys, by several stores; one key moves to another session."""
    for key in ("thread 1", "thread 2", "thread 1"):
        session_id, segment_id, _ = open_or_create(play.store(), key)
        play.tell(Kept("key", (session_id, segment_id), key))
    store = play.store()
    other = sl.create_segment(store)
    set_facts(store, other[0], external_key="thread 3")
    play.tell(Kept("key", other, "thread 3"))


def _talk(play: Play) -> sl.SegmentWriter:
    writer = play.create()
    play.say(writer)
    writer.save_turn_end()
    return writer


def detach(play: Play) -> None:
    """A child by reference stands alone, then its parent goes."""
    parent = _talk(play)
    child = play.resume(parent.session_id, parent.fork_at(1))
    child.save_turn_end()
    ids = child.session_id, child.segment_id
    play.tell(Kept("inherits", ids, "«note 1»"))
    parent.close()
    child.close()
    detach_segment(play.store(), *ids)
    play.tell(Kept("alone", ids, "yes"))
    _goes(play, (parent.session_id, parent.segment_id), TRASHED, lambda: delete_segment(play.store(), *_ids(parent)))


def delete_with_children(play: Play) -> None:
    """A segment goes to the trash, its child stands alone from then on; it comes back."""
    parent = _talk(play)
    child = play.resume(parent.session_id, parent.fork_at(1))
    child.save_turn_end()
    play.tell(Kept("inherits", _ids(child), "«note 1»"))
    parent.close()
    child.close()
    _goes(play, _ids(parent), TRASHED, lambda: delete_segment(play.store(), *_ids(parent), detach=True))
    _goes(play, _ids(parent), LIVE, lambda: undelete_segment(play.store(), *_ids(parent)))


def lives_of_a_session(play: Play) -> None:
    """One is deleted, brought back, deleted again and purged; another comes back in the end."""
    doomed, kept = _talk(play), _talk(play)
    doomed.close()
    kept.close()
    play.tell(Kept("place", (kept.session_id, ""), LIVE))
    ids = doomed.session_id, ""
    _goes(play, ids, TRASHED, lambda: delete_session(play.store(), ids[0]))
    _goes(play, ids, LIVE, lambda: undelete_session(play.store(), ids[0]))
    _goes(play, ids, TRASHED, lambda: delete_session(play.store(), ids[0]))
    _goes(play, ids, GONE, lambda: purge(play.store()))
    ids = kept.session_id, ""
    _goes(play, ids, TRASHED, lambda: delete_session(play.store(), ids[0]))
    _goes(play, ids, LIVE, lambda: undelete_session(play.store(), ids[0]))


def _ids(writer: sl.SegmentWriter) -> tuple[str, str]:
    return writer.session_id, writer.segment_id


def _goes(play: Play, ids: tuple[str, str], where: str, go: Callable[[], object]) -> None:
    before = {TRASHED: LIVE, LIVE: TRASHED, GONE: TRASHED}[where]
    play.tell(Kept("place", ids, before))
    play.tell(Kept("place", ids, where, done=False))
    go()
    play.tell(Kept("place", ids, where))


ROOM_SCENARIOS: Mapping[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (spilled_texts, checkpoints, facts, keys, detach, delete_with_children, lives_of_a_session)
}
"""The scenarios by name."""
