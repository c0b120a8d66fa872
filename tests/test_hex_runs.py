"""Runs of hexadecimal digits, where hashes may stand: as a regular expression finds them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_log._hex_runs import hex_runs

PLAIN_WAY = re.compile(rb"[0-9a-f]{64,}")
PIECES = st.sampled_from(
    [b"0" * 64, b"af09" * 16, b"9" * 63, b"e" * 64 + b"G", b"A" * 64, b"\n", b'"', b" ", b"\0", b"f"]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=8))
def test_the_runs_are_those_of_the_regular_expression(pieces: list[bytes]) -> None:
    data = b"".join(pieces)

    assert list(hex_runs(data)) == [found.span() for found in PLAIN_WAY.finditer(data)]


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (b"", []),
        (b"0" * 63, []),
        (b"0" * 64, [(0, 64)]),
        (b"x" + b"0" * 65, [(1, 66)]),
        (b"a" * 64 + b" " + b"b" * 64 + b"\n", [(0, 64), (65, 129)]),
        (b"a" * 64 + b"A" * 64, [(0, 64)]),
    ],
)
def test_a_run_has_64_small_digits_or_more_and_ends_with_them_or_the_text(
    data: bytes, runs: list[tuple[int, int]]
) -> None:
    assert list(hex_runs(data)) == runs
