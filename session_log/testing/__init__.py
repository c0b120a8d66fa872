"""Prove a store: every law of the :class:`session_log.Store` contract, as a check that needs nothing but Python.

>>> from session_log import MemoryStore
>>> from session_log.testing import run_store_contract
>>> run_store_contract(MemoryStore, only=["create_is_exclusive", "a_token_makes_append_repeatable"])
('create_is_exclusive', 'a_token_makes_append_repeatable')

A backend of your own hands in more: how to open a second handle on the same data, here and in another process.

    def address(store: Store) -> Callable[[], Store]:
        return functools.partial(FsStore, store.root)

    run_store_contract(lambda: FsStore(tempfile.mkdtemp()), open_store=address, processes=True)

Read the files in this order: what a law is made of (_law), the laws (_creating, _appending, _keying, _refusing,
_reading, _listing, _following, _racing, _processes), and how they are run (_contract).
"""

from session_log.testing._contract import LAWS, ContractViolation, run_store_contract

__all__ = ["LAWS", "ContractViolation", "run_store_contract"]
