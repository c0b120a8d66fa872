"""An appender over the bare :class:`Store`: for stores that have nothing faster to offer."""

from session_log._errors import CallerError
from session_log._store import Store


class StoreAppender:
    """A writer's grip on one segment, made of ``Store.append``."""

    def __init__(self, store: Store, session_id: str, segment_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self._segment_id = segment_id

    def append(self, data: bytes, count: int, expected: int | None = None, final: bool = False) -> int:
        """Append ``count`` lines and return the new length."""
        lines = data[:-1].split(b"\n")
        return self._store.append(self._session_id, self._segment_id, lines, expected=expected)

    def hold(self) -> None:
        """Refuse: a bare store cannot keep others out."""
        raise CallerError(f"{self._store!r}: cannot hold a segment exclusively; use compare-and-append")

    def sync(self) -> None:
        """Do nothing: what a bare store acknowledged is as durable as it promises."""

    def close(self) -> None:
        """Do nothing: there is nothing held."""
