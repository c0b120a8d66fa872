"""The laws of pod metadata: the shape of the file, whole replacement, and writers that take turns."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import session_log.pods
from session_log._atomic import Folder
from session_log._errors import (
    AppendUnknown,
    InvalidEntry,
    InvalidId,
    InvalidName,
    NotFound,
    StorageError,
    StoreUnavailable,
    UnsafePath,
)
from session_log.pods import (
    MAX_NAME_BYTES,
    MAX_POD_BYTES,
    CorruptPodMetadata,
    FsPodStore,
    PodActiveSegmentRef,
    PodMetadata,
    PodMetadataStore,
    PodSpawnedChild,
    PodSpawnedScopeRule,
    decode_pod_metadata,
    encode_pod_metadata,
)

SESSION = "01971f3a-7c00-7abc-8def-0123456789ab"
SEGMENT = "01971f3a-7c11-7abc-8def-0123456789ac"
CHILD = PodSpawnedChild("child", "/run/child.sock", (PodSpawnedScopeRule("/w", "write", True),), "/run/p.sock")
GOLDEN = [
    (
        '{"pod_name":"worker-a","active":{"session_id":"01971f3a-7c00-7abc-8def-0123456789ab"}}',
        PodMetadata("worker-a", PodActiveSegmentRef(SESSION)),
    ),
    (
        (
            '{"pod_name":"worker-a","active":{"session_id":"01971f3a-7c00-7abc-8def-0123456789ab","segment_id":'
            '"01971f3a-7c11-7abc-8def-0123456789ac"},"spawned_children":[{"pod_name":"child","socket_path":'
            '"/run/child.sock","scope_delegated":[{"target":"/w","permission":"write","recursive":true}],'
            '"callback_address":"/run/p.sock"}],"resolved_manifest_snapshot":{"pod":{"name":"x"}}}'
        ),
        PodMetadata("worker-a", PodActiveSegmentRef(SESSION, SEGMENT), (CHILD,), {"pod": {"name": "x"}}),
    ),
    ('{"pod_name":"worker-a"}', PodMetadata("worker-a")),
    (
        '{"pod_name":"later","peers":[{"pod_name":"b","since":1}],"workspace_id":null,"revision":1267650600228229401}',
        PodMetadata(
            "later",
            extra={"peers": [{"pod_name": "b", "since": 1}], "workspace_id": None, "revision": 1267650600228229401},
        ),
    ),
]
KNOWN = PodMetadata.__struct_fields__[:-1]

utf8 = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.uuids().map(str)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | utf8
json_values = st.recursive(
    scalars | st.just("\udcff alone"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(utf8, inner, max_size=4),
    max_leaves=8,
)
rules = st.builds(PodSpawnedScopeRule, utf8, utf8, st.booleans())
children = st.builds(PodSpawnedChild, utf8, utf8, st.lists(rules, max_size=2).map(tuple), utf8)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."}
)
metadatas = st.builds(
    PodMetadata,
    names,
    st.none() | st.builds(PodActiveSegmentRef, ids, st.none() | ids),
    st.lists(children, max_size=3).map(tuple),
    json_values,
    st.dictionaries(utf8.filter(lambda key: key not in KNOWN), json_values, max_size=3),
)


def folder_of(root: Path) -> list[str]:
    return sorted(os.listdir(root / "pods"))


def run(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    path = Path(session_log.pods.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(path)},
    )


def bump(old: PodMetadata | None) -> PodMetadata:
    count = 0 if old is None else old.resolved_manifest_snapshot
    return PodMetadata("a", resolved_manifest_snapshot=count + 1)


@contextlib.contextmanager
def no_descriptor_left_open() -> Iterator[None]:
    before = len(os.listdir("/dev/fd"))
    yield
    assert len(os.listdir("/dev/fd")) == before


# ── the shape ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("line", "metadata"), GOLDEN)
def test_a_line_of_the_reference_format_is_read_and_written_byte_for_byte(line: str, metadata: PodMetadata) -> None:
    """What the reference writes decodes to these values, and they encode to what it wrote."""
    assert decode_pod_metadata(line.encode()) == metadata
    assert encode_pod_metadata(metadata) == line.encode()


@given(metadatas)
@example(PodMetadata("a", resolved_manifest_snapshot=[2**64, -(2**63) - 1, "\ud800", 1e300]))
@example(PodMetadata("a", extra={"\ud800": {"big": 10**30}}))
def test_metadata_reads_back_as_it_was_written(metadata: PodMetadata) -> None:
    """Encode, then decode, is the identity, whatever JSON the payloads hold; encoding again gives the same bytes."""
    encoded = encode_pod_metadata(metadata)

    assert decode_pod_metadata(encoded) == metadata
    assert encode_pod_metadata(decode_pod_metadata(encoded)) == encoded
    assert b"\n" not in encoded


def test_null_is_read_as_absent() -> None:
    """An option written as null is the same as one left out."""
    absent = b'{"pod_name":"a","active":null,"resolved_manifest_snapshot":null}'
    pending = b'{"pod_name":"a","active":{"session_id":"%s","segment_id":null}}' % SESSION.encode()

    assert decode_pod_metadata(absent) == PodMetadata("a")
    assert decode_pod_metadata(pending) == PodMetadata("a", PodActiveSegmentRef(SESSION))


def test_unknown_keys_do_not_fail_at_any_level() -> None:
    """A later writer may add keys anywhere; those at the top are kept."""
    line = json.loads(GOLDEN[1][0])
    line["later"] = 1
    line["active"]["later"] = 1
    line["spawned_children"][0]["later"] = 1
    line["spawned_children"][0]["scope_delegated"][0]["later"] = 1

    assert decode_pod_metadata(json.dumps(line).encode()) == msgspec.structs.replace(GOLDEN[1][1], extra={"later": 1})


def test_ids_are_taken_in_any_spelling_and_kept_in_one() -> None:
    """An id is canonical text, whoever gives it; what is no id is refused at once."""
    shouted = PodActiveSegmentRef(SESSION.upper(), SEGMENT.replace("-", ""))

    assert shouted == PodActiveSegmentRef(SESSION, SEGMENT)
    assert PodActiveSegmentRef(uuid.UUID(SESSION)) == PodActiveSegmentRef(SESSION)  # type: ignore[arg-type]
    with pytest.raises(InvalidId):
        PodActiveSegmentRef("../../etc")
    with pytest.raises(InvalidId):
        PodActiveSegmentRef(SESSION, "")


def test_what_orjson_can_say_may_stand_in_a_snapshot() -> None:
    """Dataclasses, dates and ids become the JSON orjson makes of them."""

    @dataclasses.dataclass
    class Manifest:
        id: uuid.UUID

    encoded = encode_pod_metadata(PodMetadata("a", resolved_manifest_snapshot=Manifest(uuid.UUID(SESSION))))

    assert decode_pod_metadata(encoded).resolved_manifest_snapshot == {"id": SESSION}


def with_child(**changes: Any) -> PodMetadata:
    return PodMetadata("a", spawned_children=(msgspec.structs.replace(CHILD, **changes),))


REFUSED: list[tuple[Any, str]] = [
    (PodMetadata("a", resolved_manifest_snapshot={"x": [1.5, float("nan")]}), "$.resolved_manifest_snapshot.x[1]"),
    (PodMetadata("a", resolved_manifest_snapshot=float("inf")), "$.resolved_manifest_snapshot"),
    (PodMetadata("a", resolved_manifest_snapshot={1: 2}), "$.resolved_manifest_snapshot"),
    (PodMetadata("a", resolved_manifest_snapshot={"x": b"bytes"}), "$.resolved_manifest_snapshot.x"),
    (PodMetadata("a", resolved_manifest_snapshot=object()), "$.resolved_manifest_snapshot"),
    (PodMetadata("a", extra={"x": float("nan")}), "$.extra.x"),
    (PodMetadata("a", extra={"pod_name": "b"}), "$.extra.pod_name"),
    (PodMetadata("a", extra=[]), "$.extra"),  # type: ignore[arg-type]
    (PodMetadata(3), "$.pod_name"),  # type: ignore[arg-type]
    (PodMetadata("\ud800"), "$.pod_name"),
    (PodMetadata("a", active={"session_id": "x"}), "$.active"),  # type: ignore[arg-type]
    (PodMetadata("a", spawned_children=None), "$.spawned_children"),  # type: ignore[arg-type]
    (with_child(socket_path="/run/\udcff"), "$.spawned_children[0].socket_path"),
    (with_child(socket_path=Path("/run")), "$.spawned_children[0].socket_path"),
    (with_child(callback_address=b"/run"), "$.spawned_children[0].callback_address"),
    (with_child(scope_delegated=(PodSpawnedScopeRule("/", "read", 1),)), "$.spawned_children[0].scope_delegated[0]"),  # type: ignore[arg-type]
    (PodMetadata("a", resolved_manifest_snapshot="x" * MAX_POD_BYTES), "$"),
    ({"pod_name": "a"}, "$"),
    (None, "$"),
]


@pytest.mark.parametrize(("value", "path"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_would_not_read_back_the_same_is_refused_before_anything_is_written(
    tmp_path: Path, value: Any, path: str
) -> None:
    """A value JSON cannot say, or a wrong type, is an InvalidEntry that names its place; no file or folder appears."""
    with pytest.raises(InvalidEntry) as caught:
        FsPodStore(tmp_path / "root").write(value)

    assert caught.value.path.startswith(path)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"", "$"),
        (b"\0\0\0", "$"),
        (b"\xff", "$"),
        (b'{"pod_name":"a"', "$"),
        (b"[" * 100_000, "$"),
        (b"[]", "$"),
        (b"{}", "$"),
        (b'{"pod_name":3}', "$.pod_name"),
        (b'{"pod_name":"a","resolved_manifest_snapshot":NaN}', "$"),
        (b'{"pod_name":"a","active":{"session_id":"x"}}', "$.active"),
        (b'{"pod_name":"a","active":{}}', "$.active"),
        (b'{"pod_name":"a","spawned_children":[{"pod_name":1}]}', "$.spawned_children[0].pod_name"),
    ],
)
def test_bytes_that_are_no_metadata_are_an_error_with_a_place(tmp_path: Path, data: bytes, path: str) -> None:
    """The decoder says which value is wrong; the store adds the file, and lists the name all the same."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    file = tmp_path / "pods" / "a.json"
    file.write_bytes(data)

    with pytest.raises(InvalidEntry) as caught:
        decode_pod_metadata(data)
    with pytest.raises(CorruptPodMetadata, match=r"a\.json") as corrupt:
        store.read_by_name("a")
    with pytest.raises(CorruptPodMetadata):
        store.update("a", bump)
    assert caught.value.path == path
    assert issubclass(CorruptPodMetadata, StorageError)
    assert corrupt.value.where == str(file)
    assert store.list_names() == ["a"]
    assert file.read_bytes() == data


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/", "../a", "a\0", "\ud800", "x" * 251, "é" * 126, None, 3, b"a", ["a"]],
    ids=repr,
)
def test_a_name_that_could_not_be_a_file_is_refused_everywhere(tmp_path: Path, name: Any) -> None:
    """F24: no other text becomes a path: every door refuses it, and makes no file."""
    store = FsPodStore(tmp_path / "root")

    for door in (store.read_by_name, store.delete_by_name, lambda name: store.update(name, bump)):
        with pytest.raises(InvalidName) as caught:
            door(name)
        assert caught.value.name == name
    with pytest.raises((InvalidName, InvalidEntry)):
        store.write(PodMetadata(name))
    assert not (tmp_path / "root").exists()


@given(names)
@example(".lock")
@example(".lock.json")
@example(".json")
@example(".tmp-0123456789abcdef")
@example("a.json")
@example("...")
@example("x" * 250)
@example("é" * 125)
@example("new\nline \x1b[31m  ")
@example("-rf")
@example("CON")
def test_any_other_name_is_a_pod(name: str) -> None:
    """Names are free text: what is written under one is read, listed and deleted under it, and disturbs no other."""
    with tempfile.TemporaryDirectory() as root:
        store = FsPodStore(root)
        store.write(PodMetadata("another"))
        store.write(PodMetadata(name, resolved_manifest_snapshot=1))

        assert store.read_by_name(name) == PodMetadata(name, resolved_manifest_snapshot=1)
        assert store.list_names() == sorted({name, "another"})
        store.delete_by_name(name)
        assert store.read_by_name(name) is None
        assert store.list_names() == [other for other in ["another"] if other != name]


def test_the_longest_name_is_the_longest_file_name() -> None:
    """MAX_NAME_BYTES counts bytes of UTF-8, with the suffix."""
    assert len("x" * 250 + ".json") == MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("first", "second"), [("Worker", "worker"), ("caf\u00e9", "cafe\u0301"), ("Straße", "STRASSE")]
)
def test_a_name_the_file_system_takes_for_another_does_not_overwrite_it(
    tmp_path: Path, first: str, second: str
) -> None:
    """On a file system that ignores case, the pod written first keeps its file; the other name has none."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata(first))
    os.replace(tmp_path / "pods" / f"{first}.json", tmp_path / "pods" / f"{second}.json")  # as such a one would find it

    assert store.read_by_name(second) is None
    with pytest.raises(InvalidName, match="that of pod"):
        store.write(PodMetadata(second))
    with pytest.raises(InvalidName):
        store.update(second, lambda old: PodMetadata(second))
    store.delete_by_name(second)
    assert decode_pod_metadata((tmp_path / "pods" / f"{second}.json").read_bytes()).pod_name == first


def test_case_is_kept(tmp_path: Path) -> None:
    """Where the file system tells them apart, two names that differ in case are two pods."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("worker"))
    if (tmp_path / "pods" / "WORKER.json").exists():
        pytest.skip("this file system ignores case")

    store.write(PodMetadata("WORKER"))

    assert store.list_names() == ["WORKER", "worker"]


# ── the store ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_is_used_through_its_protocol(tmp_path: Path) -> None:
    """Write, read, update, list, delete: what any store of pod metadata offers, None for what is missing."""
    store: PodMetadataStore = FsPodStore(str(tmp_path / "new" / "root"))

    assert store.read_by_name("a") is None
    assert store.list_names() == []
    store.delete_by_name("a")
    assert list(tmp_path.iterdir()) == []

    for name in ("b", "a", "Ä"):
        store.write(PodMetadata(name))
    assert store.list_names() == ["a", "b", "Ä"]
    assert store.update("a", lambda old: PodMetadata("a", PodActiveSegmentRef(SESSION))).active is not None
    assert store.read_by_name("a") == PodMetadata("a", PodActiveSegmentRef(SESSION))
    store.delete_by_name("a")
    store.delete_by_name("a")
    assert store.read_by_name("a") is None
    assert store.list_names() == ["b", "Ä"]


@given(
    st.lists(metadatas, max_size=4, unique_by=lambda value: unicodedata.normalize("NFKC", value.pod_name).casefold())
)
def test_what_was_written_last_is_what_is_read(written: list[PodMetadata]) -> None:
    """A folder of pods is a dict: each name holds what was written under it last."""
    with tempfile.TemporaryDirectory() as root:
        store = FsPodStore(root)
        for metadata in written:
            store.write(PodMetadata(metadata.pod_name))
            store.write(metadata)

        assert [FsPodStore(root).read_by_name(metadata.pod_name) for metadata in written] == written
        assert store.list_names() == sorted(metadata.pod_name for metadata in written)


def test_the_file_is_one_line_of_the_reference_format(tmp_path: Path) -> None:
    """The file is named for the pod, holds its JSON and a newline, and is for the owner only (F25)."""
    line, metadata = GOLDEN[1]
    umask = os.umask(0)
    try:
        FsPodStore(tmp_path / "deep" / "root").write(metadata)
    finally:
        os.umask(umask)
    pods = tmp_path / "deep" / "root" / "pods"

    assert (pods / "worker-a.json").read_text() == line + "\n"
    assert folder_of(pods.parent) == [".lock", "worker-a.json"]
    for folder in (pods, pods.parent, pods.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in pods.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_listing_passes_over_what_is_not_a_pod(tmp_path: Path) -> None:
    """Bad, foreign, temporary and misnamed files, folders and symlinks neither break a listing nor enter it."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("good"))
    pods = tmp_path / "pods"
    (pods / "bad.json").write_bytes(b"\0")
    (pods / ".tmp-0123456789abcdef").write_bytes(b'{"pod_name":"half')
    for foreign in ("notes.txt", ".json", "..json", "...json", "x.JSON", "y.json~", ".DS_Store"):
        (pods / foreign).write_bytes(b"")
    (pods / "folder.json").mkdir()
    (pods / "link.json").symlink_to("good.json")

    assert store.list_names() == ["bad", "good"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always UTF-8")
def test_a_listing_passes_over_names_that_are_no_utf8(tmp_path: Path) -> None:
    """A file name that is no text is nobody's pod."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("good"))
    (tmp_path / "pods" / os.fsdecode(b"\xff.json")).write_bytes(b"")

    assert store.list_names() == ["good"]


def test_a_bad_file_is_mended_by_a_write_and_removed_by_a_deletion(tmp_path: Path) -> None:
    """What cannot be read can still be replaced or removed, as its error says."""
    store = FsPodStore(tmp_path)
    for name in ("a", "b"):
        store.write(PodMetadata(name))
        (tmp_path / "pods" / f"{name}.json").write_bytes(b"\0")

    store.write(PodMetadata("a"))
    store.delete_by_name("b")

    assert store.read_by_name("a") == PodMetadata("a")
    assert store.list_names() == ["a"]


def test_a_file_on_a_bad_sector_is_an_error_to_read_and_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file the disk does not give back is StoreUnavailable, with its path; it can be replaced or removed."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    store.write(PodMetadata("b"))

    def failing(fd: int, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(os, "read", failing)
        for refused in (store.read_by_name, lambda name: store.update(name, bump)):
            with no_descriptor_left_open(), pytest.raises(StoreUnavailable, match=r"a\.json: Input/output error"):
                refused("a")
        store.write(PodMetadata("a", resolved_manifest_snapshot="new"))
        store.delete_by_name("b")

    assert store.read_by_name("a") == PodMetadata("a", resolved_manifest_snapshot="new")
    assert store.list_names() == ["a"]


def test_a_file_that_holds_another_pod_is_damage(tmp_path: Path) -> None:
    """A file copied to another name is not believed."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    (tmp_path / "pods" / "b.json").write_bytes((tmp_path / "pods" / "a.json").read_bytes())

    with pytest.raises(CorruptPodMetadata, match=r"b\.json: holds pod 'a'"):
        store.read_by_name("b")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    """MAX_POD_BYTES: the longest file that can be written is read; a longer one is refused, not loaded."""
    store = FsPodStore(tmp_path)
    frame = len(encode_pod_metadata(PodMetadata("a", resolved_manifest_snapshot=""))) + 1
    longest = PodMetadata("a", resolved_manifest_snapshot="x" * (MAX_POD_BYTES - frame))
    store.write(longest)

    assert (tmp_path / "pods" / "a.json").stat().st_size == MAX_POD_BYTES
    assert store.read_by_name("a") == longest
    with pytest.raises(InvalidEntry, match="MAX_POD_BYTES"):
        store.write(PodMetadata("a", resolved_manifest_snapshot="x" * (MAX_POD_BYTES - frame + 1)))
    with (tmp_path / "pods" / "a.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(CorruptPodMetadata, match="MAX_POD_BYTES"):
        store.read_by_name("a")


def test_what_is_read_is_the_callers_own(tmp_path: Path) -> None:
    """F31: changing a returned value changes no later read."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a", resolved_manifest_snapshot={"x": []}, extra={"y": []}))

    first = store.read_by_name("a")
    assert first is not None
    first.resolved_manifest_snapshot["x"].append(1)
    first.extra["y"].append(1)
    PodMetadata("b").extra["z"] = 1

    assert store.read_by_name("a") == PodMetadata("a", resolved_manifest_snapshot={"x": []}, extra={"y": []})
    assert PodMetadata("b").extra == {}


def test_a_relative_root_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing the working directory does not move an open store."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = FsPodStore("root")
    monkeypatch.chdir(tmp_path / "elsewhere")

    store.write(PodMetadata("a"))

    assert (tmp_path / "root" / "pods" / "a.json").exists()


# ── updates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_update_starts_from_what_is_there(tmp_path: Path) -> None:
    """The change gets the stored value, None at first, and what it returns is stored and returned."""
    store = FsPodStore(tmp_path)

    assert [store.update("a", bump).resolved_manifest_snapshot for _ in range(3)] == [1, 2, 3]
    assert (tmp_path / "pods" / "a.json").read_bytes() == b'{"pod_name":"a","resolved_manifest_snapshot":3}\n'


def test_an_update_keeps_the_keys_it_does_not_know(tmp_path: Path) -> None:
    """A key of a later writer survives an update that builds the value anew; one the change sets is set."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a", extra={"peers": ["b"], "revision": 1}))

    stored = store.update("a", lambda old: PodMetadata("a", PodActiveSegmentRef(SESSION), extra={"revision": 2}))

    assert stored == PodMetadata("a", PodActiveSegmentRef(SESSION), extra={"peers": ["b"], "revision": 2})
    assert store.read_by_name("a") == stored
    store.write(PodMetadata("a"))
    assert store.read_by_name("a") == PodMetadata("a")


def fail(old: PodMetadata | None) -> PodMetadata:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (fail, KeyboardInterrupt),
        (lambda old: PodMetadata("b"), InvalidEntry),
        (lambda old: None, InvalidEntry),
        (lambda old: PodMetadata("a", extra=3), InvalidEntry),  # type: ignore[arg-type]
        (lambda old: PodMetadata("a", resolved_manifest_snapshot=float("nan")), InvalidEntry),
    ],
)
def test_an_update_that_fails_changes_nothing(
    tmp_path: Path, change: Callable[[PodMetadata | None], PodMetadata], error: type[BaseException]
) -> None:
    """After a failed change the old value stands and the next update goes ahead."""
    store = FsPodStore(tmp_path)
    store.update("a", bump)

    with no_descriptor_left_open(), pytest.raises(error):
        store.update("a", change)

    assert store.update("a", bump).resolved_manifest_snapshot == 2
    assert store.list_names() == ["a"]


WRITER = """
import sys
from session_log.pods import FsPodStore, PodMetadata
def bump(old):
    return PodMetadata("a", resolved_manifest_snapshot=(old.resolved_manifest_snapshot if old else 0) + 1)
store = FsPodStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
for _ in range(int(sys.argv[2])):
    store.update("a", bump)
"""


def test_no_update_of_several_processes_is_lost(tmp_path: Path) -> None:
    """F6: N processes that count one number up M times each make it N × M."""
    writers = [run(WRITER, tmp_path, 40) for _ in range(3)]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.communicate()

    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert FsPodStore(tmp_path).read_by_name("a") == PodMetadata("a", resolved_manifest_snapshot=120)
    assert folder_of(tmp_path) == [".lock", "a.json"]


def test_no_update_of_several_threads_is_lost(tmp_path: Path) -> None:
    """F35: threads exclude each other too, with one store or several, and writes and deletions wait as well."""
    stores = [FsPodStore(tmp_path)] * 2 + [FsPodStore(tmp_path)]
    start = threading.Barrier(len(stores))

    def count(store: FsPodStore) -> None:
        start.wait()
        for turn in range(40):
            store.update("a", bump)
            store.write(PodMetadata(f"b{turn}"))
            store.delete_by_name(f"b{turn}")

    threads = [threading.Thread(target=count, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stores[0].read_by_name("a") == PodMetadata("a", resolved_manifest_snapshot=120)
    assert stores[0].list_names() == ["a"]


def is_locked(root: Path) -> bool:
    fd = os.open(root / "pods" / ".lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_every_change_is_made_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write, update and deletion touch a file only while nobody else can; afterwards the lock is free."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    seen = []
    replace, unlink = os.replace, os.unlink

    def watched_replace(*arguments: Any, **keywords: Any) -> None:
        seen.append(is_locked(tmp_path))
        replace(*arguments, **keywords)

    def watched_unlink(*arguments: Any, **keywords: Any) -> None:
        seen.append(is_locked(tmp_path))
        unlink(*arguments, **keywords)

    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(os, "unlink", watched_unlink)
    store.write(PodMetadata("a"))
    store.update("a", lambda old: PodMetadata("a"))
    store.delete_by_name("a")

    assert seen == [True, True, True]
    assert not is_locked(tmp_path)


def test_a_write_inside_an_update_is_refused_instead_of_waiting_for_itself(tmp_path: Path) -> None:
    """A change that writes to its own folder gets an error at once; reading there, or another root, is fine."""
    store, other = FsPodStore(tmp_path / "one"), FsPodStore(tmp_path / "two")

    def change(old: PodMetadata | None) -> PodMetadata:
        assert store.read_by_name("a") is None
        assert store.list_names() == []
        other.update("a", bump)
        with pytest.raises(StoreUnavailable, match="this thread holds it already"):
            FsPodStore(tmp_path / "one").write(PodMetadata("b"))
        return PodMetadata("a")

    with no_descriptor_left_open():
        store.update("a", change)

    assert store.list_names() == ["a"]


def test_a_lock_file_removed_behind_a_waiting_writer_is_not_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gets a lock on a file that has been removed meanwhile takes the lock that others will see."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    flock, lock = fcntl.flock, tmp_path / "pods" / ".lock"
    removals = iter([lock.unlink, lambda: os.replace(tmp_path / "other", lock)])
    (tmp_path / "other").touch()
    seen = []

    def interfered(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            next(removals, lambda: None)()
        flock(fd, operation)

    def change(old: PodMetadata | None) -> PodMetadata:
        seen.append(is_locked(tmp_path))
        return PodMetadata("a")

    monkeypatch.setattr(fcntl, "flock", interfered)
    with no_descriptor_left_open():
        store.update("a", change)

    assert seen == [True]


FORKER = """
import os, signal, sys, threading
from session_log.pods import FsPodStore
inside = threading.Event()
def change(old):
    inside.set()
    threading.Event().wait()
threading.Thread(target=FsPodStore(sys.argv[1]).update, args=("a", change), daemon=True).start()
inside.wait()
if os.fork() == 0:
    os.write(1, b"r")
    sys.stdin.buffer.read()
    os._exit(0)
signal.pause()
"""


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    """F35: a process forked during an update of another thread does not hold the lock when the parent is killed."""
    parent = run(FORKER, tmp_path)
    assert parent.stdout is not None and parent.stdin is not None
    assert parent.stdout.read(1) == b"r"
    assert is_locked(tmp_path)

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        assert not is_locked(tmp_path)
        assert FsPodStore(tmp_path).update("a", bump).resolved_manifest_snapshot == 1
    finally:
        parent.stdin.close()
        parent.stdout.close()


def test_the_lock_is_free_though_somebody_has_a_copy_of_its_descriptor(tmp_path: Path) -> None:
    """F35: a child that was forked by foreign code, and knows nothing of the lock, does not keep it."""
    store = FsPodStore(tmp_path)
    copies: list[int] = []

    def is_lock(fd: int) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(fd), (tmp_path / "pods" / ".lock").stat())
        return False

    def change(old: PodMetadata | None) -> PodMetadata:
        locks = [fd for fd in map(int, os.listdir("/dev/fd")) if is_lock(fd)]
        copies.extend(map(os.dup, locks))
        return PodMetadata("a")

    store.update("a", change)
    held = is_locked(tmp_path)
    for copy in copies:
        os.close(copy)

    assert len(copies) == 1
    assert not held


def test_a_child_forked_inside_an_update_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    """A child that returns out of the update of its parent neither frees nor closes what is not its own."""
    store = FsPodStore(tmp_path)
    children: list[int] = []

    def change(old: PodMetadata | None) -> PodMetadata:
        children.append(os.fork())
        if children[-1] == 0:
            raise KeyboardInterrupt
        assert os.waitpid(children[-1], 0)[1] == 0
        assert is_locked(tmp_path)
        return PodMetadata("a")

    try:
        store.update("a", change)
    except BaseException as exc:  # the child must not go on with the tests of its parent
        if children[-1] == 0:
            os._exit(0 if isinstance(exc, KeyboardInterrupt) else 1)
        raise

    assert store.read_by_name("a") == PodMetadata("a")


# ── crashes and failures ───────────────────────────────────────────────────────────────────────────────────────────

KILLED = """
import os, signal, sys
from session_log.pods import FsPodStore, PodMetadata
store, step = FsPodStore(sys.argv[1]), int(sys.argv[2])
def counted(name, call):
    def before(*arguments, **keywords):
        global step
        if step == 0:
            if name == "write":
                call(arguments[0], bytes(arguments[1])[:7])
            os.kill(os.getpid(), signal.SIGKILL)
        step -= 1
        return call(*arguments, **keywords)
    return before
for name in ("mkdir", "write", "fsync", "replace"):
    setattr(os, name, counted(name, getattr(os, name)))
store.update("a", lambda old: PodMetadata("a", resolved_manifest_snapshot="new"))
os._exit(0)
"""


def test_a_writer_killed_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """F7: whatever system call SIGKILL hits, the file is whole, the lock is free, and the next update goes ahead."""
    store = FsPodStore(tmp_path)
    old, new = PodMetadata("a", resolved_manifest_snapshot="old"), PodMetadata("a", resolved_manifest_snapshot="new")
    outcomes = []

    for step in range(20):
        store.write(old)
        process = run(KILLED, tmp_path, step)
        process.communicate()
        found = store.read_by_name("a")
        assert found in (old, new)
        assert store.list_names() == ["a"]
        assert store.update("b", lambda before: PodMetadata("b")) == PodMetadata("b")
        store.delete_by_name("b")
        outcomes.append(found == new)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL

    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False and outcomes[-1] is True and len(outcomes) >= 6
    halves = [name for name in folder_of(tmp_path) if name.startswith(".tmp-")]
    assert halves and all(name.startswith(".tmp-") or name in {".lock", "a.json"} for name in folder_of(tmp_path))


CUT = """
import os, resource, sys
from session_log._errors import StoreUnavailable
from session_log.pods import FsPodStore, PodMetadata, encode_pod_metadata
store = FsPodStore(sys.argv[1])
old, new = PodMetadata("a"), PodMetadata("a", resolved_manifest_snapshot=["new"] * 9)
store.write(old)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for cut in range(len(encode_pod_metadata(new)) + 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (cut, unlimited[1]))
    try:
        store.update("a", lambda old: new)
    except StoreUnavailable as exc:
        assert "a.json" in str(exc) and "nothing was written" in str(exc), exc
    else:
        sys.exit(f"written whole into {cut} bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert store.read_by_name("a") == old
    assert sorted(os.listdir(sys.argv[1] + "/pods")) == [".lock", "a.json"], os.listdir(sys.argv[1] + "/pods")
store.update("a", lambda old: new)
assert store.read_by_name("a") == new
"""


def test_a_write_cut_at_any_byte_leaves_the_old_file(tmp_path: Path) -> None:
    """F1: a disk that is full after any number of bytes costs the new value, never the old; nothing is left behind."""
    process = run(CUT, tmp_path)
    process.communicate()

    assert process.returncode == 0


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F7: file synced, then moved, then the folder synced; and each folder above into the next."""
    inodes: dict[int, str] = {}
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(fd: int) -> None:
        found = os.fstat(fd)
        calls.append("sync " + (inodes.get(found.st_ino, "?") if stat.S_ISDIR(found.st_mode) else "file"))
        fsync(fd)

    def watched_replace(source: str, target: str, **keywords: Any) -> None:
        calls.append(f"move to {target}")
        replace(source, target, **keywords)

    store = FsPodStore(tmp_path / "new" / "root")
    store.write(PodMetadata("a"))
    for name, folder in (("pods", store.root / "pods"), ("root", store.root)):
        inodes[folder.stat().st_ino] = name
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    store.write(PodMetadata("a"))
    store.delete_by_name("a")

    assert calls == ["sync root", "sync file", "move to a.json", "sync pods", "sync pods"]
    calls.clear()
    inodes[tmp_path.stat().st_ino] = "above"
    FsPodStore(tmp_path / "other").write(PodMetadata("a"))
    assert calls[0] == "sync above"


def failing(call: Callable[..., Any], code: int, *, folders: bool) -> Callable[..., Any]:
    """Return an fsync that fails on folders, or on everything else, as a broken disk would."""

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) is folders:
            raise OSError(code, os.strerror(code))
        call(fd)

    return fsync


def test_a_failed_sync_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be synced is never moved into place."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, folders=False))

    with no_descriptor_left_open(), pytest.raises(StoreUnavailable, match=r"a\.json: Input/output error"):
        store.update("a", bump_any)

    assert store.read_by_name("a") == PodMetadata("a")
    assert folder_of(tmp_path) == [".lock", "a.json"]


def bump_any(old: PodMetadata | None) -> PodMetadata:
    return PodMetadata("a", resolved_manifest_snapshot="new")


def test_a_folder_that_cannot_be_synced_leaves_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the new file is in place, a failure is no longer "nothing was written"."""
    with Folder.make(tmp_path, "pods") as folder, no_descriptor_left_open():
        folder.replace("a", b"old")
        monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, folders=True))

        with pytest.raises(AppendUnknown, match="pods"):
            folder.replace("a", b"new")
        assert folder.read("a", max_bytes=9) == b"new"
        with pytest.raises(AppendUnknown):
            folder.sync("a")
        with pytest.raises(AppendUnknown):
            folder.remove("a")
        with pytest.raises(StoreUnavailable):
            Folder.make(tmp_path, "pods")
        with pytest.raises(StoreUnavailable):
            Folder.make(tmp_path / "new")


def test_a_file_system_without_syncs_of_folders_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems refuse to sync a folder as an invalid operation: that is no failure of the write."""
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EINVAL, folders=True))

    FsPodStore(tmp_path / "root").write(PodMetadata("a"))

    assert FsPodStore(tmp_path / "root").read_by_name("a") == PodMetadata("a")


def test_writers_without_a_lock_share_no_temporary_file(tmp_path: Path) -> None:
    """F7: threads that replace one file at once leave one of their values, whole, and a reader sees nothing else."""
    values = [bytes([65 + at]) * 50_000 for at in range(3)]
    with Folder.make(tmp_path, durable=False) as folder:
        folder.replace("a", values[0], durable=False)

        def write(value: bytes) -> None:
            for _ in range(60):
                folder.replace("a", value, durable=False)

        threads = [threading.Thread(target=write, args=(value,)) for value in values]
        for thread in threads:
            thread.start()
        seen = [folder.read("a", max_bytes=60_000)]
        while any(thread.is_alive() for thread in threads):
            seen.append(folder.read("a", max_bytes=60_000))

        assert set(seen) <= set(values)
        assert folder.names() == ["a"]


# ── what stands in the way ─────────────────────────────────────────────────────────────────────────────────────────


def doors_of(store: FsPodStore) -> list[Callable[[], object]]:
    """Return every way to touch the file of pod ``a``."""
    return [
        lambda: store.read_by_name("a"),
        lambda: store.write(PodMetadata("a")),
        lambda: store.update("a", bump),
        lambda: store.delete_by_name("a"),
    ]


@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder", "fifo"])
def test_what_is_no_plain_file_is_neither_followed_nor_opened_nor_removed(tmp_path: Path, kind: str) -> None:
    """F24: a symlink, folder or FIFO in place of a pod's file is refused by every door, and stays as it was."""
    store = FsPodStore(tmp_path / "root")
    store.write(PodMetadata("b"))
    outside = tmp_path / "outside.json"
    outside.write_bytes(b'{"pod_name":"a"}')
    place = tmp_path / "root" / "pods" / "a.json"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(outside if kind == "symlink" else tmp_path / "nowhere")

    for door in doors_of(store):
        with no_descriptor_left_open(), pytest.raises(UnsafePath, match=r"a\.json"):
            door()
    assert stat.S_IFMT(place.lstat().st_mode) != stat.S_IFREG
    assert outside.read_bytes() == b'{"pod_name":"a"}' and not (tmp_path / "nowhere").exists()
    assert store.list_names() == ["b"]
    with Folder.open(tmp_path / "root", "pods") as folder:
        with pytest.raises(UnsafePath):
            folder.replace("a.json", b"")
        with pytest.raises(UnsafePath):
            folder.remove("a.json")


@pytest.mark.parametrize("in_the_way", ["symlink", "file"])
def test_a_folder_below_the_root_is_never_a_symlink(tmp_path: Path, in_the_way: str) -> None:
    """F24: a symlink or a file in place of the folder is refused; nothing is written where it points."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.json").write_bytes(b'{"pod_name":"a"}')
    root = tmp_path / "root"
    root.mkdir()
    if in_the_way == "symlink":
        (root / "pods").symlink_to(outside)
    else:
        (root / "pods").touch()
    store = FsPodStore(root)

    for door in [store.list_names, *doors_of(store)]:
        with no_descriptor_left_open(), pytest.raises(UnsafePath, match="pods"):
            door()
    assert os.listdir(outside) == ["a.json"]


def test_the_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    """Where the root is, is the user's business."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")

    FsPodStore(tmp_path / "root").write(PodMetadata("a"))

    assert (tmp_path / "disk" / "pods" / "a.json").exists()


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo"])
def test_a_lock_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    """The lock file is not followed either, and nothing is written without it."""
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    lock = tmp_path / "pods" / ".lock"
    lock.unlink()
    if kind == "symlink":
        lock.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.mkdir()

    with no_descriptor_left_open(), pytest.raises(UnsafePath, match=r"\.lock"):
        store.update("a", bump)

    assert not (tmp_path / "elsewhere").exists()
    assert store.read_by_name("a") == PodMetadata("a")


def test_a_root_that_cannot_be_a_folder_is_a_typed_error(tmp_path: Path) -> None:
    """A file, a broken symlink, or a name too long in place of the root: the error names the path."""
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")

    with pytest.raises(UnsafePath, match="file"):
        FsPodStore(tmp_path / "file").write(PodMetadata("a"))
    with pytest.raises(UnsafePath, match="below"):
        FsPodStore(tmp_path / "file" / "below").list_names()
    with pytest.raises(NotFound, match="broken"):
        FsPodStore(tmp_path / "broken").write(PodMetadata("a"))
    with pytest.raises(StoreUnavailable, match="too long"):
        FsPodStore(tmp_path / ("x" * 256)).write(PodMetadata("a"))
    with pytest.raises(StoreUnavailable, match="too long"):
        FsPodStore(tmp_path / ("x" * 256)).read_by_name("a")


def test_permission_denied_is_a_typed_error_with_the_path(tmp_path: Path) -> None:
    """What may not be opened is StoreUnavailable, naming the file."""
    if os.geteuid() == 0:
        pytest.skip("root may do everything")
    store = FsPodStore(tmp_path)
    store.write(PodMetadata("a"))
    (tmp_path / "pods" / "a.json").chmod(0)

    with pytest.raises(StoreUnavailable, match=r"a\.json"):
        store.read_by_name("a")
