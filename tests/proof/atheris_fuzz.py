"""Bad input, guided by coverage: atheris (libFuzzer) looks for the bytes that reach the next branch of the library.

    python tests/proof/atheris_fuzz.py TARGET [libFuzzer options] [CORPUS DIRECTORY ...]

TARGET is line, bytes, segment, trace or pod. It goes on until it finds something or is told to stop, for example
after ``-max_total_time=300`` seconds or ``-runs=1000000``. A finding is a file ``crash-*`` in the folder where the
command runs (or ``-artifact_prefix``); given in place of a corpus directory, it is tried again. Without a corpus
directory the golden segments are where it starts. atheris is no dependency of the tests:
``pip install 'session-log[fuzz]'``.
"""

import os
import random
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)  # the package `proof`, in place of this directory
    sys.path.insert(1, str(HERE.parent.parent))  # what is fuzzed: this checkout, not an installed copy

TARGETS = ("line", "bytes", "segment", "trace", "pod")
MISSING = "atheris is not installed: pip install 'session-log[fuzz]'"
MOST_BYTES = 4096
"""How long the inputs get, unless -max_len says otherwise: the branches are reached by short ones."""


def main(arguments: Sequence[str]) -> int:
    """Fuzz one target, in a process of its own, until libFuzzer ends that; return its exit status."""
    if not arguments or arguments[0] not in TARGETS:
        print(__doc__, file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        print(MISSING, file=sys.stderr)
        return 2
    name, *options = arguments
    with tempfile.TemporaryDirectory(prefix="session-log-atheris-") as folder:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for libFuzzer, which ends its process at once
        try:
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                _fuzz(atheris, name, options, Path(folder))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            signal.signal(signal.SIGINT, before)


def _fuzz(atheris: Any, name: str, options: list[str], folder: Path) -> NoReturn:
    """Fuzz until libFuzzer ends this process, which leaves the folder to the other one."""
    with atheris.instrument_imports(include=["session_log"]):
        import_module("proof.fuzz_targets")  # it imports the library, which is then watched
    if not any(os.path.exists(option) for option in options):
        options = [*options, _seeds(name, folder / "seeds")]
    if not any(option.startswith("-max_len=") for option in options):
        options = [*options, f"-max_len={MOST_BYTES}"]
    atheris.Setup([sys.argv[0], *options], _check(name, folder / "bench"))
    atheris.Fuzz()
    os._exit(0)


def _check(name: str, folder: Path) -> Callable[[bytes], None]:
    from proof.fuzz_targets import TARGETS as KNOWN
    from proof.fuzz_targets import Bench

    os.fsync = os.fdatasync = lambda fd: None  # nothing here is about power cuts
    bench = Bench(folder)
    target = KNOWN[name]

    def check(data: bytes) -> None:
        target.check(bench, random.Random(zlib.crc32(data)), data)

    return check


def _seeds(name: str, folder: Path) -> str:
    """Write sound inputs of a target into the folder, a file each, and return it."""
    from proof import fuzz_doors, mutations

    seeds = {"line": mutations.lines(), "trace": [fuzz_doors.traces()], "pod": [fuzz_doors.pod_file()]}
    folder.mkdir()
    for at, data in enumerate(seeds.get(name, mutations.segments())):
        (folder / f"seed-{at:04}").write_bytes(data)
    return str(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
