"""Before: the files that errands begin with, and what is recorded in them, over and over."""

import session_log as sl
from oracle import fold, started
from proof.stage import Stage, Voice

SESSION = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
SEGMENT = "0197b2c4-1a01-7c3e-9f10-5e2d8a7b0c02"
IDS = SESSION, SEGMENT
START = sl.SegmentStartState("You are helpful.", sl.RequestConfig(max_tokens=64))
CALL, RESULT = sl.ToolCall("c", "run", "{}"), sl.ToolResult("c", "größer")
SHORTER = sl.SegmentStartState("You go on.", sl.RequestConfig(), (sl.Message.user("summary"),))
BLOB = b"picture" * 20
POD = sl.PodMetadata("worker", sl.PodActiveSegmentRef(SESSION, SEGMENT))
DAMAGED = (b'{"kind":"invoke"}', b"not json at all")
TURN_LINES = 9
"""The lines of a session of one turn."""
TORN = b'{"kind":"invoke","ts":17514'


def nothing(stage: Stage) -> None:
    """Make nothing, not even the root."""


def a_turn(stage: Stage) -> None:
    """Make a session of one turn."""
    with stage.store() as store:
        sl.create_segment_with_ids(store, *IDS, START)
        stage.account.states[IDS] = started(START)
        voice = resume(stage, store)
        turn(voice)
        voice.writer.close()


def a_torn_turn(stage: Stage) -> None:
    """Make a session whose last writer was killed in the middle of a line."""
    a_turn(stage)
    path = stage.store().segment_path(*IDS)
    path.write_bytes(path.read_bytes() + TORN)
    stage.account.torn[IDS] = (TORN,)


def a_damaged_turn(stage: Stage) -> None:
    """Make a session with two lines that are no entries."""
    a_turn(stage)
    path = stage.store().segment_path(*IDS)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2:2] = [line + b"\n" for line in DAMAGED]
    path.write_bytes(b"".join(lines))
    stage.account.damaged[IDS] = DAMAGED


def everything(stage: Stage) -> None:
    """Make a session with a fork, a trace, a blob and a pod."""
    a_turn(stage)
    with stage.store() as store:
        child = sl.fork_at(store, *IDS, 1)
        stage.account.states[SESSION, child] = stage.account.states[IDS]
        sl.append_trace(store, *IDS, marker("before"))
        stage.account.traces[IDS] = ["before"]
        store.put_blob(BLOB)
        stage.account.blobs.append(BLOB)
    sl.FsPodStore(stage.root).write(POD)
    stage.account.pods["worker"] = POD


def resume(stage: Stage, store: sl.FsStore, *, exclusive: bool = False, trace: bool = False) -> Voice:
    """Return a writer that goes on in the session."""
    return Voice(
        stage, lambda: sl.SegmentWriter.resume(store, *IDS, exclusive=exclusive, trace=trace), stage.account.states[IDS]
    )


def typed(text: str) -> sl.UserInput:
    """Return the entry of a text that the user sent."""
    return sl.UserInput(ts=0, segments=(sl.TextInput(text),))


def said(*items: sl.Item) -> list[sl.LogEntry]:
    """Return the entries of items."""
    return [sl.classify_history_item(item, 0) for item in items]


def turn(voice: Voice) -> None:
    """Record a turn, as a runtime does."""
    voice.record("invoke", lambda w: w.save_invoke(), [sl.Invoke(ts=0, trigger="user_send")])
    voice.record("input", lambda w: w.save_user_input("do it"), [typed("do it")])
    voice.record("delta", lambda w: w.save_delta([CALL, RESULT]), said(CALL, RESULT))
    voice.record("batch", _batch, [*said(sl.Message.assistant("done")), sl.Extension(ts=0, domain="d", payload=[1])])
    after = fold(voice.state, [sl.TurnEnd(ts=0, turn_count=voice.state.turn_count + 1)])
    voice.change("turn end", lambda w: w.save_turn_end(), after)
    voice.record("completed", lambda w: w.save_run_completed(), [completed()])


def _batch(writer: sl.SegmentWriter) -> None:
    with writer.batch():
        writer.save_delta([sl.Message.assistant("done")])
        writer.save_extension("d", [1])


def completed() -> sl.RunCompleted:
    """Return the entry of a run that returned."""
    return sl.RunCompleted(ts=0, interrupted=False, result="finished")


def marker(label: str) -> sl.TraceEntry:
    """Return an entry of a trace."""
    return sl.TraceEntry.lifecycle(ts=0, turn=0, label=label)
