"""A second reader of a tenant host, written from docs/spec/host.md alone: it shares no code with the package."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import polars as pl
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datasov.vault.host import Host
from tests.unit.test_vault_spec import SecondReader, _context, _hkdf, _key, _u32
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips


def _packs(path: Path) -> Iterator[tuple[bytes, list[Any], bytes, bytes]]:
    """(host id, index, headers, slips and segments) of each pack, oldest first."""
    index = SecondReader(path / "index", KEY, 2)
    pack_key = _hkdf(index.body[1], _context("identity"), b"host packs", 32)
    _, listed = cbor2.loads(index.manifest[8]["host"])
    for pack_id, size in listed:
        data = (path / "packs" / pack_id.hex()).read_bytes()
        assert len(data) == size
        assert data[:30] == b"dsvPACK\0" + bytes([0, 1, 0, 0, 0, 0]) + index.id
        assert data[30:46] == pack_id
        length = int.from_bytes(data[46:54], "big")
        key = AESGCM(_key(pack_key, data[54:86], data[86:118], _context("pack", index.id, pack_id)))
        doc, at, chunk = b"", 118, 0
        while len(doc) < length:
            piece = data[at : at + min(2**20, length - len(doc)) + 16]
            last = len(doc) + len(piece) - 16 == length
            doc, at = doc + key.decrypt(bytes(7) + _u32(chunk) + bytes([last]), piece, data[:118]), at + len(piece)
            chunk += 1
        found = cbor2.loads(doc)
        assert len(data) == at + found[2] + found[3]
        yield index.id, found, data[at : at + found[2]], data[at + found[2] :]


def _collect(path: Path, table: str) -> list[tuple[int, pl.DataFrame]]:
    tenants: dict[int, tuple[bytes, bytes]] = {}
    rows = []
    for host_id, (admitted, tables, _, _), headers, blobs in _packs(path):
        for number, vault_id, device_key, at, size in struct.iter_unpack(">I16s32sII", admitted):
            tenants[number] = vault_id, device_key
            assert headers[at : at + 8] == b"dsvVAULT"
            assert headers[at + 14 : at + 30] == vault_id
            assert size >= 1024
        for entry in struct.iter_unpack(">IBIIIII16s16s", tables.get(table, b"")):
            number, codec, epoch, height, payload, at, size, segment_id, domain_id = entry
            vault_id, device_key = tenants[number]
            slip, segment = blobs[at : at + 80], blobs[at + 80 : at + 80 + size]
            info = _context("host-slip", host_id, vault_id, segment_id, domain_id, _u32(epoch))
            slip_key = _key(device_key, segment[54:86], slip[:32], info)
            domain_key = AESGCM(slip_key).decrypt(bytes(12), slip[32:], info)
            context = _context("segment", vault_id, segment_id, domain_id, _u32(epoch))
            key = _key(domain_key, segment[54:86], segment[86:118], context)
            plain = AESGCM(key).decrypt(bytes(11) + b"\x01", segment[118:], segment[:118])
            frame = pl.read_ipc_stream(io.BytesIO(plain[:payload]))
            assert (codec, frame.height) == (1, height)
            rows.append((number, frame))
    return rows


def test_a_second_reader_reads_what_a_host_wrote(tmp_path: Path) -> None:
    with Host.create(tmp_path / "h", device_key=KEY) as host:
        first, second = host.admit([[(TRIPS, trips(1, None)), (METER, meter(2))], [(TRIPS, trips(3))]])
        host.put([(second, [(TRIPS, trips(4)), (PERSON, person(5))]), (first, [(TRIPS, trips(6))])])
        host.remove([host.admit([[(TRIPS, trips(7))]])[0]])
    found = [(number, frame.rows()) for number, frame in _collect(tmp_path / "h", "trips")]
    assert found == [(0, trips(1, None).rows()), (1, trips(3).rows()), (1, trips(4).rows()), (0, trips(6).rows())]
    assert [(n, f.rows()) for n, f in _collect(tmp_path / "h", "meter")] == [(0, meter(2).rows())]
    assert [(n, f.rows()) for n, f in _collect(tmp_path / "h", "person")] == [(1, person(5).rows())]
