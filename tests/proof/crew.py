"""The crew: a server that performs errands in children of its own, and the files that they begin with."""

import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from proof.account import Account
from proof.errands import ERRANDS
from proof.job import MAX_MESSAGE, PATIENCE_S, Job, Report
from proof.stage import Stage

PROGRAM = str(Path(__file__).with_name("injected.py"))
_PATIENCE_S = 2 * PATIENCE_S


@dataclass
class Case:
    """An errand, how durable its store is, and the files and the account that it begins with."""

    errand: str
    durability: str
    template: Path
    account: Account = field(default_factory=Account)

    def __str__(self) -> str:
        return f"{self.errand} ({self.durability})"

    def prepare(self) -> Self:
        """Make the files, once."""
        stage = Stage(self.template / "sessions", "process", self.account)
        self.template.mkdir()
        ERRANDS[self.errand].prepare(stage)
        return self


class Crew:
    """The server, and a directory for its errands."""

    def __init__(self, folder: Path, server: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
        self.pid = server.pid
        self._folder = folder
        self._connection = connection
        self._number = 0
        self.cases = [
            Case(name, durability, folder / f"{name} {durability}".replace(" ", "-")).prepare()
            for name, errand in ERRANDS.items()
            for durability in errand.durabilities
        ]
        self.largest = {str(case): self._rehearse(case) for case in self.cases}

    def _rehearse(self, case: Case) -> int:
        """Perform undisturbed, in the server, and return the size of the largest file that grew or is new."""
        before = _sizes(case.template)
        report, root = self._perform(case, inside=True)
        if report.broken or report.told:
            raise AssertionError(f"{case}, undisturbed: {report.broken or report.told}")
        return max((size for name, size in _sizes(root).items() if size != before.get(name)), default=0)

    def perform(self, case: Case, *, call: str = "", skip: int = 0, limit: int | None = None) -> Report:
        """Perform, and compare the files with what the errand said in the end."""
        report, root = self._perform(case, call=call, skip=skip, limit=limit)
        ended: list[str] = []
        if report.account is not None:
            report.account.locked.clear()
            ended = [f"after its end: {wrong}" for wrong in report.account.compare(root / "sessions")]
        shutil.rmtree(root)
        return replace(report, account=None, broken=(*report.broken, *ended))

    def _perform(
        self, case: Case, *, call: str = "", skip: int = 0, limit: int | None = None, inside: bool = False
    ) -> tuple[Report, Path]:
        self._number += 1
        root = self._folder / str(self._number)
        shutil.copytree(case.template, root)
        job = Job(
            number=self._number,
            errand=case.errand,
            durability=case.durability,
            root=root / "sessions",
            account=case.account,
            call=call,
            skip=skip,
            limit=limit,
            inside=inside,
        )
        with ERRANDS[case.errand].attend(job.root):
            self._connection.send(pickle.dumps(job))
            message = self._connection.recv(MAX_MESSAGE)
        if not message:
            raise AssertionError(f"{case}: the server has ended")
        report: Report = pickle.loads(message)
        return report, root


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".owner"
    }


def _environment() -> dict[str, str]:
    """Return the environment without what makes coverage measure: it would make calls of its own in every child."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


@contextmanager
def crew(folder: Path) -> Iterator[Crew]:
    """Start a server; it ends with the block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_PATIENCE_S)
    calls = folder / "calls"
    calls.mkdir()
    with ours, theirs:
        server = subprocess.Popen(
            [sys.executable, PROGRAM, str(calls)], stdin=theirs.fileno(), start_new_session=True, env=_environment()
        )
        theirs.close()
        try:
            yield Crew(folder, server, ours)
        finally:
            ours.close()
            try:
                server.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
