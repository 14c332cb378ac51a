"""Pictures of releases over a simulation, as SVG: values with their intervals, what is exact, and a mark: simulated.

Needs matplotlib, of the extra `demo`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np
import polars as pl

from datasov.catalogue import mesh
from datasov.errors import MissingExtraError
from datasov.sim.simulation import MARK, Simulation

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import EngFormatter, MaxNLocator
except ModuleNotFoundError as fault:
    raise MissingExtraError(
        "pictures are drawn by matplotlib, which is not installed: pip install 'datasov[demo]'"
    ) from (fault)

INK, LINE, VALUE, PALE, EXACT, ALL = "#1c2b33", "#d9e0e3", "#0f6f78", "#bfe0e2", "#c8501e", "#7d8b92"
COLOURS = (VALUE, "#8a5a00", "#5b4a9c", EXACT)
"""Of several lines in one panel."""


@contextmanager
def style(name: str) -> Iterator[None]:
    """Fonts and colours; the name makes the ids within the SVG the same each time."""
    with mpl.rc_context({
        "svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10.5,
        "font.sans-serif": ["DejaVu Sans"], "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": LINE,
        "xtick.color": INK, "ytick.color": INK, "axes.facecolor": "none",
    }):  # fmt: skip
        yield


@contextmanager
def sheet(
    title: str, simulations: Sequence[Simulation], panels: Sequence[float], *, height: float = 4.2
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with panels beside each other, of these relative widths, headed by its title and by "simulated"."""
    with style(title):
        figure = Figure(figsize=(9.6, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08), facecolor="white")
        figure.suptitle(f"{title}\n", x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
        total = sum(s.residents for s in simulations)
        people = f"{total:,} made-up {simulations[0].unit}, seed {simulations[0].seed}"
        figure.text(
            0.012, 0.985 - 0.29 / height, f"{MARK.upper()}: {people}", fontsize=9, va="top", color=EXACT,
            fontweight="bold",
        )  # fmt: skip
        grid = figure.subplots(1, len(panels), gridspec_kw={"width_ratios": list(panels)}, squeeze=False)
        yield figure, list(grid[0])


def heading(axes: Axes, title: str, below: str = "") -> None:
    """A panel's title, and a line in small letters beneath it."""
    axes.set_title(title + ("\n" if below else ""), loc="left", fontsize=10.5, color=INK)
    if below:
        axes.text(0, 1.02, below, transform=axes.transAxes, fontsize=8.5, color=ALL, va="bottom")


def dots(axes: Axes, labels: Sequence[str], told: pl.DataFrame, unit: str, *, percent: bool = False) -> None:
    """Values with their intervals, a row each, and what is exact as a mark: columns value, low, high and exact."""
    places, by = list(range(len(labels))), 100 if percent else 1
    value, low, high, exact = (told[n].cast(pl.Float64).to_numpy() * by for n in ("value", "low", "high", "exact"))
    bars: dict[str, Any] = {"color": VALUE, "elinewidth": 2, "fmt": "o", "markersize": 5, "zorder": 4}
    axes.errorbar(value, places, xerr=np.maximum([value - low, high - value], 0), **bars)
    axes.scatter(exact, places, marker="|", s=170, color=EXACT, linewidths=2, zorder=5)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(unit)
    _plain(axes, "x", percent)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]) if not percent else 0)


def lines(
    axes: Axes, labels: Sequence[str], series: Sequence[tuple[str, pl.DataFrame]], unit: str, *, every: int = 3
) -> None:
    """Values along the labels, a line for each of the series, its interval as a band and what is exact as dashes."""
    places = np.arange(len(labels))
    for (name, told), colour in zip(series, COLOURS, strict=False):
        value, low, high, exact = (told[n].cast(pl.Float64).to_numpy() for n in ("value", "low", "high", "exact"))
        axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        axes.plot(places, value, color=colour, linewidth=1.8, label=name, zorder=4)
        axes.plot(places, exact, color=INK, linewidth=0.9, linestyle=(0, (3, 2)), zorder=5)
    axes.set_xticks(places[::every], list(labels)[::every])
    axes.set_ylabel(unit)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.12)
    axes.legend(frameon=False, fontsize=9, loc="upper center", ncols=len(series), labelcolor=INK)
    _plain(axes, "y", False)


def squares(axes: Axes, codes: Sequence[str], told: pl.DataFrame, unit: str, *, percent: bool = False) -> None:
    """A map of mesh squares, coloured by value, with the value and its interval in each; below 0 stands as 0."""
    from matplotlib.colors import LinearSegmentedColormap

    by = 100 if percent else 1
    value, low, high = (told[n].cast(pl.Float64).clip(0).to_numpy() * by for n in ("value", "low", "high"))
    scale = LinearSegmentedColormap.from_list("value", ["#f2f7f7", PALE, VALUE])
    most = max(float(np.nanmax(value)), 1e-9)
    boxes = [mesh.bounds(code) for code in codes]
    for (south, west, north, east), v, a, b in zip(boxes, value, low, high, strict=True):
        share = min(max(v / most, 0.0), 1.0)
        axes.add_patch(
            Rectangle((west, south), east - west, north - south, facecolor=scale(share), edgecolor="white", linewidth=2)
        )
        ink = "white" if share > 0.72 else INK
        middle = ((west + east) / 2, (south + north) / 2)
        axes.text(*middle, f"{v:,.0f}{'%' if percent else ''}", ha="center", va="bottom", color=ink, fontsize=11)
        axes.text(*middle, f"{a:,.0f} to {b:,.0f}", ha="center", va="top", color=ink, fontsize=8)
    axes.set_xlim(min(b[1] for b in boxes), max(b[3] for b in boxes))
    axes.set_ylim(min(b[0] for b in boxes), max(b[2] for b in boxes))
    axes.set_aspect(1 / np.cos(np.radians(boxes[0][0])))
    axes.set_xlabel(unit)
    for axis, turn in ((axes.xaxis, "E"), (axes.yaxis, "N")):
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter("{x:.2f}° " + turn)
    axes.tick_params(length=0, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)


def matrix(axes: Axes, rows: Sequence[str], columns: Sequence[str], told: Sequence[pl.DataFrame]) -> None:
    """A table of values with their intervals, coloured by value, a frame a row; below 0 stands as 0."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("value", ["#f2f7f7", PALE, VALUE])
    most = max(float(frame["value"].max() or 1) for frame in told)  # type: ignore[arg-type]
    for y, frame in enumerate(told):
        clipped = frame.select(pl.col("value", "low", "high").cast(pl.Float64).clip(0))
        for x, (v, a, b) in enumerate(clipped.iter_rows()):
            ink = "white" if v / most > 0.72 else INK
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=scale(v / most), edgecolor="white", linewidth=2))
            axes.text(x + 0.5, y + 0.5, f"{v:,.0f}", ha="center", va="bottom", color=ink, fontsize=11)
            axes.text(x + 0.5, y + 0.54, f"{a:,.0f} to {b:,.0f}", ha="center", va="top", color=ink, fontsize=8)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def steps(axes: Axes, labels: Sequence[str], values: Sequence[int], unit: str) -> None:
    """How a number grew, step by step, a row each."""
    places = list(range(len(labels)))
    axes.barh(places, values, color=PALE, height=0.5, zorder=2)
    for at, (label, value) in enumerate(zip(labels, values, strict=True)):
        axes.text(0, at - 0.42, label, ha="left", va="center", fontsize=9, color=INK)
        axes.text(value, at, f" {value:,}", ha="left", va="center", fontsize=9, color=INK)
    axes.set_yticks([])
    axes.set_ylim(len(labels) - 0.5, -0.7)
    axes.set_xlabel(unit)
    _plain(axes, "x", False)
    axes.margins(x=0.15)


def losses(axes: Axes, labels: Sequence[str], rho: Sequence[float]) -> None:
    """Losses as rho, a row each, on a logarithmic scale: what is below 0.01 is next to nothing, above 1 a lot."""
    places = list(range(len(labels)))
    axes.hlines(places, min(rho) / 20, rho, color=PALE, linewidth=5, zorder=2)
    axes.scatter(rho, places, color=VALUE, s=36, zorder=4)
    axes.set_xscale("log")
    for at, value in enumerate(rho):
        axes.text(value, at - 0.28, f"{value:.2g}", ha="center", va="center", fontsize=9, color=INK)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.set_xlim(min(rho) / 20, max(rho) * 6)
    axes.set_xlabel("rho, logarithmic")
    axes.grid(axis="x", color=LINE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def key(figure: Figure, *, dashes: bool = False) -> None:
    """What the marks mean, below the panels."""
    if dashes:
        told = Line2D([], [], color=VALUE, linewidth=2)
        exact = Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    else:
        told = Line2D([], [], color=VALUE, linewidth=2, marker="o", markersize=5)
        exact = Line2D([], [], color=EXACT, linewidth=0, marker="|", markersize=12, markeredgewidth=2)
    words = ["released, with its 95 % interval", "exact: only a simulation knows it"]
    figure.legend([told, exact], words, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)


def render(figure: Figure, words: str) -> str:
    """The SVG of a figure, which stands alone, with these words for those who cannot see it."""
    return labelled(svg(figure), f"{MARK.capitalize()} data. {words}") + "\n"


def labelled(text: str, words: str) -> str:
    """An SVG element with a text alternative."""
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" ', 1)


def svg(figure: Figure) -> str:
    """The figure's SVG element alone: no prologue, no metadata, no names of groups, fonts of the reader's own."""
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = out.getvalue()
    text = text[text.index("<svg ") :]
    start, end = text.find("<metadata>"), text.find("</metadata>")
    if start >= 0:
        text = text[:start] + text[end + len("</metadata>") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    return text.replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif").strip()


def _plain(axes: Axes, along: str, percent: bool) -> None:
    number = axes.xaxis if along == "x" else axes.yaxis
    number.set_major_locator(MaxNLocator(5, integer=not percent))
    number.set_major_formatter("{x:.0f} %" if percent else EngFormatter(sep=""))
    axes.grid(axis=along, color=LINE, linewidth=0.8, zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    for side in ("top", "right", "left" if along == "x" else "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
