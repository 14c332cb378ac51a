"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import datasov as ds
from tests.browser import browser as browser
from tests.browser import visit as visit
from tests.helpers import Clock, few_lists, found_city
from tests.postgres import Server, running

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


@pytest.fixture
def people(tmp_path: Path, clock: Clock) -> Iterator[Callable[[str], ds.Resident]]:
    """Vaults by name, each opened once."""
    opened: dict[str, ds.Resident] = {}

    def resident(name: str) -> ds.Resident:
        if name not in opened:
            opened[name] = ds.Resident.create(tmp_path / f"{name}.vault", device_key=bytes(32), clock=clock)
        return opened[name]

    yield resident
    for one in opened.values():
        one.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test process, which every test finds running."""
    yield from running()
