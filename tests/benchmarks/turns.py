"""Realistic turns: what an agent at work records, about eleven entries and 10 kB a turn, the same for the same seed.

Pure: no clock, no files. Only ``Random.random`` and ``Random.choices`` are drawn from, whose sequences Python
keeps from version to version, so that figures taken years apart are about the same bytes.
"""

import json
import random
from collections.abc import Iterator

from session_log import (
    AssistantItem,
    Invoke,
    LlmUsage,
    LogEntry,
    Message,
    Reasoning,
    RunCompleted,
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TurnEnd,
    UserInput,
)

FIRST_TS = 1_750_000_000_000
"""When the first entry was written, unless the caller says otherwise: June 2025."""
ENTRIES_PER_TURN = 11
FOREIGN_TURNS = 0.25
"""The share of turns that are mostly not in English; with them, one byte in ten is part of no ASCII character."""

ENGLISH = (
    "The parser accepts an empty header, but the writer never produces one, so the two disagree on round trips.",
    "I will read the configuration first and then look at how the retry loop treats a timeout.",
    "That explains the failure: the buffer is flushed after the descriptor has been closed by the other thread.",
    "Next I want to run the test suite again with the cache disabled to see whether the order matters.",
    "There are three callers of this function, and two of them ignore the value that it returns.",
    "The change is small: keep the position in a local variable and write it back once, at the end.",
    "Please keep the public names as they are; other services import them directly.",
    "It works on my machine, however the nightly build has been failing since Tuesday's merge.",
    'The message says "no such file", although the path exists; a symlink in the middle points nowhere.',
    "All 214 tests pass now, and the coverage of the module went up by two percent.",
)
FOREIGN = (
    "設定ファイルを読み込んでから、再試行ループがタイムアウトをどう扱うかを確認します。",
    "Die Änderung ist klein: Größe und Prüfsumme werden künftig gemeinsam übergeben, schön übersichtlich.",
    "Файл конфигурации читается дважды, поэтому вторая запись теряется при перезапуске службы.",
    "Le fichier a été renommé après coup ; la règle d’accès ne s’applique donc plus à l’élève.",
    "所有测试都已通过，但是日志里仍然有两条关于重复键的警告，需要再看一下。",
    "테스트는 모두 통과했지만 캐시를 끄면 순서에 따라 결과가 달라집니다.",
    "Done ✅ — 3 files changed → see the summary below 🎉",
)
CODE = (
    "def resolve(self, name: str, *, default: Path | None = None) -> Path:",
    "    if name not in self._entries:",
    '        raise KeyError(f"unknown entry {name!r}; known: {sorted(self._entries)}")',
    "    for index, line in enumerate(handle, start=1):",
    '        match = PATTERN.fullmatch(line.rstrip("\\n"))',
    "        if match is None or match.group(1) in seen:",
    "            continue",
    "    return [entry for entry in entries if entry.size_bytes > limit]",
    "",
    "    with self._lock:",
    "        self._position += os.write(self._fd, data)",
    '\treturn fmt.Errorf("open %s: %w", path, err)',
    "    # the order matters here: the index must never be ahead of the file",
    "    assert position == len(data), (position, len(data))",
    "pub fn restore(&self, id: SessionId) -> Result<State, StoreError> {",
)
OUTPUT = (
    "tests/test_parser.py::test_round_trip[empty-header] PASSED                              [ 12%]",
    "tests/test_retry.py::test_timeout_is_reported_once FAILED                               [ 47%]",
    "-rw-r--r-- 1 dev dev   14318 2025-06-15 15:06 src/parser/entries.py",
    "2025-06-15T15:06:40.123Z INFO  server: accepted connection from 10.0.3.17:50212 (12 open)",
    "2025-06-15T15:06:41.007Z WARN  retry: attempt 3 of 5 failed: connection reset by peer",
    'E       AssertionError: assert {"a": 1, "b": [2, 3]} == {"a": 1, "b": [2, 4]}',
    "src/parser/reader.py:118:17: F841 local variable `previous` is assigned to but never used",
    "    │   └── fixtures → ../shared/fixtures",
    "==================== 1 failed, 213 passed, 2 skipped in 4.31s ====================",
)
PATHS = ("src/parser/reader.py", "src/parser/entries.py", "tests/test_retry.py", "docs/ガイド.md", "Makefile")


def turns(count: int, *, seed: int = 1, first_ts: int = FIRST_TS) -> Iterator[tuple[LogEntry, ...]]:
    """Yield ``count`` turns, each the entries a runtime appends for it, ``ts`` never decreasing."""
    draw = random.Random(seed)
    for number in range(1, count + 1):
        yield _turn(draw, number, first_ts + number * 60_000)


def _turn(draw: random.Random, number: int, ts: int) -> tuple[LogEntry, ...]:
    is_foreign = draw.random() < FOREIGN_TURNS
    foreign = 0.85 if is_foreign else 0.04
    path, other = draw.choices(PATHS, k=2)
    first, second = f"call_{number:06d}_0", f"call_{number:06d}_1"
    command = f"pytest -x -q {other} 2>&1 | tail -n {_between(draw, 20, 90)}"
    content = _lines(draw, FOREIGN if is_foreign else CODE, 3_300)
    return (
        Invoke(ts=ts, trigger="user_send"),
        UserInput(ts=ts, segments=(TextInput(_prose(draw, foreign, 300)),)),
        _said(ts + 2_100, Reasoning(text=_prose(draw, foreign, 900), signature=_opaque(draw, 160))),
        _said(ts + 2_400, ToolCall(first, "read_file", _json({"path": path, "offset": 0, "limit": 200}))),
        _done(ts + 2_410, ToolResult(first, f"read {path} ({len(content):,} characters)", content)),
        _said(ts + 4_900, ToolCall(second, "run_command", _json({"command": command, "timeout_s": 120}))),
        _done(ts + 9_200, ToolResult(second, "exit status 1", _lines(draw, OUTPUT, 2_600))),
        _said(ts + 12_000, Message.assistant(_prose(draw, foreign, 1_100))),
        TurnEnd(ts=ts + 12_001, turn_count=number),
        _usage(draw, ts + 12_002, number),
        RunCompleted(ts=ts + 12_003, interrupted=False, result="finished"),
    )


def _said(ts: int, item: Message | Reasoning | ToolCall) -> AssistantItem:
    return AssistantItem(ts=ts, item=item)


def _done(ts: int, item: ToolResult) -> ToolResultEntry:
    return ToolResultEntry(ts=ts, item=item)


def _usage(draw: random.Random, ts: int, number: int) -> LlmUsage:
    prompt = 1_200 + 2_600 * number
    return LlmUsage(
        ts=ts,
        history_len=7 * number,
        input_total_tokens=prompt,
        cache_read_tokens=prompt - 2_600,
        cache_write_tokens=2_600,
        output_tokens=_between(draw, 300, 900),
        model="example-large-2",
        latency_ms=_between(draw, 1_500, 9_000),
    )


def _between(draw: random.Random, low: int, high: int) -> int:
    return low + int(draw.random() * (high - low))


def _prose(draw: random.Random, foreign: float, size: int) -> str:
    """Return sentences of about ``size`` bytes of UTF-8, each foreign with that probability."""
    sentences, room = [], size * (0.7 + 0.6 * draw.random())
    while room > 0:
        sentences.append(draw.choices(FOREIGN if draw.random() < foreign else ENGLISH)[0])
        room -= len(sentences[-1].encode()) + 1
    return " ".join(sentences)


def _lines(draw: random.Random, pool: tuple[str, ...], size: int) -> str:
    """Return numbered lines of about ``size`` bytes."""
    average = sum(len(line.encode()) + 7 for line in pool) / len(pool)
    count = int(size * (0.6 + 0.8 * draw.random()) / average) + 1
    return "".join(f"{at:>4}  {line}\n" for at, line in enumerate(draw.choices(pool, k=count), start=1))


def _opaque(draw: random.Random, size: int) -> str:
    """Return what a provider's signature looks like: letters without meaning, which do not compress."""
    return "".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=size))


def _json(arguments: dict[str, str | int]) -> str:
    return json.dumps(arguments, ensure_ascii=False)
