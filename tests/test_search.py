"""Search: what was said is found, whatever JSON made of it; each line once; with what stands around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from commands import FORK, NOON, OPEN, OTHER, ROOT, SESSION, run, sample
from session_log.lines import Selection
from session_log.search import MAX_PATTERN_CHARACTERS, Query, every_segment, search
from session_log.texts import flat, flat_json, texts_of
from strategies import entries


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def found(store: sl.Store, pattern: str, flags: str = "", **more: object) -> list[tuple[str, int, str]]:
    hits = search(store, [(SESSION, ROOT)], Query.of(pattern, flags, **more))
    return [("-" if hit.context else ":", hit.line, hit.text) for hit in hits]


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.encode("utf-8", "ignore").decode() == text))
def test_any_text_is_found_as_it_was_said(text: str) -> None:
    """Quotes, backslashes, newlines, anything that JSON writes in another way."""
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input(f"before {text} after")
    ids = [(writer.session_id, writer.segment_id)]

    for line in text.split("\n"):
        hits = search(store, ids, Query.of(line, "F"))
        assert line in hits[0].text
        start, stop = hits[0].spans[0]
        assert hits[0].text[start:stop] == line


def _said(value: Any) -> Iterator[str]:
    """Yield every value of a line that stands under a name for what somebody said."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str) and name in ("text", "refusal", "summary", "content", "message", "body"):
                yield inner
            elif name not in ("payload", "config", "carried"):
                yield from _said(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _said(inner)


@given(entries())
def test_the_texts_of_an_entry_are_those_of_its_line(entry: sl.LogEntry) -> None:
    """Nothing said in a line is kept from a search."""
    line = sl.encode_line(entry)
    texts = "\n".join(said.text for said in texts_of(sl.decode_line(line)))

    assert [text for text in _said(json.loads(line)) if text not in texts] == []


@pytest.mark.parametrize(
    ("pattern", "flags", "lines"),
    [
        ("redis", "", [12]),
        ("REDIS", "", []),
        ("REDIS", "i", [12]),
        ("redi", "w", []),
        ("Try redis", "w", [12]),
        ("[redis]{5}", "", [12]),
        ("[redis]", "F", []),
        ("^No,", "", [13]),
        ("größe.py$", "", [6]),
        ("command: ls", "F", [5]),
        ("I look", "", [4]),
        ("terse", "", [1]),
        ("?", "F", [3, 12]),
    ],
)
def test_a_pattern_is_a_regular_expression_a_text_or_words(
    store: sl.FsStore, pattern: str, flags: str, lines: list[int]
) -> None:
    assert [line for _, line, _ in found(store, pattern, flags)] == lines


def test_the_line_of_a_text_is_shown_not_all_of_it(store: sl.FsStore) -> None:
    assert found(store, "notes") == [(":", 6, "-rw-r--r-- notes.txt"), (":", 7, "Two files: notes.txt and größe.py.")]


def test_hits_are_sorted_by_time_and_prefixes_count_once(store: sl.FsStore) -> None:
    """Both forks inherit the same lines."""
    other = sl.fork_at(store, SESSION, ROOT, 1)
    copy = sl.fork_at(store, SESSION, ROOT, 1, copy_history=True)
    segments = [(SESSION, segment_id) for segment_id in (other, FORK, ROOT, copy)]

    hits = search(store, segments, Query.of("folder|postgres|redis"), resolve=True)

    assert [(hit.segment_id, hit.line) for hit in hits] == [(ROOT, 3), (ROOT, 12), (FORK, 3)]
    alone = search(store, [(SESSION, FORK)], Query.of("folder|postgres|redis"), resolve=True)
    assert [(hit.segment_id, hit.line) for hit in alone] == [(ROOT, 3), (FORK, 3)]
    assert [hit.line for hit in search(store, [(SESSION, copy)], Query.of("folder"))] == [1]


def test_context_is_entries_or_the_turn(store: sl.FsStore) -> None:
    assert [(mark, line) for mark, line, _ in found(store, "I look", before=1, after=1)] == [
        ("-", 3),
        (":", 4),
        ("-", 5),
    ]
    turn = found(store, "I look", turn=True)
    assert {line for _, line, _ in turn} == {1, 3, 4, 5, 6, 7}  # entries without a text have nothing to show
    assert [line for mark, line, _ in turn if mark == ":"] == [4]


def test_context_of_hits_that_are_near_is_shown_once(store: sl.FsStore) -> None:
    shown = found(store, "Try|sqlite", before=3, after=3)

    assert [(mark, line) for mark, line, _ in shown] == [(":", 12), (":", 13)]


def test_at_most_so_many_entries_of_a_segment(store: sl.FsStore) -> None:
    assert [line for _, line, _ in found(store, ".", most=2, selection=Selection(kinds={"user_input"}))] == [3, 12]
    assert [line for _, line, _ in found(store, ".", most=1, selection=Selection(kinds={"user_input"}))] == [3]


def test_filters_are_those_of_lines(store: sl.FsStore) -> None:
    assert [line for _, line, _ in found(store, ".", selection=Selection(tools={"shell"}))] == [5, 6, 6, 6, 6]
    assert found(store, ".", selection=Selection(since=NOON + 1_000_000)) == []


def test_damage_is_listed_or_raised(store: sl.FsStore) -> None:
    path = store.segment_path(OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b"redis, but no entry\n")
    damage: list[sl.Damage] = []

    assert search(store, [(OTHER, OPEN)], Query.of("redis"), damage=damage) == []
    assert [place.line for place in damage] == [6]
    with pytest.raises(sl.CorruptSegment):
        search(store, [(OTHER, OPEN)], Query.of("redis"))


@pytest.mark.parametrize("pattern", ["(", "*", "x" * (MAX_PATTERN_CHARACTERS + 1), "a{99999999999999999999}"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(sl.CallerError):
        Query.of(pattern)
    if len(pattern) < MAX_PATTERN_CHARACTERS:
        assert Query.of(pattern, "F").pattern.search(f"a {pattern} b") is not None


def test_traces_are_searched_when_asked_for(store: sl.FsStore) -> None:
    with sl.SegmentWriter.resume(store, OTHER, OPEN, trace=True) as writer:
        writer.trace_lifecycle("request_start", {"prompt": 'a "quoted" word'})
    with open(store.trace_path(OTHER, OPEN), "ab") as file:
        file.write(b"no trace\n")
    damage: list[sl.Damage] = []

    (hit,) = search(store, every_segment(store), Query.of('"quoted"'), trace=True, damage=damage)

    assert (hit.segment_id, hit.line, hit.what) == (OPEN, 1, "trace")
    assert [place.line for place in damage] == [2]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_that_is_none_comes_back_as_it_is(value: object) -> None:
    assert flat_json("{" + json.dumps(value)) == "{" + json.dumps(value)
    assert isinstance(flat(value), str)


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_grep_prints_places_and_texts(tmp_path: Path) -> None:
    root = sample(tmp_path)

    said = run("grep", "-C", "1", "redis", root=root)

    assert said.out == "0000000b1bbb:12: Try redis?\n0000000b1bbb-13- No, sqlite will do.\n"
    assert said.code == 0
    assert run("grep", "nothing at all", root=root) == (1, "", "")
    assert run("grep", "-c", "Two|redis", root=root).out == "0000000b1bbb:2\n"
    assert run("grep", "-l", "Two|redis|postgres", root=root).out == "0000000b1bbb\n0000000b2bbb\n"
    assert (
        run("grep", "-n", "1", ".", "--kind", "user_input", "b1bbb", root=root).out == "0000000b1bbb:12: Try redis?\n"
    )
    assert run("grep", "(", root=root).code == 2


def test_grep_escapes_what_it_shows_and_marks_it(tmp_path: Path) -> None:
    root = sample(tmp_path)

    plain = run("grep", "red", "a3aa", root=root).out
    coloured = run("grep", "red", "a3aa", "--color", "always", root=root).out
    raw = run("grep", "red", "a3aa", "--raw", root=root).out

    assert "\x1b" not in plain
    assert "\\x1b[31mred\\x1b[0m" in plain
    assert "\x1b[31m\x1b[1mred\x1b[0m" in coloured
    assert "\x1b[31mred\x1b[0m \x07" in raw


def test_grep_reads_standard_input_and_counts_damage(tmp_path: Path) -> None:
    root = sample(tmp_path)
    data = sl.FsStore(root).segment_path(SESSION, ROOT).read_bytes() + b"no entry\n"

    said = run("grep", "redis", "-", "--json", stdin=data, root=root)

    (hit,) = map(json.loads, said.out.splitlines())
    assert (hit["v"], hit["line"], hit["text"], hit["spans"]) == (1, 12, "Try redis?", [[4, 9]])
    assert re.search("1 damaged lines were not searched, the first is .*:17", said.err)
