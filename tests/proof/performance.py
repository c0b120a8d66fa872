"""The performance of scenarios for a recording: each in a process of its own, and what it says in a file.

    python -m proof.performance PROMPTS SCENARIO:DURABILITY:FOLDER ...

Run under strace, the writes to the file PROMPTS are found among the other system calls, in their order.
"""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

import session_log as sl
from proof.play import DURABILITIES, Durability, Play, Said
from proof.rooms_scenarios import ROOM_SCENARIOS
from proof.scenarios import SCENARIOS

_DURABILITY: Mapping[str, Durability] = {durability: durability for durability in DURABILITIES}


def perform(name: str, durability: Durability, folder: Path, prompts: Path) -> None:
    """Perform one scenario; after an error of the library, go on as a careful program would."""
    fd = os.open(prompts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(said: Said) -> None:
        os.write(fd, msgspec.json.encode(said))

    os.write(fd, os.fsencode(folder))
    play = Play(folder / "root", durability, tell)
    try:
        {**SCENARIOS, **ROOM_SCENARIOS}[name](play)
    except sl.SessionLogError:
        play.go_on()
    play.close()


def main(arguments: Sequence[str]) -> int:
    """Perform the scenarios one after the other; return how many ended with an error that they should not have."""
    prompts, *jobs = arguments
    failed = 0
    for job in jobs:
        name, durability, folder = job.split(":", 2)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                perform(name, _DURABILITY[durability], Path(folder), Path(prompts))
                status = 0
            except BaseException:  # noqa: BLE001  a child must not return into the loop of its parent
                traceback.print_exc()
            finally:
                os._exit(status)
        failed += os.waitpid(child, 0)[1] != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
