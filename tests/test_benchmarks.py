"""The benchmark: that its turns are what the table says, that it compares what it claims, and that the command runs."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest

from benchmarks import report
from benchmarks.bench import Bench, turn_lines
from benchmarks.measure import WARM_UP_ROUNDS, Row, interleave, quartiles
from benchmarks.recording import verbs
from benchmarks.turns import ENTRIES_PER_TURN, turns
from session_log import FsStore, SegmentWriter, decode_line, encode_line, read_entries, restore

Run = Callable[[Sequence[str | Path], Path], str]
COMMAND = Path(__file__).with_name("benchmarks") / "run.py"


def text_of(count: int, seed: int = 1) -> bytes:
    return b"\n".join(encode_line(entry) for turn in turns(count, seed=seed) for entry in turn)


def test_the_turns_of_a_seed_are_the_same_bytes_for_ever() -> None:
    """Pinned, so that figures taken with different versions are about the same log."""
    digest = hashlib.sha256(text_of(20)).hexdigest()

    assert digest == "4457b4ed2859a4f58919b5665b86e7e27e4152caba81c6f5cd4b7ca93718626a"
    assert text_of(20, seed=2) != text_of(20)


def test_a_turn_is_about_ten_entries_and_ten_kilobytes() -> None:
    sizes = [sum(len(encode_line(entry)) + 1 for entry in turn) for turn in turns(500)]

    assert {len(turn) for turn in turns(500)} == {ENTRIES_PER_TURN}
    assert 9_500 < sum(sizes) / len(sizes) < 10_500
    assert min(sizes) > 5_000
    assert max(sizes) < 16_000


def test_one_byte_in_ten_is_not_ascii() -> None:
    text = text_of(500)

    assert 0.08 < sum(byte > 0x7F for byte in text) / len(text) < 0.12


def test_every_entry_reads_back_as_it_was_made() -> None:
    entries = [entry for turn in turns(20) for entry in turn]

    assert [decode_line(encode_line(entry)) for entry in entries] == entries


def test_the_dates_of_the_turns_never_go_back() -> None:
    dates = [orjson.loads(encode_line(entry))["ts"] for turn in turns(20, first_ts=1_000) for entry in turn]

    assert dates == sorted(dates)
    assert dates[0] > 1_000


def test_the_verbs_record_the_same_turn_as_the_entries(tmp_path: Path) -> None:
    entries = [decode_line(line) for turn in turn_lines(3) for line in turn]
    with SegmentWriter.create(FsStore(tmp_path / "entries")) as appending:
        appending.append_entries(entries)
    store = FsStore(tmp_path / "verbs")

    with SegmentWriter.create(store) as recording:
        for call in verbs(recording, entries):
            call()

    assert recording.state.history == appending.state.history
    assert recording.state.turn_count == appending.state.turn_count == 3
    assert [type(entry) for entry in read_entries(store, recording.session_id, recording.segment_id)[1:]] == [
        type(entry) for entry in entries
    ]


def test_the_logs_to_read_have_the_turns_they_are_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    log = bench.log(12)

    state = restore(log.store, log.session_id, log.segment_id)

    assert (state.turn_count, state.entries_count) == (12, 1 + 12 * ENTRIES_PER_TURN)
    assert bench.log(12) is log


def test_sides_run_in_turn_and_the_first_rounds_do_not_count() -> None:
    calls: list[tuple[str, int]] = []

    def side(name: str) -> Callable[[int], float]:
        def call(number: int) -> float:
            calls.append((name, number))
            return float(number)

        return call

    limit, ours = interleave([side("limit"), side("ours")], rounds=3)

    assert calls == [(name, number) for number in range(3 + WARM_UP_ROUNDS) for name in ("limit", "ours")]
    assert limit == ours == tuple(float(number) for number in range(WARM_UP_ROUNDS, 3 + WARM_UP_ROUNDS))


@pytest.mark.parametrize(
    ("compared", "target", "figure", "by_round", "reached"),
    [
        ("ratio", 3.0, 2.5, 2.0, True),
        ("difference", 5.0, 6.0, 6.0, False),
        ("value", None, 10.0, 10.0, None),
    ],
)
def test_a_row_compares_medians_and_also_round_by_round(
    compared: str, target: float | None, figure: float, by_round: float, reached: bool | None
) -> None:
    row = Row(
        operation="o",
        beside="b",
        unit="µs",
        ours=(4.0, 10.0, 12.0),
        limit=(4.0, 1.0, 6.0) if compared != "value" else (),
        compared=compared,  # type: ignore[arg-type]  # the parameter is one of the three
        target=target,
    )

    assert (row.figure, row.figure_by_round, row.reached) == (figure, by_round, reached)


def test_quartiles_are_taken_from_the_samples() -> None:
    assert quartiles((1.0, 2.0, 3.0, 4.0, 5.0)) == (2.0, 3.0, 4.0)
    assert quartiles((7.0,)) == (7.0, 7.0, 7.0)


def test_the_table_says_whether_a_target_is_reached() -> None:
    missed = Row(operation="slow", beside="b", unit="µs", ours=(9.0,), limit=(3.0,), target=2.0)
    kept = Row(operation="fast", beside="b", unit="µs", ours=(3.0,), limit=(3.0,), target=2.0)

    headings, *lines = report.table([missed, kept]).splitlines()

    assert headings.split()[-2:] == ["target", "reached"]
    assert [line.split()[-1] for line in lines] == ["NO", "yes"]
    assert "3.00 ×" in lines[0]


def test_the_command_prints_a_table_writes_json_and_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    printed = run([sys.executable, COMMAND, "--quick", "--json", written, "--dir", scratch, "batch"], tmp_path)

    figures = orjson.loads(written.read_bytes())
    assert "append a turn as one batch" in printed
    assert [row["benchmark"] for row in figures["rows"]] == ["batch"] * 3
    assert all(len(row["ours"]) == len(row["limit"]) > 0 for row in figures["rows"])
    assert list(scratch.iterdir()) == []


def test_the_command_refuses_a_benchmark_it_does_not_know() -> None:
    done = subprocess.run([sys.executable, COMMAND, "speed"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "'speed' is no benchmark; there are append, batch," in done.stderr
