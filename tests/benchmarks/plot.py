"""The plot of how things grow: what must be flat in solid lines, what may grow in dashed ones. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]  # a dependency of the extra [plot] alone
from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]
from matplotlib.lines import Line2D  # type: ignore[import-not-found, unused-ignore]
from matplotlib.ticker import FuncFormatter, NullLocator  # type: ignore[import-not-found, unused-ignore]

from benchmarks.measure import quartiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # type: ignore[import-not-found, unused-ignore]

    from benchmarks.growth import Curve

INK = "#7a7a7a"
"""Letters and axes: a gray as far from GitHub's white as from its black; there is nothing behind the plot."""
GRID_OPACITY, BAND_OPACITY = 0.25, 0.2
COLOURS = (
    *("#0a84d6", "#d9680a", "#1c9a52", "#c2479a", "#8c72d9", "#b8860b"),
    *("#d64545", "#2a93a0", "#8a7f76", "#6f8f1f", "#4f7fd9", "#c0603f"),
)
"""In the middle between light and dark, too."""
MARKERS = "osD^vPX*<>ph"
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",  # letters stay letters: small, sharp, and found by a search
    "svg.hashsalt": "session_log",  # the same ids for the same figures
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": GRID_OPACITY,
    "legend.frameon": False,
}
INCHES = (9.6, 6.0)
NAMES = {"turns": "turns in the log (11 entries, 10 kB each)", "sessions": "sessions in the store (one turn each)"}


def draw(curves: Sequence["Curve"], path: Path) -> None:
    """Draw the curves by axis, side by side: medians, with the quartiles as a band, both scales logarithmic."""
    looks = dict(zip({curve.operation: None for curve in curves}, zip(COLOURS, MARKERS, strict=True), strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        panels = figure.subplots(1, len(NAMES), sharey=True)
        for axes, axis in zip(panels, NAMES, strict=True):
            _draw_panel(axes, [curve for curve in curves if curve.axis == axis], looks)
            axes.set_xlabel(NAMES[axis])
        panels[0].set_ylabel("time of one operation (median, quartiles)")
        keys = [_key(colour, marker, name) for name, (colour, marker) in looks.items()]
        title = "solid: must be flat · dashed: may grow with the size"
        figure.legend(handles=keys, title=title, loc="outside lower center", ncols=4)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _draw_panel(axes: "Axes", curves: Sequence["Curve"], looks: Mapping[str, tuple[str, str]]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for curve in curves:
        colour, marker = looks[curve.operation]
        sizes = list(curve.samples)
        low, middle, high = zip(*map(quartiles, curve.samples.values()), strict=True)
        dash = "-" if curve.growth == "O(1)" else "--"
        axes.plot(sizes, middle, dash, color=colour, marker=marker, markerfacecolor="none")
        axes.fill_between(sizes, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
    axes.set_xticks(list(curves[0].samples))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: duration(seconds)))
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_minor_locator(NullLocator())
    axes.tick_params(labelleft=True)
    axes.grid(visible=True)
    axes.spines[["top", "right"]].set_visible(False)


def _key(colour: str, marker: str, name: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markerfacecolor="none", label=name)


def duration(seconds: float) -> str:
    """Return a power of ten in the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor * 0.999:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"
