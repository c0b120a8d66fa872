"""Prove what the README promises: run every proof, print the table, fail if anything did not hold.

    python tests/proof/run.py [--quick] [--seed N] [--json FILE] [--dir DIRECTORY] [NAME ...]

Each row of the table is a promise, how often it was tried and how often it held. A row that did not hold lists what
happened; the seed repeats it. The files go to a temporary directory in DIRECTORY, which should be on a real disk.
Exit status: 0 everything holds, 1 something does not, 2 wrong usage, 130 interrupted.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)  # the package `proof`, in place of this directory
    sys.path.insert(1, str(HERE.parent.parent))  # what is proved: this checkout, not an installed copy

import orjson  # noqa: E402

from proof.lab import Lab, Skipped, Stopwatch, Tried  # noqa: E402

PROOFS: Mapping[str, str] = {
    "circumstances": "circumstances:circumstances",
    "cuts": "cuts:cuts",
    "power": "power:power",
    "rooms-power": "rooms_power:rooms_power",
    "storms": "storms:storms",
    "rooms": "rooms:rooms",
    "soak": "soak:soak",
    "shutdown": "shutdown:shutdown",
    "full-disk": "full_disk:full_disk",
    "fuzz": "fuzz:fuzz",
    "faults": "faults:faults",
    "short-writes": "faults:short_writes",
}
"""Where each proof is, by name: a module of this package and the function in it that takes a Lab."""
DEFAULT_SEED = 1
MOST_SHOWN = 20
"""How many failures of a row are printed; the file of --json has all."""


def prove(name: str, lab: Lab) -> list[Tried]:
    """Run one proof.

    Raises:
        Skipped: this machine cannot; the message says what is missing.
    """
    module, function = PROOFS[name].split(":")
    proof: Callable[[Lab], list[Tried]] = getattr(import_module(f"proof.{module}"), function)
    return proof(lab)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proofs named, or all, and return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    rows: dict[str, list[Tried]] = {}
    skipped: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="session-log-proof-", dir=options.dir) as directory:
            for name in options.names or list(PROOFS):
                lab = Lab(Path(directory), options.seed, options.quick, _progress)
                _run(name, lab, rows, skipped)
    except KeyboardInterrupt:
        print("interrupted; the temporary directory is removed", file=sys.stderr)
        return 130
    finally:
        if options.json:
            options.json.write_bytes(orjson.dumps(_record(rows, skipped, options.seed), option=orjson.OPT_INDENT_2))
    held = all(row.holds for some in rows.values() for row in some)
    print(f"seed {options.seed}: {'everything holds' if held else 'NOT EVERYTHING HOLDS'}")
    return 0 if held else 1


def _run(name: str, lab: Lab, rows: dict[str, list[Tried]], skipped: dict[str, str]) -> None:
    watch = Stopwatch()
    _progress(f"{name} …")
    try:
        rows[name] = prove(name, lab)
    except Skipped as exc:
        skipped[name] = str(exc)
        _progress("")
        print(f"{name}: skipped: {exc}", flush=True)
        return
    _progress("")
    print(f"{name} ({watch.seconds:.0f} s)", flush=True)
    for row in rows[name]:
        print(f"  {_line(row)}", flush=True)
        for broken in row.broken[:MOST_SHOWN]:
            print(f"      {broken}", flush=True)


def _line(row: Tried) -> str:
    held = row.tried - len(row.broken)
    verdict = "holds" if row.holds else "BROKEN"
    return f"{verdict:6}  {held:>9,} of {row.tried:>9,} {row.unit:<10}  {row.promise}  {row.figures}".rstrip()


def _record(rows: Mapping[str, Sequence[Tried]], skipped: Mapping[str, str], seed: int) -> dict[str, object]:
    tried = [{"proof": name, **asdict(row), "holds": row.holds} for name, some in rows.items() for row in some]
    return {"seed": seed, "rows": tried, "skipped": dict(skipped)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", type=_known, help=", ".join(PROOFS))
    parser.add_argument("--quick", action="store_true", help="the short version that CI runs")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="repeats a run (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, all failures included")
    parser.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where to write (default: the system's choice)")
    return parser


def _known(name: str) -> str:
    if name not in PROOFS:
        raise argparse.ArgumentTypeError(f"{name!r} is no proof; there are {', '.join(PROOFS)}")
    return name


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _progress(text: str) -> None:
    """Show what is going on, on one line of the terminal; a pipe or a file gets nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
