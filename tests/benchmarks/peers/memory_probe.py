"""Restore a small conversation, then another, and print how far the second raised the resident size, as JSON.

    memory_probe.py SYSTEM SMALL_FOLDER NAME FOLDER NAME

Linux only. The peak is the kernel's, set back before the restore. (Not ``ru_maxrss``: it begins with the peak of the
process that started this one.)
"""

import gc
import json
import sys
from functools import partial
from pathlib import Path

from benchmarks.memory_probe import resident
from benchmarks.peers.interface import Clock
from benchmarks.peers.systems import driver


def main(key: str, small_folder: str, small_name: str, folder: str, name: str) -> None:
    """Measure the restore of the conversation named last."""
    clock = Clock()
    small, other = (driver(key).start(Path(some)) for some in (small_folder, folder))
    clock.time(partial(small.restore, small_name))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    restored = clock.time(partial(other.restore, name)).value
    peak = resident("VmHWM")
    assert restored
    print(json.dumps({"peak_bytes": peak - before}))
    for sessions in (small, other):
        sessions.close()
    clock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
