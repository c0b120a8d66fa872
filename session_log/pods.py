"""Pod metadata: which session a pod is in, by the name of the pod, and the children it spawned.

``{root}/pods/{pod_name}.json`` holds one JSON object in the shape of the reference format (yoi's ``PodMetadata``),
replaced as a whole: a reader sees the old one or the new one. The conversation is in the segments; this points there.
"""

import os
import unicodedata
from collections.abc import Callable
from typing import Protocol

import msgspec

from session_log import _check, _payload
from session_log._atomic import Folder
from session_log._errors import InvalidEntry, InvalidId, InvalidName, NotFound, StorageError, StoreUnavailable
from session_log._ids import parse_id
from session_log._items import JsonValue

MAX_NAME_BYTES = 255
"""What file systems allow for a name, in bytes of UTF-8, ``.json`` included."""
MAX_POD_BYTES = 16 * 1024 * 1024
"""What the file of one pod may hold: it is written as a whole at every change."""
_SUFFIX = ".json"


class CorruptPodMetadata(StorageError):
    """A file that holds no metadata of the pod it is named for."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}; write() replaces it, delete_by_name() removes it")
        self.where = where
        self.reason = reason


class PodActiveSegmentRef(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a pod is; without ``segment_id``, in a session whose first segment is not made yet."""

    session_id: str
    segment_id: str | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "session_id", parse_id(self.session_id))
        if self.segment_id is not None:
            msgspec.structs.force_setattr(self, "segment_id", parse_id(self.segment_id))


class PodSpawnedScopeRule(msgspec.Struct, frozen=True, gc=False):
    """What a child may do: ``permission`` (``read``, ``write``) on ``target`` and, if ``recursive``, below it."""

    target: str
    permission: str
    recursive: bool


class PodSpawnedChild(msgspec.Struct, frozen=True, gc=False):
    """A pod that this one spawned, where it was last reached, and what was delegated to it."""

    pod_name: str
    socket_path: str
    scope_delegated: tuple[PodSpawnedScopeRule, ...]
    callback_address: str


class _Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """The keys of the file that this version knows, in their order."""

    pod_name: str
    active: PodActiveSegmentRef | None = None
    spawned_children: tuple[PodSpawnedChild, ...] = ()
    resolved_manifest_snapshot: JsonValue = None


_NAMES = _Known.__struct_fields__


class PodMetadata(_Known, frozen=True):
    """What is known of a pod by its name.

    ``resolved_manifest_snapshot`` is any JSON value, ``None`` if there is none. ``extra`` holds the top-level keys
    that this version does not know, so that they survive being read, changed (``msgspec.structs.replace``) and written.
    """

    extra: dict[str, JsonValue] = {}  # msgspec gives each its own


def encode_pod_metadata(metadata: PodMetadata) -> bytes:
    """Return the JSON of ``metadata`` on one line, without a newline; the keys that are not known come last.

    Raises:
        InvalidEntry: it would not read back the same; ``path`` names the value.
    """
    snapshot = _typed(metadata).resolved_manifest_snapshot
    if snapshot is not None:
        snapshot = _payload.to_raw(snapshot, "$.resolved_manifest_snapshot")
    known = _Known(metadata.pod_name, metadata.active, metadata.spawned_children, snapshot)
    extra = _encode_extra(metadata.extra)
    try:
        data = msgspec.json.encode(known)
    except UnicodeEncodeError:  # a lone surrogate: refused below, for a path that reads back otherwise is another path
        data = msgspec.json.encode(_check.without_surrogates(known))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise _check.explain(known, str(exc)) from None
    if extra:
        data = data[:-1] + b"," + extra[1:]
    if len(data) >= MAX_POD_BYTES:  # the file ends with a newline
        raise InvalidEntry("$", f"the metadata has {len(data)} bytes, at most {MAX_POD_BYTES - 1} (MAX_POD_BYTES)")
    _check.refuse_difference(known, _decode(data)[0])
    return data


def _typed(value: object) -> PodMetadata:
    if isinstance(value, PodMetadata):
        return value
    raise InvalidEntry("$", f"{type(value).__name__} is no PodMetadata")


def _encode_extra(extra: dict[str, JsonValue]) -> bytes:
    if not isinstance(extra, dict):
        raise InvalidEntry("$.extra", f"is a {type(extra).__name__}, not a dict")
    for name in _NAMES:
        if name in extra:
            raise InvalidEntry(f"$.extra.{name}", "is a field; set it there")
    return bytes(_payload.to_raw(extra, "$.extra")) if extra else b""


def decode_pod_metadata(data: bytes) -> PodMetadata:
    """Return the metadata of one JSON object; ``extra`` keeps the keys that are not known.

    Raises:
        InvalidEntry: it is no pod metadata; ``path`` names the value that is wrong.
    """
    known, extra = _decode(data)
    return PodMetadata(**msgspec.structs.asdict(known), extra=extra)


def _decode(data: bytes) -> tuple[_Known, dict[str, JsonValue]]:
    document = _payload.object_of(data)
    try:
        known = msgspec.convert({name: document[name] for name in _NAMES if name in document}, _Known)
    except InvalidId as exc:
        raise InvalidEntry("$.active", str(exc)) from None
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at `")
        raise InvalidEntry(path.rstrip("`") or "$", reason) from None
    except UnicodeEncodeError:  # msgspec, over a lone surrogate in a typed field
        raise InvalidEntry("$", "holds a lone surrogate where none belongs") from None
    return known, {key: value for key, value in document.items() if key not in _NAMES}


class PodMetadataStore(Protocol):
    """What keeps pod metadata; :class:`FsPodStore` does it in files."""

    def write(self, metadata: PodMetadata) -> None:
        """Store ``metadata`` under its ``pod_name`` in place of what is there."""

    def update(self, name: str, change: Callable[[PodMetadata | None], PodMetadata]) -> PodMetadata:
        """Store what ``change`` makes of the metadata of ``name``, without losing anybody else's update."""

    def read_by_name(self, name: str) -> PodMetadata | None:
        """Return the metadata of ``name``, ``None`` if there is none."""

    def list_names(self) -> list[str]:
        """Return the names of the pods, sorted."""

    def delete_by_name(self, name: str) -> None:
        """Remove the metadata of ``name``, if there is any."""


class FsPodStore:
    """Pod metadata in files below ``root``, the same root as the segments'. Any number may be open on one root.

    It holds nothing open between calls. Writers take turns by the lock file ``pods/.lock``, which the kernel frees when
    a writer dies; readers never wait. What a write or a removal returned from survives a power cut. Where the file
    system takes two names for one (``A`` and ``a`` on most Macs), the first one written has the file.

    Every method raises InvalidName for a name that cannot be that of a file, UnsafePath if a symlink, device or folder
    stands where a file belongs (or a file for a folder), and StoreUnavailable if the system refuses; nothing has
    changed then. After AppendUnknown the change is there, but may be gone after a power cut.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        from pathlib import Path

        self.root = Path(root).absolute()

    def write(self, metadata: PodMetadata) -> None:
        """Store ``metadata`` under its ``pod_name``, in place of whatever is there.

        Raises:
            InvalidEntry: it would not read back the same.
            InvalidName: also if the file is that of another pod, see above.
        """
        data = encode_pod_metadata(metadata)
        name = metadata.pod_name
        file = _file_name(name)
        with Folder.make(self.root, "pods") as folder, folder.locked():
            _refuse_alias(folder, name)
            folder.replace(file, data + b"\n")

    def update(self, name: str, change: Callable[[PodMetadata | None], PodMetadata]) -> PodMetadata:
        """Store what ``change`` returns for the metadata of ``name`` (``None`` if there is none), and return that.

        No other update, write or removal comes in between; ``change`` should therefore be quick, and write nothing to
        this folder itself. If it raises, nothing changes. Keys of ``extra`` that it leaves out are kept.

        Raises:
            CorruptPodMetadata: what is there cannot be read.
            InvalidEntry, InvalidName: as :meth:`write`.
            StoreUnavailable: also if this thread is in an update of this folder already.
        """
        file = _file_name(name)
        with Folder.make(self.root, "pods") as folder, folder.locked():
            _refuse_alias(folder, name)
            old = _read(folder, name)
            new = _typed(change(old))
            if new.pod_name != name:
                raise InvalidEntry("$.pod_name", f"is {new.pod_name!r} in an update of pod {name!r}")
            if old is not None and _encode_extra(new.extra) != _encode_extra(old.extra):
                new = msgspec.structs.replace(new, extra={**old.extra, **new.extra})
            folder.replace(file, encode_pod_metadata(new) + b"\n")
            return new

    def read_by_name(self, name: str) -> PodMetadata | None:
        """Return the metadata of ``name``, ``None`` if there is none.

        Raises:
            CorruptPodMetadata: the file holds no metadata of this pod.
        """
        _file_name(name)
        try:
            with Folder.open(self.root, "pods") as folder:
                return None if _alias(folder, name) else _read(folder, name)
        except NotFound:
            return None

    def list_names(self) -> list[str]:
        """Return the names of the pods, sorted. The files are not opened; other files are passed over."""
        try:
            with Folder.open(self.root, "pods") as folder:
                files = folder.names()
        except NotFound:
            return []
        stems = (file.removesuffix(_SUFFIX) for file in files if file.endswith(_SUFFIX))
        return sorted(stem for stem in stems if _fault(stem) is None)

    def delete_by_name(self, name: str) -> None:
        """Remove the metadata of ``name``, readable or not; nothing happens if there is none."""
        file = _file_name(name)
        try:
            folder = Folder.open(self.root, "pods")
        except NotFound:
            return
        with folder, folder.locked():
            if not _alias(folder, name):
                folder.remove(file)


def _file_name(name: object) -> str:
    fault = _fault(name)
    if fault is not None:
        raise InvalidName(name, fault)
    return f"{name}{_SUFFIX}"


def _fault(name: object) -> str | None:
    """Say why ``name`` cannot be the name of a pod. The names of the lock and of temporary files do not end as ours."""
    if type(name) is not str:
        return f"is a {type(name).__name__}, not a text"
    if name in {"", ".", ".."}:
        return "is empty or a folder"
    if "/" in name or "\0" in name:
        return "holds a slash or NUL"
    if _check.scrub(name) != name:
        return "holds a surrogate"
    if len(name.encode()) + len(_SUFFIX) > MAX_NAME_BYTES:
        return f"has over {MAX_NAME_BYTES - len(_SUFFIX)} bytes of UTF-8 (MAX_NAME_BYTES less {_SUFFIX!r})"
    return None


def _read(folder: Folder, name: str) -> PodMetadata | None:
    file = _file_name(name)
    path = str(folder.path / file)
    try:
        data = folder.read(file, max_bytes=MAX_POD_BYTES)
    except NotFound:
        return None
    if len(data) > MAX_POD_BYTES:
        raise CorruptPodMetadata(path, f"has over {MAX_POD_BYTES} bytes (MAX_POD_BYTES)")
    try:
        metadata = decode_pod_metadata(data)
    except InvalidEntry as exc:
        raise CorruptPodMetadata(path, str(exc)) from None
    if metadata.pod_name != name:
        raise CorruptPodMetadata(path, f"holds pod {metadata.pod_name!r}")
    return metadata


def _alias(folder: Folder, name: str) -> str | None:
    """Return the pod that has the file of ``name`` because the file system does not tell the two names apart."""
    try:
        found = decode_pod_metadata(folder.read(_file_name(name), max_bytes=MAX_POD_BYTES)).pod_name
    except (NotFound, InvalidEntry, StoreUnavailable):  # what cannot be read is nobody's
        return None
    one, other = (unicodedata.normalize("NFC", text).casefold() for text in (name, found))
    return found if found != name and one == other else None


def _refuse_alias(folder: Folder, name: str) -> None:
    other = _alias(folder, name)
    if other is not None:
        raise InvalidName(name, f"its file is that of pod {other!r}; choose a name that differs in more than case")
