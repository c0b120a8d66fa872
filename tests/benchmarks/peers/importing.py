"""Import: what the import that a system's documentation shows adds to a bare interpreter."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.bench import environment
from benchmarks.measure import interleave, scaled
from benchmarks.peers.figures import Figure, figure
from benchmarks.peers.setting import Setting

ROUNDS = 10


def import_time(setting: Setting) -> list[Figure]:
    """Start fresh interpreters, bare and with each import, in turn; the difference within a round counts."""
    variables = {**environment(), "PYTHONPYCACHEPREFIX": str(setting.bench.fresh_root("bytecode"))}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    drivers = setting.among("system")
    bare, *measured = interleave(
        [_starting(code, variables) for code in ("pass", *(driver.statement for driver in drivers))],
        setting.bench.rounds(ROUNDS),
    )
    return [
        figure(driver, "import, above a bare interpreter", "ms", _above(samples, bare), note=driver.statement)
        for driver, samples in zip(drivers, measured, strict=True)
    ]


def _above(samples: tuple[float, ...], bare: tuple[float, ...]) -> tuple[float, ...]:
    return scaled([sample - least for sample, least in zip(samples, bare, strict=True)], 1e3)


def _starting(code: str, variables: dict[str, str]) -> Callable[[int], float]:
    """Return the side that runs ``code`` in a new interpreter to its end."""

    def side(_: int) -> float:
        started = time.perf_counter()
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], variables)
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise subprocess.CalledProcessError(status, code)
        return seconds

    return side
