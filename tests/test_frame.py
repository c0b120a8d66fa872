"""The laws of framing: which bytes of a segment are committed, whatever a crash or a power cut left of them."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from session_log import MAX_BATCH_LINES, encode_line
from session_log._frame import (
    Marks,
    batch_of,
    committed_length,
    mark,
    marks_of,
    split_committed,
)
from strategies import appendable_entries, payloads

SECTOR = 512
NONE = Marks()
LINE = b'{"kind":"paused_turn_abandoned","ts":1}'

# ── what a segment is made of ──────────────────────────────────────────────────────────────────────────────────────


def lines() -> st.SearchStrategy[bytes]:
    """Lines of entries, and short ones; some hold texts that look like marks."""
    pretender = json.dumps({"kind": "x", "text": ',"batch":3}', "payload": {"batch": 2, "token": "t"}}).encode()
    return appendable_entries().map(encode_line) | st.sampled_from([LINE, b'{"a":1}', pretender])


def tokens() -> st.SearchStrategy[str | None]:
    """A retry token, or none."""
    return st.none() | st.text("abc-:}{, ", min_size=1, max_size=5)


@st.composite
def units(draw: st.DrawFn) -> list[bytes]:
    """The lines of one append: a single, a marked batch, or a batch of which only the first line is marked."""
    form = draw(st.sampled_from(["single", "marked", "header only"]))
    count = 1 if form == "single" else draw(st.integers(2, 4))
    found = mark([draw(lines()) for _ in range(count)], draw(tokens()))
    if form == "header only":
        found[1:] = [draw(lines()) for _ in found[1:]]
    return found


def joined(found: Sequence[Sequence[bytes]]) -> bytes:
    """Return the bytes of the units as they are on file."""
    return b"".join(line + b"\n" for unit in found for line in unit)


def whole_prefix(found: Sequence[Sequence[bytes]], size: int) -> int:
    """Return how many bytes of ``size`` are whole units: the oracle, which knows the units."""
    ends = itertools.accumulate((len(joined([unit])) for unit in found), initial=0)
    return max(end for end in ends if end <= size)


# ── marks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(lines(), min_size=1, max_size=4), tokens())
def test_marking_is_idempotent_and_says_what_it_marked(found: list[bytes], token: str | None) -> None:
    """Marked lines stay as they are; the first says how many and under which token, the others that they follow."""
    assume(all(marks_of(line) == NONE for line in found))
    marked = mark(found, token)

    assert mark(marked, token) == marked
    assert marks_of(marked[0]) == Marks(len(found) if len(found) > 1 else None, token)
    assert [marks_of(line) for line in marked[1:]] == [Marks(0, None)] * (len(found) - 1)


@given(st.lists(lines(), min_size=1, max_size=4), tokens())
def test_marks_stand_at_the_end_of_the_line(found: list[bytes], token: str | None) -> None:
    """A line with a mark is the line before its closing brace, and the mark: nothing in it moves."""
    assume(all(marks_of(line) == NONE for line in found))

    for before, after in zip(found, mark(found, token), strict=True):
        assert after == before or (after.startswith(before[:-1] + b",") and after.endswith(b"}"))


@given(st.lists(lines(), min_size=2, max_size=4))
def test_a_batch_joined_at_once_is_the_marked_lines_joined(found: list[bytes]) -> None:
    """The short way of a writer writes the same bytes as the careful one."""
    assume(all(marks_of(line) == NONE and line == line.strip() for line in found))

    assert batch_of(found) == joined([mark(found)])


@given(payloads(), st.sampled_from(["batch", "token"]), st.integers(0, 5) | st.text(max_size=3))
def test_a_mark_inside_a_value_is_none(payload: object, key: str, value: object) -> None:
    """Only keys of the line itself are marks, whatever a payload, a text or a key nested in it looks like."""
    nested = {"kind": "x", "payload": [payload, {key: value}], "deep": {key: {key: value}}, "t": f',"{key}":{value}}}'}

    for ascii_only in (True, False):
        line = json.dumps(nested, separators=(",", ":"), ensure_ascii=ascii_only).encode("utf-8", "replace")
        assert marks_of(line) == NONE


@pytest.mark.parametrize("key", ['"batch', ',"batch', '\\"batch', "xbatch", "Batch", '"token', "batch\\"])
@pytest.mark.parametrize("value", [3, "t"])
def test_a_key_that_ends_like_a_mark_is_none(key: str, value: object) -> None:
    """A quote inside a key is escaped; what follows it is no key of its own."""
    line = json.dumps({"kind": "x", key: value}, separators=(",", ":")).encode()

    assert marks_of(line) == NONE


@pytest.mark.parametrize(
    ("line", "marks"),
    [
        (b'{"a":1,"batch":3}', Marks(3)),
        (b'{"a":1,"batch":0}', Marks(0)),
        (b'{"a":1,"batch":3,"token":"t"}', Marks(3, "t")),
        (b'{"a":1,"token":"t"}', Marks(None, "t")),
        (b'{"batch":3,"a":1}', Marks(3)),
        (b'{ "batch" : 3 , "token" : "t" , "a" : {} }', Marks(3, "t")),
        (b'{"a":1,"token":"t","batch":3}', Marks(3, "t")),
        (b'{"batch":3,"a":1,"token":"t"}', Marks(3, "t")),
        (b'{"a":1,"batch":3}\r', Marks(3)),
        (b'{"a":1,"batch":%d}' % MAX_BATCH_LINES, Marks(MAX_BATCH_LINES)),
    ],
)
def test_marks_are_read_wherever_they_stand(line: bytes, marks: Marks) -> None:
    """Another writer may put them first, or with spaces."""
    assert marks_of(line) == marks


@pytest.mark.parametrize(
    "value",
    [b"999999999", b"%d" % (MAX_BATCH_LINES + 1), b"1", b"-3", b"-0.5", b"3.0", b"1e2", b'"3"', b"null", b"true",
     b"[3]", b"9" * 30, b"9" * 5_000, b"\xff", b'"\\ud83d"', b"NaN", b""],
)  # fmt: skip
def test_a_count_that_nobody_could_have_written_is_no_mark(value: bytes) -> None:
    """A hostile count must not uncommit what comes behind it, wherever in the line it stands."""
    for line in (b'{"a":1,"batch":%b}' % value, b'{"batch":%b,"a":1}' % value):
        data = line + b"\n" + (LINE + b"\n") * 3

        assert marks_of(line).batch in (None, 0)
        assert committed_length(data, whole=True) == len(data)
        assert split_committed(data) == (data[:-1].split(b"\n"), len(data))


# ── the committed end ──────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(units(), max_size=4), st.data())
def test_any_byte_cut_leaves_the_largest_prefix_of_whole_units(found: list[list[bytes]], draw: st.DataObject) -> None:
    """F3: cut anywhere, what is committed are the lines and batches that are whole; the next append goes there."""
    data = joined(found)
    cuts = range(len(data) + 1) if len(data) < 600 else draw.draw(st.lists(st.integers(0, len(data)), max_size=60))

    for size in cuts:
        expected = whole_prefix(found, size)
        assert committed_length(data[:size], whole=True) == expected
        assert split_committed(data[:size]) == (data[:expected].split(b"\n")[:-1], expected)


@given(st.lists(units(), max_size=3), units(), units(), st.data())
def test_a_repaired_tail_takes_the_next_append(
    found: list[list[bytes]], torn: list[bytes], after: list[bytes], draw: st.DataObject
) -> None:
    """What is written behind the committed end, after the torn bytes are gone, is committed whole."""
    data = joined([*found, torn])
    size = draw.draw(st.integers(len(joined(found)), len(data) - 1))

    kept = data[: committed_length(data[:size], whole=True)]

    assert kept == joined(found)
    assert committed_length(kept + joined([after]), whole=True) == len(kept + joined([after]))


@given(st.lists(units(), min_size=1, max_size=4), st.data())
def test_a_window_never_contradicts_the_whole(found: list[list[bytes]], draw: st.DataObject) -> None:
    """Looking at the end alone gives the same answer as looking at everything, or none."""
    data = joined(found)
    size = draw.draw(st.integers(0, len(data)))
    starts = [at + 1 for at in range(size) if data[at : at + 1] == b"\n"]
    expected = committed_length(data[:size], whole=True)

    for start in [0, *starts]:
        answer = committed_length(data[start:size], whole=False)
        assert answer is None or start + answer == expected
    assert committed_length(data[:size], whole=False) in (None, expected)


def test_a_window_of_more_lines_than_a_batch_can_have_is_enough() -> None:
    """The search for the first line of a batch ends after MAX_BATCH_LINES: a long segment is not read to its start."""
    window = (LINE + b"\n") * (MAX_BATCH_LINES + 1)

    assert committed_length(window, whole=False) == len(window)
    assert committed_length(window + LINE, whole=False) == len(window)
    assert committed_length(window[len(LINE) + 1 :], whole=False) is None


def test_the_longest_batch_is_found() -> None:
    """MAX_BATCH_LINES lines are one unit, however little of it is missing."""
    data = joined([mark([LINE] * MAX_BATCH_LINES)])

    for before in (b"", LINE + b"\n"):
        assert committed_length(before + data, whole=True) == len(before + data)
        assert committed_length(before + data[:-1], whole=True) == len(before)
        assert committed_length(before + data[: -len(LINE) - 20], whole=True) == len(before)


# ── power cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def zeroed(data: bytes, unit_start: int, sectors: frozenset[int]) -> bytes:
    """Return ``data`` with those sectors as zeros, as far as they are of the last unit: what was there before stays."""
    changed = bytearray(data)
    for sector in sectors:
        start, stop = max(sector * SECTOR, unit_start), min((sector + 1) * SECTOR, len(data))
        changed[start:stop] = bytes(max(0, stop - start))
    return bytes(changed)


@st.composite
def power_cuts(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """The bytes of some units, where the last of them starts, and the file after a power cut while that was written."""
    text = st.integers(0, 1_500).map(lambda size: b'{"kind":"x","text":"%b"}' % (b"." * size))
    before = draw(st.lists(units(), max_size=3))
    last = mark([draw(text) for _ in range(draw(st.integers(1, 4)))], draw(tokens()))
    start, data = len(joined(before)), joined([*before, last])
    reached = draw(st.integers(start + 1, len(data)) | st.just(len(data)))  # the size of the file may be behind, too
    first, stop = start // SECTOR, (reached - 1) // SECTOR
    lost = draw(st.frozensets(st.integers(first, stop), min_size=1))
    return data, start, zeroed(data[:reached], start, lost)


@given(power_cuts())
def test_a_power_cut_takes_the_last_unit_and_nothing_else(cut: tuple[bytes, int, bytes]) -> None:
    """F2: any sectors of the last append may be zeros, its first one too: all before it is committed, it is not."""
    _, start, after = cut

    assert committed_length(after, whole=True) == start
    window = after.rfind(b"\n", 0, max(0, start - 1)) + 1
    assert committed_length(after[window:], whole=False) in (None, start - window)


@given(st.lists(units(), max_size=3), st.integers(2, 4), st.data())
def test_a_power_cut_in_a_batch_marked_at_its_first_line_alone(
    before: list[list[bytes]], count: int, draw: st.DataObject
) -> None:
    """Another writer's batch: whatever of it became zeros behind its first line, nothing of it is committed."""
    text = b'{"kind":"x","text":"%b"}' % (b"." * SECTOR)
    last = [mark([text] * count)[0]] + [text] * (count - 1)
    start, data = len(joined(before)), joined([*before, last])
    header_end = start + len(last[0])
    lost = draw.draw(st.frozensets(st.integers(header_end // SECTOR + 1, (len(data) - 1) // SECTOR), min_size=1))

    assert committed_length(zeroed(data, header_end + 1, lost), whole=True) == start


@given(st.lists(units(), min_size=1, max_size=3), units(), st.integers(0, 30))
def test_zeros_behind_the_end_are_torn(found: list[list[bytes]], last: list[bytes], zeros: int) -> None:
    """A file that grew before its data came: zeros without a newline were never committed."""
    data = joined(found)

    assert committed_length(data + bytes(zeros), whole=True) == len(data)
    assert committed_length(data + joined([last])[:-1] + bytes(zeros), whole=True) == len(data)


@given(st.lists(units(), max_size=2), st.lists(units(), min_size=1, max_size=3), st.integers(1, 600))
def test_zeros_in_the_middle_are_damage_not_a_torn_tail(
    before: list[list[bytes]], after: list[list[bytes]], zeros: int
) -> None:
    """F2: behind a line that holds zeros there are committed ones: it keeps its place, and will be an error."""
    damaged = bytes(zeros) + b"\n"
    data = joined(before) + damaged + joined(after)

    assert committed_length(data, whole=True) == len(data)
    assert data[: len(joined(before))] + damaged in data[: committed_length(data, whole=True)]


# ── any bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────

SCRAPS = [LINE, b'{"a":1,"batch":2}', b'{"a":1,"batch":3,"token":"t"}', b'{"a":1,"batch":0}', b"\n", b"\n", b"\n",
          b"\0", b'"batch"', b"}", b"\r", b"\xff", b'{"batch":999999999}']  # fmt: skip


@given(st.lists(st.sampled_from(SCRAPS), max_size=12).map(b"".join) | st.binary(max_size=60))
@example(b"")
@example(b"\n")
@example(b'"batch"\n')
def test_any_bytes_have_a_committed_end(data: bytes) -> None:
    """Whatever a file holds, its committed end is a line's end, and what is committed stays so when asked again."""
    end = committed_length(data, whole=True)
    found, used = split_committed(data)

    assert end is not None and 0 <= end <= len(data)
    assert end == 0 or data[end - 1 : end] == b"\n"
    assert committed_length(data[:end], whole=True) == end
    assert b"".join(line + b"\n" for line in found) == data[:used]
