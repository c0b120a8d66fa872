"""Where hashes may stand: runs of 64 hexadecimal digits or more, in bytes of any kind. Pure.

Every byte of every line is looked at for them. A regular expression tries at each; to map the bytes to digits and
others, and to search for 64 digits in a row, takes a sixth of its time.
"""

from collections.abc import Iterator
from typing import Final

_DIGITS: Final = bytes(b"0"[0] if byte in b"0123456789abcdef" else b" "[0] for byte in range(256))
_RUN: Final = b"0" * 64


def hex_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each run begins and ends; capital letters are no digits."""
    mapped = data.translate(_DIGITS)
    start = mapped.find(_RUN)
    while start >= 0:
        end = mapped.find(b" ", start + 64)
        if end < 0:
            end = len(data)
        yield start, end
        start = mapped.find(_RUN, end)
