"""Claim: the log holds no personal data, and who has all of it and all that the city keeps, but not a salt, links
nothing of it to a resident: the salt in the vault is the only link, and erasing it erases the link.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sqlite3
from pathlib import Path

import pytest

import datasov as ds
from datasov.authority import held, messages
from datasov.crypto.kdf import hkdf
from datasov.store import place
from datasov.tlog.leaves import BatchLeaf, NoticeLeaf, ReleaseLeaf, StepLeaf, decode_leaf, encode_leaf
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, Clock, found_city

NAMES = [f"resident{n}" for n in range(6)]
HOUR = 3_600


class Town:
    """Residents with vaults, of whom one revoked, and a city that asked and published; everything is closed."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.consents, self.records = folder, {}, {}
        clock.now -= clock.now % HOUR
        with found_city(folder, clock) as city:
            for n, name in enumerate(NAMES):
                with ds.Resident.create(folder / name, device_key=bytes(range(32)), clock=clock) as resident:
                    resident.put(TRIPS, [{"district": "N", "km": 10 + n}])
                    consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
                    city.admit(consent, resident.contribute(consent))
                    if n == 0:
                        city.revoke(resident.revoke(consent))
                    (self.records[name],) = resident._records()
                    self.consents[name] = consent
                    self.revoked = held.day(clock.now)
            clock.now += HOUR
            city.release(COUNT, loss=RHO, purpose=PURPOSE)
            city.compact(TRIPS, PURPOSE)
            notice = NoticeLeaf("charter", int(clock.now), hashlib.sha256(b"charter").digest(), b"a public document")
            city._store.append({"log": (city.log.size, [encode_leaf(notice)])})
            self.leaves = city.log.leaves()
            city.log.publish(folder / "mirror")
        self.batched = {
            kind: frozenset(h for leaf in map(decode_leaf, self.leaves)
                            if isinstance(leaf, BatchLeaf) and leaf.kind == kind for h in leaf.hashes)
            for kind in ("admissions", "revocations")
        }  # fmt: skip

    def kept(self) -> list[bytes]:
        """All that the city keeps: every value in the database but for the log itself, and every other file."""
        db = sqlite3.connect(self.folder / "lake.city" / "city.db")
        values = [
            value.encode() if isinstance(value, str) else bytes(value)
            for table, where in (("entries", "WHERE stream NOT LIKE 'log%'"), ("blobs", ""), ("heads", ""))
            for row in db.execute(f"SELECT * FROM {table} {where}")  # noqa: S608
            for value in row
            if isinstance(value, str | bytes)
        ]
        db.close()
        files = [p for p in self.folder.glob("lake.city*/**/*") if p.is_file() and p.name != "city.db"]
        return values + [p.read_bytes() for p in [*files, *self.folder.glob("lake.city.*")]]

    def known(self, name: str) -> list[bytes]:
        """What the city's store tells of a resident: their consent and what identifies it."""
        claims = self.consents[name].claims
        return [
            self.consents[name].digest, self.consents[name].token, claims.issuer, claims.token_id,
            claims.status.to_bytes(8, "big"),
        ]  # fmt: skip

    def hashes(self, name: str) -> dict[str, bytes]:
        """With the salt: what the log holds of a resident."""
        record, digest = self.records[name], self.consents[name].digest
        return {
            "admissions": messages.salted(record.salt, messages.admission_record(digest, 1)),
            "revocations": messages.salted(record.salt, messages.revocation_record(digest, self.revoked)),
        }


@pytest.fixture
def town(tmp_path: Path, clock: Clock) -> Town:
    return Town(tmp_path, clock)


def test_with_the_salt_everything_is_linked(town: Town):
    for name in NAMES:
        found = town.hashes(name)
        assert found["admissions"] in town.batched["admissions"]
        assert (found["revocations"] in town.batched["revocations"]) is (name == NAMES[0])


def test_nothing_that_the_city_keeps_holds_a_hash_of_the_log(town: Town):
    """Neither the hash nor a hash of it, in binary or in hexadecimal: no place, order, time or transaction links it."""
    kept = b"\x00".join(town.kept())
    assert all(town.consents[name].token in kept for name in NAMES[1:]), "the search finds what is there"
    for name in NAMES:
        for hash_ in town.hashes(name).values():
            chained = [hashlib.sha256(prefix + hash_).digest() for prefix in (b"", bytes(32))]
            for form in (hash_, *chained, hash_[::-1], hash_[:16]):
                assert form not in kept
                assert form.hex().encode() not in kept


def test_nor_do_the_bytes_of_its_files(town: Town):
    """Also not where SQLite keeps what was deleted."""
    database = (town.folder / "lake.city" / "city.db").read_bytes()
    assert town.consents[NAMES[1]].token in database
    batch = sorted(town.batched["admissions"])
    before, after = (dict(itertools.pairwise(order)) for order in ([*batch[::-1], b""], [*batch, b""]))
    places = [(hash_, found.start()) for hash_ in (town.hashes(name)["admissions"] for name in NAMES)
              for found in re.finditer(re.escape(hash_), database)]  # fmt: skip
    assert places
    for hash_, at in places:
        beside = database[at - 32 : at] == before[hash_] or database[at + 32 : at + 64] == after[hash_]
        assert beside, "in copies of the log's leaf alone, between the hashes that every reader of the log sees"


def test_without_the_salt_no_guess_meets_the_log(town: Town):
    """Every value that the city keeps of a resident, and its keys, in the place of the salt."""
    operator = place.key_path(town.folder / "lake.city").read_bytes()
    keys = [bytes(32), operator, place.chain_key(operator), *(hkdf(operator, salt=b"", info=i) for i in (
        b"datasov city signing key v1", b"datasov city opening key v1"))]  # fmt: skip
    for name in NAMES:
        digest = town.consents[name].digest
        salts = [*keys, *(hashlib.sha256(value).digest() for value in town.known(name)), digest]
        salts += [value for value in town.known(name) if len(value) == 32]
        record = messages.admission_record(digest, 1)
        guesses = {messages.salted(salt, record) for salt in salts}
        guesses |= {hashlib.sha256(part).digest() for part in (record, digest, b"datasov salted v1" + record)}
        assert not guesses & town.batched["admissions"]


def test_no_order_in_a_batch_follows_the_order_of_admission(town: Town):
    """A batch is sorted by its hashes, decoys among them: a place in it follows from the hash alone."""
    for leaf in map(decode_leaf, town.leaves):
        if isinstance(leaf, BatchLeaf):
            assert list(leaf.hashes) == sorted(leaf.hashes)
            assert len(leaf.hashes) == 256


def test_no_leaf_of_any_kind_holds_what_tells_of_a_resident(town: Town):
    kinds = {type(decode_leaf(leaf)) for leaf in town.leaves}
    assert {ReleaseLeaf, BatchLeaf, NoticeLeaf} <= kinds
    assert kinds <= {ReleaseLeaf, BatchLeaf, NoticeLeaf, StepLeaf}
    public = b"".join(town.leaves) + b"".join(
        p.read_bytes() for p in (town.folder / "mirror").rglob("*") if p.is_file()
    )
    for name in NAMES:
        for value in (town.records[name].salt, *town.known(name)[:4]):
            assert value not in public
            assert value.hex().encode() not in public


def test_erasing_the_salt_erases_the_link(town: Town):
    """The same store and log, and a vault whose consents are gone: what linked before links no more."""
    name = NAMES[2]
    with ds.Resident.open(town.folder / name, device_key=bytes(range(32))) as resident:
        assert resident._records()[0].salt == town.records[name].salt
        resident._vault.set_state({held.CONSENTS: held.pack([])})
        assert resident._records() == []
    everything = b"".join(town.kept()) + b"".join(town.leaves)
    assert town.records[name].salt not in everything
