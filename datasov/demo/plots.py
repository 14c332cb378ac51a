"""Plots of releases as SVG: the released values with their 95 % intervals, and both exact answers as marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from datasov.demo.answers import Answer, Cell
from datasov.demo.questions import Question, Statistic
from datasov.sim.picture import ALL, EXACT, INK, LINE, PALE, VALUE, labelled, style, svg

VARIABLES = {INK: "--ink", LINE: "--line", VALUE: "--value", PALE: "--pale", EXACT: "--exact", ALL: "--all"}
"""Colours of a plot and the style variables that take their place in the report, which has a dark form too."""

MOST_ROWS = 14
WIDTH = 4.5
KEYS = ("released, with its 95 % interval", "exact, as bounded", "exact, all rows")


def plot(answer: Answer, statistic: Statistic) -> str:
    """One statistic of a release as an inline SVG element."""
    question = answer.question
    shown = cells(answer, statistic)
    height = 2.6 if question.upright else 0.62 + 0.25 * len(shown)
    with style(f"{question.name}-{statistic.name}"):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
        draw(figure.add_subplot(), question, statistic, shown)
        text = svg(figure)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return labelled(text, description(question, statistic, shown))


def picture(answers: Sequence[Answer]) -> str:
    """Two releases beside each other, as an SVG file that stands alone."""
    by_name = {a.question.name: a for a in answers}
    panels = [(by_name["ages"], "spent_mean"), (by_name["nutrition"], "residents")]
    with style("picture"):
        figure = Figure(figsize=(9.6, 4.1), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1), facecolor="white")
        words = []
        for axes, (answer, name) in zip(figure.subplots(1, 2), panels, strict=True):
            statistic = next(s for s in answer.question.statistics if s.name == name)
            shown = [c for c in cells(answer, statistic) if c.key is not None]
            draw(axes, answer.question, statistic, shown)
            axes.set_title(f"{answer.question.title}\n", loc="left", fontsize=10.5, fontweight="bold", color=INK)
            axes.text(
                0, 1.02, f"{answer.question.key}; loss {answer.release.loss}",
                transform=axes.transAxes, fontsize=9, color=ALL, va="bottom",
            )  # fmt: skip
            words.append(description(answer.question, statistic, shown))
        marks = [
            Line2D([], [], color=VALUE, marker="o", markersize=5.5, linewidth=2),
            Line2D([], [], color=EXACT, marker="|", markersize=12, markeredgewidth=2, linewidth=0),
            Line2D([], [], color=ALL, marker="o", markersize=5.5, markerfacecolor="none", linewidth=0),
        ]
        figure.legend(marks, KEYS, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
        text = svg(figure)
    return labelled(text, " ".join(words)) + "\n"


def cells(answer: Answer, statistic: Statistic) -> list[Cell]:
    """The cells to plot: all, or the largest by the first statistic as released."""
    found = answer.of(statistic)
    if answer.question.ordered:
        return found
    first = [c.value for c in answer.of(answer.question.statistics[0])]
    order = sorted(range(len(found)), key=lambda i: -first[i])
    return [found[i] for i in order[:MOST_ROWS]]


def draw(axes: Axes, question: Question, statistic: Statistic, shown: Sequence[Cell]) -> None:
    """Draw one statistic: rows of dots, or columns where the question is upright."""
    places = list(range(len(shown)))
    values = [c.value for c in shown]
    spread = [[c.value - c.low for c in shown], [c.high - c.value for c in shown]]
    labels = [c.label for c in shown]
    bars: dict[str, Any] = {"color": VALUE, "elinewidth": 2, "fmt": "o", "markersize": 4.5, "zorder": 4}
    bounded: dict[str, Any] = {"color": EXACT, "linewidths": 2, "zorder": 3}
    every: dict[str, Any] = {"facecolors": "none", "edgecolors": ALL, "s": 30, "linewidths": 1.3, "zorder": 2}
    number = axes.yaxis if question.upright else axes.xaxis
    if question.upright:
        axes.bar(places, values, color=PALE, width=0.72, zorder=1)
        axes.errorbar(places, values, yerr=spread, **bars)
        axes.scatter(places, [_drawn(c.exact_unbounded) for c in shown], **every)
        axes.scatter(places, [_drawn(c.exact) for c in shown], marker="_", s=120, **bounded)
        step = 3 if len(places) > 12 else 1
        axes.set_xticks(places[::step], labels[::step])
        axes.set_xlabel(question.key)
        axes.set_ylabel(statistic.title)
    else:
        axes.errorbar(values, places, xerr=spread, **bars)
        axes.scatter([_drawn(c.exact_unbounded) for c in shown], places, **every)
        axes.scatter([_drawn(c.exact) for c in shown], places, marker="|", s=150, **bounded)
        axes.set_yticks(places, labels)
        axes.set_ylim(len(places) - 0.4, -0.6)
        axes.set_xlabel(statistic.title)
    number.set_major_locator(MaxNLocator(5))
    number.set_major_formatter(EngFormatter(sep=""))
    axes.grid(axis="y" if question.upright else "x", color=LINE, linewidth=0.8, zorder=0)
    if statistic.kind != "mean":
        (axes.axhline if question.upright else axes.axvline)(0, color=ALL, linewidth=0.8, zorder=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom" if question.upright else "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def description(question: Question, statistic: Statistic, shown: Sequence[Cell]) -> str:
    """What the plot shows, in words, for those who cannot see it."""
    most, least = max(shown, key=lambda c: c.value), min(shown, key=lambda c: c.value)
    digits = 2 if statistic.kind == "mean" else 0
    inside = sum(bool(c.covered) for c in shown)
    return (
        f"{question.title}. {statistic.title} by {question.key.lower()}, {len(shown)} groups: most for {most.label}, "
        f"{most.value:,.{digits}f}; least for {least.label}, {least.value:,.{digits}f}. {inside} of the {len(shown)} "
        "intervals cover the exact bounded value. The numbers stand in the table below."
    )


def _drawn(value: float | None) -> float:
    """A place on the axis; NaN, which is not drawn, where there is none."""
    return math.nan if value is None else value
