"""A second reader, written from docs/spec/vault.md alone: it shares no code with the package, and reads its vaults."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import cbor2
import nacl.pwhash.argon2id
import polars as pl
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from datasov.model import frames
from datasov.model.columns import Boolean, Category, Integer
from datasov.model.schema import Schema
from datasov.portability import notes
from datasov.vault import Guardian, Vault, new_recovery_key
from tests import vaults, xwing
from tests.vaults import KEY, PERSON, TRIPS, person, trips


def _hkdf(key: bytes, salt: bytes, info: bytes, n: int) -> bytes:
    return HKDF(hashes.SHA256(), n, salt, info).derive(key)


def _context(role: str, *parts: bytes) -> bytes:
    return b"datasov/vault/v1/" + role.encode() + b"\0" + b"".join(parts)


def _key(parent: bytes, salt: bytes, commitment: bytes, context: bytes) -> bytes:
    both = _hkdf(parent, salt, context, 64)
    assert both[32:] == commitment
    return both[:32]


def _unpad(body: bytes, step: int) -> Any:
    assert len(body) % step == 0
    length = int.from_bytes(body[:4], "big")
    assert not body[4 + length :].strip(b"\0")
    return cbor2.loads(body[4 : 4 + length])


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


class SecondReader:
    def __init__(self, path: Path, secret: bytes, kind: int) -> None:
        self.path = path
        data = (path / "VAULT").read_bytes()
        assert data[:14] == b"dsvVAULT" + bytes([0, 1, 0, 0, 0, 0])
        self.id, slots, at = data[14:30], data[38], 39
        kek = None
        for _ in range(slots):
            found, flags, size, wrapped_size, salt, commitment = struct.unpack_from(">BBHH32s32s", data, at)
            params, wrapped = data[at + 70 : at + 70 + size], data[at + 70 + size : at + 70 + size + wrapped_size]
            at += 70 + size + wrapped_size
            if found == kind:
                described, start = struct.pack(">BBH", found, flags, size) + params, secret
                if kind == 1:
                    ops, memory = struct.unpack(">II", params)
                    start = nacl.pwhash.argon2id.kdf(32, secret[:-32], salt[:16], ops, memory) + secret[-32:]
                if kind == 4:
                    assert params[:32] == hashlib.sha256(xwing.keys(secret)[2]).digest()
                    start = xwing.unseal(secret, params[32:], _context("guardian", self.id))
                if flags & 2:
                    seed = _hkdf(start, salt, _context("slot-key", self.id, bytes([kind])), 32)
                    assert commitment == hashlib.sha256(xwing.keys(seed)[2]).digest()
                    kek = xwing.unseal(seed, wrapped, _context("slot-sealed", self.id, described, salt))
                else:
                    info = _context("slot", self.id, described)
                    kek = AESGCM(_key(start, salt, commitment, info)).decrypt(bytes(12), wrapped, info)
        assert kek is not None
        key = _key(kek, data[at : at + 32], data[at + 32 : at + 64], _context("body", self.id))
        assert int.from_bytes(data[at + 64 : at + 68], "big") == len(data) - at - 68
        self.body = _unpad(AESGCM(key).decrypt(bytes(12), data[at + 68 :], data[: at + 68]), 1024)
        self.vault_keys = dict(self.body[2])
        self.manifest = self._manifest()

    def _manifest(self) -> dict[int, Any]:
        newest = max(int(file.name) for file in (self.path / "manifest").iterdir())
        data = (self.path / "manifest" / str(newest)).read_bytes()
        head = data[:110]
        counter, epoch, salt, commitment, _ = struct.unpack(">QI32s32sI", head[30:])
        key = _key(self.vault_keys[epoch], salt, commitment, _context("manifest", self.id, head[30:38]))
        plain = AESGCM(key).decrypt(bytes(12), data[110:], head)
        doc: dict[int, Any] = _unpad(plain[64:], 256)
        floor, pinned = self.body[7]
        if counter > floor:
            public = Ed25519PublicKey.from_public_bytes(dict(self.body[5])[doc[2]])
            public.verify(plain[:64], _context("manifest-signature", head, plain[64:]))
            assert epoch == max(self.vault_keys)
        assert counter > floor or (counter, hashlib.sha256(data).digest()) == (floor, pinned)
        before = (self.path / "manifest" / str(newest - 1)).read_bytes()
        self.manifest_number = newest
        assert (counter, doc[1]) == (newest, hashlib.sha256(before).digest())
        return doc

    def scan(self, table: str) -> pl.DataFrame:
        found = [(entry[5], self._segment(entry)) for entry in self.manifest[6] if entry[1] == table]
        for log in self.manifest[7]:
            found += [(sequence, frame) for sequence, name, frame in self._log(log) if name == table]
        return pl.concat([frame for _, frame in sorted(found, key=lambda item: item[0])])

    def present(self, table: str) -> list[tuple[Any, ...]]:
        """Rows under the present schema, of every device: sections 4.1 and 6."""
        (found,) = (t for t in self.manifest[5] if t[0] == table)
        assert hashlib.sha256(found[2]).digest() == found[1]
        names = [name for name, _ in json.loads(found[2])["columns"]]
        filled = found[4] if len(found) > 3 else {}
        pieces = [(e[4], e[5], self._segment(e)) for e in self.manifest[6] if e[1] == table]
        for log in self.manifest[7]:
            pieces += [(self.body[3], sequence, frame) for sequence, name, frame in self._log(log) if name == table]
        began = {device: min(first for d, first, _ in pieces if d == device) for device, _, _ in pieces}
        pieces.sort(key=lambda p: (began[p[0]], p[0], p[1]))
        return [tuple(r.get(n, filled.get(n)) for n in names) for _, _, f in pieces for r in f.iter_rows(named=True)]

    def _segment(self, entry: list[Any]) -> pl.DataFrame:
        data = (self.path / "seg" / entry[0].hex()).read_bytes()
        head, at, plain, tags, chunk = data[:118], 118, b"", [], 0
        (parent,) = (key for _, id_, epoch, key in self.body[6] if (id_, epoch) == (entry[2], entry[3]))
        key = _key(parent, head[54:86], head[86:118], _context("segment", self.id, entry[0], entry[2], _u32(entry[3])))
        while at < len(data):
            piece = data[at : at + 2**20 + 16]
            at += len(piece)
            nonce = bytes(7) + _u32(chunk) + bytes([at == len(data)])
            plain, tags, chunk = plain + AESGCM(key).decrypt(nonce, piece, head), [*tags, piece[-16:]], chunk + 1
        assert hashlib.sha256(head + b"".join(tags)).digest() == entry[11]
        payload = io.BytesIO(plain[: entry[9]])
        return pl.read_ipc_stream(payload) if entry[8] == 1 else pl.read_parquet(payload)

    def _log(self, entry: list[Any]) -> list[tuple[int, str, pl.DataFrame]]:
        id_, size, records, last, closed = entry
        if closed and not records:
            return []
        data = (self.path / "log" / id_.hex()).read_bytes()
        data = data[:size] if closed else data
        epoch, salt, commitment = struct.unpack_from(">I32s32s", data, 46)
        key = AESGCM(_key(self.vault_keys[epoch], salt, commitment, _context("log", self.id, id_)))
        key.decrypt(b"\xff" * 12, data[114:130], data[:114])
        domains = {name: json.loads(document)["domain"] for name, _, document, *_ in self.manifest[5]}
        tag, at, found, i = data[114:130], 130, [], 0
        while at < len(data):
            box, end = data[at : at + 20], at + 20
            try:
                length = int.from_bytes(key.decrypt(bytes(4) + struct.pack(">Q", 2 * i), box, tag), "big")
                end = at + 36 + length
                sealed = data[at + 20 : end]
                body = key.decrypt(bytes(4) + struct.pack(">Q", 2 * i + 1), sealed, box[-16:])
            except InvalidTag:
                assert i >= records
                assert not closed
                assert _torn(data, at, end)
                break
            sequence, parts = struct.unpack_from(">QH", body)
            where = 10
            for j in range(parts):
                name_size, domain_epoch, rows, part_size, part_commitment = struct.unpack_from(">HIII32s", body, where)
                name = body[where + 46 : where + 46 + name_size]
                part = body[where + 46 + name_size : where + 46 + name_size + part_size]
                where += 46 + name_size + part_size
                domain = domains[name.decode()]
                parent, domain_id = next((k, d) for n, d, e, k in self.body[6] if (n, e) == (domain, domain_epoch))
                context = _context("log-part", self.id, id_, domain_id, _u32(domain_epoch))
                part_key = AESGCM(_key(parent, salt, part_commitment, context))
                frame = pl.read_ipc_stream(part_key.decrypt(struct.pack(">QI", i, j), part, tag + name))
                assert frame.height == rows
                found.append((sequence, name.decode(), frame))
            tag, at, i = sealed[-16:], end, i + 1
            assert i != records or (at, tag) == (size, last)
        assert i >= records
        return found


def _torn(data: bytes, start: int, end: int) -> bool:
    """Section 6.2: cut short by the end of the file or by zeros up to it, or a sector of zeros."""
    if not data[start:].strip(b"\0") or len(data) < end or not data[end - 1 :].strip(b"\0"):
        return True
    edges = [start, *(edge for edge in range(0, end, 512) if edge > start), end]
    return any(not data[a:b].strip(b"\0") for a, b in itertools.pairwise(edges))


def test_a_second_reader_reads_what_the_package_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = vaults.varied(tmp_path / "v")
    reader = SecondReader(tmp_path / "v", KEY, 2)
    for schema in vaults.TABLES:
        assert reader.scan(schema.name).rows() == expected[schema.name]
    assert reader.manifest[8] == {"note": b"kept"}
    assert _hkdf(reader.body[1], _context("identity"), b"test", 32) == expected["derived"]
    with vaults.cheap_argon2(), Vault.create(tmp_path / "w", passphrase="caf\u0065\u0301", device_secret=KEY) as vault:
        big = trips(*(k * k % 50 for k in range(1_500_000)))
        vault.put([(TRIPS, big)])
        vault.put([(PERSON, person(3))])
    second = SecondReader(tmp_path / "w", "café".encode() + KEY, 1)
    assert second.scan("trips").equals(big)
    assert second.scan("person").equals(person(3))


def test_a_second_reader_opens_every_kind_of_slot_before_and_after_keys_were_changed(tmp_path: Path) -> None:
    paper, seed = new_recovery_key(), bytes(range(32, 64))
    expected = vaults.varied(tmp_path / "v")
    with vaults.cheap_argon2(), Vault.open(tmp_path / "v", device_key=KEY) as vault:
        vault.keys.add_passphrase("correct horse", device_secret=KEY)
        vault.keys.add_recovery(paper)
        vault.keys.add_guardian(Guardian(seed).public)
        vault.keys.add_device_key(bytes(32), label="lost")
    digits, values = paper.replace("-", "")[2:54], "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    printed = (int("".join(f"{values.index(d):05b}" for d in digits), 2) >> 4).to_bytes(32, "big")
    for _ in range(2):
        for kind, secret in ((1, b"correct horse" + KEY), (3, printed), (4, seed)):
            reader = SecondReader(tmp_path / "v", secret, kind)
            for schema in vaults.TABLES:
                assert reader.scan(schema.name).rows() == expected[schema.name]
        with Vault.open(tmp_path / "v", device_key=KEY) as vault:
            lost = [slot.id for slot in vault.keys.slots() if slot.label == "lost"]
            if lost:
                vault.keys.remove(*lost)
    assert (reader.body[7][0], len(reader.body[2])) == (reader.manifest_number - 1, 1)


def test_a_second_reader_reads_schemas_that_followed_and_rows_of_two_devices(tmp_path: Path) -> None:
    columns = {"mode": Category(["bus", "rail"]), "km": Integer(-9, 500, nullable=True), "b": Boolean(nullable=True)}
    later = Schema("trips", domain="mobility", columns=columns)

    def more(km: int) -> pl.DataFrame:
        return frames.encode(later, [{"mode": "bus", "km": km, "b": True}])

    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1, None))])
        a.enrol(tmp_path / "b", device_key=KEY)
        a.put([(TRIPS, trips(2))])
        a.evolve(later, {"mode": "rail"})
        a.put([(later, more(300))])
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b.put([(TRIPS, trips(3))])
            b.merge(a, notes.combined)
            b.put([(later, more(4))])
            expected = b.scan("trips").rows()
        mine = a.scan("trips").rows()
    assert SecondReader(tmp_path / "a", KEY, 2).present("trips") == mine == expected[:4]
    old = [(1, km, None) for km in (1, None, 2)]
    assert expected == [*old, (0, 300, 1), (1, 3, None), (0, 4, 1)]
    assert SecondReader(tmp_path / "b", KEY, 2).present("trips") == expected
    ids = [{name: id_ for name, id_, *_ in SecondReader(tmp_path / d, KEY, 2).body[6]} for d in "ab"]
    assert ids[0] == ids[1]
    with Vault.open(tmp_path / "b", device_key=KEY) as b:
        b.compact()
        b.erase_domain("energy", device_key=bytes(32))
    reader = SecondReader(tmp_path / "b", bytes(32), 2)
    assert reader.present("trips") == expected
    erased = hashlib.sha256(_context("erased", ids[0].pop("energy"))).digest()[:16]
    assert {name: id_ for name, id_, *_ in reader.body[6]} == {**ids[0], "energy": erased}


def test_a_second_reader_reads_what_was_put_since_the_last_manifest_and_stops_where_a_record_is_torn(
    tmp_path: Path,
) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        vault.set_state({"note": b"two records are known"})
        vault.put([(TRIPS, trips(2, 3))])
        vault.put([(TRIPS, trips(*(k % 50 for k in range(400))))])
        shutil.copytree(tmp_path / "v", tmp_path / "live")
    assert (
        SecondReader(tmp_path / "live", KEY, 2).scan("trips").rows()
        == trips(1, 2, 3, *(k % 50 for k in range(400))).rows()
    )
    (log,) = (tmp_path / "live" / "log").iterdir()
    whole = log.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in (end - 1, end - 700):
        for left in (whole[:cut], whole[:cut] + bytes(len(whole) - cut)):
            log.write_bytes(left)
            assert SecondReader(tmp_path / "live", KEY, 2).scan("trips").rows() == trips(1, 2, 3).rows()
            assert vaults.contents(tmp_path / "live")["trips"] == trips(1, 2, 3).rows()
    log.write_bytes(whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:])
    with pytest.raises(AssertionError):
        SecondReader(tmp_path / "live", KEY, 2).scan("trips")
