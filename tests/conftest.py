"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import datasov as ds
from tests.helpers import Clock, few_lists, found_city

settings.register_profile("datasov", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("datasov")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def city(tmp_path, clock) -> Iterator[ds.City]:
    """A new city of budget 1 and one purpose."""
    with found_city(tmp_path, clock) as found:
        yield found


@pytest.fixture(scope="module")
def few_status_lists() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        few_lists(patch)
        yield
