"""The start: what ``import session_log``, and a command, add to a bare interpreter."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench, environment
from benchmarks.measure import Clocks, Row, cpu_ms, interleave, wall_ms

MAX_IMPORT_MS = 40.0
MAX_COMMAND_MS = 120.0
BARE = "python -c pass"
COMMAND_TURNS = 10


def import_time(bench: Bench) -> list[Row]:
    """Start fresh interpreters, bare and importing the package, in turn."""
    variables = _compiling_into(bench.fresh_root("bytecode"))
    bare, ours = interleave(
        [_starting(variables, "-c", "pass"), _starting(variables, "-c", "import session_log")], bench.rounds(25)
    )
    return [
        Row(
            operation="import session_log",
            beside=BARE,
            unit="ms",
            compared="difference",
            ours=wall_ms(ours),
            limit=wall_ms(bare),
            target=MAX_IMPORT_MS,
        ),
        Row(operation="  CPU", beside=BARE, unit="ms", compared="difference", ours=cpu_ms(ours), limit=cpu_ms(bare)),
    ]


def _compiling_into(folder: Path) -> dict[str, str]:
    """Return an environment that keeps bytecode, as an installed package does, but none beside the sources."""
    variables = {**environment(), "PYTHONPYCACHEPREFIX": str(folder)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def _starting(variables: dict[str, str], *arguments: str) -> Callable[[int], Clocks]:
    """Return the side that runs a new interpreter to its end; what it prints goes nowhere."""
    command = [sys.executable, *arguments]
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]

    def side(_: int) -> Clocks:
        started = time.perf_counter()
        pid = os.posix_spawn(sys.executable, command, variables, file_actions=silent)
        _, status, usage = os.wait4(pid, 0)
        wall_s = time.perf_counter() - started
        if status:
            raise RuntimeError(f"python {' '.join(arguments)}: ended with status {status}")
        return Clocks(usage.ru_utime + usage.ru_stime, wall_s)

    return side


def commands(bench: Bench) -> list[Row]:
    """Run commands on a short log from start to end, beside a bare interpreter, whose time is in theirs."""
    log = bench.log(COMMAND_TURNS)
    variables = _compiling_into(bench.fresh_root("bytecode"))
    root, segment_id = str(log.store.root), log.segment_id
    wanted = {
        "path": ("path", segment_id),
        "cat": ("cat", segment_id),
        "tail": ("tail", segment_id),
        "grep": ("grep", "parser", segment_id),
    }
    bare, *found = interleave(
        [
            _starting(variables, "-c", "pass"),
            *(_starting(variables, "-m", "session_log.cli", "--root", root, *words) for words in wanted.values()),
        ],
        bench.rounds(25),
    )
    return [
        Row(
            operation=f"session-log {name}, from start to end",
            beside=BARE,
            unit="ms",
            compared="value",
            ours=wall_ms(ours),
            limit=wall_ms(bare),
            target=MAX_COMMAND_MS,
        )
        for name, ours in zip(wanted, found, strict=True)
    ]
