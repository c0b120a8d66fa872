"""Session and segment ids: UUIDs as canonical text, and the UUIDv7 layout (RFC 9562, section 5.7).

Pure: time and randomness arrive as values; :mod:`session_log._clock` supplies them.
"""

from functools import lru_cache

from session_log._errors import InvalidId

_HEX = frozenset("0123456789abcdef")
_DASHES = (8, 13, 18, 23)
MAX_TIMESTAMP_MS = (1 << 48) - 1
"""The last millisecond a UUIDv7 can hold: 48 bits, the year 10889."""


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    lower = text.lower()
    if len(lower) == 36 and all(lower[at] == "-" for at in _DASHES):
        lower = lower.replace("-", "")
    if len(lower) != 32 or not _HEX.issuperset(lower):
        raise InvalidId(text)
    return f"{lower[:8]}-{lower[8:12]}-{lower[12:16]}-{lower[16:20]}-{lower[20:]}"


def parse_id(value: object) -> str:
    """Return the canonical text of a UUID given as text (any case, with or without dashes) or ``uuid.UUID``.

    Ids in paths are only ever what this returns.

    Raises:
        InvalidId: anything else.
    """
    text = value if isinstance(value, str) else str(value) if hasattr(value, "hex") and hasattr(value, "int") else None
    if text is None or len(text) > 36:
        raise InvalidId(value)
    return _canonical(text)


def timestamp_ms_of(id_: str) -> int:
    """Return the 48 timestamp bits of a canonical UUIDv7 (milliseconds; order of creation, not time)."""
    return int(id_[:8] + id_[9:13], 16)


def uuid7_text(timestamp_ms: int, random_bits: int) -> str:
    """Lay out a UUIDv7 from 48 bits of milliseconds and 74 random bits."""
    value = (timestamp_ms & MAX_TIMESTAMP_MS) << 80
    value |= 0x7 << 76 | (random_bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random_bits & (1 << 62) - 1
    return _canonical(f"{value:032x}")
