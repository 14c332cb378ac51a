"""Anchors: a vault that was put back, or went on elsewhere, is refused where an anchor of it is known."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasov.errors import InvalidDataError, StoreError
from datasov.vault import Anchor, Vault, anchor
from tests import faults, vaults
from tests.vaults import KEY, TRIPS, trips


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with faults.unflushed():
        yield


def _put(path: Path, km: int) -> None:
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(km))])
        vault.set_state({"note": str(km).encode()})


def _behind(path: Path, left: object, match: str = "older than it was") -> None:
    for write in (False, True):
        with pytest.raises(StoreError, match=match):
            Vault.open(path, device_key=KEY, anchor=left, write=write)  # type: ignore[arg-type]


def test_a_vault_that_went_on_is_taken_and_an_older_copy_is_not(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    shutil.copytree(path, tmp_path / "old")
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(9))])
        left = vault.anchor("phone")
    assert left.vault_id == vault.id
    assert Anchor.read(bytes(left)) == left
    for km in range(6):
        Vault.open(path, device_key=KEY, anchor=left).close()
        Vault.open(path, device_key=KEY, anchor=bytes(left), write=False).close()
        _put(path, km)
    _behind(tmp_path / "old", left)
    _behind(tmp_path / "old", [bytes(left)])
    with Vault.open(tmp_path / "old", device_key=KEY, anchor=left, accept_rollback=True) as vault:
        assert vault.state("note") == b"kept"


def test_rows_that_were_acknowledged_are_covered(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        shutil.copytree(tmp_path / "v", tmp_path / "old")
        vault.put([(TRIPS, trips(2))])
        left = vault.anchor("phone")
    _behind(tmp_path / "old", left)


def test_another_branch_is_refused_however_far_it_went(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    shutil.copytree(path, tmp_path / "branch")
    with Vault.open(path, device_key=KEY) as vault:
        left = vault.anchor("phone")
        vault.set_state({"note": b"x"})
        later = vault.anchor("peer")
    for km in range(8):
        _put(tmp_path / "branch", km)
        if km > 2:
            _behind(tmp_path / "branch", later, "another branch")
    _behind(tmp_path / "branch", left, "another branch")
    with Vault.open(tmp_path / "branch", device_key=KEY) as vault:
        other = vault.anchor("phone")
    _behind(path, other)


def test_an_anchor_of_the_very_counter_on_another_branch(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    shutil.copytree(path, tmp_path / "branch")
    for folder, note in ((path, b"1"), (tmp_path / "branch", b"2")):
        with Vault.open(folder, device_key=KEY) as vault:
            vault.set_state({"note": note})
            left = vault.anchor("phone")
    _behind(path, left, "another branch")
    Vault.open(tmp_path / "branch", device_key=KEY, anchor=left).close()


def test_several_anchors_must_all_hold_and_the_last_four_of_a_name_do(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        phone, peer = vault.anchor("phone"), vault.anchor("peer")
    shutil.copytree(path, tmp_path / "old")
    with Vault.open(path, device_key=KEY, anchor=[phone, peer]) as vault:
        for note in (b"1", b"2", b"3"):
            vault.set_state({"note": note})
            newer = vault.anchor("phone")
        Vault.open(path, device_key=KEY, anchor=[phone, newer, peer], write=False).close()
        vault.anchor("phone")
    Vault.open(path, device_key=KEY, anchor=[newer, peer]).close()
    _behind(path, [phone, peer], "another branch")
    _behind(tmp_path / "old", [peer, newer])
    Vault.open(tmp_path / "old", device_key=KEY, anchor=[phone, peer]).close()
    with Vault.open(path, device_key=KEY) as vault:
        vault.forget_anchor("peer")
        vault.forget_anchor("nobody")
        vault.set_state({"note": b"4"})
    _behind(path, peer, "another branch")


def test_anchors_outlive_changes_of_keys_and_of_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        left = vault.anchor("phone")
        shutil.copytree(path, tmp_path / "old")
        vault.keys.add_recovery()
        vault.keys.remove(vault.keys.slots()[1].id)
        vault.erase_domain("mobility", device_key=bytes(32))
        vault.compact()
        later = vault.anchor("peer")
    Vault.open(path, device_key=bytes(32), anchor=[left, later]).close()
    _behind(tmp_path / "old", later)


def test_what_is_no_anchor_is_refused(tmp_path: Path) -> None:
    vaults.varied(tmp_path / "v")
    Vault.create(tmp_path / "w", device_key=KEY).close()
    with Vault.open(tmp_path / "w", device_key=KEY) as other:
        foreign = other.anchor("x")
        for name in ("", "x" * 65, 3):
            with pytest.raises(InvalidDataError, match="anchor's name"):
                other.anchor(name)  # type: ignore[arg-type]
        for turn in range(anchor.MAX_NAMES - 1):
            other.anchor(f"peer {turn}")
        with pytest.raises(InvalidDataError, match="forget one"):
            other.anchor("one more")
        other.anchor("x")
    _behind(tmp_path / "v", foreign, "another vault's")
    for bad in (b"", b"x", bytes(foreign)[:-1], 3, [3], [b"\xa0"]):
        with pytest.raises(InvalidDataError, match=r"what Vault\.anchor gave"):
            Vault.open(tmp_path / "v", device_key=KEY, anchor=bad)  # type: ignore[arg-type]
    with (
        Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader,
        pytest.raises(StoreError, match="open for reading"),
    ):
        reader.anchor("phone")
