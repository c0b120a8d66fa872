"""What is remembered for each store that lives: a bounded number of values, the least recently used forgotten first."""

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from session_log._at_fork import renew_after_fork
from session_log._store import Store

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by store and key. Safe for threads; empty in a forked child, whose parent may have been changing it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[Store, OrderedDict[Key, Value]] = weakref.WeakKeyDictionary()

    def get(self, store: Store, key: Key) -> Value | None:
        """Return what is remembered, if anything."""
        with self._lock:
            try:
                kept = self._kept[store]
                kept.move_to_end(key)
                return kept[key]
            except (KeyError, TypeError):  # a store that cannot be referred to weakly is read each time
                return None

    def put(self, store: Store, key: Key, value: Value) -> Value:
        """Remember a value in place of the one before, and return it."""
        with self._lock, contextlib.suppress(TypeError):
            kept = self._kept.setdefault(store, OrderedDict())
            kept[key] = value
            kept.move_to_end(key)
            while len(kept) > self._most:
                kept.popitem(last=False)
        return value

    def forget(self, store: Store, key: Key) -> None:
        """Look anew next time. Idempotent."""
        with self._lock, contextlib.suppress(TypeError):
            self._kept.get(store, OrderedDict()).pop(key, None)
