"""Attacks on a tenant host at rest by someone who can change every file and knows no key.

Claim: whatever is done to the files, the host gives back exactly what was put, or raises DecryptionError.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from datasov.errors import DecryptionError
from datasov.vault import Vault, pack
from datasov.vault import format as fmt
from datasov.vault.host import Host
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips

TABLES = ("trips", "meter", "person")


def _make(path: Path) -> None:
    with Host.create(path, device_key=KEY) as host:
        first, second = host.admit([(TRIPS, trips(k, k + 1)), (METER, meter(k)), (PERSON, person(k))] for k in (1, 2))
        host.put([(second, [(TRIPS, trips(3, 4))]), (first, [(TRIPS, trips(4, 3))])])


def _contents(path: Path) -> dict[str, object]:
    """All that a host gives, the tenants' headers included."""
    with Host.open(path, device_key=KEY, write=False) as host:
        held: dict[str, object] = {
            table: [row for frame in host.collect(table) for row in frame.rows()] for table in TABLES
        }
        for tenant in host.tenants():
            out = path.with_name(f"{path.name}-{tenant.hex()}")
            try:
                host.export(tenant, out)
                with Vault.open(out, device_key=host.device_key(tenant), write=False) as vault:
                    held[tenant.hex()] = {name: vault.scan(name).rows() for name in vault.tables()}
            finally:
                shutil.rmtree(out, ignore_errors=True)
        return held


def _refused(path: Path) -> None:
    with pytest.raises(DecryptionError) as found:
        _contents(path)
    assert str(found.value) == str(fmt.damaged())


def _packs(path: Path) -> list[Path]:
    return sorted((path / "packs").iterdir())


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.campaign)])
def test_bytes_of_packs_flipped_and_truncations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    path = tmp_path / "h"
    _make(path)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    expected = _contents(path)
    for file in _packs(path):
        whole = file.read_bytes()
        for at in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[at] ^= 1 << at % 8
            file.write_bytes(changed)
            _refused(path)
        for length in [*range(0, len(whole), 20 * step), len(whole) - 1]:
            file.write_bytes(whole[:length])
            _refused(path)
        file.write_bytes(whole + b"\0")
        _refused(path)
        file.unlink()
        _refused(path)
        file.write_bytes(whole)
    assert _contents(path) == expected


def test_packs_exchanged_within_a_host_and_between_hosts(tmp_path: Path) -> None:
    for name in "ab":
        _make(tmp_path / name)
    expected = _contents(tmp_path / "b")
    everything = [(file, file.read_bytes()) for name in "ab" for file in _packs(tmp_path / name)]
    for file, own in everything[2:]:
        for source, data in everything:
            if source != file:
                file.write_bytes(data)
                _refused(tmp_path / "b")
        file.write_bytes(own)
    assert _contents(tmp_path / "b") == expected


def test_slips_segments_and_headers_of_two_tenants_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "h"
    _make(path)
    expected = _contents(path)
    with Host.open(path, device_key=KEY, write=False) as host:
        state = host._tenants
    swaps = []
    for found in state.packs:
        for table in found.segments:
            for one, other in itertools.combinations(found.entries(table), 2):
                assert one.size == other.size
                slip, whole = pack.SLIP, pack.SLIP + one.size
                starts = found.blobs + one.at, found.blobs + other.at
                swaps += [(found, *(s + a for s in starts), b - a) for a, b in ((0, slip), (slip, whole), (0, whole))]
    (first, *_), headers = state.packs, state.table["at"].tolist()
    swaps.append((first, first.headers + headers[0], first.headers + headers[1], int(state.table["size"][0])))
    assert len(swaps) == 3 * 4 + 1
    for found, a, b, size in swaps:
        whole = found.path.read_bytes()
        moved = bytearray(whole)
        moved[a : a + size], moved[b : b + size] = whole[b : b + size], whole[a : a + size]
        found.path.write_bytes(moved)
        _refused(path)
        moved = bytearray(whole)
        moved[a : a + size] = whole[b : b + size]
        found.path.write_bytes(moved)
        _refused(path)
        found.path.write_bytes(whole)
    assert _contents(path) == expected


def test_a_stale_index_and_packs_put_back(tmp_path: Path) -> None:
    path = tmp_path / "h"
    _make(path)
    shutil.copytree(path, tmp_path / "old")
    with Host.open(path, device_key=KEY) as host:
        (new,) = host.admit([[(TRIPS, trips(9))]])
        host.remove([host.tenants()[0]])
    expected = _contents(path)
    assert new.hex() in expected
    for file in _packs(tmp_path / "old"):
        shutil.copy(file, path / "packs" / file.name)
    assert _contents(path) == expected, "packs that nothing names are ignored"
    newest = max((path / "index" / "manifest").iterdir(), key=lambda file: int(file.name))
    kept = newest.read_bytes()
    for stale in (tmp_path / "old" / "index" / "manifest").iterdir():
        newest.write_bytes(stale.read_bytes())
        _refused(path)
        newest.write_bytes(kept)
    newest.unlink()
    _refused(path)
    newest.write_bytes(kept)
    older = newest.with_name(str(int(newest.name) - 1))
    before = older.read_bytes()
    older.unlink()
    _refused(path)
    older.write_bytes(before)
    assert _contents(path) == expected
    shutil.rmtree(path / "index")
    _make(tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "index", path / "index")
    _refused(path)
