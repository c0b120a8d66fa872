"""Restore a small log, then another, and print what the second added to this process: resident bytes, as JSON.

    memory_probe.py SMALL_ROOT SESSION SEGMENT ROOT SESSION SEGMENT

Linux only. The peak is the kernel's, set back before the restore; nothing traces allocations, which would change them.
"""

import gc
import json
import sys
from pathlib import Path

from session_log import FsStore, restore


def main(arguments: list[str]) -> None:
    """Measure the restore of the log named last."""
    restore(FsStore(arguments[0]), *arguments[1:3])
    store = FsStore(arguments[3])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    state = restore(store, *arguments[4:6])
    peak = resident("VmHWM")
    gc.collect()
    kept = resident("VmRSS")
    assert state.turn_count > 0
    print(json.dumps({"kept_bytes": kept - before, "peak_bytes": peak - before}))


def resident(field: str) -> int:
    """Return a size from this process' status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
