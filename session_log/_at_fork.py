"""After ``os.fork``: what the child must not share with its parent is made anew.

A lock that another thread held at that moment would never be released in the child, which has no other threads.
"""

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """An object that makes its locks, and what else must not be shared, anew in a forked child."""

    def _after_fork(self) -> None: ...


_alive: "weakref.WeakSet[Renewable]" = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing._after_fork()`` called in every child forked while it lives."""
    _alive.add(thing)


def _renew() -> None:
    for thing in list(_alive):
        thing._after_fork()


os.register_at_fork(after_in_child=_renew)
