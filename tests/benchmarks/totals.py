"""The usage of very many sessions, totalled without their texts: beside a read of the files, and with longer texts."""

from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.growing import FIRST_MS, populate
from benchmarks.measure import Row, clocked, cpu_ms, interleave
from session_log import AssistantItem, FsStore, LlmUsage, Message, TurnEnd, encode_line
from session_log.usage import read_ledger

SESSIONS, FEW_SESSIONS = 1_000, 200
CALLS = 10
"""Calls of a session, each between an answer and the end of a turn."""
TEXT_BYTES, LONGER = 2_000, 10


def totals(bench: Bench) -> list[Row]:
    """Total the usage of sessions, and of as many whose texts are ten times as long; beside each, its files read."""
    sessions = FEW_SESSIONS if bench.quick else SESSIONS
    short = _store_of(bench.fresh_root("usage-short"), sessions, TEXT_BYTES)
    long = _store_of(bench.fresh_root("usage-long"), sessions, TEXT_BYTES * LONGER)
    read, totalled, read_long, totalled_long = interleave(
        [
            lambda _: clocked(lambda: _read(short)),
            lambda _: clocked(lambda: _total(short, sessions)),
            lambda _: clocked(lambda: _read(long)),
            lambda _: clocked(lambda: _total(long, sessions)),
        ],
        bench.rounds(15),
    )
    name, beside = f"usage of {sessions:,} sessions, {CALLS} calls each", "the bytes of their files read"
    longer = f"the same less the read, texts {LONGER} × as long"
    bare, bare_long = (
        tuple(one - other for one, other in zip(cpu_ms(whole), cpu_ms(part), strict=True))
        for whole, part in ((totalled, read), (totalled_long, read_long))
    )
    return [
        Row(operation=name, beside=beside, unit="ms CPU", ours=cpu_ms(totalled), limit=cpu_ms(read)),
        Row(
            operation=f"  texts {LONGER} × as long",
            beside=beside,
            unit="ms CPU",
            ours=cpu_ms(totalled_long),
            limit=cpu_ms(read_long),
        ),
        Row(operation=f"  {longer}", beside="with the short ones", unit="ms CPU", ours=bare_long, limit=bare),
    ]


def _total(store: FsStore, sessions: int) -> None:
    found = read_ledger(store).total
    assert (found.calls, found.input_tokens) == (sessions * CALLS, sessions * CALLS * 2_100), found


def _read(store: FsStore) -> int:
    return sum(len(path.read_bytes()) for path in Path(store.root).glob("*/*.jsonl"))


def _store_of(root: Path, sessions: int, text_bytes: int) -> FsStore:
    ids = populate(root, sessions)
    answer = "The parser accepts an empty header. " * (text_bytes // 36)
    said = encode_line(AssistantItem(ts=FIRST_MS, item=Message.assistant(answer)))
    usage = encode_line(
        LlmUsage(
            ts=FIRST_MS,
            history_len=2,
            input_total_tokens=2_100,
            cache_read_tokens=0,
            cache_write_tokens=0,
            output_tokens=19,
            model="some-model",
        )
    )
    lines = b"".join(
        b"%b\n%b\n%b\n" % (said, usage, encode_line(TurnEnd(ts=FIRST_MS, turn_count=2 + at))) for at in range(CALLS)
    )
    for session_id, segment_id in ids:
        with (root / session_id / f"{segment_id}.jsonl").open("ab") as file:
            file.write(lines)
    return FsStore(root, durability="process", feed=False)
