"""Running the laws: each on a store of its own, all of them, whatever fails."""

import functools
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Final

from session_log import Store
from session_log.testing import (
    _appending,
    _creating,
    _following,
    _keying,
    _listing,
    _processes,
    _racing,
    _reading,
    _refusing,
)
from session_log.testing._law import ALL, Broken, Law, Trial

_FILES: Final = [
    file.__name__
    for file in (_creating, _appending, _keying, _refusing, _reading, _listing, _following, _racing, _processes)
]
_ALL: Final = sorted(ALL, key=lambda law: _FILES.index(law.check.__module__))
LAWS: Final[Mapping[str, str]] = {law.name: law.sentence for law in _ALL}
"""Every law by name, with its sentence."""


class ContractViolation(AssertionError):
    """A store broke laws of the contract.

    ``law``, ``expected`` and ``found`` are those of the first law that was broken; ``broken`` names all of them, and
    the message tells about all.
    """

    def __init__(self, found: Mapping[str, Broken]) -> None:
        self.broken = tuple(found)
        self.law = self.broken[0]
        self.expected = found[self.law].expected
        self.found = found[self.law].found
        super().__init__("\n".join(_told(name, broken) for name, broken in found.items()))


def run_store_contract(
    make_store: Callable[[], Store],
    *,
    reopen: Callable[[Store], Store] | None = None,
    open_store: Callable[[Store], Callable[[], Store]] | None = None,
    processes: bool = False,
    only: Collection[str] | None = None,
    patience_s: float = 60.0,
) -> tuple[str, ...]:
    """Run every law over stores that ``make_store`` makes, fresh and empty, and return the names of the laws that hold.

    ``reopen(store)`` returns a second handle on the same data. ``open_store(store)`` returns what opens the same data
    in any process (``functools.partial(FsStore, root)``, say): it is pickled, and with ``processes=True`` worker
    processes call it. They are spawned, so a script must run the contract below ``if __name__ == "__main__":``. Without
    either, the laws of several handles are tried on the one handle there is, and those of processes are left out.

    ``only`` names the laws to run, all of them by default. A law that has not come to its end after ``patience_s``
    seconds is taken for broken: a store that waits for ever must not keep the others from being tried.

    Raises:
        ContractViolation: some law does not hold; which, what was expected and what was found.
        ValueError: ``only`` names a law that there is not, or ``processes`` comes without ``open_store``.
    """
    if processes and open_store is None:
        raise ValueError("processes=True: needs open_store, which opens the same data in another process")
    if unknown := sorted(set(only or ()) - set(LAWS)):
        raise ValueError(f"only={unknown!r}: no such law; see session_log.testing.LAWS")
    passed: list[str] = []
    broken: dict[str, Broken] = {}
    for law in _ALL:
        if (law.needs_processes and not processes) or (only is not None and law.name not in only):
            continue
        try:
            _try(law, Trial(make_store, reopen, open_store), patience_s)
        except Broken as exc:
            broken[law.name] = exc
        else:
            passed.append(law.name)
    if broken:
        raise ContractViolation(broken) from next(iter(broken.values()))
    return tuple(passed)


def _try(law: Law, trial: Trial, patience_s: float) -> None:
    found: list[Broken | None] = []
    # A thread that can be left behind: it is the only way to get rid of a store that waits for ever.
    thread = threading.Thread(target=_judge, args=(law, trial, found), name=law.name, daemon=True)
    thread.start()
    thread.join(patience_s)
    if not found:
        raise Broken("the check", f"an end within {patience_s} s", "it still waits")
    if found[0] is not None:
        raise found[0]


def _judge(law: Law, trial: Trial, found: list[Broken | None]) -> None:
    broken = _failure(functools.partial(law.check, trial))
    of_close = _failure(trial.close)
    found.append(broken or of_close)


def _failure(call: Callable[[], None]) -> Broken | None:
    try:
        call()
    except Broken as exc:
        return exc
    except BaseException as exc:  # noqa: BLE001  (whatever it is, it is what was found)
        broken = Broken("the check", "no error", f"{type(exc).__name__}: {exc}")
        broken.__cause__ = exc
        return broken
    return None


def _told(name: str, broken: Broken) -> str:
    return f"{name}: {LAWS[name]}\n    {broken.what}\n    expected: {broken.expected}\n    found:    {broken.found}"
