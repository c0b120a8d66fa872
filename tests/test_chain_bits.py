"""One changed bit: wherever it is in a chained segment, it is found; and what is no link is taken for none."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log import _session_check
from session_log._chain import Stretch, add_links, link_of, nearly_link, unlinked
from session_log._frame import committed_length
from session_log.verify import verify

HEX = "0123456789abcdef" * 4


def chained_family(store: sl.Store) -> tuple[str, list[str]]:
    """A small chained segment and its chained child; both end with a link."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        with writer.batch():
            writer.save_user_input("a")
            writer.save_turn_end()
        writer.save_run_errored("b")
        child = writer.fork_at_entry(2)
    with sl.SegmentWriter.resume(store, writer.session_id, child, chain=True) as fork:
        fork.save_turn_end()
        fork.save_run_completed()
    return writer.session_id, [writer.segment_id, child]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_a_flipped_bit_anywhere_in_a_chained_segment_and_its_parent_is_found() -> None:
    """As an error, every one; or else the last unit is not committed any more, which is told of a file."""
    store = sl.MemoryStore()
    session_id, segments = chained_family(store)
    assert verify(store, session_id).is_sound
    for segment_id in segments:
        lines = store._sessions[session_id][segment_id]
        data = b"".join(line + b"\n" for line in lines)
        for at, bit in itertools.product(range(len(data)), range(8)):
            changed = flipped(data, at, bit)
            if committed_length(changed, whole=True) == len(data):
                store._sessions[session_id][segment_id] = changed[:-1].split(b"\n")
                assert not verify(store, session_id).is_sound, (segment_id, at, bit)
        store._sessions[session_id][segment_id] = lines


def test_a_flipped_bit_in_any_byte_of_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error; but where it leaves the end of the file torn, which is told, and is no error: power cuts do that."""
    monkeypatch.setattr(_session_check, "_NAP_S", 0)
    fs = sl.FsStore(tmp_path, durability="process")
    session_id, segments = chained_family(fs)
    assert not [each for each in verify(fs).findings if each.kind != "chain_open"]
    for segment_id in segments:
        path = fs.segment_path(session_id, segment_id)
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(flipped(data, at, at % 8))
            report = verify(fs, session_id, blobs=False)
            assert not report.is_sound or "torn_tail" in {each.kind for each in report.findings}, (segment_id, at)
        path.write_bytes(data)


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_link_is_another_link_or_looks_like_one_or_is_no_json(at: int, bit: int) -> None:
    line = add_links(Stretch(), b'{"kind":"turn_end","ts":1,"turn_count":1,"batch":2,"token":"t"}\n', [True])[0][:-1]
    start = line.index(b',"chain"')
    at = start + at % (line.index(b',"batch"') - start)
    changed = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]

    try:
        json.loads(changed)
    except ValueError:
        return
    assert nearly_link(changed) or link_of(changed) not in (None, link_of(line))


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"extension","ts":1,"domain":"d","payload":{"chain":"%b"}}',
        b'{"kind":"turn_end","ts":1,"turn_count":1,"batch":2,"token":"%b"}',
        b'{"kind":"run_errored","ts":1,"interrupted":false,"message":",\\"chain\\":\\"%b\\""}',
        b'{"kind":"turn_end","ts":1,"turn_count":1,"chain":"9f86d081"}',
    ],
)
def test_what_only_holds_a_hash_is_no_link(line: bytes) -> None:
    line = line.replace(b"%b", HEX.encode())

    assert link_of(line) is None and unlinked(line) == line and not nearly_link(line)
