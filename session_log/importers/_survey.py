"""A source in memory, and what is known of it before it is planned."""

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO, Final

import msgspec

from session_log import CallerError, InvalidEntry, NotFound, RequestConfig, SegmentStart, decode_line
from session_log import StoreUnavailable as Unavailable
from session_log.importers._chat import AnthropicReader, OpenAiReader, TrajectoryReader
from session_log.importers._claude import ClaudeReader
from session_log.importers._codex import CodexReader
from session_log.importers._documents import records_of
from session_log.importers._pi import PiReader
from session_log.importers._reader import Reader
from session_log.importers._source import Unreadable
from session_log.importers._steps import Configured, Prompted, Put, Record, Said

MAX_SOURCE_BYTES: Final = 2 << 30
"""A source is held in memory while it is read, and so are the lines it becomes."""
MAX_ID_CHARS: Final = 500
"""The id that a source gives itself: it becomes a part of an external key. A longer one is known by its hash."""
_READERS: Final[dict[str, type[Reader]]] = {
    reader.format: reader
    for reader in (PiReader, CodexReader, ClaudeReader, OpenAiReader, AnthropicReader, TrajectoryReader)
}
OWN: Final = "session-log"
"""The format that needs no reader: its lines are ours."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source in memory; ``mtime_ms`` is when it was written, if that is known."""

    name: str
    data: bytes
    format: str
    mtime_ms: int | None

    def records(self) -> Iterator[Record]:
        """Return its records, from the first one."""
        return records_of(self.format, self.data, self.name)

    def reader(self) -> Reader:
        """Return a reader that has read nothing yet."""
        if self.format == CodexReader.format:
            return CodexReader(has_items=b'"event_msg"' not in self.data or b'"response_item"' in self.data)
        return _READERS[self.format]()


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a source before it is planned: how long it is, which one, and how its conversation begins."""

    records: int
    sha256: str
    source_id: str
    version: str | None
    ts: int | None
    prompt: str | None
    config: RequestConfig


def read_source(source: str | os.PathLike[str] | BinaryIO) -> tuple[str, bytes, int | None]:
    """Return the name, the bytes and the time of a source."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(path, 1, "is no plain file")
            if found.st_size > MAX_SOURCE_BYTES:
                raise Unreadable(path, 1, f"{found.st_size} bytes, at most {MAX_SOURCE_BYTES} (MAX_SOURCE_BYTES)")
            with open(path, "rb") as file:
                return read_source(file)
        except FileNotFoundError as exc:
            raise NotFound(path, "no such file") from exc
        except OSError as exc:
            raise Unavailable(path, exc.strerror or str(exc)) from exc
        except ValueError as exc:
            raise CallerError(f"{path!r:.200}: is no path ({exc})") from None
    if not callable(getattr(source, "read", None)):
        raise CallerError(f"{source!r:.80}: is neither a path nor a binary file")
    name = getattr(source, "name", None)
    name = os.path.basename(name) if isinstance(name, str) else "<stream>"
    name = name.encode("utf-8", "replace").decode()
    data = source.read()
    if not isinstance(data, bytes):
        raise CallerError(f"{name}: is read as {type(data).__name__}; open it in binary mode")
    if len(data) > MAX_SOURCE_BYTES:
        raise Unreadable(name, 1, f"{len(data)} bytes, at most {MAX_SOURCE_BYTES} (MAX_SOURCE_BYTES)")
    try:
        mtime_ms = int(os.fstat(source.fileno()).st_mtime * 1000)
    except (OSError, AttributeError, ValueError):  # no file of the system
        mtime_ms = None
    return name, data, mtime_ms


def survey_of(source: Source, source_id: str | None) -> Survey:
    """Read all of a source for its length, and its first records for what they say of the whole."""
    digest, count = sha256(), 0
    reader = source.reader() if source.format != OWN else None
    ts: int | None = None
    prompt: str | None = None
    config: RequestConfig | None = None
    found, version, ready = source_id, None, False
    for record in source.records():
        if record.problem != "torn":
            count += 1
            digest.update(record.raw + b"\n")
        if ready or record.problem == "blank":
            continue
        if reader is None:
            start = _own_start(record)
            if start is not None:
                ts, found, ready = start.ts or None, found or start.session_id or None, True
            continue
        node = reader.read(record)
        talks = any(isinstance(step, (Said, Put)) for step in node.steps)
        ts = ts or node.ts
        for step in node.steps:
            if isinstance(step, Prompted):
                prompt = prompt or step.text
            if isinstance(step, Configured):
                config = config or step.config
        found, version = found or reader.source_id, reader.version
        ready = talks and ts is not None and found is not None
    content = digest.hexdigest()
    if found is not None and len(found) > MAX_ID_CHARS:
        found = f"sha256:{sha256(found.encode('utf-8', 'replace')).hexdigest()}"
    identity = (found or f"sha256:{content}").encode("utf-8", "replace").decode()
    return Survey(
        records=count, sha256=content, source_id=identity, version=version, ts=ts, prompt=prompt,
        config=config or RequestConfig(),
    )  # fmt: skip


def _own_start(record: Record) -> SegmentStart | None:
    if record.problem is not None or record.value.get("kind") != "segment_start":
        return None
    try:
        found = decode_line(record.raw)
    except InvalidEntry:
        return None
    return found if isinstance(found, SegmentStart) else None
