"""Where the published vectors, the files of the city OS and the public data are, none of which the project copies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def vectors(*parts: str) -> Path:
    """A file or folder among the published vectors; the test is skipped where it is absent."""
    return _found(_vectors(), parts)


def city_os(*parts: str) -> Path:
    """A recording, a schema or the OpenAPI document of the city OS, in the folder beside the vectors; or skipped."""
    return _found(_vectors().parent / "cityos", parts)


def _vectors() -> Path:
    return Path(os.environ.get("DATASOV_VECTORS", ROOT.parent / "shared" / "vectors"))


def _found(base: Path, parts: tuple[str, ...]) -> Path:
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not here: set DATASOV_VECTORS to the folder of the vectors, beside which it lies")
    return path
