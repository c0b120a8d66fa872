"""What rooms keep beside lines: the caller's own, shaped as entries are; and what disks, forks and Ctrl-C do to it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import session_log as sl
from points import Points
from session_log.checkpoints import (
    checkpoint_at,
    delete_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_part,
    restore_checkpoint,
    save_checkpoint,
)
from session_log.redaction import redact_secrets
from session_log.requests import RequestLog, list_requests, read_prompt, read_response

LARGE = ["x" * 9000]


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="turn") as found:
        yield found


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> sl.Store:
    return sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path)


@pytest.mark.parametrize("large", [[], LARGE], ids=["inline", "blob"])
def test_what_is_read_is_the_caller_s_own(store: sl.Store, large: list[str]) -> None:
    """Changing it changes nothing that is read later, nor what was given changes what was recorded."""
    given = {"list": [1, *large]}
    with sl.SegmentWriter.create(store, trace=True) as writer:
        saved = save_checkpoint(writer, "a", given)
        RequestLog(writer).record("m", [given], given)
        given["list"].append("later")
        (request,) = list_requests(store, writer.session_id)
        reads: list[Callable[[], Any]] = [
            lambda: read_part(store, saved),
            lambda: load_checkpoint(store, writer.session_id, writer.segment_id).state,
            lambda: read_response(store, request),
            lambda: read_prompt(store, request)[0],
        ]
        for read in reads:
            read()["list"].append("mine")
            assert read() == {"list": [1, *large]}


# ── redaction ──────────────────────────────────────────────────────────────────────────────────────────────────────


def redacted(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("s3cret", "[gone]")
    if isinstance(value, dict):
        return {redacted(key): redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list) else value


def shape(entry: sl.LogEntry) -> sl.LogEntry:
    if isinstance(entry, sl.Extension):
        return msgspec.structs.replace(entry, payload=redacted(entry.payload))
    return entry


def test_secrets_are_in_no_part_prompt_or_response(fs: sl.FsStore) -> None:
    """Large or small: a blob is on file as a line is."""
    with sl.SegmentWriter.create(fs, trace=True, redact=redact_secrets) as writer:
        for size in (1, 2000):
            secret = "psql postgres://ann:hunter2@db/x" + " " * size
            save_checkpoint(writer, secret[:5], {"said": [secret]})
            RequestLog(writer).record(
                "m", [{"role": "user", "content": secret}], response={"text": secret}, error=secret
            )

    data = [path.read_bytes() for path in fs.root.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in found for found in data)
    assert sum(b"[redacted: password]" in found for found in data) == 3  # segment, trace, blob
    assert load_checkpoint(fs, writer.session_id, writer.segment_id).parts == {
        "state": {"said": ["psql postgres://ann:[redacted: password]@db/x" + " " * 2000]}
    }


def test_what_shapes_the_writer_s_entries_shapes_parts_prompts_and_responses(fs: sl.FsStore) -> None:
    """A secret that would be taken out of a line is on file nowhere, in no blob and in no trace."""
    with sl.SegmentWriter.create(fs, trace=True) as writer:
        writer._shape = shape
        values: list[Any] = ["s3cret", ["s3cret", *LARGE], {"s3cret": 1}]
        for at, value in enumerate(values):
            save_checkpoint(writer, str(at), value, label="a s3cret")
            RequestLog(writer).record("m", [value], value, error="no s3cret")

        assert [load_checkpoint(fs, writer.session_id, writer.segment_id, str(at)).state for at in range(3)] == [
            redacted(value) for value in values
        ]
        assert [read_prompt(fs, one) for one in list_requests(fs, writer.session_id)] == [
            [redacted(value)] for value in values
        ]
    assert not [path for path in fs.root.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


# ── disks and processes ────────────────────────────────────────────────────────────────────────────────────────────


def test_where_no_blob_can_be_written_there_is_no_checkpoint_and_the_run_goes_on(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs, trace=True) as writer:
        (fs.root / "blobs").write_bytes(b"in the way")
        with pytest.raises(sl.StorageError):
            save_checkpoint(writer, "a", LARGE)
        with pytest.warns(RuntimeWarning, match="the trace is incomplete"):
            assert RequestLog(writer).record("m", LARGE) is None

        assert list_checkpoints(fs, writer.session_id, writer.segment_id).checkpoints == ()
        assert len(list_requests(fs, writer.session_id)) == 0
        save_checkpoint(writer, "a", "small")
        assert RequestLog(writer).record("m", "small") is not None
        assert load_checkpoint(fs, writer.session_id, writer.segment_id).state == "small"


def test_a_closed_writer_saves_nothing(store: sl.Store) -> None:
    writer = sl.SegmentWriter.create(store)
    writer.close()
    with pytest.raises(sl.CallerError):
        save_checkpoint(writer, "a", 1)

    assert store.length(writer.session_id, writer.segment_id) == 1


def test_a_forked_child_records_though_a_thread_of_its_parent_was_at_it(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    first = log.record("parent", ["x" * 300])
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with log._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover  (in the child)
        os._exit(0 if log.record("child", ["x" * 300, "y"]) else 1)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()
    found = list_requests(fs, *key).requests
    assert [request.model for request in found] == ["parent", "child"]
    assert found[1].prompt is not None and found[1].prompt.prefix is not None
    assert found[1].prompt.prefix.request == first and read_prompt(fs, found[1]) == ["x" * 300, "y"]


# ── Ctrl-C ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def fresh(kind: str) -> Iterator[sl.Store]:
    if kind == "memory":
        yield sl.MemoryStore()
        return
    with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
        yield store


def ctrl_c() -> None:
    raise KeyboardInterrupt


ACTS: dict[str, Callable[[sl.SegmentWriter, RequestLog], Any]] = {
    "save": lambda writer, _: save_checkpoint(writer, "b", {"step": 2}, parts={"large": LARGE}),
    "delete": lambda writer, _: delete_checkpoint(writer, "a"),
    "record": lambda _, log: log.record("b", ["x" * 300, *LARGE], "y"),
}


def interrupted(store: sl.Store, act: Callable[[sl.SegmentWriter, RequestLog], Any], at: int) -> bool:
    """Interrupt at the ``at``-th point; tell whether there are as many. Afterwards everything is as one."""
    writer = sl.SegmentWriter.create(store, trace=True)
    log = RequestLog(writer)
    save_checkpoint(writer, "a", {"step": 1})
    log.record("a", ["x" * 300])
    points = Points(at, ctrl_c)
    with suppress(KeyboardInterrupt):
        points.run(lambda: act(writer, log))
    key = writer.session_id, writer.segment_id

    assert writer.head == sl.head(store, *key), points.place
    assert writer.state == sl.restore(store, *key), points.place
    after = threading.Thread(target=lambda: (save_checkpoint(writer, "c", 3), log.record("c", ["x" * 300, 3])))
    after.start()  # in another thread: a lock that was left behind would block it
    after.join(20)
    assert not after.is_alive(), points.place
    found = list_checkpoints(store, *key)
    ids = [one.id for one in found.checkpoints]
    assert ids in (["c", "a"], ["c", "b", "a"], ["c"]) and found.damage == (), points.place
    assert restore_checkpoint(store, *key, "c").parts == {"state": 3}, points.place
    for one in found.checkpoints:
        assert checkpoint_at(store, *key, one.line) == one, points.place
        assert load_checkpoint(store, *key, one.id).checkpoint == one, points.place
    requests = list_requests(store, *key)
    assert [one.model for one in requests] in (["a", "c"], ["a", "b", "c"]) and requests.damage == (), points.place
    assert read_prompt(store, requests.requests[-1]) == ["x" * 300, 3], points.place
    writer.close()
    return points.count >= at


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_an_interrupt_at_any_point_leaves_all_of_it_or_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """And no lock; what comes next works. Of the points in files, every third is tried."""
    monkeypatch.setattr(sys, "unraisablehook", lambda what: None)  # Python drops what is raised in a finalizer
    at = 1
    with fresh(kind) as store:
        while interrupted(store, ACTS[name], at):
            at += 1 if kind == "memory" else 3
    assert at > 50
