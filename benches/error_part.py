"""Draw the error by trust model: `python -m benches.error_part docs/images/error-by-trust.svg`.

The figures are `error_vs_central` of the bench `mpc`; both axes are logarithmic.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from benches.two_servers_part import error_vs_central

SIZES = [10**4, 10**5, 10**6]
NAMES = {
    "local": ("local", "#b3541e", ""),
    "two_servers": ("two servers", "#1f6f8b", "6 4"),
    "central": ("central", "#333", "2 3"),
}
LEFT, RIGHT, TOP, BOTTOM = 80, 560, 40, 300


def _x(residents: float) -> float:
    return LEFT + (math.log10(residents) - 4) / 2 * (RIGHT - LEFT)


def _y(error: float) -> float:
    return BOTTOM - (math.log10(error) - 2) / 4 * (BOTTOM - TOP)


def picture(rows: list[dict[str, object]]) -> str:
    """An SVG of the L1 errors."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 360" role="img" font-family="sans-serif" '
        'font-size="13" aria-label="L1 error of 256 cells at epsilon 1 by trust model and number of residents">',
        '<rect width="680" height="360" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" fill="#222">L1 error of 256 cells, epsilon 1</text>',
        f'<text x="{(LEFT + RIGHT) / 2}" y="344" text-anchor="middle" fill="#222">residents</text>',
    ]
    for power in range(2, 7):
        y = _y(10**power)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{10**power:,}</text>')
    for size in SIZES:
        parts.append(f'<text x="{_x(size):.1f}" y="{BOTTOM + 20}" text-anchor="middle" fill="#444">{size:,}</text>')
    for name, (label, colour, dashes) in NAMES.items():
        points = [(_x(float(str(r["residents"]))), _y(float(str(r[name])))) for r in rows]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{RIGHT + 10}" y="{points[-1][1] + 4:.1f}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    found = error_vs_central(SIZES)
    print(json.dumps(found))
    Path(sys.argv[1]).write_text(picture(found), encoding="utf-8")
