"""After ``os.fork``: what the child must not share with its parent is made anew.

A lock that another thread held at that moment would never be released in the child, which has no other threads.
"""

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """An object that makes its locks, and what else must not be shared, anew in a forked child."""

    def _after_fork(self) -> None: ...


parent_locks: set[int] = set()
"""Descriptors that are locked, or about to be: a forked child must not keep these locks for as long as it lives.

Whoever closes one takes it out just before, in line: an interrupt may come at the entry of any function.
"""


_alive: "weakref.WeakSet[Renewable]" = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing._after_fork()`` called in every child forked while it lives."""
    _alive.add(thing)


def _renew() -> None:
    for thing in list(_alive):
        thing._after_fork()
    if parent_locks:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        while parent_locks:
            os.dup2(nothing, parent_locks.pop(), inheritable=False)  # (the number stays taken: somebody will close it)
        os.close(nothing)


os.register_at_fork(after_in_child=_renew)
