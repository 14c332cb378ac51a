"""Attacks on a vault's keys: by who can write its files, by a lost device, by who stands between resident and guardian.

Claims: a header opens as it was written or not at all, and only beside the manifests that came after it. A slot that
was removed, or an erased domain's key, opens nothing that was written since. A guardian's answer serves the one device
that the resident spoke for.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasov.crypto import kdf, seal
from datasov.errors import DatasovError, DecryptionError, InvalidDataError, StoreError
from datasov.vault import Asked, Guardian, Vault, files, keys, log, manifest, new_recovery_key, recovery, segment, slots
from datasov.vault import format as fmt
from datasov.vault.slots import Access
from tests import faults, vaults
from tests.vaults import KEY, METER, TRIPS, meter, trips

NEW = bytes(range(32, 64))
AUNT = Guardian(bytes(range(64, 96)))
PAPER = new_recovery_key()


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with vaults.cheap_argon2(), faults.unflushed():
        yield


def _many(path: Path) -> dict[str, object]:
    """A vault with slots in every form: direct and sealed ones, a guardian's, and one that was removed."""
    held = vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_passphrase("correct horse", device_secret=KEY)
        vault.keys.add_recovery(PAPER)
        vault.keys.add_guardian(AUNT.public)
        vault.keys.add_device_key(NEW, label="lost")
        vault.keys.remove(vault.keys.slots()[-1].id)
    return held


def _ways(path: Path) -> list[Access]:
    asked = Asked.of(path, AUNT.public)
    guardian = asked.receive(AUNT.answer(asked.request, code=asked.code))
    return [
        keys.access(device_key=KEY), keys.access(recovery=recovery.read_recovery_key(PAPER)),
        keys.access(guardian=guardian), keys.access("correct horse", device_secret=KEY),
    ]  # fmt: skip


def _refused(path: Path, **by: object) -> None:
    with pytest.raises(DecryptionError) as found:
        Vault.open(path, write=False, **(by or {"device_key": KEY}))  # type: ignore[arg-type]
    assert str(found.value) == str(fmt.damaged())


def test_every_byte_of_a_header_with_every_kind_of_slot_flipped(tmp_path: Path) -> None:
    _many(tmp_path / "v")
    header = (tmp_path / "v" / "VAULT").read_bytes()
    ways = _ways(tmp_path / "v")
    for by in ways:
        keys.open_header(header, by)
    for at in [*range(3000), *range(3000, len(header), 5)]:
        changed = bytearray(header)
        changed[at] ^= 1 << at % 8
        for by in ways[: 3 if at % 16 == 0 else 1]:
            with pytest.raises(DecryptionError):
                keys.open_header(bytes(changed), by)
    for length in range(0, len(header), 3):
        with pytest.raises(DecryptionError):
            keys.open_header(header[:length], ways[1])


def test_slots_exchanged_dropped_repeated_and_brought_from_elsewhere(tmp_path: Path) -> None:
    for name in "ab":
        _many(tmp_path / name)
    own, other = ((tmp_path / name / "VAULT").read_bytes() for name in "ab")
    (_, _, mine, end), (_, _, theirs, _) = keys.read_slots(own), keys.read_slots(other)
    ways = _ways(tmp_path / "a")
    arranged = [mine[::-1], mine[1:], mine[:-1], (*mine, mine[0]), (mine[0], mine[0], *mine[2:])]
    arranged += [(*mine[:i], theirs[i], *mine[i + 1 :]) for i in range(len(mine))]
    arranged += [(theirs[0], *mine), (*mine, *theirs)]
    for changed in arranged:
        data = own[:38] + bytes([len(changed)]) + slots.encode(changed) + own[end:]
        for by in ways[:3]:
            with pytest.raises(DecryptionError):
                keys.open_header(data, by)
    with pytest.raises(DecryptionError):
        keys.open_header(own[:14] + other[14:30] + own[30:], ways[0])


def test_a_slots_form_is_bound_a_sealed_one_is_no_direct_one(tmp_path: Path) -> None:
    """Flags, type and salt enter what is sealed: none can be changed, not even by who could make the body again."""
    _many(tmp_path / "v")
    vault_id, _, listed, _ = keys.read_slots((tmp_path / "v" / "VAULT").read_bytes())
    by = keys.access(recovery=recovery.read_recovery_key(PAPER), device_key=recovery.read_recovery_key(PAPER))
    (slot,) = (s for s in listed if s.kind == slots.RECOVERY)
    assert slot.flags == slots.SEALED
    assert slots.unwrap(vault_id, slot, by) is not None
    for wrong in (
        replace(slot, flags=0), replace(slot, flags=3), replace(slot, flags=4), replace(slot, kind=slots.DEVICE_KEY),
        replace(slot, salt=bytes(32)), replace(slot, params=b"x"), replace(slot, kind=9), replace(slot, commitment=KEY),
        replace(slot, wrapped=slot.wrapped[:-1]),
    ):  # fmt: skip
        assert slots.unwrap(vault_id, wrong, by) is None
    assert slots.unwrap(bytes(16), slot, by) is None


def test_an_older_header_beside_newer_manifests_after_each_change(tmp_path: Path) -> None:
    path = tmp_path / "v"
    held = vaults.varied(path)
    seen = [(path / "VAULT").read_bytes()]
    real = files.create

    def kept(file: Path, data: bytes | bytearray) -> None:
        real(file, data)
        if file.name == "VAULT":
            seen.append(bytes(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "create", kept)
        with Vault.open(path, device_key=KEY) as vault:
            vault.keys.add_recovery(PAPER)
            vault.keys.add_device_key(NEW)
            vault.keys.remove(vault.keys.slots()[2].id)
            vault.keys.add_guardian(AUNT.public)
    assert len(seen) == 6
    for old in seen[:-1]:
        (path / "VAULT").write_bytes(old)
        for by in ({"device_key": KEY}, {"device_key": NEW}, {"recovery_key": PAPER}):
            _refused(path, **by)
    (path / "VAULT").write_bytes(seen[-1])
    assert vaults.contents(path) == held


def test_older_manifests_beside_a_newer_header(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.compact()
    shutil.copytree(path, tmp_path / "old")
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_recovery(PAPER)
        shutil.copytree(path, tmp_path / "middle")
        vault.set_state({"note": b"newer"})
        vault.keys.add_device_key(NEW)
    current = path / "manifest"
    for source in ("old", "middle"):
        shutil.rmtree(current)
        shutil.copytree(tmp_path / source / "manifest", current)
        _refused(path)


def _thief(path: Path, thief: keys.Secrets, at: int, previous: bytes) -> None:
    """A manifest as the lost device would write it."""
    manifest.commit(path, thief, manifest.Manifest(at, previous=previous))


@pytest.mark.parametrize("claims", ["old", "new", "keys"])
def test_a_lost_device_signs_nothing_that_is_accepted(tmp_path: Path, claims: str) -> None:
    path = tmp_path / "v"
    held = _many(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_device_key(NEW, label="lost")
    with Vault.open(path, device_key=NEW) as vault:
        thief = vault._secrets
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.remove(vault.keys.slots()[-1].id)
        floor, newest = vault._secrets.floor, vault._session.manifest
        current = vault._secrets
        assert thief.device_id not in current.devices
    if claims == "new":
        thief = replace(thief, generation=current.generation)
    if claims == "keys":  # who learned the new vault key too, and still has the old device's signing key alone
        thief = replace(current, device_id=thief.device_id, device_seed=thief.device_seed)
    copies = {file.name: file.read_bytes() for file in (path / "manifest").iterdir()}
    assert floor[0] == newest.counter - 1
    for at, previous in [
        (newest.counter + 1, newest.digest), (newest.counter, floor[1]), (newest.counter, newest.previous),
        (floor[0], bytes(32)), (floor[0] + 7, newest.digest),
    ]:  # fmt: skip
        for keep in (True, False):
            if not keep:
                for name in copies:
                    (path / "manifest" / name).unlink()
            _thief(path, thief, at, previous)
            _refused(path)
            shutil.rmtree(path / "manifest")
            (path / "manifest").mkdir()
            for name, data in copies.items():
                (path / "manifest" / name).write_bytes(data)
    assert vaults.contents(path) == held


def _forged(path: Path, thief: keys.Secrets, listed: tuple[slots.Slot, ...], kek: bytes) -> None:
    """A vault as who knew the keys, and can write to the files, would put in the place of the real one."""
    fresh = {9: bytes(32)}
    forged = replace(thief, generation=99, vault_keys=fresh, slots=listed, kek=kek, floor=(0, bytes(32)))
    for folder in ("manifest", "seg", "log"):
        shutil.rmtree(path / folder)
        (path / folder).mkdir()
    first = manifest.commit(path, forged, manifest.Manifest(98))
    manifest.commit(path, forged, manifest.Manifest(99, previous=first.digest))
    (path / "VAULT").write_bytes(keys.assemble(forged))


@pytest.mark.parametrize("way", ["old slots around the old KEK", "slots sealed to the public keys"])
def test_limit_who_knew_the_keys_and_writes_the_files_makes_a_vault_that_an_anchor_or_new_secrets_refuse(
    tmp_path: Path, way: str
) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_recovery(PAPER)
        vault.keys.add_device_key(NEW, label="lost")
    with Vault.open(path, device_key=NEW) as vault:
        thief = vault._secrets
    listed, kek = thief.slots, thief.kek
    if way != "old slots around the old KEK":
        kek = bytes(32)
        listed = tuple(slots.rewrap(thief.vault_id, slot, kek, None) for slot in thief.slots)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.remove(vault.keys.slots()[-1].id)
        left = vault.anchor("friend")
    shutil.copytree(path, tmp_path / "forged")
    _forged(tmp_path / "forged", thief, listed, kek)
    with Vault.open(tmp_path / "forged", device_key=KEY, write=False) as vault:
        assert vault.tables() == {}, "docs/spec/vault.md, section 8, says so"
    with pytest.raises(StoreError, match="another branch"):
        Vault.open(tmp_path / "forged", device_key=KEY, anchor=left)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.rotate(device_key=bytes(32), recovery_key=new_recovery_key())
    _refused(tmp_path / "forged", device_key=bytes(32))


def test_a_lost_device_reads_nothing_that_is_written_after_it_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_device_key(NEW, label="lost")
    shutil.copy(path / "VAULT", tmp_path / "VAULT")
    old = files.ids(path / "seg").keys()
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.remove(vault.keys.slots()[-1].id)
        with vaults.large_from(1):
            vault.put([(TRIPS, trips(11, 12)), (METER, meter(11, 12))])
        vault.put([(TRIPS, trips(13))])
        entries, live = vault._session.manifest.segments, vault._session._live.entry  # type: ignore[union-attr]
    thief = keys.open_header((tmp_path / "VAULT").read_bytes(), keys.access(device_key=NEW))
    _refused(path, device_key=NEW)
    header = (path / "VAULT").read_bytes()
    body = keys.read_slots(header)[3]
    with pytest.raises(DecryptionError):
        fmt.committed_key(
            thief.kek, header[body : body + 32], header[body + 32 : body + 64], keys._body_context(thief.vault_id)
        )
    for file in (path / "manifest").iterdir():
        with pytest.raises(DecryptionError):
            manifest._open(file.read_bytes(), replace(thief, floor=(0, b""), generation=99), int(file.name))
    fresh = [entry for entry in entries if entry.id not in old and entry.rows == 2]
    assert {entry.table for entry in fresh} >= {"trips", "meter"}
    for entry in fresh:
        for domain in thief.domains:
            forged = replace(entry, domain_id=domain.id, epoch=domain.epoch)
            with pytest.raises(DecryptionError):
                segment.read(path, thief, forged, None, segment.Scratch())
    with pytest.raises(DecryptionError):
        list(log.Reader(path, thief, live, missing_ok=False).parts())


def test_an_older_copy_of_the_header_and_an_erased_domain(tmp_path: Path) -> None:
    """What erasure does, and what it cannot do: docs/spec/vault.md, section 8."""
    path = tmp_path / "v"
    held = vaults.varied(path)
    paper = new_recovery_key()
    with Vault.open(path, device_key=KEY) as vault:
        vault.keys.add_recovery(PAPER)
        vault.keys.add_guardian(AUNT.public)
    shutil.copytree(path, tmp_path / "backup")
    old_header = (path / "VAULT").read_bytes()
    with Vault.open(path, device_key=KEY) as vault:
        vault.erase_domain("mobility", device_key=NEW, recovery_key=paper)
    for by in ({"device_key": NEW}, {"recovery_key": paper}):
        Vault.open(path, write=False, **by).close()  # type: ignore[arg-type]
        with pytest.raises(DecryptionError):
            keys.open_header(old_header, _access(**by))
        _refused(tmp_path / "backup", **by)
    for by in ({"device_key": KEY}, {"recovery_key": PAPER}):
        _refused(path, **by)
        old = keys.open_header(old_header, _access(**by))
        assert _anything(path, old) == set(), "the older secrets beside the new directory: nothing of the domain"
        with Vault.open(tmp_path / "backup", write=False, **by) as vault:  # type: ignore[arg-type]
            assert vaults.held(vault) == held, "the limit: an older secret, an older header and the older files"
    (path / "VAULT").write_bytes(old_header)
    _refused(path)


def _access(device_key: bytes | None = None, recovery_key: str | None = None) -> Access:
    printed = None if recovery_key is None else recovery.read_recovery_key(recovery_key)
    return keys.access(device_key=device_key, recovery=printed)


def _anything(path: Path, old: keys.Secrets) -> set[str]:
    """Which files of a directory open under keys of an erased domain, or are sealed under the older vault keys."""
    found = set()
    mobility = old.domain("mobility")
    for file in vaults.sealed_files(path):
        data = file.read_bytes()
        if file.parent.name == "seg":
            salt, commitment = data[54:86], data[86:118]
            info = fmt.context(b"segment", old.vault_id, bytes.fromhex(file.name), mobility.id, struct.pack(">I", 0))
            if kdf.derive_committed(mobility.key, salt=salt, info=info)[1] == commitment:
                found.add(file.name)
        elif file.parent.name == "manifest":
            info = fmt.context(b"manifest", old.vault_id, struct.pack(">Q", int(file.name)))
            for key in old.vault_keys.values():
                if kdf.derive_committed(key, salt=data[42:74], info=info)[1] == data[74:106]:
                    found.add(file.name)
        elif file.parent.name == "log":
            found.add(file.name)
    return found


def test_the_older_secrets_find_what_is_there_before_an_erasure(tmp_path: Path) -> None:
    """The search of the test before finds what it looks for where nothing was erased."""
    vaults.varied(tmp_path / "v")
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        old = vault._secrets
    found = _anything(tmp_path / "v", old)
    assert {len(name) for name in found} == {1, 32}


def test_a_header_and_a_manifest_that_a_crash_left_go_with_the_erasure(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vaults.varied(path)
    for name in ("erase", "whole"):
        shutil.copy(path / "VAULT", path / ".new-0123456789abcdef")
        (path / "manifest" / "1").write_bytes(b"an older manifest, which a crash kept from being unlinked")
        with Vault.open(path, device_key=KEY if name == "erase" else NEW) as vault:
            vault.erase_domain("mobility", device_key=NEW) if name == "erase" else vault.erase()
        assert not (path / ".new-0123456789abcdef").exists()
        assert not (path / "manifest" / "1").exists()


def test_costs_of_argon2_cannot_be_inflated_in_any_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v"
    _many(path)
    header = bytearray((path / "VAULT").read_bytes())
    at = header.index(struct.pack(">II", 1, 8 << 20))
    asked = list[tuple[int, int]]()

    def counted(size: int, passphrase: bytes, salt: bytes, opslimit: int, memlimit: int) -> bytes:
        asked.append((opslimit, memlimit))
        return bytes(size)

    monkeypatch.setattr("nacl.pwhash.argon2id.kdf", counted)
    for ops, memory in [(17, 8 << 20), (2**32 - 1, 2**32 - 1), (1, (1 << 30) + 1), (0, 8 << 20), (1, 0)]:
        header[at : at + 8] = struct.pack(">II", ops, memory)
        (path / "VAULT").write_bytes(header)
        _refused(path, passphrase="correct horse", device_secret=KEY)
    assert asked == []
    header[at : at + 8] = struct.pack(">II", 16, 1 << 30)
    (path / "VAULT").write_bytes(header)
    _refused(path, passphrase="correct horse", device_secret=KEY)
    assert asked == [(16, 1 << 30)]


def test_a_guardians_answer_serves_one_request_alone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    mine, thiefs = Asked.of(path, AUNT.public), Asked.of(path, AUNT.public)
    answer = AUNT.answer(mine.request, code=mine.code)
    for changed in (answer[:-1], answer + b"x", bytes(len(answer)), answer[:5] + b"x" + answer[6:]):
        with pytest.raises(DecryptionError):
            mine.receive(changed)
    with pytest.raises(DecryptionError):
        thiefs.receive(answer)
    again = Asked.of(path, AUNT.public, seed=mine.seed)
    assert again.receive(answer) == mine.receive(answer)
    secret = mine.receive(answer)
    with Vault.open(path, guardian=secret) as vault:
        vault.keys.remove(*(slot.id for slot in vault.keys.slots() if slot.kind == "passphrase"))
    _refused(path, guardian=secret)
    later = Asked.of(path, AUNT.public, seed=mine.seed)
    with pytest.raises(DecryptionError):
        later.receive(answer)


def test_who_stands_between_resident_and_guardian_gets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    Vault.create(tmp_path / "w", device_key=KEY).close()
    with Vault.open(tmp_path / "w", device_key=KEY) as vault:
        vault.keys.add_guardian(AUNT.public)
    asked, others = Asked.of(path, AUNT.public), Asked.of(tmp_path / "w", AUNT.public)
    evil = seal.HybridKey(bytes(32))
    own_key = asked.request[: -seal.HYBRID_PUBLIC] + evil.public
    for request in (own_key, others.request, asked.request[:30] + others.request[30:], asked.request[:-1]):
        with pytest.raises(InvalidDataError):
            AUNT.answer(request, code=asked.code)
    for wrong in ("", asked.code[:-1], asked.code + "0", "0000-0000-0000-0000", others.code, 3):
        with pytest.raises(InvalidDataError, match="code"):
            AUNT.answer(asked.request, code=wrong)  # type: ignore[arg-type]
    for other in (asked.request[:14] + others.request[14:30] + asked.request[30:], b"dsvGUARX" + asked.request[8:]):
        with pytest.raises(InvalidDataError, match="guardian"):
            AUNT.answer(other, code=recovery._code(other))
    with pytest.raises(InvalidDataError, match="another guardian"):
        Guardian(bytes(32)).answer(asked.request, code=asked.code)
    AUNT.answer(asked.request, code=asked.code.replace("-", " ").lower().replace("0", "o"))
    answer = AUNT.answer(own_key, code=recovery._code(own_key))
    with pytest.raises(DecryptionError):
        asked.receive(answer)
    assert recovery._code(own_key) != asked.code, "the code that the resident reads out is not that of the other key"


def test_an_answer_with_another_secret_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v"
    _many(path)
    asked = Asked.of(path, AUNT.public)
    lie = seal.seal_hybrid(asked.request[-seal.HYBRID_PUBLIC :], bytes(32), recovery._answer_info(asked.request))
    _refused(path, guardian=asked.receive(lie))
    short = seal.seal_hybrid(asked.request[-seal.HYBRID_PUBLIC :], bytes(31), recovery._answer_info(asked.request))
    with pytest.raises(DecryptionError):
        asked.receive(short)


def test_headers_of_anything_raise_a_datasov_error(tmp_path: Path) -> None:
    _many(tmp_path / "v")
    header = (tmp_path / "v" / "VAULT").read_bytes()
    by = keys.access(device_key=KEY)
    for start in range(0, 600, 7):
        for piece in (b"", b"\xff" * 9, bytes(9)):
            data = header[:start] + piece + header[start + 9 :]
            if data != header:
                with pytest.raises(DatasovError):
                    keys.open_header(data, by)
