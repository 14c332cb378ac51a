"""Slots of a vault: added, listed, removed, replaced; a domain and the whole vault erased."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.vault import Asked, Guardian, Vault, erase, files, keys, new_recovery_key, slots
from tests import faults, vaults
from tests.vaults import KEY, METER, TRIPS, meter, trips

NEW = bytes(range(32, 64))
PAPER, OTHER_PAPER = new_recovery_key(), new_recovery_key()
AUNT = Guardian(bytes(range(64, 96)))


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with vaults.cheap_argon2(), faults.unflushed():
        yield


def _kinds(vault: Vault) -> list[str]:
    return [slot.kind for slot in vault.keys.slots()]


def _id(vault: Vault, kind: str) -> str:
    (found,) = (slot.id for slot in vault.keys.slots() if slot.kind == kind)
    return found


def _guardian(path: Path) -> bytes:
    asked = Asked.of(path, AUNT.public)
    return asked.receive(AUNT.answer(asked.request, code=asked.code))


def _opens(path: Path, **by: object) -> bool:
    try:
        Vault.open(path, write=False, **by).close()  # type: ignore[arg-type]
    except DecryptionError:
        return False
    return True


def _many(path: Path) -> dict[str, object]:
    """A vault with a slot of each kind."""
    held = vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_passphrase("correct horse", device_secret=KEY)
        vault.keys.add_recovery(PAPER, label="drawer")
        vault.keys.add_guardian(AUNT.public, label="aunt")
    return held


WAYS: dict[str, Callable[[Path], dict[str, object]]] = {
    "device key": lambda path: {"device_key": KEY},
    "passphrase": lambda path: {"passphrase": "correct horse", "device_secret": KEY},
    "recovery key": lambda path: {"recovery_key": PAPER},
    "guardian": lambda path: {"guardian": _guardian(path)},
}


def test_each_slot_opens_the_vault_and_is_listed_without_a_secret(tmp_path: Path) -> None:
    held = _many(tmp_path / "v")
    for kind, way in WAYS.items():
        with Vault.open(tmp_path / "v", write=False, **way(tmp_path / "v")) as vault:  # type: ignore[arg-type]
            assert vaults.held(vault) == held
            listed = vault.keys.slots()
            assert [slot.kind for slot in listed] == list(WAYS)
            assert [slot.kind for slot in listed if slot.opened] == [kind]
            assert [slot.label for slot in listed] == ["", "", "drawer", "aunt"]
            assert all(slot.created > 1_700_000_000 for slot in listed)
            shown = repr(listed) + repr(vault._secrets) + repr(vault.keys)
            for secret in (KEY, vault._secrets.kek, vault._secrets.opened[1]):
                assert repr(secret) not in shown
                assert secret.hex() not in shown


@pytest.mark.parametrize("removed", WAYS)
@pytest.mark.parametrize("by", WAYS)
def test_a_removed_slot_opens_no_more_and_the_others_do_without_being_asked(
    tmp_path: Path, removed: str, by: str
) -> None:
    path = tmp_path / "v"
    held = _many(path)
    guardian = _guardian(path)
    with Vault.open(path, **WAYS[by](path)) as vault:  # type: ignore[arg-type]
        vault.keys.remove(_id(vault, removed))
        assert removed not in _kinds(vault)
        vault.put([(METER, meter(77))])
    for kind, way in WAYS.items():
        if kind == removed:
            given = {"guardian": guardian} if kind == "guardian" else way(path)
            assert not _opens(path, **given)
            continue
        with Vault.open(path, **way(path)) as vault:  # type: ignore[arg-type]
            assert vaults.held(vault) == {**held, "meter": [*held["meter"], *meter(77).rows()]}  # type: ignore[misc]
    if removed != "guardian":
        assert not _opens(path, guardian=guardian), "the guardian's slot holds a new secret"


def test_slots_removed_one_after_the_other_and_added_again(tmp_path: Path) -> None:
    path = tmp_path / "v"
    held = _many(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.remove(_id(vault, "passphrase"), _id(vault, "guardian"))
        vault.keys.add_passphrase("another")
        vault.keys.remove(_id(vault, "device key"))
        vault.keys.remove(_id(vault, "recovery key"))
        assert _kinds(vault) == ["passphrase"]
    with Vault.open(path, passphrase="another") as vault:
        new = vault.keys.add_device_key()
        vault.keys.remove(_id(vault, "passphrase"))
    assert vaults.contents(path, new) == held


def test_the_last_slot_that_opens_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        with pytest.raises(InvalidDataError, match="opens alone"):
            vault.keys.remove(_id(vault, "device key"))
        vault.keys.add_guardian(AUNT.public)
        with pytest.raises(InvalidDataError, match="opens alone"):
            vault.keys.remove(_id(vault, "device key"))
        with pytest.raises(InvalidDataError, match="opens alone"):
            vault.keys.remove(*(slot.id for slot in vault.keys.slots()))
        for unknown in ("", "00000000", _id(vault, "guardian")[:-1]):
            with pytest.raises(InvalidDataError, match="no such slot"):
                vault.keys.remove(unknown)
    assert _opens(path, device_key=KEY)


def test_rotation_demands_a_new_secret_for_each_slot_or_its_drop(tmp_path: Path) -> None:
    path = tmp_path / "v"
    held = _many(path)
    shutil.copytree(path, tmp_path / "old")
    new = {"device_key": NEW, "passphrase": "correct horse", "device_secret": NEW, "recovery_key": OTHER_PAPER}
    with Vault.open(path, device_key=KEY) as vault:
        for missing, message in [
            ("device_key", "give device_key"), ("recovery_key", "drawer.*give recovery_key"),
            ("device_secret", "needs a device_secret"),
        ]:  # fmt: skip
            with pytest.raises(InvalidDataError, match=message):
                vault.keys.rotate(**{k: v for k, v in new.items() if k != missing})  # type: ignore[arg-type]
        with pytest.raises(InvalidDataError, match="give passphrase"):
            vault.keys.rotate(device_key=NEW, recovery_key=OTHER_PAPER)
        for stale in ({"device_key": KEY}, {"device_secret": KEY}, {"recovery_key": PAPER}):
            with pytest.raises(InvalidDataError, match="opens the vault as it is"):
                vault.keys.rotate(**{**new, **stale})  # type: ignore[arg-type]
        with pytest.raises(InvalidDataError, match="no such slot"):
            vault.keys.rotate(**new, drop=["00000000"])  # type: ignore[arg-type]
        assert vault._secrets.generation == 4, "nothing was changed so far"
        vault.keys.rotate(**new)  # type: ignore[arg-type]
        assert vaults.held(vault) == held
        assert [slot.label for slot in vault.keys.slots()] == ["", "", "drawer", "aunt"]
    now = [{"device_key": NEW}, {"passphrase": "correct horse", "device_secret": NEW}, {"recovery_key": OTHER_PAPER}]
    for given in now:
        assert _opens(path, **given)
        assert not _opens(tmp_path / "old", **given)
    for kind, way in WAYS.items():
        assert _opens(path, **way(path)) == (kind == "guardian")
        assert _opens(tmp_path / "old", **way(tmp_path / "old"))


def test_a_device_secret_is_new_also_beside_a_new_passphrase(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", passphrase="correct horse", device_secret=KEY) as vault:
        with pytest.raises(InvalidDataError, match="opens the vault as it is"):
            vault.keys.rotate(passphrase="battery staple", device_secret=KEY)
        vault.keys.rotate(passphrase="battery staple", device_secret=NEW)
    assert _opens(tmp_path / "v", passphrase="battery staple", device_secret=NEW)


def test_two_slots_of_one_kind_cannot_both_have_the_new_secret(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, device_key=KEY) as vault:
        phone = vault.keys.add_device_key(label="phone")
        with pytest.raises(InvalidDataError, match=r"'phone'.*cannot both"):
            vault.keys.rotate(device_key=NEW)
        (lost,) = (slot.id for slot in vault.keys.slots() if slot.label == "phone")
        vault.keys.rotate(device_key=NEW, drop=[lost])
    assert _opens(path, device_key=NEW)
    assert not _opens(path, device_key=phone)
    assert not _opens(path, device_key=KEY)


def test_a_passphrase_alone_must_change_and_keeps_its_cost(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Vault.create(path, passphrase="correct horse") as vault:
        with pytest.raises(InvalidDataError, match="opens the vault as it is"):
            vault.keys.rotate(passphrase="correct horse")
        vault.keys.rotate(passphrase="battery staple")
        with pytest.raises(InvalidDataError, match="opens the vault as it is"):
            vault.keys.rotate(passphrase="battery staple")
    assert _opens(path, passphrase="battery staple")
    assert not _opens(path, passphrase="correct horse")


def test_what_is_wrong_with_what_is_added_is_said(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        for bad in (b"", AUNT.public[:-1], AUNT.public + b"x"):
            with pytest.raises(InvalidDataError, match="X-Wing public key"):
                vault.keys.add_guardian(bad)
        with pytest.raises(InvalidDataError, match="32 random bytes"):
            vault.keys.add_device_key(b"short")
        with pytest.raises(InvalidDataError, match="not empty"):
            vault.keys.add_passphrase("")
        with pytest.raises(InvalidDataError, match="mistyped"):
            vault.keys.add_recovery("Z" * 60)
        for label in ("x" * 65, "a\nb", 3):
            with pytest.raises(InvalidDataError, match="label"):
                vault.keys.add_device_key(label=label)  # type: ignore[arg-type]
        for _ in range(slots.MAX_SLOTS - 1):
            vault.keys.add_device_key()
        with pytest.raises(InvalidDataError, match="at most 16"):
            vault.keys.add_device_key()
    with Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader:
        assert len(reader.keys.slots()) == 16
        with pytest.raises(StoreError, match="open for reading"):
            reader.keys.add_device_key()


def test_without_x_wing_a_guardian_is_refused_by_name_and_other_slots_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasov.crypto.seal.HYBRID", False)
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        with pytest.raises(StoreError, match="cryptography 47"):
            vault.keys.add_guardian(AUNT.public)
        vault.keys.add_recovery(PAPER)
        with pytest.raises(InvalidDataError, match="cannot be kept without its key"):
            vault.keys.remove(_id(vault, "device key"))
    with Vault.open(tmp_path / "v", recovery_key=PAPER) as vault:
        vault.keys.rotate(device_key=NEW, drop=[_id(vault, "recovery key")])
    assert _opens(tmp_path / "v", device_key=NEW)


def test_a_header_of_the_first_release_is_read_and_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Body without a floor and without notes, as 0.1.0 wrote it."""
    whole = keys._encode

    def first(s: keys.Secrets) -> bytes:
        from datasov.wire import cbor

        return cbor.encode({k: v for k, v in cbor.decode(whole(s)).items() if k < 7})

    monkeypatch.setattr(keys, "_encode", first)
    Vault.create(tmp_path / "v", passphrase="correct horse", device_key=KEY).close()
    monkeypatch.undo()
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        assert [slot.created for slot in vault.keys.slots()] == [0, 0]
        with pytest.raises(InvalidDataError, match="cannot be kept without its key"):
            vault.keys.remove(_id(vault, "device key"))
        vault.keys.add_recovery(PAPER)
        vault.keys.remove(_id(vault, "passphrase"))
    assert _opens(tmp_path / "v", device_key=KEY)
    assert _opens(tmp_path / "v", recovery_key=PAPER)


ERASURE: dict[str, object] = {
    "device_key": NEW, "passphrase": "correct horse", "device_secret": NEW, "recovery_key": OTHER_PAPER,
}  # fmt: skip


def test_an_erased_domain_is_gone_from_the_files_and_its_key_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "v"
    held = _many(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(6)), (METER, meter(6))])
        before = vault._secrets
        old = {(d.name, d.epoch): d.key for d in before.domains}
        named = {entry.id for entry in vault._session.manifest.segments if entry.table == "trips"}
        assert named
        vault.erase_domain("mobility", **ERASURE)  # type: ignore[arg-type]
        after = vault._secrets
        assert "trips" not in vault.tables()
        with pytest.raises(InvalidDataError, match="no table 'trips'"):
            vault.scan("trips")
        expected = {**held, "meter": [*held["meter"], *meter(6).rows()]}  # type: ignore[misc]
        del expected["trips"]
        assert vaults.held(vault) == expected
        now = {(d.name, d.epoch): d.key for d in after.domains}
        assert ("mobility", 0) not in now
        assert now.items() >= {at: key for at, key in old.items() if at[0] != "mobility"}.items()
        assert len(set(now.values()) - set(old.values())) == len({d.name for d in before.domains})
        assert not set(after.vault_keys.values()) & set(before.vault_keys.values())
        assert after.kek != before.kek
        assert after.device_id not in before.devices
        assert set(after.devices) == {after.device_id}
    assert not named & files.ids(path / "seg").keys()
    assert files.ids(path / "log") == {}
    assert len(list((path / "manifest").iterdir())) == 2
    with Vault.open(path, device_key=NEW) as vault:
        vault.put([(TRIPS, trips(8))])
        assert vault.scan("trips").equals(trips(8))
        assert vaults.held(vault) == {**expected, "trips": trips(8).rows()}


def test_erasure_refuses_what_is_no_domain_and_what_would_keep_an_old_secret(tmp_path: Path) -> None:
    _many(tmp_path / "v")
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        with pytest.raises(InvalidDataError, match="no such domain"):
            vault.erase_domain("trips", **ERASURE)  # type: ignore[arg-type]
        with pytest.raises(InvalidDataError, match="give recovery_key, or name it in drop"):
            vault.erase_domain("mobility", **{**ERASURE, "recovery_key": None})  # type: ignore[arg-type]
        assert "trips" in vault.tables()
        vault.erase_domain("health", **ERASURE)  # type: ignore[arg-type]
        assert "trips" in vault.tables()


def test_an_erased_vault_leaves_nothing_and_touches_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        vault.erase()
        with pytest.raises(StoreError, match="closed"):
            vault.tables()
        vault.close()
    assert not path.exists()
    _many(path)
    (path / "notes.txt").write_text("mine")
    with Vault.open(path, device_key=KEY) as vault:
        vault.erase()
    assert [file.name for file in path.rglob("*")] == ["notes.txt"]
    with pytest.raises(StoreError, match="no remains"):
        erase.remains(path)


def test_an_erasure_that_is_cut_off_starts_with_the_keys_and_can_be_finished(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    header = (path / "VAULT").read_bytes()
    vault = Vault.open(path, device_key=KEY)
    copies = faults.Copies(tmp_path, path)
    with faults.before_each(copies):
        vault.erase()
    assert len(copies.made) > 8
    assert not (copies.made[2] / "v" / "VAULT").exists(), "the header goes first"
    assert any((copies.made[2] / "v" / "seg").iterdir())
    for copy in copies.made:
        if (copy / "v" / "VAULT").exists():
            assert (copy / "v" / "VAULT").read_bytes() == header
            assert _opens(copy / "v", device_key=KEY)
            with pytest.raises(StoreError, match="a vault is there"):
                erase.remains(copy / "v")
        elif any((copy / "v" / name).exists() for name in ("seg", "log", "manifest")):
            with pytest.raises(StoreError, match="no vault is there"):
                Vault.open(copy / "v", device_key=KEY)
            erase.remains(copy / "v")
            assert not (copy / "v").exists()


CHANGES: dict[str, Callable[[Vault], None]] = {
    "add": lambda vault: vault.keys.add_device_key(NEW) and None,
    "remove": lambda vault: vault.keys.remove(_id(vault, "passphrase")),
    "rotate": lambda vault: vault.keys.rotate(**ERASURE),  # type: ignore[arg-type]
    "erase": lambda vault: vault.erase_domain("mobility", **ERASURE),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_keys_killed_between_any_two_steps_leaves_a_vault_that_opens(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v"
    _many(path)
    vault = Vault.open(path, device_key=KEY)
    vault.put([(TRIPS, trips(6))])
    before = vaults.held(vault)
    copies = faults.Copies(tmp_path, path)
    with faults.before_each(copies):
        CHANGES[name](vault)
    after = vaults.held(vault)
    vault.close()
    assert len(copies.made) > 10
    seen = set()
    for copy in copies.made:
        old, new = _opens(copy / "v", device_key=KEY), _opens(copy / "v", device_key=NEW)
        seen.add((old, new))
        assert old or new
        with faults.unflushed():
            with Vault.open(copy / "v", device_key=KEY if old else NEW) as again:
                held = vaults.held(again)
                assert held in (before, after)
                assert len(again._secrets.vault_keys) == 1, "what was left to tidy is done"
                again.put([(METER, meter(5))])
            with Vault.open(copy / "v", device_key=KEY if old else NEW) as again:
                assert vaults.held(again) == {**held, "meter": [*held["meter"], *meter(5).rows()]}  # type: ignore[misc]
    expected = {"add": {(True, False), (True, True)}, "remove": {(True, False)}}
    assert seen == expected.get(name, {(True, False), (False, True)})


@pytest.mark.parametrize(
    ("name", "for_good"),
    [("add", False), ("rotate", True), ("erase", False), *(
        pytest.param(*other, marks=pytest.mark.campaign)
        for other in [("add", True), ("remove", False), ("remove", True), ("rotate", False), ("erase", True)]
    )],
)  # fmt: skip
def test_a_change_of_keys_that_fails_at_any_step_leaves_a_vault_that_opens(
    tmp_path: Path, name: str, for_good: bool
) -> None:
    base = tmp_path / "base"
    _many(base)
    at, outcomes = 0, set()
    while True:
        at += 1
        path = tmp_path / f"v{at}"
        shutil.copytree(base, path)
        with faults.unflushed():
            vault = Vault.open(path, device_key=KEY)
            vault.put([(TRIPS, trips(6))])
        before = vaults.held(vault)
        failing, raised = faults.Failing(at, for_good=for_good), False
        with faults.before_each(failing):
            try:
                CHANGES[name](vault)
            except StoreError:
                raised = True
        live = vaults.held(vault)
        gone = {k: v for k, v in before.items() if k != "trips"}
        assert live == before or (name == "erase" and live == gone)
        with faults.unflushed():
            if vault._session.stuck:
                with pytest.raises(StoreError, match="did not confirm"):
                    vault.put([(METER, meter(5))])
            else:
                vault.put([(METER, meter(5))])
                live = vaults.held(vault)
            vault.close()
            old, new = _opens(path, device_key=KEY), _opens(path, device_key=NEW)
            outcomes.add((raised, old, new))
            with Vault.open(path, device_key=KEY if old else NEW) as again:
                assert vaults.held(again) == live
                again.put([(METER, meter(6))])
                again.compact()
        if failing.count < at:
            assert not raised
            break
        shutil.rmtree(path)
    assert len({(old, new) for _, old, new in outcomes}) == (1 if name == "remove" else 2)
    assert at > 10


def test_readers_that_open_while_the_keys_change_find_the_vault(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    real, turned = files.read, list[int]()
    writer = Vault.open(path, device_key=KEY)

    def read(file: Path, limit: int, size: int | None = None) -> bytes:
        data = real(file, limit, size)
        if file.name == "VAULT" and not turned:
            turned.append(1)
            writer.keys.remove(_id(writer, "passphrase"))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "read", read)
        assert _opens(path, device_key=KEY)
    assert turned
    writer.close()
