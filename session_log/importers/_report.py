"""What an import did with each record of its source."""

import msgspec


class Told(msgspec.Struct, frozen=True):
    """Something to know of one record; ``line`` counts from 1, 0 is the source as a whole."""

    line: int
    reason: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import took from a source.

    Each of the ``records`` (lines; of a document, its elements) counts once: ``taken`` are those that became a part of
    the conversation or of what is known of it, ``kept`` those that stand verbatim in an extension, both by kind;
    ``dropped`` those that are not in the session. ``problems`` are among the kept: damaged, or not of the shape that
    the format asks for. With ``on_existing="update"``, all of the source is counted, and ``added`` are the new lines
    of ours. ``created`` tells whether the session is new.
    """

    session_id: str
    format: str
    source_id: str
    segments: tuple[str, ...]
    active_segment: str
    records: int
    taken: dict[str, int]
    kept: dict[str, int]
    dropped: tuple[Told, ...]
    problems: tuple[Told, ...]
    warnings: tuple[Told, ...]
    added: int
    created: bool


class Tally:
    """The account of an import: every record is taken, kept or dropped."""

    def __init__(self) -> None:
        self.records = 0
        self.taken: dict[str, int] = {}
        self.kept: dict[str, int] = {}
        self.dropped: list[Told] = []
        self.problems: list[Told] = []
        self.warnings: list[Told] = []

    def take(self, kind: str) -> None:
        """Count a record that became a part of the session."""
        self.taken[kind] = self.taken.get(kind, 0) + 1

    def keep(self, kind: str) -> None:
        """Count a record that is kept verbatim."""
        self.kept[kind] = self.kept.get(kind, 0) + 1

    def drop(self, line: int, reason: str) -> None:
        """Count a record that is not in the session."""
        self.dropped.append(Told(line, reason))

    def problem(self, line: int, reason: str) -> None:
        """Say what is wrong with a record that is kept."""
        self.problems.append(Told(line, reason))

    def warn(self, line: int, reason: str) -> None:
        """Say what is odd about a record."""
        self.warnings.append(Told(line, reason))
