"""What only files have: permissions, things in the way, full disks, descriptors, forks, locks and owners.

The laws of every store are in test_store_contract.py; cuts at every byte are in test_cuts_and_crashes.py.
"""

import contextlib
import errno
import fcntl
import functools
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import session_log
from session_log import (
    MAX_OPEN_FILES,
    AppendUnknown,
    CorruptSegment,
    Extension,
    FsStore,
    HeadMoved,
    MemoryStore,
    NotFound,
    RequestConfig,
    SegmentBusy,
    SegmentExists,
    SegmentStart,
    SegmentWriter,
    SessionLogError,
    StorageError,
    Store,
    StoreUnavailable,
    UnsafePath,
    encode_line,
    fork_at_entry,
    new_segment_id,
    new_session_id,
    repair,
    restore,
)

Ids = tuple[str, str]
Durability = Literal["process", "turn", "power"]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def nobody_waits_for_ever() -> Iterator[None]:
    """Interrupt a test that hangs, instead of waiting with it."""

    def interrupt(*_: object) -> None:
        raise TimeoutError("the test hangs")

    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)


def start(ids: Ids) -> bytes:
    return encode_line(SegmentStart(ts=1, session_id=ids[0], config=RequestConfig(), history=(), v=1))


def line(*what: int | str) -> bytes:
    return encode_line(Extension(ts=1, domain="test", payload=list(what)))


def batch(*lines: bytes) -> list[bytes]:
    """Lines as they stand on file after one append."""
    first = lines[0][:-1] + b',"batch":%d}' % len(lines)
    return [first, *(one[:-1] + b',"batch":0}' for one in lines[1:])]


def file_of(*lines: bytes) -> bytes:
    return b"".join(one + b"\n" for one in lines)


def segment(store: FsStore, *lines: bytes, session_id: str | None = None) -> Ids:
    ids = session_id or new_session_id(), new_segment_id()
    store.create_segment(*ids, [start(ids)])
    for one in lines:
        store.append(*ids, [one])
    return ids


def path_of(store: FsStore, ids: Ids, suffix: str = ".jsonl") -> Path:
    return store.segment_path(*ids).with_name(ids[1] + suffix)


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a root that a write would change, times included; nothing if there is no root."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [root, *root.rglob("*")] if root.exists() else []:
        at = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(at.st_mode) else None
        found[str(path)] = (at.st_mode, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns, content)
    return found


def readings(store: FsStore, ids: Ids) -> dict[str, Callable[[], object]]:
    """Every call that only looks."""
    return {
        "read": lambda: list(store.read(*ids)),
        "read a part": lambda: list(store.read(*ids, 0, 1)),
        "length": lambda: store.length(*ids),
        "follow": lambda: list(store.follow(*ids, stop=lambda: True)),
        "read_trace": lambda: list(store.read_trace(*ids)),
        "torn_bytes": lambda: store.torn_bytes(*ids),
        "restore": lambda: restore(store, *ids),
        "salvage": lambda: restore(store, *ids, salvage=True),
        "resume": lambda: SegmentWriter.resume(store, *ids).close(),
        "list_segments": lambda: store.list_segments(ids[0]),
    }


# ── other processes ────────────────────────────────────────────────────────────────────────────────────────────────


def command(function: Callable[..., None], *arguments: object) -> list[str]:
    program = "import importlib, sys; getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])"
    return [sys.executable, "-c", program, function.__module__, function.__name__, *map(str, arguments)]


def environment() -> dict[str, str]:
    folders = Path(__file__).parent, Path(session_log.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def assert_apart(function: Callable[..., None], *arguments: object, before: tuple[str, ...] = ()) -> None:
    """Run a function of this file in a process of its own; what fails there fails here."""
    done = subprocess.run(
        [*before, *command(function, *arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def beside(function: Callable[..., None], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a function of this file in a process beside this one, which it talks to by its standard streams."""
    process = subprocess.Popen(
        command(function, *arguments), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def in_fork(work: Callable[[], object]) -> int:
    """Do something in a forked child and return its process id. A child that hangs is killed."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(20)
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  (a child must never return into the tests)
        traceback.print_exc()
    finally:
        os._exit(status)


def expect_success(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ── permissions ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durability", ["process", "power"])
def test_everything_is_for_the_owner_only(tmp_path: Path, durability: Durability) -> None:
    """F25: folders are 0700 and files 0600, whatever the umask allows."""
    root = tmp_path / "a" / "b"
    umask = os.umask(0)
    try:
        with FsStore(root, durability=durability) as store:
            ids, gone = segment(store, line(1)), segment(store)
            store.append_trace(*ids, [line("trace")])
            with path_of(store, ids).open("ab") as file:
                file.write(b"torn")
            store.append(*ids, [line(2)])
            with path_of(store, ids).open("r+b") as file:
                file.seek(len(start(ids)) + 1)
                file.write(b"x")
            repair(store, *ids)
            store.put_blob(b"abc")
            store.delete_session(gone[0])
            with SegmentWriter.resume(store, *ids, exclusive=True):
                found = {path: stat.S_IMODE(path.lstat().st_mode) for path in [tmp_path / "a", *root.rglob("*")]}
    finally:
        os.umask(umask)

    assert {oct(mode) for path, mode in found.items() if path.is_dir()} == {"0o700"}
    assert {oct(mode) for path, mode in found.items() if path.suffix} == {"0o600"}
    assert {path.suffix for path in found} >= {".jsonl", ".torn", ".damage", ".owner"}
    assert {path.name for path in found} >= {f"{ids[1]}.trace.jsonl", "blobs", "trash"}


# ── in the way ─────────────────────────────────────────────────────────────────────────────────────────────────────

KINDS = ("symlink", "dangling symlink", "FIFO", "FIFO with a reader", "folder", "socket", "device")
PRECIOUS = b"not ours\n"


@contextlib.contextmanager
def in_the_way(path: Path, kind: str, target: Path) -> Iterator[None]:
    """Put something where a plain file belongs; see that it, and what it points to, stays as it is."""
    target.write_bytes(PRECIOUS)
    others = contextlib.ExitStack()
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "dangling symlink":
            path.symlink_to(target.with_name("nothing"))
        case "FIFO":
            os.mkfifo(path)
        case "FIFO with a reader":
            os.mkfifo(path)
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            others.callback(os.close, reader)
            others.callback(lambda: pytest.fail("written to") if os.read(reader, 100) else None)
        case "folder":
            path.mkdir()
        case "socket":
            # a socket's path is short: make it where the test runs, then move it
            listener = others.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.chdir(path.parent):
                listener.bind("s")
            (path.parent / "s").rename(path)
        case _:
            try:
                os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # /dev/full: every write fails
            except PermissionError:
                pytest.skip("only root makes device files")
    before = path.lstat()
    with others:
        yield
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert target.read_bytes() == PRECIOUS
    assert not target.with_name("nothing").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_that_is_no_plain_file_is_neither_followed_nor_opened(tmp_path: Path, kind: str) -> None:
    """F24: a symlink, FIFO, folder, socket or device in place of a segment is UnsafePath, and is listed nowhere."""
    store = FsStore(tmp_path / "root")
    good = segment(store)
    ids = good[0], new_segment_id()
    path = path_of(store, ids)

    with in_the_way(path, kind, tmp_path / "target"):
        calls = readings(store, ids)
        del calls["list_segments"], calls["read_trace"]
        calls["append"] = lambda: store.append(*ids, [line(1)])
        calls["append with expected"] = lambda: store.append(*ids, [line(1)], expected=0)
        calls["append with token"] = lambda: store.append(*ids, [line(1)], token="t")
        calls["repair"] = lambda: repair(store, *ids)
        for name, call in calls.items():
            with pytest.raises(UnsafePath, match=str(path)):
                pytest.fail(f"{name} returned {call()!r}")
        with pytest.raises(SegmentExists):
            store.create_segment(*ids, [start(ids)])
        assert not store.exists(*ids)
        assert store.list_segments(ids[0]) == [good[1]]
        assert store.lookup_session_of(ids[1]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_that_is_no_plain_file_is_neither_followed_nor_opened(tmp_path: Path, kind: str) -> None:
    """F24: the same in place of a trace is UnsafePath for the trace; the segment does not mind."""
    store = FsStore(tmp_path / "root")
    ids = segment(store)

    with in_the_way(path_of(store, ids, ".trace.jsonl"), kind, tmp_path / "target"):
        with pytest.raises(UnsafePath):
            store.append_trace(*ids, [line("trace")])
        with pytest.raises(UnsafePath):
            list(store.read_trace(*ids))
        assert store.append(*ids, [line(1)]) == 2
        assert list(store.read(*ids)) == [start(ids), line(1)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_the_way_of_torn_bytes_keeps_them_where_they_are(tmp_path: Path, kind: str) -> None:
    """F24, F3: torn bytes that cannot be put aside stay, and nothing is written behind them, until the way is free."""
    store = FsStore(tmp_path / "root")
    ids = segment(store)
    path, aside = path_of(store, ids), path_of(store, ids, ".torn")
    path.write_bytes(path.read_bytes() + b"torn")

    with in_the_way(aside, kind, tmp_path / "target"):
        for _ in range(2):
            with pytest.raises(UnsafePath):
                store.append(*ids, [line(1)])
        assert path.read_bytes() == file_of(start(ids)) + b"torn"
    shutil.rmtree(aside) if kind == "folder" else aside.unlink()

    assert store.append(*ids, [line(1)]) == 2
    assert path.read_bytes() == file_of(start(ids), line(1))
    assert aside.read_bytes() == b"torn\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_the_way_of_damaged_bytes_stops_the_repair(tmp_path: Path, kind: str) -> None:
    """F24, F4: damaged lines whose bytes cannot be kept are not blanked."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, b"damaged")

    with in_the_way(path_of(store, ids, ".damage"), kind, tmp_path / "target"):
        with pytest.raises(UnsafePath):
            repair(store, *ids)
        assert path_of(store, ids).read_bytes() == file_of(start(ids), b"damaged")


@pytest.mark.parametrize("kind", KINDS)
def test_an_owner_note_that_is_no_plain_file_hangs_nobody(tmp_path: Path, kind: str) -> None:
    """F24: the note beside a segment is a help, not a condition: what stands in its place is left alone."""
    store = FsStore(tmp_path / "root")
    ids = segment(store)

    with in_the_way(path_of(store, ids, ".owner"), kind, tmp_path / "target"):
        assert_apart(hold_and_look, store.root, *ids)
    assert list(store.read(*ids)) == [start(ids), line("held")]


def hold_and_look(root: str, session_id: str, segment_id: str) -> None:
    signal.alarm(10)  # whoever opens a FIFO waits for ever
    session_log._held_file.LOCK_TIMEOUT_S = 0.0  # type: ignore[misc]
    one, two = FsStore(root), FsStore(root)
    with SegmentWriter.resume(one, session_id, segment_id, exclusive=True, on_conflict="raise") as writer:
        writer.append(Extension(ts=1, domain="test", payload=["held"]))
        with pytest.raises(SegmentBusy):
            two.append(session_id, segment_id, [line("other")])


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "file", "FIFO"])
def test_a_session_folder_that_is_no_folder_is_not_entered(tmp_path: Path, kind: str) -> None:
    """F24: a symlink or file in place of a session's folder is UnsafePath, is not listed, and leads nowhere."""
    outside = FsStore(tmp_path / "outside")
    ids = segment(outside, line("precious"))
    store = FsStore(tmp_path / "root")
    segment(store)
    folder = store.root / ids[0]
    match kind:
        case "symlink":
            folder.symlink_to(outside.root / ids[0])
        case "dangling symlink":
            folder.symlink_to(outside.root / "nothing")
        case "file":
            folder.write_bytes(PRECIOUS)
        case _:
            os.mkfifo(folder)
    before = tree(tmp_path)

    calls = readings(store, ids)
    calls["append"] = lambda: store.append(*ids, [line(1)])
    calls["append_trace"] = lambda: store.append_trace(*ids, [line(1)])
    calls["create_segment"] = lambda: store.create_segment(ids[0], new_segment_id(), [start(ids)])
    calls["delete_session"] = lambda: store.delete_session(ids[0])
    for name, call in calls.items():
        with pytest.raises((UnsafePath, NotFound) if name == "append_trace" else UnsafePath):
            pytest.fail(f"{name} returned {call()!r}")
    assert ids[0] not in store.list_sessions()
    assert not store.exists(*ids)
    assert tree(tmp_path) == before


def test_a_session_folder_that_became_a_symlink_is_not_entered(tmp_path: Path) -> None:
    """F24: it makes no difference that the store knew the folder before."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line(1))
    store.append_trace(*ids, [line("trace")])
    moved = tmp_path / "moved"
    (store.root / ids[0]).rename(moved)
    (store.root / ids[0]).symlink_to(moved)
    before = tree(moved)

    with pytest.raises(UnsafePath):
        store.create_segment(ids[0], new_segment_id(), [start(ids)])
    with pytest.raises(UnsafePath):
        list(store.read(*ids))
    with pytest.raises(UnsafePath):
        store.list_segments(ids[0])
    assert tree(moved) == before


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_a_trash_that_is_no_folder_is_not_used(tmp_path: Path, kind: str) -> None:
    """F24, F22: what is deleted goes into the store's own trash, or stays."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line(1))
    (tmp_path / "elsewhere").mkdir()
    trash = store.root / "trash"
    trash.symlink_to(tmp_path / "elsewhere") if kind == "symlink" else trash.write_bytes(PRECIOUS)

    with pytest.raises(UnsafePath):
        store.delete_session(ids[0])
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert list(store.read(*ids)) == [start(ids), line(1)]
    assert store.append(*ids, [line(2)]) == 3


def test_the_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    """Where the root leads is the caller's business."""
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    store = FsStore(tmp_path / "root")

    ids = segment(store, line(1))

    assert list(FsStore(tmp_path / "real").read(*ids)) == [start(ids), line(1)]


def test_a_root_that_cannot_be_a_folder_is_a_typed_error(tmp_path: Path) -> None:
    """F24: a file where the root, or a folder above it, belongs."""
    (tmp_path / "file").write_bytes(PRECIOUS)

    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        store = FsStore(root)
        with pytest.raises(StorageError, match=str(tmp_path / "file")):
            segment(store)
        with pytest.raises(StorageError):
            store.list_sessions()
    assert (tmp_path / "file").read_bytes() == PRECIOUS


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_listings_pass_over_foreign_names(tmp_path: Path) -> None:
    """F24: what has no canonical id for a name, or is no folder or plain file, is no session and no segment."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))
    store.append_trace(*ids, [line("trace")])
    store.put_blob(b"abc")
    other = new_session_id()
    for name in ("lost+found", other.upper(), other.replace("-", ""), f"{other}x", f"{other}.bak", ".DS_Store", "ü"):
        (tmp_path / name).mkdir()
    (tmp_path / new_session_id()).write_bytes(PRECIOUS)
    (tmp_path / "feed.jsonl").write_bytes(PRECIOUS)
    seg = new_segment_id()
    names = ("session.jsonl", f"{seg}", f"{seg}.json", f"{seg}.jsonl.bak", f".{seg}.jsonl", f"{seg.upper()}.jsonl")
    for name in (*names, f"{seg}.trace.jsonl", f"{seg}.torn", ".0123456789abcdef.tmp", f"{uuid.UUID(seg).hex}.jsonl"):
        (tmp_path / ids[0] / name).write_bytes(PRECIOUS)
    (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
    (tmp_path / ids[0] / os.fsdecode(b"\xff\xfe.jsonl")).write_bytes(PRECIOUS)

    assert store.list_sessions() == [ids[0]]
    assert store.list_segments(ids[0]) == [ids[1]]
    assert store.lookup_session_of(seg) is None
    assert not store.exists(ids[0], seg)


def test_any_spelling_of_an_id_is_one_file(tmp_path: Path) -> None:
    """F24: ids in paths are parsed and printed again: canonical, lower case."""
    store = FsStore(tmp_path, feed=False)
    ids = new_session_id(), new_segment_id()

    store.create_segment(ids[0].upper(), uuid.UUID(ids[1]).hex, [start(ids)])
    with pytest.raises(SegmentExists):
        store.create_segment(uuid.UUID(ids[0]).hex.upper(), ids[1].upper(), [start(ids)])
    assert store.append(uuid.UUID(ids[0]), uuid.UUID(ids[1]), [line(1)]) == 2  # type: ignore[arg-type]

    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.jsonl")] == [Path(ids[0], f"{ids[1]}.jsonl")]
    assert store.segment_path(ids[0].upper(), uuid.UUID(ids[1]).hex) == tmp_path / ids[0] / f"{ids[1]}.jsonl"


# ── reading writes nothing ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_looking_makes_nothing(tmp_path: Path, kind: str) -> None:
    """F20: whoever asks a store without sessions leaves no folder and no file behind."""
    root = tmp_path / "root"
    if kind == "empty":
        root.mkdir()
    before = tree(tmp_path)

    with FsStore(root, durability="power") as store:
        ids = new_session_id(), new_segment_id()
        assert store.list_sessions() == []
        assert store.lookup_session_of(ids[1]) is None
        assert not store.exists(*ids)
        calls = readings(store, ids)
        calls["append"] = lambda: store.append(*ids, [line(1)])
        calls["append with token"] = lambda: store.append(*ids, [line(1)], token="t")
        calls["append_trace"] = lambda: store.append_trace(*ids, [line(1)])
        calls["delete_session"] = lambda: store.delete_session(ids[0])
        calls["get_blob"] = lambda: store.get_blob("0" * 64)
        for name, call in calls.items():
            with pytest.raises(NotFound):
                pytest.fail(f"{name} returned {call()!r}")

    assert tree(tmp_path) == before


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """F20, F3: no reader changes a byte or a time of any file, not even where a torn tail waits for the next writer."""
    with FsStore(tmp_path) as store:
        ids, torn = segment(store, line(1)), segment(store, line(1))
        store.append_trace(*ids, [line("trace")])
    with path_of(store, torn).open("ab") as file:
        file.write(b"torn")
    before = tree(tmp_path)

    with FsStore(tmp_path, durability="power") as store:
        for each in (ids, torn):
            for call in readings(store, each).values():
                call()
        store.list_sessions()
        store.lookup_session_of(ids[1])

    assert tree(tmp_path) == before


def assert_in_namespace(function: Callable[..., None], *arguments: object) -> None:
    """Run a function of this file where it may mount; skip the test where nobody may."""
    unshare = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
    probe = [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        able = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no file system can be mounted here")
    assert_apart(function, *arguments, before=unshare)


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def test_read_only_media_are_read(tmp_path: Path) -> None:
    """F20: on a file system mounted read-only everything reads; every write is a typed error that leaves nothing."""
    assert_in_namespace(read_only, tmp_path)


def read_only(folder: str) -> None:
    mount("-t", "tmpfs", "tmpfs", folder)
    root = Path(folder, "root")
    with FsStore(root) as store:
        ids, torn = segment(store, line(1)), segment(store, line(1))
        store.append_trace(*ids, [line("trace")])
    with path_of(store, torn).open("ab") as file:
        file.write(b"torn")
    before = tree(root)
    mount("-o", "remount,ro", folder)

    with FsStore(root) as store:
        for each in (ids, torn):
            for call in readings(store, each).values():
                call()
            assert list(store.read(*each)) == [start(each), line(1)]
        writes: list[Callable[[], object]] = [
            lambda: store.append(*ids, [line(2)]),
            lambda: store.append(*torn, [line(2)], expected=2),
            lambda: store.append(*ids, [line(2)], token="t"),
            lambda: store.append_trace(*ids, [line(2)]),
            lambda: store.create_segment(ids[0], new_segment_id(), [start(ids)]),
            lambda: segment(store),
            lambda: store.delete_session(ids[0]),
            lambda: store.put_blob(b"abc"),
        ]
        for write in writes:
            with pytest.raises(StoreUnavailable, match=r"(?i)read-only"):
                write()
        assert tree(root) == before
        mount("-o", "remount,rw", folder)
        assert [store.append(*each, [line(2)]) for each in (ids, torn)] == [3, 3]


# ── what others do to the files ────────────────────────────────────────────────────────────────────────────────────


def opened(store: FsStore, ids: Ids, how: str) -> Callable[[], int]:
    """Return an append that has just been made with an open descriptor."""
    append: Callable[[], int] = functools.partial(store.append, *ids, [line("more")])
    if how == "writer":
        writer = SegmentWriter.resume(store, *ids, on_conflict="raise")
        append = functools.partial(writer.save_extension, "test", ["more"])
    append()
    return append


HOW = pytest.mark.parametrize("how", ["store", "writer"])


@HOW
@pytest.mark.parametrize("what", ["file", "folder", "root"])
def test_a_deletion_behind_a_descriptor_is_noticed_at_once(tmp_path: Path, how: str, what: str) -> None:
    """The next append to a segment that somebody else deleted is NotFound; nothing is written or made anew."""
    store = FsStore(tmp_path / "root")
    ids = segment(store)
    append = opened(store, ids, how)
    path = path_of(store, ids)
    path.unlink() if what == "file" else shutil.rmtree(path.parent if what == "folder" else store.root)
    before = tree(tmp_path)

    for _ in range(2):
        with pytest.raises(NotFound):
            append()
    assert tree(tmp_path) == before
    with pytest.raises(NotFound):
        store.length(*ids)


@HOW
def test_a_deletion_between_two_quick_appends_is_noticed(tmp_path: Path, how: str) -> None:
    """However soon an append follows a deletion by the same thread: none is acknowledged into the void."""
    store = FsStore(tmp_path, durability="process")
    first = segment(store)
    for _ in range(200):
        ids = segment(store, session_id=first[0])
        path = str(path_of(store, ids))
        append = opened(store, ids, how)
        append()
        os.unlink(path)
        with pytest.raises(NotFound):
            append()


@HOW
def test_a_file_replaced_by_its_copy_is_gone_on_with(tmp_path: Path, how: str) -> None:
    """An editor that saved the file under its name, or a restore from a copy: the append goes into the new file."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line(1))
    append = opened(store, ids, how)
    path, old = path_of(store, ids), tmp_path / "old"
    before = path.read_bytes()
    path.rename(old)
    shutil.copyfile(old, path)

    append()

    assert old.read_bytes() == before
    assert path.read_bytes() == before + file_of(line("more")) if how == "store" else path.read_bytes() != before
    assert restore(store, *ids).entries_count == store.length(*ids) == 4


def test_a_file_replaced_by_a_longer_copy_has_moved(tmp_path: Path) -> None:
    """The copy was appended to: that is another writer, and the one with the old length is behind."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line(1))
    path = path_of(store, ids)
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes() + file_of(line("by another")))
    copy.rename(path)

    with pytest.raises(HeadMoved) as caught:
        store.append(*ids, [line(2)], expected=2)
    assert (caught.value.expected, caught.value.actual) == (2, 3)
    assert store.append(*ids, [line(2)], expected=3) == 4


OTHER_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "shorter": lambda data: data[: data.index(b"\n") + 1],
    "with more lines": lambda data: data[:-20] + b"\n" * 20 + data[-20:],
    "with fewer lines": lambda data: data.replace(b"\n", b" ", 1) + b"x" * 20 + b"\n",
    "of other bytes": lambda data: data.replace(b"one", b"two"),
    "longer, of other bytes": lambda data: data.replace(b"one", b"two") + data,
}


@HOW
@pytest.mark.parametrize("other", OTHER_FILES)
def test_a_file_replaced_by_another_is_not_written_to(tmp_path: Path, how: str, other: str) -> None:
    """F6: what stands at the path is not the log that was appended to: an error, and the other file stays as it is."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line("one", 1), line("one", 2))
    append = opened(store, ids, how)
    path, new = path_of(store, ids), tmp_path / "new"
    data = OTHER_FILES[other](path.read_bytes())
    new.write_bytes(data)
    path.rename(tmp_path / "old")
    new.rename(path)

    with pytest.raises(CorruptSegment, match=str(path)):
        append()
    assert path.read_bytes() == data
    assert (tmp_path / "old").read_bytes().count(b"\n") == 4


@HOW
@pytest.mark.parametrize("left", ["nothing", "half a line", "whole lines"])
def test_a_file_cut_by_somebody_else_is_not_written_to(tmp_path: Path, how: str, left: str) -> None:
    """F1: acknowledged lines are gone; the writer says so, at once, and does not write where they were."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1), line(2))
    append = opened(store, ids, how)
    path = path_of(store, ids)
    data = path.read_bytes()
    size = {"nothing": 0, "half a line": len(data) - 5, "whole lines": len(file_of(start(ids)))}[left]
    os.truncate(path, size)

    with pytest.raises(CorruptSegment, match=f"cut to {size} bytes"):
        append()
    assert path.read_bytes() == data[:size]


def test_a_writer_whose_file_is_gone_keeps_what_it_knows(tmp_path: Path) -> None:
    """F19: what could not be appended is not in the state, and what was recorded still is."""
    store = FsStore(tmp_path)
    with SegmentWriter.create(store) as writer:
        writer.save_user_input("hello")
        before = writer.state
        shutil.rmtree(tmp_path / writer.session_id)

        with pytest.raises(NotFound):
            writer.save_user_input("lost")
        assert writer.state == before


# ── descriptors ────────────────────────────────────────────────────────────────────────────────────────────────────


def descriptors(root: Path) -> list[str]:
    """The files below a root that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(f"{root}/")]


@ON_LINUX
def test_descriptors_are_bounded(tmp_path: Path) -> None:
    """However many segments are appended to, MAX_OPEN_FILES stay open, the last used; the others are opened again."""
    store = FsStore(tmp_path, durability="process", feed=False)
    first = segment(store)
    every = [first, *(segment(store, session_id=first[0]) for _ in range(MAX_OPEN_FILES + 20))]
    for number, ids in enumerate(every):
        store.append(*ids, [line(number)])
        store.append_trace(*ids, [line("trace")])
    open_now = set(descriptors(tmp_path))
    segments = {str(path_of(store, ids)) for ids in every} & open_now

    assert segments == {str(path_of(store, ids)) for ids in every[-MAX_OPEN_FILES:]}
    assert len(open_now - segments) <= MAX_OPEN_FILES
    assert all(store.append(*ids, [line("again")], expected=2) == 3 for ids in every)
    assert all(list(store.read(*ids))[1:] == [line(at), line("again")] for at, ids in enumerate(every))
    store.close()
    assert descriptors(tmp_path) == []


def test_a_descriptor_closed_for_another_segment_fails_no_append(tmp_path: Path) -> None:
    """Threads that take turns on more segments than may be open never see each other's descriptors close."""
    store = FsStore(tmp_path, durability="process")
    first = segment(store)
    every = [first, *(segment(store, session_id=first[0]) for _ in range(MAX_OPEN_FILES + 5))]
    failed: list[Exception] = []

    def append(who: int) -> None:
        try:
            for number in range(3):
                for at in range(len(every)):
                    store.append(*every[(at * (who + 1)) % len(every)], [line(who, number, at)])
        except SessionLogError as exc:
            failed.append(exc)

    threads = [threading.Thread(target=append, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert sum(store.length(*ids) - 1 for ids in every) == 4 * 3 * len(every)


@ON_LINUX
def test_an_error_closes_its_descriptor(tmp_path: Path) -> None:
    """No refused or failed call leaves a descriptor open, however often it is repeated."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))
    store.close()
    os.mkfifo(path_of(store, (ids[0], fifo := new_segment_id())))
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(3):
        for each in ((ids[0], new_segment_id()), (new_session_id(), ids[1]), (ids[0], fifo)):
            append: Callable[[], object] = functools.partial(store.append, *each, [line(1)])
            for call in [*readings(store, each).values(), append]:
                with contextlib.suppress(SessionLogError):
                    call()
        with pytest.raises(SegmentExists):
            store.create_segment(*ids, [start(ids)])
        with pytest.raises(HeadMoved):
            store.append(*ids, [line(1)], expected=7)
        store.close()

    assert len(os.listdir("/proc/self/fd")) == before


@ON_LINUX
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_an_iterator_that_is_dropped_closes_its_descriptor(tmp_path: Path, steps: int) -> None:
    """A read or follow that is abandoned, before its first step or after any, leaves nothing open."""
    store = FsStore(tmp_path)
    ids = segment(store, *map(line, range(5)))
    store.append_trace(*ids, [line("a"), line("b"), line("c"), line("d")])
    store.close()
    calls: list[Callable[[], Iterator[bytes]]] = [
        functools.partial(store.read, *ids),
        functools.partial(store.read, *ids, 1, 5),
        functools.partial(store.read_blocks, *ids),
        functools.partial(store.follow, *ids),
        functools.partial(store.follow, *ids, 2),
        functools.partial(store.read_trace, *ids),
    ]

    for call in calls:
        iterator = call()
        for _ in range(steps):
            next(iterator, None)
        del iterator
        assert descriptors(tmp_path) == [], call


def test_running_out_of_descriptors_loses_nothing(tmp_path: Path) -> None:
    """However few descriptors are left, a call works, or says StoreUnavailable and has done nothing; later all work."""
    assert_apart(few_descriptors, tmp_path)


def few_descriptors(root: str) -> None:
    store = FsStore(root)
    ids, torn = segment(store, line(1)), segment(store)
    written, traced = [start(ids), line(1)], [line("trace")]
    store.append_trace(*ids, traced)
    soft = 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    failures = 0
    for left in range(6):
        store.close()
        path_of(store, torn).write_bytes(file_of(start(torn)) + b"torn")
        created: list[Ids] = []

        def create(created: list[Ids] = created) -> None:
            new = ids[0], new_segment_id()
            created.append(new)
            store.create_segment(*new, [start(new)])

        calls: dict[str, Callable[[], object]] = {
            **readings(store, ids),
            "list_sessions": store.list_sessions,
            "lookup_session_of": lambda: store.lookup_session_of(ids[1]),
            "exists": lambda: store.exists(*ids),
            "create": create,
            "append": functools.partial(store.append, *ids, [line("left", left)]),
            "append to what is torn": functools.partial(store.append, *torn, [line("left", left)]),
            "append with a token": functools.partial(store.append, *ids, [line("token", left)], token=f"t{left}"),
            "append_trace": functools.partial(store.append_trace, *ids, [line("left", left)]),
        }
        worked = set()
        with all_descriptors_taken_but(left):
            for name, call in calls.items():
                try:
                    call()
                except StoreUnavailable as exc:
                    failures += 1
                    assert "open files" in str(exc), exc
                else:
                    worked.add(name)
        if "append" in worked:
            written.append(line("left", left))
        if "append with a token" in worked:
            written.append(line("token", left)[:-1] + b',"token":"t%d"}' % left)
        if "append_trace" in worked:
            traced.append(line("left", left))
        assert list(store.read(*ids)) == written, left
        assert list(store.read_trace(*ids)) == traced, left
        assert list(store.read(*torn)) == [start(torn), *[line("left", left)] * ("append to what is torn" in worked)]
        assert [store.exists(*new) for new in created] == ["create" in worked]
        assert not list(Path(root).rglob("*.tmp"))
        written.append(line("after", left))
        assert store.append(*ids, [line("after", left)]) == len(written)
        assert store.append(*torn, [line("after", left)]) == 2 + ("append to what is torn" in worked)
    assert failures > 20 and worked == set(calls)


@contextlib.contextmanager
def all_descriptors_taken_but(left: int) -> Iterator[None]:
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)


def test_a_closed_store_opens_again(tmp_path: Path) -> None:
    """``FsStore.close`` lets go of descriptors, no more: it may be called twice, and a later append opens again."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))

    store.close()
    store.close()

    assert store.append(*ids, [line(2)], expected=2) == 3
    with store as same:
        assert same is store
    assert list(store.read(*ids)) == [start(ids), line(1), line(2)]


# ── fork ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durability", ["process", "turn"])
def test_parent_and_child_go_on_with_the_same_store(tmp_path: Path, durability: Durability) -> None:
    """F35: a store that was used before ``os.fork`` serves both processes at once; every line is there once."""
    store = FsStore(tmp_path, durability=durability)
    ids = segment(store, line("before"))

    def append(who: str) -> None:
        for number in range(50):
            store.append(*ids, [line(who, number), line(who, number, "second")])

    child = in_fork(functools.partial(append, "child"))
    append("parent")
    expect_success(child)

    written = list(store.read(*ids))[2:]
    pairs = [(written[at], written[at + 1]) for at in range(0, len(written), 2)]
    expected = [tuple(batch(line(who, n), line(who, n, "second"))) for who in ("child", "parent") for n in range(50)]
    assert sorted(pairs) == sorted(expected)
    assert store.length(*ids) == 202


def test_children_forked_amid_appends_do_not_hang(tmp_path: Path) -> None:
    """F35: a lock that another thread held when the process was forked stops no child; every line is there once."""
    store = FsStore(tmp_path, durability="process")
    ids = segment(store)
    stop = threading.Event()
    counts = [0, 0]

    def append(who: int) -> None:
        while not stop.is_set():
            store.append(*ids, [line("parent", who, counts[who])])
            counts[who] += 1

    threads = [threading.Thread(target=append, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            work = functools.partial(store.append, *ids, [line("child", number)])
            expect_success(in_fork(work))
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    expected = [line("child", number) for number in range(12)]
    expected += [line("parent", who, number) for who in range(2) for number in range(counts[who])]
    assert sorted(list(store.read(*ids))[1:]) == sorted(expected)


@pytest.mark.parametrize("make", [MemoryStore, FsStore])
def test_children_forked_amid_records_do_not_hang(tmp_path: Path, make: Callable[..., Store]) -> None:
    """F35: the same for a writer: parent and child go on with it, the one behind in a fork; nothing is lost."""
    store = make(tmp_path) if make is FsStore else make()
    writer = SegmentWriter.create(store)
    stop = threading.Event()
    recorded = [0]

    def record() -> None:
        while not stop.is_set():
            writer.save_extension("test", ["parent", recorded[0]])
            recorded[0] += 1

    def record_in_child(number: int) -> None:
        writer.save_extension("test", ["child", number])
        payloads = [one.payload for one in restore(store, writer.session_id, writer.segment_id).extensions]
        assert payloads[-1] == ["child", number]
        assert payloads == [one.payload for one in writer.state.extensions]

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for number in range(8):
            expect_success(in_fork(functools.partial(record_in_child, number)))
    finally:
        stop.set()
        thread.join()

    payloads = [one.payload for one in restore(store, writer.session_id, writer.segment_id).extensions]
    mine = [payload for payload in payloads if payload[0] == "parent"]
    assert mine == [["parent", number] for number in range(recorded[0])]
    if make is FsStore:
        everywhere = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
        assert all(b'"payload":["child",%d]' % number in everywhere for number in range(8))


@pytest.mark.parametrize("which", ["store", "segment file", "writer", "store in memory"])
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have(tmp_path: Path, which: str) -> None:
    """F35: whichever lock some other thread holds at the moment of ``os.fork``: the child goes on."""
    store: Any = MemoryStore() if which == "store in memory" else FsStore(tmp_path)
    writer: Any = SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    writer.save_user_input("before")
    store.append(*ids, [line("before")])
    lock = {
        "store": lambda: store._lock,
        "segment file": lambda: next(iter(store._files.values()))._lock,
        "writer": lambda: writer._lock,
        "store in memory": lambda: store._changed,
    }[which]()
    held, done = threading.Event(), threading.Event()

    def hold_it() -> None:
        with lock:
            held.set()
            done.wait()

    def go_on() -> None:
        assert store.append(*ids, [line("in the child")]) == 4
        writer.save_user_input("in a fork of the child's")
        assert store.create_segment(ids[0], new_segment_id(), [start(ids)]) == 1

    thread = threading.Thread(target=hold_it)
    thread.start()
    held.wait()
    child = in_fork(go_on)
    done.set()
    thread.join()
    expect_success(child)


def test_a_child_does_not_inherit_an_exclusive_hold(tmp_path: Path) -> None:
    """F35: the child of a holder is refused, and its end frees nothing; the close of the parent frees everything."""
    store = FsStore(tmp_path)
    writer = SegmentWriter.create(store, exclusive=True, on_conflict="raise")
    ids = writer.session_id, writer.segment_id

    def try_in_child() -> None:
        with pytest.raises(SegmentBusy):
            writer.save_user_input("from the child")
        with pytest.raises(SegmentBusy):
            store.append(*ids, [line("from the child")])
        writer.close()
        store.close()

    expect_success(in_fork(try_in_child))

    with pytest.raises(SegmentBusy, match=f"process {os.getpid()} "):
        FsStore(tmp_path).append(*ids, [line("other")])
    assert writer.save_user_input("from the parent") == 2
    reading, writing = os.pipe()
    child = in_fork(functools.partial(os.read, reading, 1))
    writer.close()
    assert FsStore(tmp_path).append(*ids, [line("other")]) == 3
    os.write(writing, b"x")
    expect_success(child)
    os.close(reading)
    os.close(writing)


# ── torn tails ─────────────────────────────────────────────────────────────────────────────────────────────────────


def halves() -> dict[str, bytes]:
    three = batch(line(1), line(2), line(3))
    nul = three[1].replace(b"test", b"te\0t")
    return {
        "half a line": line(1)[:20],
        "a line without its newline": line(1),
        "a few bytes": b"{",
        "no UTF-8": b"\xff\xfe",
        "NUL bytes": bytes(100),
        "NUL bytes and a newline": bytes(100) + b"\n",
        "a line with a NUL byte": file_of(nul.replace(b',"batch":0', b"")),
        "two lines of a batch of three": file_of(*three[:2]),
        "one and a half lines of a batch": file_of(three[0]) + three[1][:10],
        "a batch with a NUL byte": file_of(three[0], nul, three[2]),
        "a batch whose first line is NUL bytes": bytes(len(three[0])) + b"\n" + file_of(*three[1:]),
        "a batch whose last line is NUL bytes": file_of(*three[:2]) + bytes(len(three[2])) + b"\n",
        "3 MiB of a line": line("x" * (3 << 20))[:-5],
        "half a line that spells a mark": line('"batch":5')[:-3],
    }


@pytest.mark.parametrize("kind", halves())
def test_the_next_writer_puts_exactly_the_torn_bytes_aside(tmp_path: Path, kind: str) -> None:
    """F1, F2, F3: readers leave a torn tail out; the next append moves it to ``.torn``, all of it, and only once."""
    store = FsStore(tmp_path)
    ids = segment(store, line("a"))
    store.append(*ids, [line("b"), line("c")])
    whole, torn = path_of(store, ids).read_bytes(), halves()[kind]
    path_of(store, ids).write_bytes(whole + torn)
    reader = FsStore(tmp_path)
    kept = torn if torn.endswith(b"\n") else torn + b"\n"

    assert file_of(*reader.read(*ids)) == whole and reader.length(*ids) == 4
    assert file_of(*reader.follow(*ids, stop=lambda: True)) == whole
    assert restore(reader, *ids).torn_bytes == reader.torn_bytes(*ids) == len(torn)
    assert path_of(store, ids).read_bytes() == whole + torn
    with pytest.raises(HeadMoved) as caught:
        store.append(*ids, [line("behind")], expected=5)
    assert caught.value.actual == 4
    assert store.append(*ids, [line("d")], expected=4) == 5
    assert path_of(store, ids).read_bytes() == whole + file_of(line("d"))
    assert path_of(store, ids, ".torn").read_bytes() == kept

    before = path_of(store, ids, ".torn").stat()
    assert FsStore(tmp_path).append(*ids, [line("e")]) == 6
    assert path_of(store, ids, ".torn").stat() == before
    assert restore(store, *ids).torn_bytes == 0


def test_torn_bytes_are_collected(tmp_path: Path) -> None:
    """F3: a second torn tail is put behind the first; nothing is ever taken out of ``.torn``."""
    store = FsStore(tmp_path)
    ids = segment(store)
    for number in range(3):
        with path_of(store, ids).open("ab") as file:
            file.write(b"torn %d" % number)
        store.append(*ids, [line(number)])

    assert path_of(store, ids, ".torn").read_bytes() == b"torn 0\ntorn 1\ntorn 2\n"
    assert path_of(store, ids).read_bytes() == file_of(start(ids), line(0), line(1), line(2))


def test_a_torn_trace_is_mended_too(tmp_path: Path) -> None:
    """F3: a trace is a log of lines like any other; its torn tail does not eat the next line."""
    store = FsStore(tmp_path)
    ids = segment(store)
    store.append_trace(*ids, [line(1)])
    with path_of(store, ids, ".trace.jsonl").open("ab") as file:
        file.write(b"torn")

    assert list(store.read_trace(*ids)) == [line(1)]
    FsStore(tmp_path).append_trace(*ids, [line(2)])
    assert list(store.read_trace(*ids)) == [line(1), line(2)]


def test_readers_beside_a_writing_process_see_no_half(tmp_path: Path) -> None:
    """F3: while another process writes long lines and batches, every read is a run of whole appends."""
    store = FsStore(tmp_path)
    ids = segment(store)
    with beside(write_long_batches, tmp_path, *ids) as writer:
        looks = length = 0
        while length < 1 + 3 * 30:
            lines = list(store.read(*ids))
            length = len(lines)
            looks += 1
            assert (length - 1) % 3 == 0
            assert all(len(one) > 190_000 and one.endswith((b',"batch":3}', b',"batch":0}')) for one in lines[1:])
        assert said(writer) == "done"
    assert looks > 1


def write_long_batches(root: str, session_id: str, segment_id: str) -> None:
    with FsStore(root, durability="process") as store:
        for number in range(30):
            store.append(session_id, segment_id, [line(number, part, "é" * 100_000) for part in range(3)])
    say("done")


# ── exclusive writers ──────────────────────────────────────────────────────────────────────────────────────────────


def hold(root: str, session_id: str, segment_id: str) -> None:
    with SegmentWriter.resume(FsStore(root), session_id, segment_id, exclusive=True, on_conflict="raise") as writer:
        writer.save_user_input("held")
        say("held")
        sys.stdin.readline()
    say("closed")
    sys.stdin.readline()


def test_an_exclusive_writer_keeps_others_out_until_it_closes(tmp_path: Path) -> None:
    """F6: appends and exclusive writers of others get SegmentBusy, which names the owner, or go on in a fork."""
    store = FsStore(tmp_path)
    ids = segment(store)
    with beside(hold, tmp_path, *ids) as owner:
        assert said(owner) == "held"
        calls: list[Callable[[], object]] = [
            lambda: store.append(*ids, [line(1)]),
            lambda: store.append(*ids, [line(1)], expected=2),
            lambda: SegmentWriter.resume(store, *ids, exclusive=True, on_conflict="raise"),
            lambda: SegmentWriter.resume(store, *ids, on_conflict="raise").save_user_input("no"),
            lambda: repair_damage(store, ids),
        ]
        for call in calls:
            with pytest.raises(SegmentBusy) as caught:
                call()
            assert caught.value.owner == f"process {owner.pid} on {os.uname().nodename}"
            assert caught.value.owner in str(caught.value)
        with SegmentWriter.resume(store, *ids, exclusive=True) as forked:
            assert forked.segment_id != ids[1]
            forked.save_user_input("in a fork")
            assert [item.text for item in forked.state.history] == ["held", "in a fork"]  # type: ignore[union-attr]
        assert store.length(*ids) == 2

        tell(owner)
        assert said(owner) == "closed"
        assert not path_of(store, ids, ".owner").exists()
        assert store.append(*ids, [line(1)]) == 3


def repair_damage(store: FsStore, ids: Ids) -> None:
    store.blank_lines(*ids, [session_log.Damage(str(path_of(store, ids)), 2, len(start(ids)) + 1, 5, "a test")])


def test_the_kernel_frees_what_a_killed_owner_held(tmp_path: Path) -> None:
    """F35: SIGKILL ends the hold at once; the note that stays behind is believed by nobody."""
    store = FsStore(tmp_path)
    ids = segment(store)
    with beside(hold, tmp_path, *ids) as owner:
        assert said(owner) == "held"
        with pytest.raises(SegmentBusy):
            store.append(*ids, [line(1)])
        owner.kill()
        owner.wait()

    assert path_of(store, ids, ".owner").exists()
    assert store.append(*ids, [line(1)]) == 3
    with SegmentWriter.resume(store, *ids, exclusive=True, on_conflict="raise") as writer:
        assert json.loads(path_of(store, ids, ".owner").read_bytes())["pid"] == os.getpid()
        assert writer.save_user_input("mine") == 4
    assert not path_of(store, ids, ".owner").exists()


def notes() -> dict[str, bytes]:
    host = os.uname().nodename
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    def note(pid: int, host: str = host, started: str = "1") -> bytes:
        return json.dumps({"pid": pid, "host": host, "started": started}).encode()

    return {
        "none": b"",
        "no UTF-8": b"\xff\xfe",
        "no note": b"[]",
        "too little": b"{}",
        "deeply nested": b'{"x":' + b"[" * 4_000,
        "a process that is gone": note(gone.pid),
        "a process id used again": note(os.getpid()),
        "process 0": note(0),
        "a process group": note(-1),
        "a number that is no process id": note(10**30),
        "another machine": note(os.getpid(), "elsewhere.example", session_log._owner._started(os.getpid())),
    }


NOTES = (
    "none",
    "no UTF-8",
    "no note",
    "too little",
    "deeply nested",
    "a process that is gone",
    "a process id used again",
    "process 0",
    "a process group",
    "a number that is no process id",
    "another machine",
)


@ON_LINUX
@pytest.mark.parametrize("kind", NOTES)
def test_a_note_that_names_no_living_owner_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A stale, foreign or damaged note makes no segment busy: an append waits for the lock, which is soon free."""
    store = FsStore(tmp_path)
    ids = segment(store)
    path_of(store, ids, ".owner").write_bytes(notes()[kind])
    fd = os.open(path_of(store, ids), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    naps: list[float] = []

    def let_go(nap: float) -> None:
        naps.append(nap)
        fcntl.flock(fd, fcntl.LOCK_UN)

    monkeypatch.setattr(time, "sleep", let_go)
    try:
        assert store.append(*ids, [line(1)]) == 2
    finally:
        os.close(fd)
    assert len(naps) == 1


def test_a_lock_that_nobody_frees_is_busy_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the lock without a note is not waited for longer than LOCK_TIMEOUT_S."""
    store = FsStore(tmp_path)
    ids = segment(store)
    monkeypatch.setattr(session_log._held_file, "LOCK_TIMEOUT_S", 0.0)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        assert len(naps) < 1_000

    monkeypatch.setattr(time, "sleep", nap)
    fd = os.open(path_of(store, ids), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(SegmentBusy) as caught:
            store.append(*ids, [line(1)])
    finally:
        os.close(fd)

    assert caught.value.owner is None
    assert store.append(*ids, [line(1)]) == 2


def test_two_stores_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    """F35: the lock belongs to the open file, not to the process: a second store of the process is kept out, too."""
    one, two = FsStore(tmp_path), FsStore(tmp_path)
    ids = segment(one)
    with SegmentWriter.resume(one, *ids, exclusive=True) as writer:
        for store in (one, two):
            with pytest.raises(SegmentBusy, match=f"process {os.getpid()} "):
                store.append(*ids, [line(1)])
        assert writer.save_user_input("held") == 2

    assert [one.append(*ids, [line(1)]), two.append(*ids, [line(2)]), one.append(*ids, [line(3)])] == [3, 4, 5]


# ── full disks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_write_cut_at_any_byte_is_taken_back(tmp_path: Path) -> None:
    """F1: a limit reached after any number of bytes leaves the file as it was; the next append stands right behind."""
    assert_apart(cut_at_any_byte, tmp_path)


def cut_at_any_byte(root: str) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    store = FsStore(root)
    ids = segment(store, line(1))
    path = path_of(store, ids)
    for lines in ([line(2)], [line(3), line(4), line(5)]):
        before = path.read_bytes()
        length = store.length(*ids)
        for extra in range(len(file_of(*(batch(*lines) if lines[1:] else lines)))):
            with limited(len(before) + extra), pytest.raises(StoreUnavailable, match=str(path)):
                store.append(*ids, lines)
            assert path.read_bytes() == before
        assert store.append(*ids, lines, expected=length) == length + len(lines)
    for cut in range(len(start(ids)) + 1):
        new = ids[0], new_segment_id()
        with limited(cut), pytest.raises(StoreUnavailable):
            store.create_segment(*new, [start(new)])
        assert sorted(os.listdir(path.parent)) == [path.name]
    before = path.read_bytes()
    path.write_bytes(before + b"torn")
    with limited(2), pytest.raises(StoreUnavailable):
        store.append(*ids, [line(6)])
    assert path.read_bytes() == before + b"torn"
    assert store.append(*ids, [line(6)]) == 7
    assert path_of(store, ids, ".torn").read_bytes() == b"torn\n"


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """F1, F19: ENOSPC is StoreUnavailable, with the file as it was; once there is room the next append works."""
    assert_in_namespace(full_disk, tmp_path)


FULL = "No space left|bytes could be written"


def full_disk(folder: str) -> None:
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder)
    store = FsStore(Path(folder, "root"))
    ids = segment(store)
    store.append_trace(*ids, [line("trace")])
    filler = Path(folder, "filler")
    written = [start(ids)]
    for number in range(20):
        filler.write_bytes(b"")
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        lines = [line(number, "x" * 3_000), line(number, "y" * 9_000)][: 1 + number % 2]
        with pytest.raises(StoreUnavailable, match=FULL):  # noqa: PT012
            while True:
                store.append(*ids, lines)
                written += batch(*lines) if lines[1:] else lines
        writer = SegmentWriter.resume(store, *ids)
        with pytest.raises(StoreUnavailable, match=FULL):
            writer.save_user_input("x" * 9_000)
        assert writer.head.entries == writer.state.entries_count == len(written)
        for call in (lambda: segment(store), lambda: store.append_trace(*ids, [line("x" * 9_000)])):
            with pytest.raises(StoreUnavailable, match=FULL):
                call()
        assert path_of(store, ids).read_bytes() == file_of(*written)
        assert store.list_segments(ids[0]) == [ids[1]]
        assert not list(Path(folder).rglob("*.tmp"))
        filler.unlink()
        assert store.append(*ids, [line("room", number)], expected=len(written)) == len(written) + 1
        written.append(line("room", number))
        if path_of(store, ids).stat().st_size > 100_000:
            break
    assert list(store.read(*ids)) == written
    assert list(store.read_trace(*ids)) == [line("trace")]


def test_a_file_system_without_hard_links_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment appears by a link; where there are none, create says that, and leaves nothing behind."""

    def refuse(*arguments: object, **keywords: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    store = FsStore(tmp_path)
    ids = segment(store)
    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(StoreUnavailable, match="no hard links"):
        store.create_segment(ids[0], new_segment_id(), [start(ids)])
    assert os.listdir(tmp_path / ids[0]) == [f"{ids[1]}.jsonl"]


def test_a_folder_that_cannot_be_synced_leaves_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new segment whose name may not survive a power cut is taken back, or its outcome is called unknown."""
    store = FsStore(tmp_path)
    ids = segment(store)
    new = ids[0], new_segment_id()
    fsync = os.fsync

    def refuse_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with pytest.raises((StoreUnavailable, AppendUnknown)) as caught:
        store.create_segment(*new, [start(new)])
    monkeypatch.undo()

    assert isinstance(caught.value, AppendUnknown) or not store.exists(*new)
    assert isinstance(caught.value, AppendUnknown) or store.create_segment(*new, [start(new)]) == 1


# ── repair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_repair_blanks_what_is_damaged_and_keeps_its_bytes(tmp_path: Path) -> None:
    """F4: damaged lines become blank ones of the same length; whatever follows keeps its line number and its place."""
    store = FsStore(tmp_path)
    damaged = {1: b"<<<<<<< HEAD", 3: line(3).replace(b"test", b"te\0t"), 4: b"\xff" * 30}
    every = [line(0), damaged[1], line(2), damaged[3], damaged[4], line(5), line(6)]
    ids = segment(store)
    path = path_of(store, ids)
    path.write_bytes(file_of(start(ids), *every))
    before = path.read_bytes()
    with pytest.raises(CorruptSegment) as caught:
        restore(store, *ids)

    found = repair(store, *ids)

    blank = [b" " * len(one) if at in damaged else one for at, one in enumerate(every)]
    assert path.read_bytes() == file_of(start(ids), *blank)
    assert [damage.line for damage in found] == [at + 2 for at in damaged]
    assert (caught.value.line, caught.value.byte_offset) == (found[0].line, found[0].byte_offset)
    for damage, bytes_ in zip(found, damaged.values(), strict=True):
        assert before[damage.byte_offset :][: damage.length_bytes] == bytes_
        assert bytes_ + b"\n" in path_of(store, ids, ".damage").read_bytes()
    assert restore(store, *ids).entries_count == 8
    assert [one.payload for one in restore(store, *ids).extensions] == [[0], [2], [5], [6]]
    child = fork_at_entry(store, *ids, 8)
    assert restore(store, ids[0], child).extensions == restore(store, *ids).extensions

    state = tree(tmp_path)
    assert repair(store, *ids) == ()
    assert tree(tmp_path) == state
    assert store.append(*ids, [line(7)], expected=8) == 9


def test_repair_keeps_the_references_of_children(tmp_path: Path) -> None:
    """F4: a fork made before the damage restores after the repair, without the line that was lost."""
    store = FsStore(tmp_path)
    ids = segment(store, line(0), line(1), line(2))
    child = fork_at_entry(store, *ids, 4)
    path = path_of(store, ids)
    path.write_bytes(path.read_bytes().replace(line(1), b"x" * len(line(1))))
    with pytest.raises(CorruptSegment):
        restore(store, ids[0], child)

    repair(store, *ids)

    assert [one.payload for one in restore(store, ids[0], child).extensions] == [[0], [2]]


def test_repair_of_what_nothing_can_mend_changes_nothing(tmp_path: Path) -> None:
    """F4: a damaged first line is an error; a store without files has nothing to repair."""
    store = FsStore(tmp_path)
    ids = segment(store, line(0))
    path = path_of(store, ids)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    before = tree(tmp_path)

    with pytest.raises(CorruptSegment) as caught:
        repair(store, *ids)
    assert (caught.value.line, caught.value.byte_offset) == (1, 0)
    assert tree(tmp_path) == before
    with pytest.raises(session_log.CallerError):
        repair(MemoryStore(), *ids)
