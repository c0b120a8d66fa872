"""The laws of collecting garbage: what any line might refer to stays, and what is not known is not guessed."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._marks import mark_text
from session_log.collection import UncertainMarks, collect_blobs
from session_log.facts import set_facts
from session_log.lifecycle import delete_segment, delete_session
from session_log.trash import purge, undelete_session


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


def path_of(store: sl.FsStore, ref: sl.BlobRef) -> Path:
    return store.root / "blobs" / ref.sha256[:2] / ref.sha256


def names(store: sl.FsStore) -> set[str]:
    return {path.name for path in (store.root / "blobs").rglob("*") if path.is_file()}


@given(
    st.lists(st.binary(max_size=8), min_size=1, max_size=6, unique=True),
    st.text("0123456789abcdefABCDEF", max_size=70),
    st.text("0123456789abcdefxyz", max_size=3),
)
def test_a_hash_is_found_wherever_it_begins(payloads: list[bytes], before: str, after: str) -> None:
    """In a run of other digits, in any case: what might be a reference is one; what is not there stays unmarked."""
    hashes = [hashlib.sha256(payload) for payload in payloads]
    unmarked = {found.digest() for found in hashes}
    text = "".join(f'"{before}{found.hexdigest().upper()}{after}' for found in hashes[1:])

    mark_text(text.encode(), unmarked)

    assert unmarked == {hashes[0].digest()}


def test_what_a_line_refers_to_stays(store: sl.FsStore) -> None:
    """In a segment, a trace, facts, a line that was torn or moved aside, a pod, a session or segment in the trash."""
    session_id, segment_id = sl.create_segment(store)
    refs = {
        name: store.put_blob(name.encode()) for name in ("segment", "trace", "facts", "torn", "aside", "pod", "none")
    }
    sl.save_extension(store, session_id, segment_id, "d", {"blob": refs["segment"].sha256.upper()})
    trace = b'{"ts":1,"turn":0,"kind":"lifecycle","label":"%s"}' % refs["trace"].sha256.encode()
    store.append_trace(session_id, segment_id, [trace])
    set_facts(store, session_id, custom={"blob": refs["facts"].sha256})
    path = store.segment_path(session_id, segment_id)
    with path.open("ab") as file:
        file.write(b'{"kind":"' + refs["torn"].sha256.encode())
    path.with_suffix(".damage").write_text(refs["aside"].sha256)
    snapshot = {"x": refs["pod"].sha256}
    sl.FsPodStore(store.root).write(sl.PodMetadata("p", resolved_manifest_snapshot=snapshot))
    other, other_segment = sl.create_segment(store)
    child = sl.fork_at(store, other, other_segment, 0)
    for name, ids in (("child", child), ("session", other_segment)):
        refs[name] = store.put_blob(name.encode())
        sl.save_extension(store, other, ids, "d", refs[name].sha256)
    delete_segment(store, other, child)
    delete_session(store, other)

    found = collect_blobs(store, grace_s=0)

    assert (found.blobs, found.kept, found.removed, found.removed_bytes) == (9, 8, 1, 4)
    assert names(store) == {ref.sha256 for name, ref in refs.items() if name != "none"}
    undelete_session(store, other)
    assert store.get_blob(refs["session"]) == b"session"
    delete_session(store, other)
    purge(store)
    assert collect_blobs(store, grace_s=0).removed == 2


def test_what_was_put_lately_stays(store: sl.FsStore) -> None:
    """The line may not be written yet; putting it again counts, too. A time in the future is no age."""
    old, again, future = (store.put_blob(data) for data in (b"old", b"again", b"future"))
    os.utime(path_of(store, old), (0, 0))
    os.utime(path_of(store, again), (0, 0))
    os.utime(path_of(store, future), (4e9, 4e9))
    assert store.put_blob(b"again") == again

    assert collect_blobs(store, dry_run=True).removed == 1
    assert names(store) == {ref.sha256 for ref in (old, again, future)}
    assert collect_blobs(store).removed == 1
    assert names(store) == {again.sha256, future.sha256}


@pytest.mark.parametrize("what", ["damaged", "nul", "folder", "symlink", "damaged in the trash", "a trace", "facts"])
def test_what_cannot_be_read_keeps_everything(store: sl.FsStore, what: str, tmp_path: Path) -> None:
    """F4: a line that is none may have been a reference: refused, with the places, and nothing has gone."""
    session_id, segment_id = sl.create_segment(store)
    sl.save_user_input(store, session_id, segment_id, "text")
    ref = store.put_blob(b"garbage")
    path = store.segment_path(session_id, segment_id)
    match what:
        case "nul":
            path.write_bytes(path.read_bytes().replace(b"text", b"\0\0\0\0", 1) + path.read_bytes())
        case "folder":
            (path.parent / f"{sl.new_segment_id()}.jsonl").mkdir()
        case "symlink":
            outside = tmp_path / "outside"
            outside.mkdir()
            (store.root / sl.new_session_id()).symlink_to(outside)
        case "a trace":
            path.with_suffix(".trace.jsonl").write_bytes(b"garbage\n")
        case "facts":
            path.with_name("session.jsonl").write_bytes(b"\xff\n")
        case _:
            path.write_bytes(path.read_bytes() + b'{"kind":"extension","pay\n' + path.read_bytes())
    if what == "damaged in the trash":
        store.delete_session(session_id)

    with pytest.raises(UncertainMarks) as caught:
        collect_blobs(store, grace_s=0)

    assert len(caught.value.damage) == 1
    assert names(store) == {ref.sha256}
    if what == "damaged":
        assert caught.value.damage[0].line == 3
        assert sl.repair(store, session_id, segment_id)
        assert collect_blobs(store, grace_s=0).removed == 1


def test_what_is_no_payload_is_left_alone_but_for_leftovers(store: sl.FsStore) -> None:
    """Packed payloads go by their hash; temporary files of writers that died go, other names and links stay."""
    ref = store.put_blob(b"packed")
    path = path_of(store, ref)
    packed = path.rename(path.with_suffix(".zst"))
    kept = store.put_blob(b"kept")
    session_id, segment_id = sl.create_segment(store)
    sl.save_extension(store, session_id, segment_id, "d", kept.sha256)
    path_of(store, kept).rename(path_of(store, kept).with_suffix(".zlib"))
    for name in ("README", ".tmp-0123", f"{'0' * 63}"):
        packed.with_name(name).write_text("x")
    packed.with_name("ff" * 32).symlink_to(packed.with_name("README"))
    stream = store.root / "blobs" / ".tmp-4567"  # a stream's, before its hash was known
    stream.write_text("x")

    assert collect_blobs(store, grace_s=0).removed == 1
    assert names(store) - {"ff" * 32} == {f"{kept.sha256}.zlib", "README", "0" * 63}
    assert not stream.exists()


def test_a_line_longer_than_what_is_read_at_once_is_read(store: sl.FsStore) -> None:
    """A reference at the end of megabytes in one line, and one across the border of two pieces."""
    refs = [store.put_blob(bytes([number])) for number in range(3)]
    session_id, segment_id = sl.create_segment(store)
    text = "x" * ((1 << 20) - 30) + refs[0].sha256 + "x" * (2 << 20) + refs[1].sha256
    sl.save_user_input(store, session_id, segment_id, text)

    assert collect_blobs(store, grace_s=0).removed == 1
    assert names(store) == {refs[0].sha256, refs[1].sha256}


def test_a_folder_in_use_is_left(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is putting all the time is not waited for; the report says how many were left."""
    from session_log._atomic import Folder

    ref = store.put_blob(b"x")
    monkeypatch.setattr("session_log.collection._PATIENCE_S", 0.0)
    with Folder.open(store.root, "blobs", ref.sha256[:2]) as folder:
        folder.share()
        found = collect_blobs(store, grace_s=0)

    assert (found.removed, found.busy) == (0, 1)
    assert collect_blobs(store, grace_s=0).removed == 1


def test_nobody_puts_while_a_payload_is_taken_away(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look at its time and its end, a put of the same payload waits; then it writes it anew."""
    from session_log._atomic import Folder

    ref = store.put_blob(b"x")
    real, putter = Folder.drop, threading.Thread(target=lambda: store.put_blob(b"x"))

    def drop(folder: Folder, name: str) -> None:
        putter.start()
        putter.join(0.3)
        real(folder, name)

    monkeypatch.setattr(Folder, "drop", drop)
    assert collect_blobs(store, grace_s=0).removed == 1
    putter.join()

    assert store.get_blob(ref) == b"x"


def test_what_cannot_be_collected_is_refused(store: sl.FsStore) -> None:
    """No period, a store without files; without payloads nothing is read or made."""
    assert collect_blobs(store).blobs == 0
    assert not store.root.exists()
    for wrong in (-1, float("nan"), float("inf"), 1e300, "1"):
        with pytest.raises(sl.CallerError):
            collect_blobs(store, grace_s=wrong)  # type: ignore[arg-type]
    with pytest.raises(sl.CallerError):
        collect_blobs(sl.MemoryStore())


def test_an_interrupt_leaves_everything_whole(store: sl.FsStore) -> None:
    """Ctrl-C in the middle: the locks are free, and the next collection does the rest."""
    for number in range(40):
        store.put_blob(bytes([number]))

    def interrupt(progress: object) -> None:
        if "removing" in str(progress):
            interrupts.append(progress)
            if len(interrupts) == 20:
                raise KeyboardInterrupt

    interrupts: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        collect_blobs(store, grace_s=0, progress=interrupt)

    assert 0 < len(names(store)) < 40
    assert collect_blobs(store, grace_s=0).removed > 0
    assert names(store) == set()


def test_who_only_counts_writes_nothing(store: sl.FsStore) -> None:
    """Not even a lock file."""
    store.put_blob(b"nobody refers to this")
    before = sorted(store.root.rglob("*"))

    assert collect_blobs(store, grace_s=0, dry_run=True).removed == 1
    assert sorted(store.root.rglob("*")) == before
