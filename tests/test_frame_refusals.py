"""What framing refuses to append: lines that would not come back, and appends out of bounds."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_log import MAX_BATCH_BYTES, MAX_BATCH_LINES, MAX_LINE_BYTES, MAX_TOKEN_BYTES, InvalidEntry
from session_log._frame import (
    Marks,
    batch_of,
    check_lines,
    check_token,
    framed,
    framed_whole,
    mark,
    marks_of,
)

LINE = b'{"kind":"paused_turn_abandoned","ts":1}'
NONE = Marks()

# ── what may not be appended ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "bad",
    [b"", b"  ", b"a\nb", b"a\n", b"\n", b"a\0b", b"a\r", "text", None, bytearray(b"{}"), b"\t"],
    ids=repr,
)
def test_a_line_that_would_not_come_back_is_refused(bad: bytes) -> None:
    """Nothing blank, no newline, no NUL, no carriage return at its end; the position in the append is named."""
    for check in (check_lines, framed, framed_whole):
        with pytest.raises(InvalidEntry) as caught:
            check([LINE, bad])
        assert caught.value.path == "$[1]"


def test_an_append_is_not_empty() -> None:
    """It would commit nothing."""
    for check in (check_lines, framed, framed_whole):
        with pytest.raises(InvalidEntry):
            check([])


def test_a_batch_has_at_most_max_batch_lines() -> None:
    """The limit itself is allowed."""
    assert len(framed([LINE] * MAX_BATCH_LINES)) == MAX_BATCH_LINES
    for make in (framed, batch_of):
        with pytest.raises(InvalidEntry, match="MAX_BATCH_LINES"):
            make([LINE] * (MAX_BATCH_LINES + 1))


def test_a_segment_may_be_created_with_any_number_of_lines() -> None:
    """It appears whole, so no reader has to look for the first line of a batch; what is marked in it must be whole."""
    assert len(framed_whole([LINE] * (MAX_BATCH_LINES + 1))) == MAX_BATCH_LINES + 1
    assert framed_whole([LINE, *mark([LINE] * 3)]) == [LINE, *mark([LINE] * 3)]
    with pytest.raises(InvalidEntry, match="not whole") as caught:
        framed_whole([LINE, *mark([LINE] * 3)[:2]])
    assert caught.value.path == "$[1]"


def test_a_line_and_a_batch_have_at_most_so_many_bytes() -> None:
    """MAX_LINE_BYTES for a line, MAX_BATCH_BYTES for an append with its newlines; the limits themselves are allowed."""
    longest = b"{%b}" % (b" " * (MAX_LINE_BYTES - 2))
    rest = b"{%b}" % (b" " * (MAX_BATCH_BYTES - MAX_LINE_BYTES - 4))

    check_lines([longest])
    check_lines([longest, rest])
    with pytest.raises(InvalidEntry, match="MAX_LINE_BYTES"):
        check_lines([longest[:-1] + b" }"])
    for make in (check_lines, batch_of):
        with pytest.raises(InvalidEntry, match="MAX_BATCH_BYTES"):
            make([longest, longest])


@pytest.mark.parametrize(
    "token", ["", "a" * (MAX_TOKEN_BYTES + 1), 'a"b', "a\\b", "a\nb", "ä", "\0", "\x7f", None, 5, b"a"], ids=repr
)
def test_a_token_that_could_not_stand_in_a_line_is_refused(token: str) -> None:
    """1 to MAX_TOKEN_BYTES printable ASCII characters, without quote and backslash."""
    with pytest.raises(InvalidEntry) as caught:
        check_token(token)
    assert caught.value.path == "$.token"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1))
@example("x" * MAX_TOKEN_BYTES)
@example('},{:"'.replace('"', ""))
def test_a_token_comes_back(token: str) -> None:
    """Every token that is allowed is read as it was given, alone and in a batch."""
    check_token(token)

    for count in (1, 3):
        assert marks_of(framed([LINE] * count, token)[0]) == Marks(count if count > 1 else None, token)
        assert marks_of(framed_whole([LINE] * count, token)[0]) == Marks(None, token)


@pytest.mark.parametrize("foreign", [b'{"a":1,"batch":2}', b'{"a":1,"batch":4,"token":"x"}', b'{"a":1,"token":"x"}'])
def test_lines_with_the_marks_of_another_append_are_refused(foreign: bytes) -> None:
    """They would say something else about where a batch begins."""
    for found, token in (([LINE, foreign, LINE], None), ([foreign], "other"), ([LINE, LINE, foreign], "t")):
        with pytest.raises(InvalidEntry, match="another append"):
            framed(found, token)


@pytest.mark.parametrize("part", [b'{"a":1,"batch":2}', b'{"a":1,"batch":0}'])
def test_a_part_of_a_batch_is_not_appended_alone(part: bytes) -> None:
    """It would never be committed, or be taken for the rest of another batch."""
    with pytest.raises(InvalidEntry, match="batch"):
        framed([part])


@pytest.mark.parametrize("line", [b"[]", b'"x"', b"{", b"5", b' {"a":1}', b'{"a":1} '])
def test_what_is_no_object_cannot_be_marked(line: bytes) -> None:
    """A mark is a key of the line's object; alone, the line may be appended as it is."""
    with pytest.raises(InvalidEntry, match="no JSON object"):
        mark([line, LINE])

    assert framed([line]) == [line]
