"""The start: what ``import session_log`` adds to a bare interpreter."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench, environment
from benchmarks.measure import Clocks, Row, cpu_ms, interleave, wall_ms

MAX_IMPORT_MS = 40.0


def import_time(bench: Bench) -> list[Row]:
    """Start fresh interpreters, bare and importing the package, in turn."""
    variables = _compiling_into(bench.fresh_root("bytecode"))
    bare, ours = interleave(
        [_starting("pass", variables), _starting("import session_log", variables)], bench.rounds(25)
    )
    beside = "python -c pass"
    return [
        Row(
            operation="import session_log",
            beside=beside,
            unit="ms",
            compared="difference",
            ours=wall_ms(ours),
            limit=wall_ms(bare),
            target=MAX_IMPORT_MS,
        ),
        Row(operation="  CPU", beside=beside, unit="ms", compared="difference", ours=cpu_ms(ours), limit=cpu_ms(bare)),
    ]


def _compiling_into(folder: Path) -> dict[str, str]:
    """Return an environment that keeps bytecode, as an installed package does, but none beside the sources."""
    variables = {**environment(), "PYTHONPYCACHEPREFIX": str(folder)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def _starting(code: str, variables: dict[str, str]) -> Callable[[int], Clocks]:
    """Return the side that runs ``code`` in a new interpreter to its end."""
    command = [sys.executable, "-c", code]

    def side(_: int) -> Clocks:
        started = time.perf_counter()
        pid = os.posix_spawn(sys.executable, command, variables)
        _, status, usage = os.wait4(pid, 0)
        wall_s = time.perf_counter() - started
        if status:
            raise RuntimeError(f"python -c {code!r}: ended with status {status}")
        return Clocks(usage.ru_utime + usage.ru_stime, wall_s)

    return side
