"""Besides: errands beside the log of a session: traces, pods, blobs, repair, deletion, and reading."""

import warnings
from dataclasses import replace

import session_log as sl
from oracle import folded
from proof.account import Account
from proof.before import BLOB, IDS, POD, SEGMENT, SESSION, TURN_LINES, completed, marker, resume, typed
from proof.stage import Stage, Unknown, lift_limit
from session_log.blobs import sha256_of


def trace(stage: Stage) -> None:
    """Trace, by a writer, which it never stops, and without."""
    stage.account.traces[IDS] = []
    with stage.store() as store:
        voice = resume(stage, store, trace=True)
        for label in ("one", "two"):
            _trace_by_writer(stage, voice.writer, label)
        voice.record("input", lambda w: w.save_user_input("go"), [typed("go")])
        stage.settle(
            "trace",
            lambda: sl.append_trace(store, *IDS, marker("three")),
            lambda account, _: account.traces[IDS].append("three"),
        )
        voice.record("completed", lambda w: w.save_run_completed(), [completed()])


def _trace_by_writer(stage: Stage, writer: sl.SegmentWriter, label: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer.trace_lifecycle(label)
    stage.account.traces[IDS].append(label)
    if caught:
        stage.told.append(str(caught[0].message))
        stage.account.lossy.add(label)
        lift_limit()


def keep_pods(stage: Stage) -> None:
    """Write, change and remove what is known of pods."""
    pods = sl.FsPodStore(stage.root)
    moved = sl.PodMetadata("worker", sl.PodActiveSegmentRef(SESSION))
    other = sl.PodMetadata("other")
    stage.settle("write", lambda: pods.write(POD), lambda account, _: account.pods.update(worker=POD))
    stage.settle("write", lambda: pods.write(other), lambda account, _: account.pods.update(other=other))
    stage.settle(
        "update",
        lambda: pods.update("worker", lambda old: moved),
        lambda account, _: account.pods.update(worker=moved),
    )
    stage.settle("delete", lambda: pods.delete_by_name("other"), lambda account, _: account.pods.pop("other", None))
    stage.look("read", lambda: pods.read_by_name("worker"), moved)


def keep_blobs(stage: Stage) -> None:
    """Put payloads, one of them twice."""
    with stage.store() as store:
        for data in (BLOB, b"other", BLOB):
            _keep(stage, store, data)


def _keep(stage: Stage, store: sl.FsStore, data: bytes) -> None:
    stage.settle("put", lambda: store.put_blob(data), lambda account, _: account.blobs.append(data))
    stage.look("get", lambda: store.get_blob(sha256_of(data)), data)


def delete(stage: Stage) -> None:
    """Delete a session that a writer is in."""
    with stage.store() as store:
        stage.act("verb", lambda: sl.save_invoke(store, *IDS, "x"), _interrupted)
        try:
            stage.act("delete", lambda: store.delete_session(SESSION), _deleted)
        except Unknown as unknown:
            if not unknown.done:
                stage.act("delete", lambda: store.delete_session(SESSION), _deleted)


def _interrupted(account: Account, result: object) -> None:
    account.states[IDS] = replace(account.states[IDS], interrupted=True)


def _deleted(account: Account, result: object) -> None:
    account.states.clear()
    account.traces.clear()
    account.trash.add(SESSION)


def mend(stage: Stage) -> None:
    """Repair two damaged lines."""
    with stage.store() as store:
        stage.settle("repair", lambda: sl.repair(store, *IDS), lambda account, _: account.damaged.pop(IDS, None))
        voice = resume(stage, store)
        voice.record("input", lambda w: w.save_user_input("whole again"), [typed("whole again")])


def read(stage: Stage) -> None:
    """Ask for everything there is."""
    now, child = stage.account.states[IDS], max(segment for _, segment in stage.account.states)
    pods = sl.FsPodStore(stage.root)
    with stage.store() as store:
        stage.look("sessions", store.list_sessions, [SESSION])
        stage.look("segments", lambda: store.list_segments(SESSION), [child, SEGMENT])
        stage.look("exists", lambda: store.exists(*IDS), True)
        stage.look("lookup", lambda: store.lookup_session_of(child), SESSION)
        stage.look("restore", lambda: folded(sl.restore(store, *IDS)), now)
        stage.look("restore the fork", lambda: folded(sl.restore_by_segment(store, child)), now)
        stage.look("restore a turn", lambda: folded(sl.restore(store, SESSION, child, at_turn=1)), now)
        stage.look("length", lambda: store.length(*IDS), TURN_LINES)
        stage.look("follow", lambda: len(list(store.follow(*IDS, stop=lambda: True))), TURN_LINES)
        stage.look("trace", lambda: [entry.label for entry in sl.read_trace(store, *IDS)], ["before"])
        stage.look("blob", lambda: store.get_blob(sha256_of(BLOB)), BLOB)
        stage.look("pod", lambda: pods.read_by_name("worker"), POD)
        stage.look("pods", pods.list_names, ["worker"])
