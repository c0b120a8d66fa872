"""Plain files beside the log: opened without following a symlink, and what the system refuses said in our words."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from session_log._errors import NotFound, StoreUnavailable, UnsafePath

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package

PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How they are opened. O_NONBLOCK: opening a FIFO must not wait for its other end."""
_NOT_PLAIN = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})


def unsafe(where: "Path") -> UnsafePath:
    """Return the error for what is no plain file or folder."""
    return UnsafePath(str(where), "is a symlink or a device, or a file and a folder are mixed up")


@contextlib.contextmanager
def reported(where: "Path") -> Iterator[None]:
    """Raise what the system refuses inside the block as a typed error that names ``where``.

    Raises:
        NotFound: it is not there.
        UnsafePath: it is not the plain file or folder it should be.
        StoreUnavailable: any other reason.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(str(where)) from exc
    except OSError as exc:
        if exc.errno in _NOT_PLAIN:
            raise unsafe(where) from exc
        raise StoreUnavailable(str(where), exc.strerror or str(exc)) from exc
