"""Claim: an operator who shows two residents two logs is found out when the two compare what they saw, and the evidence
convinces somebody who has neither log. A real city, whose folder was copied and went two ways.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import ProofError, WitnessError
from datasov.tlog.cosignature import any_of, cosignatures, open_cosigned
from datasov.tlog.evidence import Evidence
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import vkey
from datasov.tlog.witness import Witness, ask
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, Clock, found_city

HOUR = 3_600


class Forked:
    """Ann and Ben trusted one city; from some day on it shows each of them another one."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.ann, self.ben = (
            ds.Resident.create(folder / name, device_key=bytes(range(32)), clock=clock) for name in ("ann", "ben")
        )
        (folder / "a").mkdir()
        with found_city(folder / "a", clock) as city:
            self.id = city.id
            for resident in (self.ann, self.ben):
                resident.put(TRIPS, [{"district": "N", "km": 7}])
                consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho=1), until="2030-01-01")
                city.admit(consent, resident.contribute(consent))
            city.release(COUNT, loss=RHO, purpose=PURPOSE)
            for resident in (self.ann, self.ben):
                assert len(resident.receipts(city.log)) == 1
        shutil.copytree(folder / "a", folder / "b")
        self.a, self.b = (ds.City.open(folder / side / "lake.city", clock=clock) for side in "ab")

    def go(self, a: int, b: int) -> None:
        """Questions that the two sides answer from then on; they differ in what they are about, or in their number."""
        for city, count, low in ((self.a, a, 0), (self.b, b, 1)):
            for n in range(count):
                city.release(COUNT.where(ds.col("km") > low + 2 * n), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)


@pytest.fixture
def forked(tmp_path: Path, clock: Clock) -> Iterator[Forked]:
    found = Forked(tmp_path, clock)
    yield found
    for opened in (found.a, found.b, found.ann, found.ben):
        opened.close()


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 2), (3, 1), (2, 5)])
def test_two_residents_who_compare_find_the_fork(forked: Forked, a: int, b: int):
    forked.go(a, b)
    assert len(forked.ann.receipts(forked.a.log)) == 1 + a, "each side alone looks as it should"
    assert len(forked.ben.receipts(forked.b.log)) == 1 + b
    larger = forked.a.log if a > b else forked.b.log
    seen = forked.ben.checkpoints()[str(forked.id)]
    found = forked.ann.compare(seen, larger)
    assert found == forked.ben.compare(forked.ann.checkpoints()[str(forked.id)], larger)
    first, second = Evidence.from_bytes(found.to_bytes()).verify()
    assert found.public == forked.id.verify_key
    assert {first.note, second.note} == {seen, forked.ann.checkpoints()[str(forked.id)]}
    assert {first.size, second.size} == {forked.a.log.size, forked.b.log.size}


def test_while_only_one_side_grew_there_is_no_fork_yet(forked: Forked):
    forked.go(2, 0)
    forked.ann.receipts(forked.a.log)
    seen = forked.ben.checkpoints()[str(forked.id)]
    assert forked.ann.compare(seen, forked.a.log) is None
    assert forked.ann.compare(forked.ann.checkpoints()[str(forked.id)]) is None


def test_the_one_who_asks_the_other_side_is_refused(forked: Forked):
    forked.go(1, 3)
    forked.ann.receipts(forked.a.log)
    with pytest.raises(ProofError):
        forked.ann.receipts(forked.b.log)


def test_a_comparison_needs_something_to_compare(forked: Forked, tmp_path: Path, clock: Clock):
    (tmp_path / "c").mkdir()
    with found_city(tmp_path / "c", clock) as other:
        note = other.log.checkpoint().note
    with pytest.raises(ProofError, match="not a checkpoint of a log that this vault has seen"):
        forked.ann.compare(note)
    forked.go(1, 2)
    forked.ann.receipts(forked.a.log)
    with pytest.raises(ProofError, match="give a reader"):
        forked.ann.compare(forked.b.log.checkpoint().note)


def test_a_witness_lets_only_one_of_them_through(forked: Forked, tmp_path: Path, clock: Clock):
    witness = Witness.create(tmp_path / "w", "witness.example/w1", clock=clock)
    witness.trust(vkey(forked.a.log.origin, forked.id.verify_key))
    policy, now = any_of(1, [str(witness.cosigner)]), int(clock())
    forked.go(1, 2)
    note = forked.a.log.cosign(ask(forked.a.log, witness.add_checkpoint), [str(witness.cosigner)]).note
    assert open_cosigned(note, forked.a.log.origin, forked.id.verify_key, policy, now=now).size == forked.a.log.size
    with pytest.raises(WitnessError):
        ask(forked.b.log, witness.add_checkpoint)
    with pytest.raises(ProofError, match="enough witnesses"):
        open_cosigned(forked.b.log.checkpoint().note, forked.b.log.origin, forked.id.verify_key, policy, now=now)


def test_witnesses_that_collude_with_the_operator_convict_themselves(forked: Forked, tmp_path: Path, clock: Clock):
    """A witness that forgets signs both sides; whoever compares sees which one did."""
    honest = Witness.create(tmp_path / "w0", "w0", clock=clock)
    corrupt = Witness.create(tmp_path / "w1", "w1", clock=clock)
    key = vkey(forked.a.log.origin, forked.id.verify_key)
    for witness in (honest, corrupt):
        witness.trust(key)
    shutil.copytree(tmp_path / "w1", tmp_path / "w1-again")
    forked.go(1, 1)
    known = [honest.cosigner, corrupt.cosigner]
    forked.a.log.cosign(ask(forked.a.log, honest.add_checkpoint), known)
    forked.a.log.cosign(ask(forked.a.log, corrupt.add_checkpoint), known)
    again = Witness(tmp_path / "w1-again", clock=clock)
    forked.b.log.cosign(ask(forked.b.log, again.add_checkpoint), known)
    forked.ann.receipts(forked.a.log)
    found = forked.ann.compare(forked.b.log.checkpoint().note)
    assert found.both(known) == [corrupt.cosigner]


def test_cosignatures_are_served_published_and_outlive_the_process(forked: Forked, tmp_path: Path, clock: Clock):
    witness = Witness.create(tmp_path / "w", "w", clock=clock)
    witness.trust(vkey(forked.a.log.origin, forked.id.verify_key))
    log = forked.a.log
    with pytest.raises(ProofError, match="no checkpoint of this log is cosigned"):
        log.publish(tmp_path / "m", cosigned=True)
    note = log.checkpoint().note
    line = ask(log, witness.add_checkpoint)[len(note) :]
    assert log.cosign(line.decode(), [witness.cosigner]).note == note + line
    with ds.City.open(tmp_path / "a" / "lake.city", clock=clock) as again:
        assert again.log.checkpoint().note == note + line
    log.publish(tmp_path / "m")
    assert (tmp_path / "m" / "checkpoint").read_bytes() == note + line
    forked.go(1, 0)
    assert cosignatures(log.checkpoint().note, [witness.cosigner]) == {}, "a new checkpoint has none yet"
    assert log.cosigned().note == note + line
    log.publish(tmp_path / "m", cosigned=True)
    assert TileLog(tmp_path / "m", forked.id.verify_key).checkpoint().note == note + line
    assert len(forked.ben.receipts(TileLog(tmp_path / "m", forked.id.verify_key))) == 1
    later = ask(log, witness.add_checkpoint)
    log.cosign(later, [witness.cosigner])
    with pytest.raises(ProofError, match="a later checkpoint is cosigned already"):
        log.cosign(note + line, [witness.cosigner])
    for wrong in (forked.b.log.checkpoint().note + line, line[:-3] + b"\n", b"", b"nonsense"):
        with pytest.raises(ProofError):
            log.cosign(wrong, [witness.cosigner])
    assert log.checkpoint().note == later


def test_a_resident_reads_the_citys_log_from_a_static_mirror(forked: Forked, tmp_path: Path):
    forked.go(3, 0)
    forked.a.log.publish(tmp_path / "m")
    mirror = TileLog(tmp_path / "m", forked.id.verify_key)
    receipts = forked.ann.receipts(mirror)
    assert [r.to_bytes() for r in receipts] == [r.to_bytes() for r in forked.ben.receipts(forked.a.log)]
    for receipt in receipts:
        receipt.verify((tmp_path / "m" / "checkpoint").read_bytes())


def test_residents_still_compare_after_the_city_changed_its_key(tmp_path: Path, clock: Clock):
    """Ann consented before the change, Ben after it, to another id of the same city."""
    ann, ben = (ds.Resident.create(tmp_path / n, device_key=bytes(range(32)), clock=clock) for n in ("ann", "ben"))
    found_city(tmp_path, clock).close()
    path, given = tmp_path / "lake.city", {"purpose": PURPOSE, "loss": ds.zcdp(rho=1), "until": "2030-01-01"}
    with ds.City.open(path, clock=clock) as city:
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        ann.grant(city.id, TRIPS, **given)
        first = city.id
    new = ds.City.open(path, clock=clock).rotate()
    ben.grant(new, TRIPS, **given)
    shutil.copytree(path, tmp_path / "b" / "lake.city")
    for end in (".key", ".anchor"):
        shutil.copy(tmp_path / f"lake.city{end}", tmp_path / "b" / f"lake.city{end}")
    with ann, ben, ds.City.open(path, clock=clock) as a, ds.City.open(tmp_path / "b" / "lake.city", clock=clock) as b:
        ann.receipts(a.log)
        ben.receipts(b.log)
        shown = ben.checkpoints()[str(new)]
        assert ann.compare(shown) is None
        assert ben.compare(ann.checkpoints()[str(first)]) is None
        for city, low in ((a, 0), (b, 1)):
            city.release(COUNT.where(ds.col("km") > low), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        ann.receipts(a.log)
        ben.receipts(b.log)
        found = ann.compare(ben.checkpoints()[str(new)], a.log)
        assert found is not None
        found.verify()
        assert found.public == new.verify_key
