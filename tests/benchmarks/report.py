"""The table a run prints, and the JSON it writes."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks.bench import SEED
from benchmarks.measure import Row, quartiles

WORDS = ("operation", "beside", "unit")
FIGURES = ("limit", "(quartiles)", "ours", "(quartiles)", "figure", "by round", "target", "reached")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text under their headings."""
    lines = [(*WORDS, *FIGURES), *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if at < len(WORDS) else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    reached = {True: "yes", False: "NO", None: ""}[row.reached]
    figure, by_round = (_with_sign(row, value) for value in (row.figure, row.figure_by_round))
    target = "" if row.target is None else f"≤ {_with_sign(row, row.target)}"
    words = (row.operation, row.beside, row.unit)
    return (*words, *_spread(row.limit), *_spread(row.ours), figure, by_round, target, reached)


def _spread(samples: Sequence[float]) -> tuple[str, str]:
    if not samples:
        return "", ""
    low, middle, high = quartiles(tuple(samples))
    return _number(middle), f"({_number(low)}–{_number(high)})"


def _with_sign(row: Row, value: float) -> str:
    if row.compared == "ratio":
        return f"{value:.2f} ×"
    return f"{'+' if row.compared == 'difference' else ''}{_number(value)} {row.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def as_json(rows: Mapping[str, Sequence[Row]], machine: Mapping[str, str | int]) -> dict[str, object]:
    """Return everything that was measured, the single samples too."""
    return {
        "machine": dict(machine),
        "seed": SEED,
        "rows": [{"benchmark": name, **_record(row)} for name, some in rows.items() for row in some],
    }


def _record(row: Row) -> dict[str, object]:
    return {
        **asdict(row),
        "operation": row.operation.strip(),
        "ours_quartiles": quartiles(row.ours),
        "limit_quartiles": quartiles(row.limit) if row.limit else None,
        "figure": row.figure,
        "figure_by_round": row.figure_by_round,
        "reached": row.reached,
    }


def machine(directory: Path) -> dict[str, str | int]:
    """Return where the figures were taken."""
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count() or 0,
        "file_system": file_system(directory),
        **{name: version(name) for name in ("msgspec", "orjson")},
    }


def file_system(directory: Path) -> str:
    """Return the kind of file system ``directory`` is on, from the mount table of Linux; elsewhere ``unknown``."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    kinds: dict[Path, str] = {}
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split(" ")
        kinds[Path(point)] = kind
    resolved = directory.resolve()
    return next(kinds[folder] for folder in (resolved, *resolved.parents) if folder in kinds)
