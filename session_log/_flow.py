"""Flows of control: what tells one from another where several record through one writer."""

import contextlib
import sys
import threading


def current_flow() -> tuple[int, int]:
    """Return what tells the present flow of control from others: its thread, and its asyncio task if there is one."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        with contextlib.suppress(RuntimeError):  # no loop runs in this thread
            task = asyncio.current_task()
    return threading.get_ident(), id(task)
