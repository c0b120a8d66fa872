"""The laws of reading, of traces and blobs, of what is the caller's own, and of the end."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

from session_log import (
    BlobRef,
    Capabilities,
    InvalidEntry,
    Message,
    NotFound,
    SegmentStartState,
    SegmentWriter,
    Store,
    new_segment_id,
    new_session_id,
    restore,
)
from session_log.testing._law import Trial, expect, law, line, marked, refused, start

_DURABILITIES = ("memory", "process", "turn", "power")


@law
def any_part_can_be_read(trial: Trial) -> None:
    """``read`` returns the lines from ``start`` to before ``stop``; what lies beyond the end is simply not there."""
    ids = trial.segment(line(1), line(2))
    trial.store.append(*ids, [line(3), line(4), line(5)])
    trial.store.append(*ids, [line(6)])
    every = trial.lines(ids)
    expect("how many lines there are", len(every), 7)
    for first in range(len(every) + 3):
        expect(f"read from {first}", list(trial.store.read(*ids, first)), every[first:])
        for stop in range(len(every) + 3):
            expect(f"read({first}, {stop})", list(trial.other.read(*ids, first, stop)), every[first:stop])
    expect("read far beyond the end", list(trial.store.read(*ids, 10**12, 10**15)), [])


@law
def a_read_is_of_the_moment_of_the_call(trial: Trial) -> None:
    """``read`` returns what was committed when it was called, whatever is appended before or while it is iterated."""
    ids = trial.segment(*map(line, range(50)))
    every = trial.lines(ids)
    whole, part, begun = trial.store.read(*ids), trial.other.read(*ids, 10, 10**6), trial.store.read(*ids)
    first = next(begun)
    trial.store.append(*ids, [line("later"), line("later still")])
    expect("a read begun before an append", list(whole), every)
    expect("a part read", list(part), every[10:])
    expect("a read in the middle of which was an append", [first, *begun], every)


@law
def what_is_returned_is_the_callers_own(trial: Trial) -> None:
    """Changing what was returned or handed in changes nothing in the store; two reads do not share a place."""
    lines = [line("in a list of the caller"), line(2)]
    ids = new_session_id(), new_segment_id()
    given = [start(ids)]
    trial.store.create_segment(*ids, given)
    given.append(line("added to the caller's list"))
    trial.store.append(*ids, lines)
    lines.clear()
    trace = [line("trace")]
    trial.store.append_trace(*ids, trace)
    trace.clear()
    expect("the lines", trial.lines(ids), [start(ids), *marked([line("in a list of the caller"), line(2)])])
    expect("the trace", list(trial.store.read_trace(*ids)), [line("trace")])
    trial.store.list_sessions().clear()
    trial.store.list_segments(ids[0]).clear()
    expect("the sessions", trial.store.list_sessions(), [ids[0]])
    expect("the segments", trial.store.list_segments(ids[0]), [ids[1]])
    one, two = trial.store.read(*ids), trial.store.read(*ids)
    expect(
        "two reads in turn", [next(one), next(two), next(one), next(two)], [start(ids)] * 2 + trial.lines(ids)[1:2] * 2
    )


@law
def a_trace_is_kept_apart(trial: Trial) -> None:
    """Trace lines come back in order, byte for byte and unmarked; no read, follow or listing shows them."""
    ids = trial.segment(line(1))
    expect("a trace nobody wrote", list(trial.store.read_trace(*ids)), [])
    written: list[bytes] = []
    batches = ([line("a")], [line("b"), line("c")], ['{"event":"\u2028 é","batch":1}'.encode()])
    for number, lines in enumerate(batches):
        trial.handles[number % len(trial.handles)].append_trace(*ids, lines)
        written += lines
        for store in trial.handles:
            expect("the trace", list(store.read_trace(*ids)), written)
    expect("the segment beside a trace", trial.lines(ids), [start(ids), line(1)])
    expect("the segments of the session", trial.store.list_segments(ids[0]), [ids[1]])
    expect("the segment's own next length", trial.store.append(*ids, [line(2)], expected=2), 3)
    expect("the trace of another segment", list(trial.store.read_trace(*trial.segment())), [])


@law
def a_trace_hides_no_line(trial: Trial) -> None:
    """A trace line that carries the mark of a batch is refused, or it and what follows it come back."""
    ids = trial.segment()
    odd = line(1)[:-1] + b',"batch":5}'
    try:
        trial.store.append_trace(*ids, [odd])
    except InvalidEntry:
        return
    trial.store.append_trace(*ids, [line(2)])
    expect("the trace", list(trial.store.read_trace(*ids)), [odd, line(2)])


@law
def blobs_are_named_by_their_content(trial: Trial) -> None:
    """A payload comes back by its reference, or its hash in any case; any other name is an error of its kind."""
    for data in (b"", b"abc", bytes(range(256)) * 5_000):
        sha256 = hashlib.sha256(data).hexdigest()
        missing = functools.partial(trial.other.get_blob, sha256)
        refused("a blob before it was put", NotFound, missing)
        for store in trial.handles:
            expect("what put_blob returned", store.put_blob(data), BlobRef(sha256, len(data)))
        for store in trial.handles:
            for ref in (BlobRef(sha256, len(data)), sha256, sha256.upper()):
                expect(f"whether the blob came back by {ref!r:.20}", store.get_blob(ref) == data, True)
    bad: tuple[Any, ...] = ("", "ba", "z" * 64, "../" + "a" * 61, 7, None)
    for name in bad:
        refused(f"get_blob({name!r})", InvalidEntry, functools.partial(trial.store.get_blob, name))
    no_bytes: tuple[Any, ...] = ("text", None, bytearray(b"abc"), io.StringIO("text"))
    for one in no_bytes:
        refused(f"put_blob({one!r})", InvalidEntry, functools.partial(trial.store.put_blob, one))
    wrong = BlobRef(hashlib.sha256(b"abc").hexdigest(), 4)
    refused("a reference with another size", InvalidEntry, lambda: trial.store.get_blob(wrong))


@law
def a_blob_may_come_from_a_file(trial: Trial) -> None:
    """A path or an open file is put like its bytes, also a large one, and is the same blob."""
    data = bytes(range(256)) * 12_000  # more than is read at a time
    sha256 = hashlib.sha256(data).hexdigest()
    file = io.BytesIO(b"before" + data)
    file.seek(len(b"before"))
    expect("what put_blob(file) returned", trial.store.put_blob(file), BlobRef(sha256, len(data)))
    expect("whether the file's blob came back", trial.other.get_blob(sha256) == data, True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "payload")
        path.write_bytes(data + b"!")
        ref = trial.other.put_blob(path)
        expect("whether the path's blob came back", trial.store.get_blob(ref) == data + b"!", True)
        refused("a path where nothing is", NotFound, lambda: trial.store.put_blob(Path(folder, "nothing")))
    expect("an empty file", trial.store.get_blob(trial.store.put_blob(io.BytesIO())), b"")


@law
def a_reference_says_what_it_is_of(trial: Trial) -> None:
    """Media type and kind go into the reference that ``put_blob`` returns, and make no other blob of it."""
    plain = trial.store.put_blob(b"abc")
    ref = trial.other.put_blob(b"abc", media_type="text/plain", kind="note")
    expect("the reference", ref, BlobRef(plain.sha256, 3, "text/plain", "note"))
    expect("the blob by both", (trial.store.get_blob(ref), trial.other.get_blob(plain)), (b"abc", b"abc"))


@law
def what_is_spilled_comes_back(trial: Trial) -> None:
    """A writer with ``max_inline_bytes`` keeps a long text in a blob, and ``restore`` gives it back from any handle."""
    text = "a line of output\n" * 500
    with SegmentWriter.create(trial.store, max_inline_bytes=4_096) as writer:
        writer.save_user_input(text)
        ids = writer.session_id, writer.segment_id
    expect("whether the lines are short", max(map(len, trial.other.read(*ids))) < 4_096, True)
    whole = restore(trial.other, *ids, resolve_blobs=True)
    expect("whether the whole text came back", whole.history == (Message.user(text),), True)


@law
def capabilities_are_plausible(trial: Trial) -> None:
    """``capabilities`` names a durability, limits that fit each other and a latency; the store has every method."""
    store = trial.store
    able = store.capabilities()
    expect("whether the store has every method", isinstance(store, Store), True)
    expect("the type of the capabilities", type(able), Capabilities)
    expect(f"whether {able.durability!r} is one of {_DURABILITIES}", able.durability in _DURABILITIES, True)
    expect("the type of shared_between_processes", type(able.shared_between_processes), bool)
    expect("whether a line of 64 KiB fits", able.max_line_bytes >= 1 << 16, True)
    expect("whether a batch of two lines fits", able.max_batch_lines >= 2, True)
    expect("whether the longest line fits into a batch", able.max_batch_bytes > able.max_line_bytes, True)
    expect("whether the tail latency is a positive number of ms", able.tail_latency_ms > 0, True)
    expect("the capabilities asked for again", (store.capabilities(), trial.other.capabilities()), (able, able))


@law
def close_may_be_called_twice(trial: Trial) -> None:
    """Closing twice is no error, and another handle on the same data does not mind."""
    ids = trial.segment(line(1))
    trial.store.append_trace(*ids, [line("trace")])
    before = trial.lines(ids)
    trial.store.close()
    trial.store.close()
    if trial.other is not trial.store:
        expect("what another handle reads", list(trial.other.read(*ids)), before)
        expect("another handle's append", trial.other.append(*ids, [line(2)], expected=2), 3)


@law
def a_writer_records_and_forks(trial: Trial) -> None:
    """A ``SegmentWriter`` records and resumes over the store; of two, the one behind goes on in a fork."""
    with SegmentWriter.create(trial.store, SegmentStartState(system_prompt="be brief")) as one:
        one.save_user_input("hello")
        session_id, segment_id = one.session_id, one.segment_id
        with SegmentWriter.resume(trial.other, session_id, segment_id) as two, one.batch():
            two.save_delta([Message.assistant("from two"), Message.assistant("and more")])
            one.save_delta([Message.assistant("from one")])
            one.save_turn_end()
        expect("the segment of the one that came first", two.segment_id, segment_id)
        expect("whether the other one went on in a fork", one.segment_id != segment_id, True)
        theirs, ours = (_texts(trial.other, session_id, each) for each in (segment_id, one.segment_id))
        expect("the history of the segment", theirs, ["hello", "from two", "and more"])
        expect("the history of the fork", ours, ["hello", "from one"])
        expect("the state of the writer", one.state, restore(trial.other, session_id, one.segment_id))
    expect("the segments", set(trial.store.list_segments(session_id)), {segment_id, one.segment_id})


def _texts(store: Store, session_id: str, segment_id: str) -> list[str]:
    return [item.text for item in restore(store, session_id, segment_id).history if isinstance(item, Message)]
