"""Attacks on a vault at rest by someone who can change every file and knows no key.

Claim: whatever is done to the files, the vault gives back exactly what was put, or raises DecryptionError.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasov.errors import DecryptionError, StoreError
from datasov.vault import Vault, keys, log, manifest
from datasov.vault import format as fmt
from tests import vaults
from tests.vaults import KEY, METER, TRIPS, meter, trips


def _refused(path: Path) -> None:
    """Refused, in the same words whatever the fault."""
    with pytest.raises(DecryptionError) as found:
        vaults.contents(path)
    assert str(found.value) == str(fmt.damaged())


@pytest.mark.campaign
def test_every_byte_of_every_file_flipped(tmp_path: Path) -> None:
    expected = vaults.varied(tmp_path / "v")
    files = vaults.sealed_files(tmp_path / "v")
    assert {file.parent.name for file in files} == {"v", "manifest", "seg", "log"}
    for file in files:
        whole = file.read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 << at % 8
            file.write_bytes(changed)
            _refused(tmp_path / "v")
        file.write_bytes(whole)
    assert vaults.contents(tmp_path / "v") == expected


def test_every_byte_of_a_passphrase_header_but_its_costs_flipped(tmp_path: Path) -> None:
    with vaults.cheap_argon2():
        Vault.create(tmp_path / "v", passphrase="correct horse", device_secret=KEY).close()
    file = tmp_path / "v" / "VAULT"
    whole = file.read_bytes()
    costs = range(109, 117)
    for at in (at for at in range(len(whole)) if at not in costs):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        file.write_bytes(changed)
        with pytest.raises(DecryptionError):
            Vault.open(tmp_path / "v", passphrase="correct horse", device_secret=KEY, write=False)


@pytest.mark.campaign
def test_every_truncation_and_extension(tmp_path: Path) -> None:
    expected = vaults.varied(tmp_path / "v")
    for file in vaults.sealed_files(tmp_path / "v"):
        whole = file.read_bytes()
        for length in range(len(whole)):
            file.write_bytes(whole[:length])
            _refused(tmp_path / "v")
        if file.parent.name == "log":
            file.write_bytes(whole + b"\x01" * 19)
            assert vaults.contents(tmp_path / "v") == expected, "a torn record, which nobody acknowledged"
        file.write_bytes(whole + b"\x01" * (20 if file.parent.name == "log" else 1))
        _refused(tmp_path / "v")
        file.unlink()
        with pytest.raises(StoreError if file.name == "VAULT" else DecryptionError):
            vaults.contents(tmp_path / "v")
        file.write_bytes(whole)
    assert vaults.contents(tmp_path / "v") == expected


def test_chunks_of_a_long_segment_removed_repeated_or_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasov.crypto.aead.CHUNK", 64)
    monkeypatch.setattr("datasov.crypto.aead._kept", [])
    with Vault.create(tmp_path / "v", device_key=KEY) as vault, vaults.large_from(1):
        vault.put([(TRIPS, trips(*range(50)))])
        expected = vaults.held(vault)
    (file,) = (tmp_path / "v" / "seg").iterdir()
    whole, step, start = file.read_bytes(), 64 + 16, 30 + 16 + 8 + 32 + 32
    chunks = [whole[at : at + step] for at in range(start, len(whole), step)]
    assert len(chunks) > 4
    for i in range(len(chunks)):
        for j in range(len(chunks)):
            if i != j:
                moved = list(chunks)
                moved[i], moved[j] = moved[j], moved[i]
                file.write_bytes(whole[:start] + b"".join(moved))
                _refused(tmp_path / "v")
                moved = list(chunks)
                moved[i] = moved[j]
                file.write_bytes(whole[:start] + b"".join(moved))
                _refused(tmp_path / "v")
        file.write_bytes(whole[:start] + b"".join(chunks[:i] + chunks[i + 1 :]))
        _refused(tmp_path / "v")
        file.write_bytes(whole[:start] + b"".join(chunks[: i + 1] + chunks[i:]))
        _refused(tmp_path / "v")
    file.write_bytes(whole)
    assert vaults.contents(tmp_path / "v") == expected


def test_files_exchanged_within_a_vault_between_domains_and_between_vaults(tmp_path: Path) -> None:
    for name in "ab":
        expected = vaults.varied(tmp_path / name)
    everything = [(file, file.read_bytes()) for name in "ab" for file in vaults.sealed_files(tmp_path / name)]
    mine = [(file, data) for file, data in everything if file.is_relative_to(tmp_path / "b")]
    assert sum(file.parent.name == "seg" for file, _ in mine) >= 3
    for file, own in mine:
        for source, data in everything:
            if source != file:
                file.write_bytes(data)
                _refused(tmp_path / "b")
        file.write_bytes(own)
    assert vaults.contents(tmp_path / "b") == expected


def test_records_of_a_log_removed_repeated_or_exchanged(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        ends = [log.START]
        for km in range(4):
            vault.put([(TRIPS, trips(km))])
            ends.append(vault._session._live.entry.size)  # type: ignore[union-attr]
        expected = vaults.held(vault)
    (file,) = (tmp_path / "v" / "log").iterdir()
    whole = file.read_bytes()
    records = [whole[a:b] for a, b in itertools.pairwise(ends)]
    for order in ([1, 0, 2, 3], [0, 1, 3, 2], [0, 1, 2, 2], [1, 2, 3], [0, 2, 3], [0, 1, 2], [0, 0, 1, 2, 3], []):
        file.write_bytes(whole[: log.START] + b"".join(records[i] for i in order))
        _refused(tmp_path / "v")
    file.write_bytes(whole)
    assert vaults.contents(tmp_path / "v") == expected


def test_a_stale_manifest_inside_the_vault(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        kept: dict[int, bytes] = {}
        for turn in range(4):
            vault.set_state({"note": str(turn).encode()})
            kept |= {int(file.name): file.read_bytes() for file in (path / "manifest").iterdir()}
        expected = vaults.held(vault)
    newest = max(kept)
    folder = path / "manifest"
    (folder / str(newest)).write_bytes(kept[newest - 1])
    _refused(path)
    (folder / str(newest)).unlink()
    _refused(path)
    (folder / str(newest)).write_bytes(kept[newest])
    (folder / str(newest + 1)).write_bytes(kept[newest])
    _refused(path)
    (folder / str(newest + 1)).unlink()
    (folder / str(newest - 1)).unlink()
    _refused(path)
    (folder / str(newest - 1)).write_bytes(kept[newest - 2])
    _refused(path)
    (folder / str(newest - 1)).write_bytes(kept[newest - 1])
    assert vaults.contents(path) == expected


def test_an_older_folder_of_manifests_beside_newer_rows(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        vault.set_state({"note": b"old"})
    shutil.copytree(path / "manifest", tmp_path / "old")
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
    shutil.rmtree(path / "manifest")
    shutil.copytree(tmp_path / "old", path / "manifest")
    _refused(path)


def test_a_log_put_back_after_it_was_folded(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
    (old,) = (path / "log").iterdir()
    data = old.read_bytes()
    with Vault.open(path, device_key=KEY) as vault:
        vault.compact()
        vault.put([(TRIPS, trips(2))])
        expected = vaults.held(vault)
    (current,) = (path / "log").iterdir()
    old.write_bytes(data)
    _refused(path)
    with pytest.raises(DecryptionError):
        Vault.open(path, device_key=KEY)
    old.unlink()
    kept = current.read_bytes()
    current.write_bytes(data)
    _refused(path)
    current.write_bytes(kept)
    assert vaults.contents(path) == expected


def test_a_segment_put_back_after_it_was_merged_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault, vaults.large_from(0):
        vault.put([(TRIPS, trips(1))])
        (old,) = (path / "seg").iterdir()
        data = old.read_bytes()
        vault.put([(TRIPS, trips(2))])
        vault.compact()
        old.write_bytes(data)
        expected = vaults.held(vault)
    assert expected["trips"] == trips(1, 2).rows()
    assert vaults.contents(path) == expected


def test_an_older_header_than_the_manifest_was_written_under(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        secrets = vault._secrets
        found = vault._session.manifest
    secrets_later = keys.Secrets(
        secrets.vault_id, 2, secrets.identity_seed, secrets.vault_keys, secrets.device_id, secrets.device_seed,
        secrets.devices, secrets.domains,
    )  # fmt: skip
    manifest.commit(path, secrets_later, manifest.Manifest(2, previous=found.digest))
    _refused(path)


def test_a_manifest_signed_by_a_device_that_the_header_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        secrets, found = vault._secrets, vault._session.manifest
    forged = keys.Secrets(
        secrets.vault_id, 1, secrets.identity_seed, secrets.vault_keys, secrets.device_id, bytes(32), secrets.devices,
        secrets.domains,
    )  # fmt: skip
    manifest.commit(path, forged, manifest.Manifest(2, previous=found.digest))
    _refused(path)


def test_limit_a_whole_older_copy_opens(tmp_path: Path) -> None:
    """What the format cannot see by itself: docs/spec/vault.md says so, and that an anchor outside the vault can."""
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
    older = vaults.contents(path)
    shutil.copytree(path, tmp_path / "copy")
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(2))])
    assert vaults.contents(tmp_path / "copy") == older


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_of_anything_raise_a_datasov_error_or_change_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "v"
    with Vault.create(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1)), (METER, meter(1))])
        vault.compact()
        vault.put([(TRIPS, trips(2))])
        expected = vaults.held(vault)
    file = data.draw(st.sampled_from([f.relative_to(path) for f in vaults.sealed_files(path)]).map(str))
    whole = (path / file).read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    (path / file).write_bytes(whole[:start] + data.draw(st.binary(max_size=80)) + whole[end:])
    try:
        found = vaults.contents(path)
    except DecryptionError:
        return
    assert found == expected
