"""A process forked while a vault is open: whatever the child does, the parent's rows and its lock are the parent's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datasov.errors import StoreError
from datasov.vault import Vault
from tests.vaults import KEY, TRIPS, trips


@contextmanager
def _forked(act: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """A child that acts once it is told to; calling what is given tells it, and waits for its exit code."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)  # so that it ends where its parent does
        os.read(told, 1)
        try:
            act()
        except StoreError:
            os._exit(7)
        os._exit(0)

    def go() -> int:
        os.write(tell, b"x")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    try:
        yield go
    finally:
        os.close(told)
        os.close(tell)


def _collected(vault: Vault) -> None:
    """What an interpreter does at its end, to the files of a vault."""
    vault._session._live.__del__()  # type: ignore[union-attr]


@pytest.mark.parametrize("act", [Vault.close, _collected, Vault.compact, Vault.erase])
def test_no_child_cuts_the_parents_log(tmp_path: Path, act: Callable[[Vault], object]) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        with _forked(lambda: act(vault)) as go:
            vault.put([(TRIPS, trips(2))])
            code = go()
        assert code == (0 if act in (Vault.close, _collected) else 7)
        vault.put([(TRIPS, trips(3))])
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        assert vault.scan("trips").equals(trips(1, 2, 3))


def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", device_key=KEY)
    with _forked(lambda: None) as go:
        vault.close()
        with Vault.open(tmp_path / "v", device_key=KEY) as again:
            again.put([(TRIPS, trips(1))])
        assert go() == 0


def test_a_child_that_closes_does_not_give_up_the_parents_lock(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        with _forked(vault.close) as go:
            assert go() == 0
        with pytest.raises(StoreError, match="another"):
            Vault.open(tmp_path / "v", device_key=KEY)
        vault.put([(TRIPS, trips(1))])
