"""The growth benchmark: what it calls flat, the sessions it makes up, its command, and its plot."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from benchmarks import growing, growth
from benchmarks.bench import Bench
from benchmarks.growing import Growth
from benchmarks.growth import Curve
from session_log import FsStore, create_segment, restore

PLOT = Path(growth.__file__).with_name("growth.svg")
BACKGROUNDS = {"light": "#ffffff", "dark": "#0d1117"}
FEW = {"turns": ((5, 10, 20), (5, 10)), "sessions": ((20, 30, 40), (20, 30))}


def curve(growth: Growth, *medians: float) -> Curve:
    return Curve("walk", "turns", growth, "CPU", {10 ** (at + 1): (median,) for at, median in enumerate(medians)})


@pytest.mark.parametrize(
    ("growth", "medians", "holds"),
    [
        ("O(1)", (2.0, 2.0, 2.0), True),
        ("O(1)", (2.0, 9.0, 3.0), True),  # what happens in between is noise
        ("O(1)", (2.0, 2.5, 3.1), False),
        ("O(1)", (1.0, 2.0, 3.0), False),  # the logarithm
        ("O(n)", (1.0, 1.5, 15.0), True),
        ("O(n)", (1.0, 1.5, 29.0), True),
        ("O(n)", (1.0, 10.0, 201.0), False),
        ("O(n)", (1.0, 100.0, 10_000.0), False),  # the square
    ],
)
def test_flat_is_half_as_much_again_at_most_and_linear_twice_the_line(
    growth: Growth, medians: tuple[float, ...], holds: bool
) -> None:
    assert curve(growth, *medians).holds is holds


def test_the_table_says_what_grew_more_than_it_may() -> None:
    headings, flat, straight = growth.table([curve("O(1)", 2e-6, 4e-6), curve("O(n)", 0.2, 2.0)]).splitlines()

    assert headings.split() == ["by", "turns", "10", "100", "each", "grew", "may", "grow", "holds"]
    assert re.sub(" +", " ", flat) == "walk O(1) CPU 2 µs (2–2) 4 µs (4–4) 2.00 × ≤ 1.5 × NO"
    assert re.sub(" +", " ", straight) == "walk O(n) CPU 200 ms (200–200) 2 s (2–2) 20 ms 10.00 × ≤ 20 × yes"


def test_the_sessions_made_up_are_those_the_library_would_have_made(tmp_path: Path) -> None:
    written = growing.populate(tmp_path, 30)
    store = FsStore(tmp_path)

    newest, _ = create_segment(store)

    assert store.list_sessions() == [newest, *(session_id for session_id, _ in reversed(written))]
    for session_id, segment_id in written:
        state = restore(store, session_id, segment_id)
        assert (state.turn_count, state.damage, state.torn_bytes) == (1, (), 0)
        path = store.segment_path(session_id, segment_id)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_place_has_the_size_it_is_named_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    log, population = growing.PLACES["turns"](bench, 12), growing.PLACES["sessions"](bench, 40)

    assert restore(log.store, log.session_id, log.segment_id).turn_count == 12
    assert len(population.store.list_sessions()) == 40
    assert len(set(population.chosen)) == growing.CHOSEN
    assert population.session_id == min(population.store.list_sessions())  # a look-up finds it last


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "SIZES", FEW)


@pytest.mark.usefixtures("few")
def test_the_command_measures_everything_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How long it takes is not looked at: the machine may be busy."""
    written, scratch = tmp_path / "growth.json", tmp_path / "scratch"
    scratch.mkdir()

    status = growth.main(["--quick", "--json", str(written), "--dir", str(scratch)])

    curves = orjson.loads(written.read_bytes())["curves"]
    assert status == int(not all(found["holds"] for found in curves))
    assert [(found["axis"], found["operation"]) for found in curves] == [
        (axis, operation.name) for axis, every in growing.OPERATIONS.items() for operation in every
    ]
    assert {
        axis: [tuple(map(int, found["samples_s"])) for found in curves if found["axis"] == axis] for axis in FEW
    } == {axis: [FEW[axis][True]] * len(growing.OPERATIONS[axis]) for axis in growing.OPERATIONS}
    assert all(len(samples) >= 3 and min(samples) > 0 for found in curves for samples in found["samples_s"].values())
    assert "by turns" in (said := capsys.readouterr().out)
    assert "by sessions" in said
    assert list(scratch.iterdir()) == []


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (2.0, 1)])
def test_the_command_fails_when_something_flat_is_not(
    factor: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(sides: Sequence[Callable[[int], float]], rounds: int) -> list[tuple[float, ...]]:
        return [(factor**at,) * rounds for at, _ in enumerate(sides)]

    monkeypatch.setattr(growth, "interleave", measured)

    assert growth.main(["--quick"]) == status


@pytest.mark.usefixtures("few")
def test_an_interrupt_ends_with_130_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(sides: object, rounds: object) -> None:
        assert list(tmp_path.iterdir()) != []
        raise KeyboardInterrupt

    monkeypatch.setattr(growth, "interleave", interrupted)

    assert growth.main(["--dir", str(tmp_path)]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "find_spec", lambda name: None)

    with pytest.raises(SystemExit) as refused:
        growth.main(["--svg", "growth.svg"])

    assert refused.value.code == 2
    assert "pip install 'session-log[plot]'" in capsys.readouterr().err


def test_the_same_figures_give_the_same_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    from benchmarks import plot

    curves = [
        Curve(operation.name, axis, operation.growth, operation.clock, dict.fromkeys(sizes[False], (1e-6, 2e-6, 4e-6)))
        for axis, sizes in growing.SIZES.items()
        for operation in growing.OPERATIONS[axis]
    ]
    for name in ("one.svg", "other.svg"):
        plot.draw(curves, tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert not_times(words_of(tmp_path / "one.svg")) == not_times(words_of(PLOT))


def not_times(words: set[str]) -> set[str]:
    return {word for word in words if re.fullmatch(r"\d+ [nµm]?s", word) is None}


# ── the plot in this repository ────────────────────────────────────────────────────────────────────────────────────


def words_of(path: Path) -> set[str]:
    return {"".join(text.itertext()) for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}


def luminance(colour: str) -> float:
    """After WCAG 2, as the contrast is."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_plot_names_every_operation_and_every_size() -> None:
    words = words_of(PLOT)

    for axis, every in growing.OPERATIONS.items():
        assert {operation.name for operation in every} <= words
        assert {f"{size:,}" for size in growing.SIZES[axis][False]} <= words
    assert {"1 ms", "10 µs", "time of one operation (median, quartiles)"} <= words
    assert {"turns in the log (11 entries, 10 kB each)", "sessions in the store (one turn each)"} <= words


@pytest.mark.parametrize("mode", BACKGROUNDS)
def test_the_plot_is_readable_on_a_light_and_on_a_dark_page(mode: str) -> None:
    """Nothing is painted behind it, and every colour stands out from either page: letters 4 : 1, lines 3 : 1."""
    plot = PLOT.read_text(encoding="utf-8")
    letters = set(re.findall(r"<text style=\"[^\"]*fill: (#\w{6})", plot))
    lines = set(re.findall(r"stroke: (#\w{6})", plot))

    assert letters and len(lines) > 10
    assert {colour for colour in letters if contrast(colour, BACKGROUNDS[mode]) < 4} == set()
    assert {colour for colour in lines if contrast(colour, BACKGROUNDS[mode]) < 3} == set()
    assert "#ffffff" not in plot
