"""A city that dies at every point of what it does, each time in a copy of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def at_every_point(path: Path, most: int, run: Callable[[Path, str], int]) -> None:
    """Call `run(copy, "N:before")` and `run(copy, "N:after")` for 0, 1 ... until the point was not reached any more.

    Args:
        path: the city's folder, whose key and anchor lie beside it.
        run: what the process in the copy ended with: 9 where it died at the point, 0 where it did not.
    """
    names = [path, path.with_name(path.name + ".key"), path.with_name(path.name + ".anchor")]
    outcomes = []
    for number in range(most):
        for when in ("before", "after"):
            folder = path.parent / f"{number}-{when}"
            folder.mkdir()
            for name in names:
                (shutil.copytree if name.is_dir() else shutil.copy)(name, folder / name.name)
            outcomes.append(run(folder / path.name, f"{number}:{when}"))
            shutil.rmtree(folder)
        if outcomes[-1] == 0:
            break
    assert outcomes[0] == 9, "the point was never reached"
    assert outcomes[-1] == 0, "there are more points than were tried"
