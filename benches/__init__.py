"""Benches: figures with the command that gives them. `python -m benches --list` names them."""

from __future__ import annotations

import os


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
