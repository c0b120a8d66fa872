"""Measure what each operation costs as a log, or the number of sessions, grows; print the table, draw the plot.

    python tests/benchmarks/growth.py [--quick] [--json FILE] [--svg FILE] [--dir DIRECTORY]

O(1): must be flat. The median at the largest size is at most 1.5 times that at the smallest; a cost that grew with the
logarithm would be 4 times. O(n): may grow with the size, at most twice as fast as it between the two largest: a list
of sessions reads the whole directory, a store's first fork of a segment reads all of it. Forks are made near the end.
CPU: seconds of the processor, for what a busy machine or disk would stretch; the rest is over before they can.

Exit status: 0 all of it holds, 1 something does not, 2 wrong usage, 130 interrupted. --svg needs matplotlib:
pip install 'session-log[plot]'.
"""

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Final

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)  # the package `benchmarks`, in place of this directory
    sys.path.insert(1, str(HERE.parent.parent))  # what is measured: this checkout, not an installed copy

import orjson  # noqa: E402

from benchmarks import growing, report  # noqa: E402
from benchmarks.bench import SEED, Bench  # noqa: E402
from benchmarks.growing import Axis, Clock, Growth  # noqa: E402
from benchmarks.measure import Samples, interleave, quartiles  # noqa: E402

FLAT: Final = 1.5
"""What must be flat may cost so many times more at the largest size than at the smallest."""
LINEAR: Final = 2.0
"""What may grow with the size may grow so many times as much as it, between the two largest sizes."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


@dataclass(frozen=True)
class Curve:
    """What an operation took, in seconds, at each size."""

    operation: str
    axis: Axis
    growth: Growth
    clock: Clock
    samples: dict[int, Samples]

    @property
    def medians(self) -> dict[int, float]:
        """The median at each size."""
        return {size: statistics.median(some) for size, some in self.samples.items()}

    @property
    def grew(self) -> float:
        """How many times more it takes at the largest size than at the smallest; O(n): than at the one before."""
        *_, before, last = self.medians.values()
        return last / (before if self.growth == "O(n)" else next(iter(self.medians.values())))

    @property
    def limit(self) -> float:
        """How many times more it may take."""
        if self.growth == "O(1)":
            return FLAT
        *_, before, last = self.samples
        return LINEAR * last / before

    @property
    def holds(self) -> bool:
        """Whether it grew no more than it may."""
        return self.grew <= self.limit


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and return the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="session-log-growth-", dir=options.dir) as directory:
            where = report.machine(Path(directory))
            curves = list(_measure(Bench(Path(directory), options.quick)))
    except KeyboardInterrupt:
        print("interrupted; the temporary directory is removed", file=sys.stderr)
        return 130
    print(" · ".join(f"{name} {value}" for name, value in where.items()))
    for axis in growing.SIZES:
        print("\n" + table([curve for curve in curves if curve.axis == axis]))
    if options.json:
        options.json.write_bytes(orjson.dumps(as_json(curves, where), option=_JSON))
    if options.svg:
        from benchmarks import plot

        plot.draw(curves, options.svg)
    return 0 if all(curve.holds for curve in curves) else 1


_JSON = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: under half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, samples included")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the plot")
    parser.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where to write (default: the system's choice)")
    options = parser.parse_args(arguments)
    if options.svg and find_spec("matplotlib") is None:
        parser.error("--svg needs matplotlib: pip install 'session-log[plot]'")
    return options


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(bench: Bench) -> Iterator[Curve]:
    for axis, every in growing.SIZES.items():
        sizes = every[bench.quick]
        places = {size: growing.PLACES[axis](bench, size) for size in sizes}
        for operation in growing.OPERATIONS[axis]:
            _progress(f"{operation.name}, {axis} …")
            sides = [growing.side(operation, place) for place in places.values()]
            samples = interleave(sides, bench.rounds(operation.rounds))
            of_sizes = dict(zip(sizes, samples, strict=True))
            yield Curve(operation.name, axis, operation.growth, operation.clock, of_sizes)
    _progress("")


def _progress(text: str) -> None:
    """Show what is going on, on one line of the terminal; a pipe or a file gets nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


def table(curves: Sequence[Curve]) -> str:
    """Return the curves of one axis as aligned text: medians and quartiles, and whether each grew as it may."""
    sizes = list(curves[0].samples)
    heading = (f"by {curves[0].axis}", "", "", *(f"{size:,}" for size in sizes), "each", "grew", "may grow", "holds")
    lines = [heading, *map(_cells, curves)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        (
            cell.rjust(width) if at > 2 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _cells(curve: Curve) -> tuple[str, ...]:
    last = max(curve.samples)
    each = duration(curve.medians[last] / last) if curve.growth == "O(n)" else ""
    grew, limit = f"{curve.grew:.2f} ×", f"≤ {curve.limit:g} ×"
    spreads = (_spread(samples) for samples in curve.samples.values())
    return (curve.operation, curve.growth, curve.clock, *spreads, each, grew, limit, "yes" if curve.holds else "NO")


def _spread(samples: Samples) -> str:
    low, middle, high = quartiles(samples)
    factor, unit = _unit(middle)
    return f"{_figure(middle / factor)} {unit} ({_figure(low / factor)}–{_figure(high / factor)})"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    factor, unit = _unit(seconds)
    return f"{_figure(seconds / factor)} {unit}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((unit for unit in UNITS if seconds >= unit[0]), UNITS[-1])


def as_json(curves: Sequence[Curve], machine: dict[str, str | int]) -> dict[str, object]:
    """Return everything that was measured, the single samples too, in seconds."""
    return {"machine": machine, "seed": SEED, "curves": [_record(curve) for curve in curves]}


def _record(curve: Curve) -> dict[str, object]:
    return {
        "operation": curve.operation,
        "axis": curve.axis,
        "growth": curve.growth,
        "clock": curve.clock,
        "samples_s": curve.samples,
        "medians_s": curve.medians,
        "quartiles_s": {size: quartiles(samples) for size, samples in curve.samples.items()},
        "grew": curve.grew,
        "limit": curve.limit,
        "holds": curve.holds,
    }


if __name__ == "__main__":
    sys.exit(main())
