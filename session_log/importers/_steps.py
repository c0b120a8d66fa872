"""What a source says, in words of no format: records, and what becomes of each. Pure.

A reader of a format turns each :class:`Record` of its source into one :class:`Node`: where it stands in the tree, and
the steps it means for the conversation. :mod:`session_log.importers._plan` makes segments of them.
"""

from typing import Any, Final, TypeAlias

import msgspec

from session_log import InputSegment, Item, RequestConfig

LAST: Final = ""
"""The parent of a node that goes on from the one before it; no source uses an empty text as an id."""

NUMBERED: Final = "\0"
"""How the id of a record begins that a reader gave it: it is not the source's, and is not kept."""


class Record(msgspec.Struct, frozen=True):
    """One record of a source: a line, or an element of a document; ``line`` is where it begins, from 1.

    ``raw`` is its JSON on one line; with a ``problem``, it is what stands there instead. ``begins``: a conversation of
    its own begins with it, behind another one in the same source.
    """

    line: int
    raw: bytes
    value: Any = None
    problem: str | None = None
    end: int = 0
    begins: bool = False


class Said(msgspec.Struct, frozen=True):
    """The user said something: a turn begins, if the last one has been answered."""

    segments: tuple[InputSegment, ...]


class Put(msgspec.Struct, frozen=True):
    """An item of the history."""

    item: Item


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one model call; repeated under the same ``key``, they are those of the same call, as known later."""

    input_total: int
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int | None = None
    model: str | None = None
    source: str | None = None
    key: str | None = None


class Configured(msgspec.Struct, frozen=True):
    """The request parameters from here on."""

    config: RequestConfig


class Prompted(msgspec.Struct, frozen=True):
    """The system prompt; once the conversation has begun, it is a system message."""

    text: str


class Compacted(msgspec.Struct, frozen=True):
    """What came before is replaced by ``items``, and by the history from the record ``keep_from`` on.

    What goes on from the record ``stands_for`` goes on from here.
    """

    items: tuple[Item, ...] = ()
    keep_from: str | None = None
    stands_for: str | None = None


class Rewound(msgspec.Struct, frozen=True):
    """The last ``turns`` inputs of the user, and what they led to, are left behind."""

    turns: int


class Ended(msgspec.Struct, frozen=True):
    """The run was cut short, or failed with ``error``."""

    error: str


Step: TypeAlias = Said | Put | Used | Configured | Prompted | Compacted | Rewound | Ended


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What one record means.

    ``parent`` is an id, :data:`LAST`, or None for a beginning of its own. ``rest`` is what the steps do not say.
    ``kept`` is why the whole record is kept verbatim. ``joins`` names the message that a source wrote in several
    records. A ``side`` conversation (of a sub-agent) is never where the conversation goes on.
    """

    line: int
    kind: str
    steps: tuple[Step, ...] = ()
    id: str | None = None
    parent: str | None = LAST
    ts: int | None = None
    rest: Any = None
    kept: str | None = None
    joins: str | None = None
    side: bool = False
    warnings: tuple[str, ...] = ()


class Drifted(Exception):
    """A record of the format has not the shape it should have; it is kept as it is."""
