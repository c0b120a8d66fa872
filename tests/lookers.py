"""Stores that are watched: what was asked of them, and how much was read from the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import session_log as sl

PROTOCOL = (
    "create_segment", "append", "length", "exists", "follow", "list_sessions", "list_segments", "lookup_session_of",
    "append_trace", "read_trace", "put_blob", "get_blob", "delete_session", "capabilities", "close",
)  # fmt: skip


class Watched:
    """The protocol of a store and nothing more, over any store; keeps which lines were asked for."""

    def __init__(self, store: sl.Store) -> None:
        self._store = store
        self.reads: list[tuple[str, int, int | None]] = []
        self.lengths: list[str] = []

    def read(self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.reads.append((segment_id, start, stop))
        return self._store.read(session_id, segment_id, start, stop)

    def length(self, session_id: str, segment_id: str) -> int:
        self.lengths.append(segment_id)
        return self._store.length(session_id, segment_id)

    def __getattr__(self, name: str) -> Any:
        if name not in PROTOCOL:
            raise AttributeError(name)
        return getattr(self._store, name)


@contextmanager
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Keep how many bytes each read from a file returns."""
    sizes: list[int] = []
    real = os.pread

    def counted(fd: int, count: int, offset: int) -> bytes:
        data = real(fd, count, offset)
        sizes.append(len(data))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", counted)
        yield sizes
