"""What a device keeps: in a backend of the package keyring, in a file, or not at all; never somewhere else instead."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import keyring.backends.SecretService
import keyring.errors
import pytest

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.vault import KeyFile, Keyring, Vault, device, new_recovery_key
from tests import faults, vaults
from tests.vaults import TRIPS, trips


class Backend(keyring.backend.KeyringBackend):
    """A backend of the package, as it documents how to write one, that keeps what it is given in memory."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.locked = dict[tuple[str, str], str](), False

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if (service, username) not in self.kept:
            raise keyring.errors.PasswordDeleteError("no such entry")
        del self.kept[service, username]

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")


@pytest.fixture
def backend() -> Iterator[Backend]:
    before, mine = keyring.get_keyring(), Backend()
    keyring.set_keyring(mine)
    try:
        with vaults.cheap_argon2(), faults.unflushed():
            yield mine
    finally:
        keyring.set_keyring(before)


def _store(kind: str, tmp_path: Path) -> device.DeviceStore:
    return Keyring() if kind == "keyring" else KeyFile(tmp_path / "device.key")


@pytest.mark.parametrize("kind", ["keyring", "file"])
def test_a_device_makes_keeps_and_uses_its_key(tmp_path: Path, backend: Backend, kind: str) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device=_store(kind, tmp_path)) as vault:
        vault.put([(TRIPS, trips(1))])
        identity = vault.id
    for write in (True, False):
        with Vault.open(path, device=_store(kind, tmp_path), write=write) as vault:
            assert vault.scan("trips").equals(trips(1))
    kept = device.Kept.read(_store(kind, tmp_path).read(identity))  # type: ignore[arg-type]
    assert (len(kept.keys), len(kept.secrets)) == (1, 0)
    assert repr(kept.keys[0]) not in repr(kept)
    with Vault.open(path, device_key=kept.keys[0]) as vault:
        vault.erase()
    assert _store(kind, tmp_path).read(identity) is not None, "another way in: the device was not told"
    with Vault.create(path, device=_store(kind, tmp_path) if kind == "keyring" else KeyFile(tmp_path / "two")) as vault:
        identity = vault.id
        vault.erase()
    assert (backend.kept.get((device.SERVICE, identity.hex())), (tmp_path / "two").exists()) == (None, False)


@pytest.mark.parametrize("kind", ["keyring", "file"])
def test_beside_a_passphrase_a_device_keeps_a_secret(tmp_path: Path, backend: Backend, kind: str) -> None:
    path, store = tmp_path / "v", _store(kind, tmp_path)
    with Vault.create(path, passphrase="correct horse", device=store) as vault:
        identity = vault.id
        assert [slot.kind for slot in vault.keys.slots()] == ["passphrase"]
    Vault.open(path, passphrase="correct horse", device=store).close()
    with pytest.raises(InvalidDataError, match="give the passphrase"):
        Vault.open(path, device=store)
    with pytest.raises(DecryptionError):
        Vault.open(path, passphrase="correct horse")
    with pytest.raises(DecryptionError):
        Vault.open(path, passphrase="wrong", device=store)
    old = device.Kept.read(store.read(identity))  # type: ignore[arg-type]
    with Vault.open(path, passphrase="correct horse", device=store) as vault:
        vault.keys.rotate(passphrase="correct horse")
    new = device.Kept.read(store.read(identity))  # type: ignore[arg-type]
    assert len(new.secrets) == 1
    assert new.secrets != old.secrets
    Vault.open(path, passphrase="correct horse", device=store).close()
    with pytest.raises(DecryptionError):
        Vault.open(path, passphrase="correct horse", device_secret=old.secrets[0])


@pytest.mark.parametrize("kind", ["keyring", "file"])
def test_a_device_notices_an_older_copy_and_another_branch(tmp_path: Path, backend: Backend, kind: str) -> None:
    path, store = tmp_path / "v", _store(kind, tmp_path)
    Vault.create(path, device=store).close()
    shutil.copytree(path, tmp_path / "old")
    for km in range(4):
        with Vault.open(path, device=store) as vault:
            vault.put([(TRIPS, trips(km))])
        manifests = sorted((path / "manifest").iterdir())
        Vault.open(path, device=store).close()
        assert sorted((path / "manifest").iterdir()) == manifests, "nothing new, nothing written"
    for write in (True, False):
        with pytest.raises(StoreError, match="older than it was"):
            Vault.open(tmp_path / "old", device=store, write=write)
    shutil.copytree(tmp_path / "old", tmp_path / "branch")
    with Vault.open(tmp_path / "branch", device=store, accept_rollback=True) as vault:
        for km in range(9):
            vault.set_state({"note": str(km).encode()})
    with pytest.raises(StoreError, match=r"another branch|older"):
        Vault.open(path, device=store)
    Vault.open(tmp_path / "branch", device=store).close()


def test_no_keyring_is_refused_and_nothing_is_kept_elsewhere(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = keyring.backends.SecretService.Keyring()
    if not session.viable:  # where there is no session bus, as on most servers
        keyring.set_keyring(session)
        with pytest.raises(StoreError, match="no keyring of the system here"):
            Keyring()
    for useless in (keyring.backends.fail.Keyring(), keyring.backends.null.Keyring()):
        keyring.set_keyring(useless)
        with pytest.raises(StoreError, match=r"no keyring of the system here.*KeyFile\(path\).*passphrase"):
            Keyring()
        with pytest.raises(StoreError, match="keyring"):
            Vault.create(tmp_path / "v", device=Keyring(useless))
        assert not (tmp_path / "v").exists()
    assert os.listdir(tmp_path) == []
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(StoreError, match=r"datasov\[keyring\].*KeyFile"):
        Keyring()


def test_a_locked_keyring_is_said_and_changes_nothing(tmp_path: Path, backend: Backend) -> None:
    path, store = tmp_path / "v", Keyring()
    with Vault.create(path, device=store) as vault:
        backend.locked = True
        with pytest.raises(StoreError, match="KeyringLocked"):
            vault.keys.rotate()
        backend.locked = False
        before = dict(backend.kept)
        vault.keys.rotate()
        assert backend.kept.keys() == before.keys()
        assert backend.kept != before
    backend.locked = True
    for attempt in (
        lambda: Vault.open(path, device=store), lambda: Vault.create(tmp_path / "w", device=store)
    ):  # fmt: skip
        with pytest.raises(StoreError, match="KeyringLocked"):
            attempt()
    assert not (tmp_path / "w").exists()
    backend.locked = False
    Vault.open(path, device=store).close()


def test_a_device_that_does_not_know_the_vault(tmp_path: Path, backend: Backend) -> None:
    paper = new_recovery_key()
    Vault.create(tmp_path / "v", device=KeyFile(tmp_path / "one.key"), recovery_key=paper).close()
    new = KeyFile(tmp_path / "two.key")
    with pytest.raises(StoreError, match="keeps nothing for this vault"):
        Vault.open(tmp_path / "v", device=new)
    with Vault.open(tmp_path / "v", device=new, recovery_key=paper) as vault:
        vault.keys.enrol(new, label="two")
        vault.keys.enrol(Keyring(), passphrase="correct horse", label="laptop")
        assert [slot.label for slot in vault.keys.slots()] == ["", "", "two", "laptop"]
    Vault.open(tmp_path / "v", device=new).close()
    Vault.open(tmp_path / "v", device=Keyring(), passphrase="correct horse").close()
    with Vault.open(tmp_path / "v", device=new) as vault:
        vault.keys.remove(vault.keys.slots()[0].id)
    with pytest.raises(DecryptionError):
        Vault.open(tmp_path / "v", device=KeyFile(tmp_path / "one.key"))
    backend.kept = dict.fromkeys(backend.kept, "!")
    with pytest.raises(StoreError, match="damaged"):
        Vault.open(tmp_path / "v", device=Keyring(), passphrase="correct horse")
    backend.kept = dict.fromkeys(backend.kept, "AAAA")
    with pytest.raises(StoreError, match="damaged"):
        Vault.open(tmp_path / "v", device=Keyring(), passphrase="correct horse")


def test_of_too_many_devices_the_one_unused_for_longest_loses_its_anchor(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasov.vault.anchor.MAX_NAMES", 3)
    stores = [KeyFile(tmp_path / f"{number}.key") for number in range(4)]
    with Vault.create(tmp_path / "v", device=stores[0]) as vault:
        vault.anchor("friend")
    for store in stores[1:]:
        with Vault.open(tmp_path / "v", device=stores[0]) as vault:
            vault.keys.enrol(store)
    for store in (stores[0], stores[3]):
        Vault.open(tmp_path / "v", device=store, write=False).close()
    with pytest.raises(StoreError, match="another branch"):
        Vault.open(tmp_path / "v", device=stores[1], write=False)
    Vault.open(tmp_path / "v", device=stores[1], accept_rollback=True).close()
    Vault.open(tmp_path / "v", device=stores[1]).close()


def test_a_key_file_is_its_owners_alone(tmp_path: Path, backend: Backend) -> None:
    path, file = tmp_path / "v", tmp_path / "device.key"
    Vault.create(path, device=KeyFile(file)).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o666):
        file.chmod(mode)
        with pytest.raises(StoreError, match="read by others"):
            Vault.open(path, device=KeyFile(file))
    file.chmod(0o600)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(StoreError):
        Vault.open(path, device=KeyFile(tmp_path / "link"))
    with pytest.raises(StoreError, match="another vault's"):
        Vault.create(tmp_path / "w", device=KeyFile(file))
    assert not (tmp_path / "w").exists()
    Vault.open(path, device=KeyFile(file)).close()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="damaged"):
        Vault.open(path, device=KeyFile(file))
    with pytest.raises(InvalidDataError, match="makes its own key"):
        Vault.create(tmp_path / "w", device=KeyFile(tmp_path / "x"), device_key=bytes(32))


def test_a_creation_that_fails_leaves_nothing_with_the_device(tmp_path: Path, backend: Backend) -> None:
    for at in range(1, 60):
        failing = faults.Failing(at)
        with faults.before_each(failing):
            try:
                Vault.create(tmp_path / "v", device=Keyring()).close()
            except StoreError:
                assert backend.kept == {}
                assert not (tmp_path / "v").exists()
                continue
        if failing.count < at:
            break
        backend.kept.clear()
        shutil.rmtree(tmp_path / "v")
    assert 4 < at < 59


@pytest.mark.parametrize("change", ["rotate", "erase"])
def test_a_device_whose_keys_change_is_never_locked_out(tmp_path: Path, backend: Backend, change: str) -> None:
    path, key = tmp_path / "v", KeyFile(tmp_path / "home" / "device.key")
    (tmp_path / "home").mkdir()
    with Vault.create(path, device=key) as vault:
        vault.put([(TRIPS, trips(1))])
    vault = Vault.open(path, device=key)
    copies = faults.Copies(tmp_path, path, tmp_path / "home")
    with faults.before_each(copies):
        vault.keys.rotate() if change == "rotate" else vault.erase_domain("energy")
    vault.close()
    assert len(copies.made) > 20
    for copy in copies.made:
        mine = KeyFile(copy / "home" / "device.key")
        Vault.open(copy / "v", device=mine, write=False).close()
        with Vault.open(copy / "v", device=mine) as again:
            assert again.scan("trips").equals(trips(1))
            kept = device.Kept.read(mine.read(again.id))  # type: ignore[arg-type]
            assert len(kept.keys) == 1, "what does not open is forgotten"
            again.keys.rotate()
        Vault.open(copy / "v", device=mine).close()


def test_what_opens_by_another_slot_does_not_tell_which_key_of_the_device_is_good(
    tmp_path: Path, backend: Backend
) -> None:
    path, store = tmp_path / "v", Keyring()
    with Vault.create(path, passphrase="alone") as vault:
        identity = vault.id
        vault.keys.enrol(store)
    kept = device.Kept.read(store.read(identity))  # type: ignore[arg-type]
    store.write(identity, bytes(kept.with_new(bytes(32), None)))
    Vault.open(path, device=store, passphrase="alone").close()
    found = device.Kept.read(store.read(identity))  # type: ignore[arg-type]
    assert found.keys == (kept.keys[0], bytes(32)), "the passphrase opened it: both are kept"
    Vault.open(path, device=store).close()
    found = device.Kept.read(store.read(identity))  # type: ignore[arg-type]
    assert found.keys == kept.keys


def test_an_erasure_goes_on_where_the_keyring_refuses(tmp_path: Path, backend: Backend) -> None:
    vault = Vault.create(tmp_path / "v", device=Keyring())
    backend.locked = True
    with pytest.raises(StoreError, match="erased, but not its key on this device"):
        vault.erase()
    vault.close()
    assert not (tmp_path / "v").exists()


def test_an_anchor_that_the_device_does_not_keep_is_said_when_the_vault_is_closed(
    tmp_path: Path, backend: Backend
) -> None:
    vault = Vault.create(tmp_path / "v", device=Keyring())
    vault.put([(TRIPS, trips(1))])
    backend.locked = True
    with pytest.raises(StoreError, match="all is stored, but"):
        vault.close()
    backend.locked = False
    with Vault.open(tmp_path / "v", device=Keyring()) as again:
        assert again.scan("trips").equals(trips(1))


def test_an_enrolment_that_fails_leaves_the_device_as_it_was(tmp_path: Path, backend: Backend) -> None:
    with Vault.create(tmp_path / "v", passphrase="alone") as vault:
        for at in (1, 2, 3):
            with faults.before_each(faults.Failing(at, for_good=True)), pytest.raises(StoreError):
                vault.keys.enrol(Keyring())
            assert backend.kept == {}
        assert len(vault.keys.slots()) == 1
        vault.keys.enrol(Keyring())
        before = dict(backend.kept)
        with faults.before_each(faults.Failing(1, for_good=True)), pytest.raises(StoreError):
            vault.keys.enrol(Keyring())
        assert backend.kept == before


def test_a_change_that_fails_again_and_again_keeps_the_key_that_opens(tmp_path: Path, backend: Backend) -> None:
    path, store = tmp_path / "v", Keyring()
    with Vault.create(path, device=store) as vault:
        for _ in range(40):
            with faults.before_each(faults.Failing(1, for_good=True)), pytest.raises(StoreError):
                vault.keys.rotate()
    Vault.open(path, device=store).close()


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_another_devices_vault_is_made_with_the_key_that_the_device_keeps(
    tmp_path: Path, passphrase: str | None
) -> None:
    there = KeyFile(tmp_path / "there.key")
    with Vault.create(tmp_path / "a", device_key=bytes(32)) as vault:
        vault.put([(TRIPS, trips(1))])
        vault.enrol(tmp_path / "b", passphrase=passphrase, device=there)
    with Vault.open(tmp_path / "b", passphrase=passphrase, device=there) as other:
        assert other.scan("trips").equals(trips(1))
        assert [slot.kind for slot in other.keys.slots()] == ["passphrase" if passphrase else "device key"]
    if passphrase:
        with pytest.raises(DecryptionError):
            Vault.open(tmp_path / "b", passphrase=passphrase)


def test_enrolling_never_takes_the_key_of_the_vault_that_it_is_made_from(tmp_path: Path, backend: Backend) -> None:
    """On one machine the keyring keeps one key for the id that both vaults have."""
    with Vault.create(tmp_path / "a", device=Keyring()) as vault:
        before = dict(backend.kept)
        with pytest.raises(StoreError, match="another copy"):
            vault.enrol(tmp_path / "b", device=Keyring())
        assert backend.kept == before
        with pytest.raises(InvalidDataError, match="makes its own key"):
            vault.enrol(tmp_path / "b", device_key=bytes(32), device=KeyFile(tmp_path / "k"))
        assert not (tmp_path / "b").exists()
    Vault.open(tmp_path / "a", device=Keyring()).close()


def test_an_enrolment_that_fails_at_any_step_leaves_no_path_and_nothing_with_the_device(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a", device_key=bytes(32)) as vault:
        vault.put([(TRIPS, trips(1))])
        vault.compact()
        for at in range(1, 60):
            step = faults.Failing(at)
            with faults.before_each(step):
                try:
                    vault.enrol(tmp_path / "b", device=KeyFile(tmp_path / "k"))
                    break
                except StoreError:
                    assert {p.name for p in tmp_path.iterdir()} == {"a"}
    assert at > 8
    with Vault.open(tmp_path / "b", device=KeyFile(tmp_path / "k")) as other:
        assert other.scan("trips").equals(trips(1))
