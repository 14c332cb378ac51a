"""Where the published vectors are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def city_os(*parts: str) -> Path:
    """A recording, a schema or the OpenAPI document of the city OS; the test is skipped where it is absent."""
    base = Path(os.environ.get("DATASOV_CITY_OS", ROOT.parent / "shared" / "cityos"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"files of the city OS not found: set DATASOV_CITY_OS to the folder that holds {parts[0]}")
    return path


def vectors(*parts: str) -> Path:
    """A file or folder among the published vectors; the test is skipped where it is absent."""
    base = Path(os.environ.get("DATASOV_VECTORS", ROOT.parent / "shared" / "vectors"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"published vectors not found: set DATASOV_VECTORS to the folder that holds {parts[0]}")
    return path
