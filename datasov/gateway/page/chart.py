"""Pictures of the city's page, as SVG without a style of its own: presentation attributes, classes of the page's CSS.

Each stretches to the width that it is given (`preserveAspectRatio="none"`), so words stand beside it in HTML, and stay
readable on a phone. Strokes keep their width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 1000
_BAR, _HEIGHT = 24, 220
_ATTRIBUTES = 'preserveAspectRatio="none" aria-hidden="true" focusable="false"'


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to places on an axis, of which both ends show."""

    low: float
    high: float

    @staticmethod
    def over(values: Sequence[float]) -> Scale:
        """An axis that holds zero and all finite values."""
        found = [v for v in values if math.isfinite(v)]
        low, high = min([0.0, *found]), max([0.0, *found])
        return Scale(low, high if high > low else low + 1.0)

    def at(self, value: float, length: int = WIDTH) -> float:
        """Where a value stands, from 0 to `length`; a value outside stands at the end."""
        share = (value - self.low) / (self.high - self.low)
        return round(min(max(share, 0.0), 1.0) * length, 1)


def bar(scale: Scale, value: float, low: float, high: float) -> Markup:
    """One bar with its interval. It is hidden from screen readers: the numbers stand beside it."""
    zero, end, first, last = (scale.at(v) for v in (0.0, value, low, high))
    left, width = min(zero, end), max(abs(end - zero), 1.0)
    caps = "".join(f'<line class="whisker" x1="{x}" x2="{x}" y1="7" y2="17"/>' for x in (first, last))
    return Markup(  # noqa: S704
        f'<svg class="bar" viewBox="0 0 {WIDTH} {_BAR}" {_ATTRIBUTES}>'
        f'<rect class="fill" x="{left}" y="4" width="{width:.1f}" height="16"/>'
        f'<line class="axis" x1="{zero}" x2="{zero}" y1="0" y2="{_BAR}"/>'
        f'<line class="whisker" x1="{first}" x2="{last}" y1="12" y2="12"/>{caps}</svg>'
    )


def share(part: float) -> Markup:
    """A bar of how much of a whole is used, from 0 to 1."""
    end = round(min(max(part, 0.0), 1.0) * WIDTH, 1)
    return Markup(  # noqa: S704
        f'<svg class="share" viewBox="0 0 {WIDTH} 10" {_ATTRIBUTES}>'
        f'<rect class="rest" x="0" y="0" width="{WIDTH}" height="10"/>'
        f'<rect class="fill" x="0" y="0" width="{end}" height="10"/></svg>'
    )


def steps(points: Sequence[tuple[float, float]], limit: float) -> Markup:
    """A line that goes up in steps, under a limit. It is hidden from screen readers: a table says the same.

    Args:
        points: time and total, ascending; at least two.
        limit: the most that the total may ever be.
    """
    times = Scale(points[0][0], max(points[-1][0], points[0][0] + 1.0))
    totals = Scale(0.0, max(limit, 1e-12) * 1.06)

    def y(value: float) -> float:
        return round(_HEIGHT - totals.at(value, _HEIGHT), 1)

    path = [f"M{times.at(points[0][0])} {y(points[0][1])}"]
    for time, total in points[1:]:
        path.append(f"H{times.at(time)}V{y(total)}")
    line = "".join(path)
    top = y(limit)
    grid = "".join(
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y(limit * part)}" y2="{y(limit * part)}"/>'
        for part in (0.25, 0.5, 0.75)
    )
    return Markup(  # noqa: S704
        f'<svg class="steps" viewBox="0 0 {WIDTH} {_HEIGHT}" {_ATTRIBUTES}>{grid}'
        f'<path class="area" d="{line}V{_HEIGHT}H0Z"/><path class="line" d="{line}"/>'
        f'<line class="limit" x1="0" x2="{WIDTH}" y1="{top}" y2="{top}"/></svg>'
    )
