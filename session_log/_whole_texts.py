"""Redaction of what is in blobs: the hook sees the whole of a text, not the two ends that its line keeps.

A log may be older than its hook, and have secrets in its blobs. What goes on from it (a fork, copy or compaction, an
item that is recorded again) refers to a blob only if the hook leaves all of it as it is.
"""

from collections.abc import Callable
from typing import TypeVar

from session_log._errors import UnresolvedBlob
from session_log._redact import Whole, unreferenced
from session_log._resolve import resolve_value
from session_log._store import Store

T = TypeVar("T")


def seen_whole(store: Store, shortened: Callable[[T], T] | None = None) -> Whole:
    """Return how a redaction gets at the whole of a value that refers to blobs.

    ``shortened`` is what is done with a whole that the hook changed; without it, the whole stands in the line.
    """

    def whole(value: T, seen: Callable[[T], T]) -> T:
        try:
            found = resolve_value(store, value)
        except UnresolvedBlob:  # nobody can read it there
            return unreferenced(value, seen(value))
        after = seen(found)
        if after == found:
            return value
        return after if shortened is None else shortened(after)

    return whole
