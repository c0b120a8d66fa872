"""The scenarios: small programs that write with the real library and say what was acknowledged to them.

To add one, write a function that takes a :class:`Play` and list it in SCENARIOS. What it acknowledges, other than
entries, needs a kind of its own in :mod:`proof.play` and a law in :mod:`proof.laws`.
"""

from collections.abc import Callable, Mapping

import session_log as sl
from proof.play import Blob, Deletion, Entries, Play, Pod, Traced
from proof.tails import repair, resume_amid_turn, torn_batch, torn_line, torn_zeros
from session_log import pods

Scenario = Callable[[Play], None]


def append(play: Play) -> None:
    """Two turns, the second not ended."""
    writer = play.create()
    play.turn(writer)
    writer.save_invoke()
    play.did(writer)
    play.say(writer)


def batch(play: Play) -> None:
    """Turns of one write each, and a single line between them."""
    writer = play.create()
    for _ in range(2):
        notes = [play.note() for _ in range(2)]
        with writer.batch():
            for note in notes:
                writer.save_delta([sl.Message.assistant(note)])
            writer.save_turn_end()
        play.did(writer, *notes)
        play.say(writer)
    writer.save_delta([sl.ToolCall("a", "run", "{}"), sl.ToolResult("a", "ok")])
    play.did(writer)


def first_entry(play: Play) -> None:
    """Two new sessions below a root that is not there yet."""
    play.say(play.create())
    play.create()


def fork_by_reference(play: Play) -> None:
    """A child, and a grandchild that is forked amid a turn."""
    writer = play.create()
    play.turn(writer)
    play.turn(writer)
    child = play.resume(writer.session_id, writer.fork_at(1))
    play.did(child)
    play.say(child)
    grandchild = play.resume(child.session_id, child.fork_at_entry(child.head.entries))
    play.did(grandchild)
    play.turn(grandchild)


def fork_self_contained(play: Play) -> None:
    """A child that has its history inline."""
    writer = play.create()
    play.turn(writer)
    play.say(writer)
    child = play.resume(writer.session_id, writer.fork_at(1, copy_history=True))
    play.did(child)
    play.turn(child)


def compaction(play: Play) -> None:
    """The history is replaced by a summary, in a new segment."""
    writer = play.create()
    play.turn(writer)
    writer.compact(sl.SegmentStartState(history=(sl.Message.assistant("summary"),)))
    play.did(writer)
    play.turn(writer)


def rollback(play: Play) -> None:
    """A turn is undone, redone, and followed by another."""
    writer = play.create()
    play.turn(writer)
    before = writer.head.entries
    play.say(writer)
    for entries in (before, before + 1):
        writer.rollback(entries)
        play.did(writer)
    play.turn(writer)


def auto_fork(play: Play) -> None:
    """Two writers on one segment: the one behind goes on in a fork and ends its turn there."""
    first = play.create()
    play.turn(first)
    play.say(first)
    second = play.resume(first.session_id, first.segment_id)
    play.say(second)
    play.say(first)
    first.save_turn_end()
    play.did(first)
    play.say(second)


def trace(play: Play) -> None:
    """Traced events between the entries."""
    writer = play.create(trace=True)
    for count in (1, 2, 3):
        writer.trace_event({"delta": play.note()})
        play.tell(Traced(writer.session_id, writer.segment_id, count))
        play.say(writer)
    writer.save_turn_end()
    play.did(writer)


def follow(play: Play) -> None:
    """A follower takes up what is written, each time from where it was."""
    writer = play.create()
    store = play.store()
    seen: list[bytes] = []
    for _ in range(2):
        play.turn(writer)
        seen += store.follow(writer.session_id, writer.segment_id, len(seen), stop=lambda: True)
        assert len(seen) == writer.head.entries


def pod_metadata(play: Play) -> None:
    """A pod is made, updated, and removed; another one stays."""
    writer = play.create()
    kept = pods.FsPodStore(play.root)
    active = pods.PodActiveSegmentRef(session_id=writer.session_id, segment_id=writer.segment_id)
    for name in ("Pod", "other"):
        _write_pod(play, kept, pods.PodMetadata(pod_name=name))
    _write_pod(play, kept, pods.PodMetadata(pod_name="Pod", active=active))

    def delete() -> None:
        play.tell(Pod("Pod", None, done=False))
        kept.delete_by_name("Pod")
        play.tell(Pod("Pod", None, done=True))

    play.attempt(delete)


def _write_pod(play: Play, store: pods.FsPodStore, metadata: pods.PodMetadata) -> None:
    value = pods.encode_pod_metadata(metadata).decode()

    def write() -> None:
        play.tell(Pod(metadata.pod_name, value, done=False))
        store.write(metadata)
        play.tell(Pod(metadata.pod_name, value, done=True))

    play.attempt(write)


def blobs(play: Play) -> None:
    """Payloads are put, one of them twice, and referred to."""
    writer = play.create()
    for payload in (b"blob" * 150, b"another", b"blob" * 150):

        def put(payload: bytes = payload) -> None:
            play.tell(Blob(play.store().put_blob(payload).sha256))

        play.attempt(put)
        play.say(writer)


def delete_session(play: Play) -> None:
    """One session of two goes to the trash."""
    doomed = play.create()
    play.turn(doomed)
    play.turn(play.create())

    def delete() -> None:
        play.tell(Deletion(doomed.session_id, done=False))
        play.store().delete_session(doomed.session_id)
        play.tell(Deletion(doomed.session_id, done=True))

    doomed.close()
    play.attempt(delete)


def exclusive(play: Play) -> None:
    """A writer that holds its segment; another one has to go elsewhere."""
    writer = play.create(exclusive=True)
    play.turn(writer)
    play.say(writer)
    second = play.resume(writer.session_id, writer.segment_id)
    play.say(second)
    play.turn(second)


def large_lines(play: Play) -> None:
    """A batch over several sectors and blocks, behind a line that ends amid a sector."""
    writer = play.create()
    play.say(writer)
    notes = [play.note() for _ in range(3)]
    with writer.batch():
        for note in notes:
            writer.save_delta([sl.Message.assistant(note + "x" * 1500)])
    play.did(writer, *notes)
    writer.save_turn_end()
    play.did(writer)


def free_functions(play: Play) -> None:
    """A runtime that knows nothing but ids, and repeats an append whose answer it did not hear."""
    store = play.store()
    ids = sl.create_segment(store)
    play.tell(Entries(*ids, 1))
    note = play.note()
    play.tell(Entries(*ids, sl.save_user_input(store, *ids, note), (note,)))
    line = sl.encode_line(sl.TurnEnd(ts=sl.now_ms(), turn_count=1))
    for _ in range(2):
        play.tell(Entries(*ids, store.append(*ids, [line], expected=2, token="again")))


def sync(play: Play) -> None:
    """Everything so far is brought to the disk on request, whatever the durability."""
    writer = play.create()
    play.say(writer)
    writer.sync()
    play.did(writer, synced=True)
    play.say(writer)


SCENARIOS: Mapping[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        append,
        batch,
        first_entry,
        fork_by_reference,
        fork_self_contained,
        compaction,
        rollback,
        auto_fork,
        torn_line,
        torn_batch,
        torn_zeros,
        resume_amid_turn,
        trace,
        follow,
        pod_metadata,
        blobs,
        delete_session,
        exclusive,
        large_lines,
        repair,
        free_functions,
        sync,
    )
}
"""The scenarios by name."""
