"""The job: what one child of the injected program does, and what it reports."""

from dataclasses import dataclass
from pathlib import Path

from proof.account import Account

PATIENCE_S = 60
"""How long an errand may take before it counts as hung: waiting for a lock takes ten seconds."""
MAX_MESSAGE = 1 << 20
BEGIN, END = 1, 2
"""The lengths in the calls that mark where an errand begins and ends."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An errand on files that are there, and what fails: a call after ``skip`` of ``call``, or files over ``limit``.

    ``inside``: done in the server itself, so that everything that is imported late is there for every child.
    """

    number: int
    errand: str
    durability: str
    root: Path
    account: Account
    call: str = ""
    skip: int = 0
    limit: int | None = None
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a job."""

    number: int
    account: Account | None
    told: tuple[str, ...]
    broken: tuple[str, ...]
