"""Any bytes: a line is an entry that reads back the same, a file restores or is refused by name.

``proof.fuzz`` tries a million of them; here is what Hypothesis finds, and shrinks.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

import session_log as sl
from proof import mutations
from session_log import (
    CorruptSegment,
    FsStore,
    InvalidEntry,
    SegmentWriter,
    UnsupportedVersion,
    decode_line,
    encode_line,
    restore,
)

REFUSED = (CorruptSegment, UnsupportedVersion)
SEGMENT_ID = "0197b2c4-1a05-7d41-8b22-000000000001"
KEYS = st.sampled_from(["kind", "ts", "payload", "domain", "item", "content", "batch", "token", "later", "history"])
NUMBERS = st.integers(-1, 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.sampled_from(["extension", "turn_end", "assistant_item", "message", "pod.scope"]) | st.text(max_size=3)
PIECES = st.one_of(
    st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"null", b"\\ud800", b"1e999", b"\xff", b" "]),
    st.one_of(KEYS, TEXTS, NUMBERS).map(lambda value: sl.Extension(ts=1, domain="d", payload=value)).map(encode_line),
    st.sampled_from(mutations.lines()),
    st.binary(max_size=8),
)


@st.composite
def changed(draw: st.DrawFn, sound: tuple[bytes, ...]) -> bytes:
    """Something sound with a piece of it left out and something else in its place, or nothing but pieces."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(PIECES, max_size=4)))
    data = draw(st.sampled_from(sound))
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(len(data), start + 40)))
    return data[:start] + draw(PIECES | st.just(b"")) + data[stop:]


@given(changed(mutations.lines()))
@example(b'{"kind":"hologram","ts":1}')
def test_any_line_is_refused_or_reads_back_as_it_was_read(line: bytes) -> None:
    """What decode_line accepts, encode_line writes so that it is the same entry, or refuses as InvalidEntry."""
    try:
        entry = decode_line(line)
        written = encode_line(entry)
    except InvalidEntry:
        return

    assert decode_line(written) == entry
    assert b"\n" not in written


@contextmanager
def stored(data: bytes) -> Iterator[FsStore]:
    with tempfile.TemporaryDirectory() as root:
        store = FsStore(root, durability="process")
        path = store.segment_path(mutations.SESSION_ID, SEGMENT_ID)
        path.parent.mkdir()
        path.write_bytes(data)
        yield store
        store.close()


@given(changed(mutations.segments()))
@example(b"")
@example(b"\0" * 20)
def test_any_file_restores_or_is_refused_and_stays_as_it_is(data: bytes) -> None:
    """F4, F20: typed errors alone; salvage gives up only where there is no line at all; reading writes nothing."""
    with stored(data) as store:
        path = store.segment_path(mutations.SESSION_ID, SEGMENT_ID)
        lines = list(store.read(mutations.SESSION_ID, SEGMENT_ID))
        for salvage in (False, True):
            try:
                state = restore(store, mutations.SESSION_ID, SEGMENT_ID, salvage=salvage)
                assert state.entries_count == len(lines)
            except REFUSED as exc:
                assert not salvage or not lines or isinstance(exc, UnsupportedVersion)

        assert path.read_bytes() == data
        assert [each.name for each in path.parent.iterdir()] == [path.name]


@given(changed(mutations.segments()))
def test_what_restores_goes_on(data: bytes) -> None:
    """F1, F3: the next append is found behind what was committed, of which no byte changes."""
    with stored(data) as store:
        ids = mutations.SESSION_ID, SEGMENT_ID
        try:
            writer = SegmentWriter.resume(store, *ids, on_conflict="raise")
        except REFUSED:
            return
        before = list(store.read(*ids))
        with writer:
            writer.save_user_input("after everything")

        assert list(store.read(*ids))[:-1] == before
        assert restore(store, *ids).user_segments[-1] == (sl.TextInput("after everything"),)
        assert Path(store.segment_path(*ids)).read_bytes().startswith(b"".join(line + b"\n" for line in before))
