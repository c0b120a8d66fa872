"""The systems, in the order of the table, and which of them are installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from benchmarks.peers import google_adk, langgraph_saver, openai_agents, ours, plain, sqlite_wal, strands_files
from benchmarks.peers.interface import Driver, Role

DRIVERS: Sequence[Driver] = (
    *ours.DRIVERS,
    *plain.DRIVERS,
    *sqlite_wal.DRIVERS,
    *openai_agents.DRIVERS,
    *langgraph_saver.DRIVERS,
    *strands_files.DRIVERS,
    *google_adk.DRIVERS,
)


def driver(key: str) -> Driver:
    """Return the driver of that key."""
    return next(driver for driver in DRIVERS if driver.key == key)


def missing(driver: Driver) -> str | None:
    """Return why the system cannot take part, or None."""
    for module in driver.modules:
        try:
            import_module(module)
        except ImportError as exc:
            return f"needs {driver.distribution or module}: {exc}"
    return None


def among(drivers: Sequence[Driver], *roles: Role) -> list[Driver]:
    """Return the drivers that take part in something."""
    return [driver for driver in drivers if driver.role in roles]


def version_of(driver: Driver) -> str:
    """Return the version that is installed; empty for what comes with Python."""
    try:
        return version(driver.distribution) if driver.distribution else ""
    except PackageNotFoundError:  # a checkout
        return ""
