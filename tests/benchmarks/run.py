"""Measure every operation beside its limit and print the table.

    python tests/benchmarks/run.py [--quick] [--json FILE] [--dir DIRECTORY] [NAME ...]

A figure is the median of ours over the median of its limit, both taken in turn in the same run; "by round" is the
median of the ratios within the rounds. Where the two differ much, the machine was too busy to tell. The files go to
a temporary directory in DIRECTORY, which must be on a real disk for the durable figures to mean anything.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)  # the package `benchmarks`, in place of this directory
    sys.path.insert(1, str(HERE.parent.parent))  # what is measured: this checkout, not an installed copy

import orjson  # noqa: E402

from benchmarks import forking, keeping, many, reading, recording, report, starting, totals, turn_costs, upkeep  # noqa: E402
from benchmarks.bench import Bench  # noqa: E402
from benchmarks.measure import Row  # noqa: E402

BENCHMARKS: Mapping[str, Callable[[Bench], list[Row]]] = {
    "append": recording.append,
    "batch": recording.batch,
    "durable": recording.durable,
    "restore": reading.restore_time,
    "head": reading.head_check,
    "fork": forking.fork,
    "turn": turn_costs.turn_costs,
    "many": many.many,
    "memory": reading.memory,
    "blobs": keeping.blobs,
    "usage": totals.totals,
    "upkeep": upkeep.upkeep,
    "import": starting.import_time,
    "command": starting.commands,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all, and return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="session-log-benchmark-", dir=options.dir) as directory:
            where = report.machine(Path(directory))
            rows = _measure(options.names or list(BENCHMARKS), Bench(Path(directory), options.quick))
    except KeyboardInterrupt:
        print("interrupted; the temporary directory is removed", file=sys.stderr)
        return 130
    print(" · ".join(f"{name} {value}" for name, value in where.items()))
    print(report.table([row for some in rows.values() for row in some]))
    if options.json:
        options.json.write_bytes(orjson.dumps(report.as_json(rows, where), option=orjson.OPT_INDENT_2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", type=_known, help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, samples included")
    parser.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where to write (default: the system's choice)")
    return parser


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{name!r} is no benchmark; there are {', '.join(BENCHMARKS)}")
    return name


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(names: Sequence[str], bench: Bench) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for number, name in enumerate(names, start=1):
        _progress(f"[{number}/{len(names)}] {name} …")
        rows[name] = BENCHMARKS[name](bench)
    _progress("")
    return rows


def _progress(text: str) -> None:
    """Show what is going on, on one line of the terminal; a pipe or a file gets nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
