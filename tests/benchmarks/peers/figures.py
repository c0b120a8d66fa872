"""What was measured, the table of it, and the JSON."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from benchmarks.bench import SEED
from benchmarks.measure import Samples, quartiles
from benchmarks.peers.interface import Driver

SURVIVES = {"process": "process death", "turn": "power cut, a turn", "power": "power cut, a call"}
HEADINGS = ("system", "survives", "median", "quartiles", "n", "ratio", "")
WORDS = ("system", "survives", "")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: a system's samples in one operation, or why there are none."""

    operation: str
    system: str
    survives: str
    unit: str
    samples: Samples = ()
    limit: Samples = ()
    """What the least that would do takes, in the same rounds."""
    limit_is: str = ""
    note: str = ""

    @property
    def median(self) -> float | None:
        """The median; None without samples."""
        return statistics.median(self.samples) if self.samples else None

    @property
    def ratio(self) -> float | None:
        """The median divided by that of the limit; None without either."""
        return statistics.median(self.samples) / statistics.median(self.limit) if self.samples and self.limit else None


def figure(
    driver: Driver, operation: str, unit: str, samples: Samples, limit: Samples = (), limit_is: str = "", note: str = ""
) -> Figure:
    """Return the figure of a driver."""
    return Figure(
        operation=operation,
        system=driver.title,
        survives=SURVIVES[driver.survives],
        unit=unit,
        samples=samples,
        limit=limit,
        limit_is=limit_is,
        note=note,
    )


def absent(driver: Driver, operation: str, unit: str, note: str) -> Figure:
    """Return the line of a driver that cannot do it."""
    return figure(driver, operation, unit, (), note=note)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as aligned text, an operation under each heading."""
    return "\n".join(_lines(figures))


def _lines(figures: Sequence[Figure]) -> Iterator[str]:
    for operation, group in groupby(figures, key=lambda some: some.operation):
        some = list(group)
        yield f"\n{operation}, {some[0].unit}{_limit(some)}"
        rows = [HEADINGS, *map(_cells, some)]
        used = [at for at, column in enumerate(zip(*rows[1:], strict=True)) if any(column)]
        widths = [max(len(row[at]) for row in rows) for at in used]
        yield from ("  " + _aligned([row[at] for at in used], widths, used) for row in rows)


def _limit(figures: Sequence[Figure]) -> str:
    limited = next((some for some in figures if some.limit), None)
    return f"; the limit, {limited.limit_is}: {number(statistics.median(limited.limit))}" if limited else ""


def _aligned(cells: Sequence[str], widths: Sequence[int], columns: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if HEADINGS[at] in WORDS else cell.rjust(width)
        for cell, width, at in zip(cells, widths, columns, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _cells(figure: Figure) -> tuple[str, ...]:
    if not figure.samples:
        return (figure.system, figure.survives, "–", "", "", "", figure.note)
    low, middle, high = quartiles(figure.samples)
    spread = f"({number(low)}–{number(high)})" if len(figure.samples) > 1 else ""
    ratio = f"{number(figure.ratio)} ×" if figure.ratio is not None else ""
    return (figure.system, figure.survives, number(middle), spread, str(len(figure.samples)), ratio, figure.note)


def number(value: float) -> str:
    """Return a figure with as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(
    figures: Sequence[Figure], systems: Sequence[dict[str, str]], machine: dict[str, str | int]
) -> dict[str, object]:
    """Return everything that was measured, the single samples too."""
    rows = [{**asdict(some), "median": some.median, "ratio": some.ratio} for some in figures]
    return {"machine": machine, "seed": SEED, "systems": list(systems), "rows": rows}
