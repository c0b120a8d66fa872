"""Findings: what a check of sessions can find, how bad it is, and what to do about it. Pure."""

import shlex
from typing import Any, Final, Literal, NamedTuple

import msgspec

Severity = Literal["error", "warning", "note"]
MAX_FINDINGS: Final = 10_000
"""The most findings that are kept: enough to see what happened; the others are counted."""


class Kind(NamedTuple):
    """How bad a kind of finding is, and its remedy; ``{path}`` in it stands for the path, quoted for a shell."""

    severity: Severity
    remedy: str


_REPAIR: Final = "restore it from a copy, or give the line up with repair(), which keeps its bytes in .damage"
_PARENT: Final = "restore the parent from a copy; until then, salvage=True reads what stands in this segment"
KINDS: Final[dict[str, Kind]] = {
    # the lines
    "damaged_line": Kind("error", _REPAIR),
    "damaged_start": Kind("error", "restore the file from a copy: without its first line nobody knows what it is"),
    "newer_version": Kind("error", "upgrade session_log"),
    "time_back": Kind("warning", "nothing, if a clock was set back or old entries were appended: lines count in order"),
    "blanked_line": Kind("note", "nothing: repair() was here; the bytes are in the file's .damage"),
    "torn_tail": Kind("note", "nothing: it was never committed, and the next writer moves it to .torn"),
    "interrupted": Kind("note", "nothing, if a run is under way; else resume, and close_interrupted(writer)"),
    "damaged_trace": Kind("warning", "nothing: a trace is for people; delete {path} if it is of no use"),
    "damaged_facts": Kind("error", "restore it from a copy, or give the line up with facts.repair_facts()"),
    # references
    "missing_parent": Kind("error", _PARENT),
    "broken_reference": Kind("error", _PARENT),
    "circular_reference": Kind("error", "restore the segments from a copy: no writer makes such references"),
    "too_deep": Kind("error", "fork an ancestor with copy_history=True"),
    "missing_source": Kind("note", "nothing: what was compacted or copied stands in this segment"),
    # blobs
    "missing_blob": Kind("error", "restore it from a copy; putting the same payload again mends it, too"),
    "corrupt_blob": Kind("error", "restore it from a copy; putting the same payload again mends it, too"),
    # the chain
    "chain_broken": Kind("error", "compare these bytes with a copy: they were changed after they were linked"),
    "chain_malformed": Kind("error", "compare the line with a copy: its link was changed"),
    "chain_unchecked": Kind("note", "mend what stands before it first"),
    "chain_open": Kind("note", "nothing: the next link covers it; the end of a turn, written with chain=True, has one"),
    # the files
    "open_mode": Kind("warning", "chmod {mode} {path}"),
    "foreign_owner": Kind("warning", "chown {owner} {path}"),
    "unsafe_path": Kind("error", "move it away: it is neither followed nor opened; put back what belongs there"),
    "unreadable": Kind("error", "see to it that this process may read it, and verify again"),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found: ``what`` is wrong at a place, and what to do (``remedy``).

    ``error``: something is damaged or lost. ``warning``: something should not be so. ``note``: good to know. ``line``
    counts from 1, ``byte_offset`` from 0; None where it is about the whole file or folder.
    """

    severity: Severity
    kind: str
    path: str
    line: int | None = None
    byte_offset: int | None = None
    what: str
    remedy: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line} (byte {self.byte_offset})"
        return f"{self.severity}: {place}: {self.what}; {self.remedy}"


class Findings:
    """Collects findings, up to :data:`MAX_FINDINGS`, and counts the others."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.left_out = 0

    def add(
        self, kind: str, path: str, what: str, line: int | None = None, byte_offset: int | None = None, **more: Any
    ) -> None:
        """Add a finding of a kind at a place; ``more`` goes into its remedy."""
        if len(self.kept) >= MAX_FINDINGS:
            self.left_out += 1
            return
        severity, remedy = KINDS[kind]
        self.kept.append(
            Finding(
                severity=severity,
                kind=kind,
                path=path,
                line=line,
                byte_offset=byte_offset,
                what=what,
                remedy=remedy.format(path=shlex.quote(path), **more),
            )
        )

    def extend(self, others: "Findings") -> None:
        """Add those of another collection."""
        room = MAX_FINDINGS - len(self.kept)
        self.kept += others.kept[:room]
        self.left_out += others.left_out + len(others.kept[room:])
