"""Measure the log beside what a user would pick instead, and print the table.

    python tests/benchmarks/peers/run.py [--quick] [--json FILE] [--dir DIRECTORY] [OPERATION ...]

Systems take turns in one run; figures are medians, with quartiles and the number of samples; a ratio is to a limit that
was measured in the same rounds. Compare what survives the same. A system that is slow has a budget of seconds and fewer
samples; one whose package is missing is left out, with a word why: ``pip install 'session-log[peers]'`` has them all.
The files go to a temporary directory in DIRECTORY, which must be on a real disk for durable figures to mean anything.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent.parent)  # the package `benchmarks`, in place of this directory
    sys.path.insert(1, str(HERE.parents[2]))  # what is measured: this checkout, not an installed copy

import orjson  # noqa: E402

from benchmarks.bench import Bench  # noqa: E402
from benchmarks.peers import (  # noqa: E402
    appending,
    contending,
    figures,
    footprint,
    forking,
    importing,
    listing,
    restoring,
)
from benchmarks.peers.figures import Figure  # noqa: E402
from benchmarks.peers.interface import Driver  # noqa: E402
from benchmarks.peers.setting import Setting  # noqa: E402
from benchmarks.peers.systems import DRIVERS, missing, version_of  # noqa: E402
from benchmarks.report import machine  # noqa: E402

OPERATIONS: Mapping[str, Callable[[Setting], list[Figure]]] = {
    "append": appending.turn_at_once,
    "items": appending.turn_item_by_item,
    "restore": restoring.restore_time,
    "memory": restoring.peak_memory,
    "fork": forking.fork,
    "list": listing.recent,
    "bytes": footprint.bytes_per_payload_byte,
    "contend": contending.contention,
    "import": importing.import_time,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operations named, or all, and return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    absent = {driver.title: reason for driver in DRIVERS if (reason := missing(driver)) is not None}
    drivers = tuple(driver for driver in DRIVERS if driver.title not in absent)
    measured: list[Figure] = []
    where: dict[str, str | int] = {}
    systems: list[dict[str, str]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="session-log-peers-", dir=options.dir) as directory:
            where = machine(Path(directory))
            systems = [_described(driver, Path(directory)) for driver in drivers]
            print("\n".join(_legend(where, systems, absent)), flush=True)
            for name in options.names or list(OPERATIONS):
                _progress(f"{name} …")
                rows = _measured(name, Path(directory), drivers, quick=options.quick)
                measured += rows
                _progress("")
                print(figures.table(rows), flush=True)
    except KeyboardInterrupt:
        print("interrupted; the temporary directory is removed", file=sys.stderr)
        return 130
    finally:
        if options.json:
            record = figures.as_json(measured, systems, where) | {"absent": absent}
            options.json.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    return 0


def _measured(name: str, directory: Path, drivers: tuple[Driver, ...], *, quick: bool) -> list[Figure]:
    """Run one operation in a folder of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=directory) as folder:
        setting = Setting(Bench(Path(folder), quick), drivers)
        try:
            return OPERATIONS[name](setting)
        finally:
            setting.closed()


def _described(driver: Driver, directory: Path) -> dict[str, str]:
    """Return what a system is, and how it says that it writes."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        sessions = driver.start(Path(folder))
        try:
            sessions.create()
            return {
                "system": driver.title,
                "version": version_of(driver),
                "survives": figures.SURVIVES[driver.survives],
                "mode": sessions.mode(),
            }
        finally:
            sessions.close()


def _legend(
    where: Mapping[str, str | int], systems: Sequence[Mapping[str, str]], absent: Mapping[str, str]
) -> Iterator[str]:
    yield " · ".join(f"{name} {value}" for name, value in where.items())
    for system in systems:
        named = f"{system['system']} {system['version']}".rstrip()
        yield f"{named}: survives {system['survives']}; {system['mode']}"
    for title, reason in absent.items():
        yield f"{title}: left out, {reason}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="OPERATION", type=_known, help=", ".join(OPERATIONS))
    parser.add_argument("--quick", action="store_true", help="small logs and few rounds: a minute or two")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, samples included")
    parser.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where to write (default: the system's choice)")
    return parser


def _known(name: str) -> str:
    if name not in OPERATIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is no operation; there are {', '.join(OPERATIONS)}")
    return name


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _progress(text: str) -> None:
    """Show what is going on, on one line of the terminal; a pipe or a file gets nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
