"""What the code says that a command ends with."""

from enum import IntEnum

from session_log import (
    CallerError,
    CorruptBlob,
    CorruptSegment,
    HeadMoved,
    InvalidCut,
    NotFound,
    SegmentBusy,
    SegmentExists,
    SessionLogError,
    UnresolvedBlob,
    UnsafePath,
    UnsupportedVersion,
)


class Exit(IntEnum):
    """The codes. Scripts rely on them."""

    YES = 0
    """Done; found; the same."""
    NO = 1
    """No match; differences; nothing to do."""
    USAGE = 2
    """The call must change."""
    NOT_FOUND = 3
    """No such session, segment, line or turn."""
    AMBIGUOUS = 4
    """An address names several things."""
    CORRUPT = 5
    """A file is damaged."""
    BUSY = 6
    """Somebody else writes."""
    NEWER = 7
    """A later version wrote it."""
    UNAVAILABLE = 8
    """The system refuses: permission, full disk."""
    INTERRUPTED = 130
    """Ctrl-C."""


_CODES: tuple[tuple[type[SessionLogError], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (InvalidCut, Exit.NOT_FOUND),
    (SegmentBusy, Exit.BUSY),
    (HeadMoved, Exit.BUSY),
    (SegmentExists, Exit.BUSY),
    (UnsupportedVersion, Exit.NEWER),
    (CorruptSegment, Exit.CORRUPT),
    (CorruptBlob, Exit.CORRUPT),
    (UnresolvedBlob, Exit.CORRUPT),
    (UnsafePath, Exit.UNAVAILABLE),
    (CallerError, Exit.USAGE),
)


_DAMAGED = frozenset({"BrokenPart", "BrokenPrompt", "UncertainMarks", "Unreadable", "UnresolvedBlob"})
"""Errors of rooms that mean a file is damaged, by name: a code must not import them all."""


def code_of(error: SessionLogError) -> Exit:
    """Return the code for an error of the library."""
    if hasattr(error, "candidates"):  # AmbiguousAddress, AmbiguousName: looked at without importing their rooms
        return Exit.AMBIGUOUS
    if type(error).__name__.startswith("Corrupt") or type(error).__name__ in _DAMAGED:
        return Exit.CORRUPT
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return Exit.UNAVAILABLE
