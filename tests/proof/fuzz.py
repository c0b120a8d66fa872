"""Bad input: a million inputs and more, each made from the seed and its number, each checked and timed and weighed.

    python tests/proof/fuzz.py [--seed N] [--dir DIRECTORY] TARGET:FIRST[:COUNT] ...

repeats some of them alone. The proof itself runs this as its worker processes: what takes a process down (a
segmentation fault, an endless loop in C) is then a finding, and the run goes on behind it.
"""

import argparse
import base64
import importlib
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)  # the package `proof`, in place of this directory
    sys.path.insert(1, str(HERE.parent.parent))  # what is proved: this checkout, not an installed copy

from proof.fuzz_guard import Canary, Guard  # noqa: E402
from proof.fuzz_targets import PAIRS, TARGETS, Bench  # noqa: E402
from proof.lab import Lab, Tried  # noqa: E402

PROCESSES = 2
CHUNK = 20_000
MOST_DEATHS = 10
"""So many worker processes may die before the proof gives up."""
MOST_FINDINGS = 100
"""So many findings of one chunk are told; the others are only counted."""
SHOWN_BYTES = 2048
CANARY_EVERY = 256
TRACE_EVERY = 64
"""The memory of every input so many is traced, of a bomb every second time; the growth of the process, each time."""


@dataclass(frozen=True)
class Chunk:
    """Some of the inputs of a target."""

    target: str
    first: int
    count: int

    def __str__(self) -> str:
        return f"{self.target}:{self.first}:{self.count}"


# ── the proof ──────────────────────────────────────────────────────────────────────────────────────────────────────


def fuzz(lab: Lab) -> list[Tried]:
    """Give every target its inputs."""
    chunks = []
    for name, target in TARGETS.items():
        amount = lab.amount(target.full, target.quick)
        step = max(1, min(CHUNK, -(-amount // PROCESSES)))
        chunks += [Chunk(name, first, min(step, amount - first)) for first in range(0, amount, step)]
    with lab.folder("fuzz") as folder:
        lanes = [Lane(folder / str(at), lab.seed, chunks[at::PROCESSES]) for at in range(PROCESSES)]
        try:
            for lane in lanes:
                lane.start()
            results = [result for lane in lanes for result in lane.results(lab.report)]
        finally:
            for lane in lanes:
                lane.stop()
    return [_row(name, [result for result in results if result["target"] == name]) for name in TARGETS]


def _row(name: str, results: list[dict[str, Any]]) -> Tried:
    tried = sum(result["tried"] for result in results)
    accepted = sum(result["accepted"] for result in results)
    slowest = max((result["slowest_ms"] for result in results), default=0.0)
    heap = max((result["heap_bytes"] for result in results), default=0)
    size = sum(result["bytes"] for result in results)
    figures = f"{accepted:,} accepted; {size / 1e6:,.0f} MB; slowest {slowest:.0f} ms; most memory {heap / 1e6:.1f} MB"
    broken = tuple(found for result in results for found in result["broken"])
    return Tried(promise=TARGETS[name].promise, unit="inputs", tried=tried, broken=broken, figures=figures)


class Lane:
    """One worker process after another, until every chunk is done."""

    def __init__(self, folder: Path, seed: int, chunks: Sequence[Chunk]) -> None:
        self._folder = folder
        self._seed = seed
        self._left = list(chunks)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0

    def start(self) -> None:
        """Start a process on what is left."""
        folder = self._folder / str(self._deaths)
        folder.mkdir(parents=True)
        self._marker = folder / "marker"
        command = [sys.executable, str(Path(__file__).resolve()), "--seed", str(self._seed), "--folder", str(folder)]
        self._process = subprocess.Popen([*command, *map(str, self._left)], stdout=subprocess.PIPE)

    def stop(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()

    def results(self, report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield what each chunk came to."""
        while self._left:
            assert self._process is not None and self._process.stdout is not None
            for line in self._process.stdout:
                result = json.loads(line)
                report(f"fuzz: {self._left[0]}")
                self._left.pop(0)
                yield result
            self._process.stdout.close()
            status = self._process.wait()
            if self._left:
                yield self._died(status)
                if self._left:
                    self.start()

    def _died(self, status: int) -> dict[str, Any]:
        """Say at which input the process died, and go on behind it."""
        chunk = self._left.pop(0)
        at = int(self._marker.read_bytes().split(b"\0")[0] or str(chunk.first))
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        broken = f"{_how_to(chunk.target, at, self._seed)}: the process died of {cause}"
        self._deaths += 1
        rest = Chunk(chunk.target, at + 1, chunk.first + chunk.count - at - 1)
        if self._deaths >= MOST_DEATHS:
            broken += f"; {MOST_DEATHS} died, nobody tries the rest"
            self._left.clear()
        elif rest.count > 0:
            self._left.insert(0, rest)
        return {**_nothing(chunk.target), "tried": at + 1 - chunk.first, "broken": [broken]}


def _nothing(target: str) -> dict[str, Any]:
    return {"target": target, "tried": 0, "accepted": 0, "bytes": 0, "slowest_ms": 0.0, "heap_bytes": 0, "broken": []}


def _how_to(target: str, number: int, seed: int) -> str:
    return f"tests/proof/fuzz.py {target}:{number} --seed {seed}"


# ── a worker ───────────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the inputs named, print a line of JSON for each chunk, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.folder is not None:
            return _work(options.folder, options)
        with tempfile.TemporaryDirectory(prefix="session-log-fuzz-", dir=options.dir) as folder:
            return _work(Path(folder), options)
    except KeyboardInterrupt:
        return 130


def _work(folder: Path, options: argparse.Namespace) -> int:
    worker = Worker(folder, options.seed)
    held = True
    for chunk in options.chunks:
        result = worker.work(chunk)
        held = held and not result["broken"]
        print(json.dumps(result), flush=True)
    return 0 if held else 1


class Worker:
    """One process that tries inputs, one after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        os.fsync = os.fdatasync = lambda fd: None  # nothing here is about power cuts
        for name in ("hashlib", "platformdirs", "uuid6"):  # the library imports them late: files outside its root
            importlib.import_module(name)
        self._lab = Lab(folder, seed, quick=False)
        self._bench = Bench(folder)
        self._canaries = [Canary(self._bench.beside), Canary(self._bench.session)]
        self._guard = Guard(self._bench.root)
        with (folder / "marker").open("w+b") as file:
            file.truncate(32)
            self._marker = mmap.mmap(file.fileno(), 32)

    def work(self, chunk: Chunk) -> dict[str, Any]:
        """Try the inputs of a chunk; return what they came to."""
        result = _nothing(chunk.target)
        found = 0
        for number in range(chunk.first, chunk.first + chunk.count):
            self._marker[:32] = str(number).encode().ljust(32, b"\0")
            broken = self._try(chunk.target, number, result)
            if broken is None and (number % CANARY_EVERY == 0 or number + 1 == chunk.first + chunk.count):
                broken = self._harm()
            result["tried"] += 1
            if broken is not None:
                found += 1
                if found <= MOST_FINDINGS:
                    result["broken"].append(broken)
        result["slowest_ms"], self._guard.slowest_s = self._guard.slowest_s * 1000, 0.0
        result["heap_bytes"], self._guard.heap_bytes = self._guard.heap_bytes, 0
        return result

    def _harm(self) -> str | None:
        return next((harm for canary in self._canaries if (harm := canary.harmed()) is not None), None)

    def _try(self, name: str, number: int, result: dict[str, Any]) -> str | None:
        target = TARGETS[name]
        chance = self._lab.random(f"fuzz/{name}/{number}")
        made = target.make(chance, number)
        size = size_of(made)
        result["bytes"] += size
        accepted = []
        traced = (number // PAIRS + number) % 2 == 0 if name == "bomb" else number % TRACE_EVERY == 0
        wrong = self._guard.watch(size, lambda: accepted.append(target.check(self._bench, chance, made)), traced=traced)
        if wrong is None:
            result["accepted"] += accepted[0]
            return None
        self._bench.tidy_all()
        return f"{_how_to(name, number, self._lab.seed)}: {wrong}; input {shown(made)}"


def size_of(made: Any) -> int:
    """Return how many bytes an input has."""
    if isinstance(made, (bytes, str)):
        return len(made)
    if isinstance(made, list):
        return sum(map(size_of, made))
    return size_of(made[1]) if isinstance(made, tuple) and len(made) == 2 else len(repr(made))


def shown(made: Any) -> str:
    """Return an input as text: its beginning, and all of it in Base64 if that is short."""
    if isinstance(made, bytes):
        whole = base64.b64encode(made).decode() if len(made) <= SHOWN_BYTES else f"{len(made)} bytes"
        return f"{made[:60]!r} (base64 {whole})"
    if isinstance(made, list):
        return " + ".join(f"{name} {shown(data)}" for name, data in made[-4:])
    return f"{made!r:.300}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="+", metavar="TARGET:FIRST[:COUNT]", type=_chunk, help=", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=1, help="the seed of the run (default: %(default)s)")
    parser.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where to write (default: the system's choice)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def _chunk(text: str) -> Chunk:
    name, *numbers = text.split(":")
    if name not in TARGETS:
        raise argparse.ArgumentTypeError(f"{name!r} is no target; there are {', '.join(TARGETS)}")
    first, count = [*map(int, numbers), *(0, 1)[len(numbers) :]][:2]
    return Chunk(name, first, count)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
