"""The store: lines in, lines out. What every backend honours; entries and folds live above it.

No truncate, no overwrite: a remote engine could not honour them. A fork is a ``create_segment``, nothing more.
``session_log.testing.run_store_contract`` proves an implementation.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from session_log._blob_content import Payload
from session_log._blob_ref import BlobRef
from session_log._state import Damage

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store promises.

    ``durability`` names what an acknowledged append survives: ``memory`` (nothing), ``process`` (the death of the
    process), ``turn`` (also a power cut, from the end of each turn on), ``power`` (a power cut, each append).
    ``tail_latency_ms`` bounds how long a follower may take to see an append on an idle machine.
    """

    durability: str
    shared_between_processes: bool
    max_line_bytes: int
    max_batch_lines: int
    max_batch_bytes: int
    tail_latency_ms: int


@runtime_checkable
class Store(Protocol):
    """Where segments are kept. Synchronous, safe for threads; ids are UUIDs in any spelling.

    A line is bytes without its newline. ``entries`` and positions count lines of one segment. An append of several
    lines is marked as a batch in its lines (:mod:`session_log._frame`), and reads return the lines with their marks.
    Every method may raise InvalidId, StoreUnavailable and, where an id is named, NotFound.
    """

    def create_segment(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: str | None = None
    ) -> int:
        """Create the segment with these lines, whole or not at all, and return its length.

        Raises:
            SegmentExists: the id is taken (and not by an earlier call with the same ``token`` and lines).
        """
        ...

    def append(
        self,
        session_id: str,
        segment_id: str,
        lines: Sequence[bytes],
        *,
        expected: int | None = None,
        token: str | None = None,
    ) -> int:
        """Append the lines, all or nothing, and return the new length.

        With ``token``, repeating a call whose outcome was unknown is safe: what is in already is not written again.

        Raises:
            HeadMoved: the segment is not at ``expected`` entries; nothing was written.
            AppendUnknown: all or nothing is in.
        """
        ...

    def read(self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the committed lines from ``start`` to before ``stop``, as they are at the time of the call."""
        ...

    def length(self, session_id: str, segment_id: str) -> int:
        """Return how many lines are committed."""
        ...

    def exists(self, session_id: str, segment_id: str) -> bool:
        """Tell whether the segment is there."""
        ...

    def follow(
        self, session_id: str, segment_id: str, start: int = 0, *, stop: Callable[[], bool] | None = None
    ) -> Iterator[bytes]:
        """Return the lines from ``start`` on as they are committed, whole units only.

        ``stop`` is asked whenever nothing new is there; the iterator ends when it says True.
        """
        ...

    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the session ids, newest first, those less than ``before``, at most ``limit``."""
        ...

    def list_segments(self, session_id: str) -> list[str]:
        """Return the segment ids of a session, newest first."""
        ...

    def lookup_session_of(self, segment_id: str) -> str | None:
        """Return the session that holds the segment, or None."""
        ...

    def append_trace(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        """Append lines to the segment's trace."""
        ...

    def read_trace(self, session_id: str, segment_id: str) -> Iterator[bytes]:
        """Return the lines of the trace; none if there is no trace."""
        ...

    def put_blob(self, data: Payload, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        """Keep a payload (bytes, a path, a binary file) by its hash; media type and kind go into the reference.

        When this returns, the payload is as durable as an append that ends a turn.
        """
        ...

    def get_blob(self, ref: BlobRef | str) -> bytes:
        """Return a payload.

        Raises:
            CorruptBlob: it does not have the hash it is named by.
        """
        ...

    def delete_session(self, session_id: str) -> None:
        """Take the session away with all its segments; a file store moves it to its trash."""
        ...

    def capabilities(self) -> Capabilities:
        """Return what this store promises."""
        ...

    def close(self) -> None:
        """Free what is held. The store must not be used afterwards."""
        ...


class Appender(Protocol):
    """A writer's grip on one segment. ``data`` is ``count`` marked lines, each with its newline."""

    def append(self, data: bytes, count: int, expected: int | None = None, final: bool = False) -> int:
        """Append and return the new length; raises what :meth:`Store.append` raises."""
        ...

    def hold(self) -> None:
        """Keep others from appending until :meth:`close`; SegmentBusy if somebody else does."""
        ...

    def sync(self) -> None:
        """Make durable what was appended."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


@runtime_checkable
class BlockReader(Protocol):
    """What a store may offer besides: bytes in blocks of whole lines, which decode faster than single lines."""

    def read_blocks(
        self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None, *, offset: int | None = None
    ) -> Iterator[bytes]:
        """Return the bytes of the lines from ``start`` to before ``stop``.

        ``offset`` is where ``start`` begins, if known; given with ``stop``, the lines are known to be committed.
        """
        ...

    def torn_bytes(self, session_id: str, segment_id: str, committed: int = 0) -> int:
        """Return how many uncommitted bytes there are at the tail; the first ``committed`` are known not to be."""
        ...


@runtime_checkable
class AppenderSource(Protocol):
    """What a store may offer besides: a descriptor of its own for each writer."""

    def appender(self, session_id: str, segment_id: str, position: tuple[int, int]) -> Appender:
        """Return a grip on a segment whose first lines and bytes are known to be ``position``."""
        ...


@runtime_checkable
class Repairable(Protocol):
    """What a store of plain files may offer besides."""

    def segment_path(self, session_id: str, segment_id: str) -> "Path":
        """Return where the segment is."""
        ...

    def blank_lines(self, session_id: str, segment_id: str, damage: Sequence[Damage]) -> None:
        """Save damaged lines and overwrite them with spaces."""
        ...
