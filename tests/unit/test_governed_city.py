"""A city under a charter, from its founding to what its residents read of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import datasov as ds
from datasov.errors import ProgrammeError, ProofError, StoreError, VerificationError
from datasov.model.charter import DAY, Charter
from datasov.store import place
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from tests.governing import (
    BASE,
    COUNTS,
    ORDINARY,
    URGENT,
    charter_for,
    governed_city,
    programme_for,
    release,
    signed,
    urgent_for,
)
from tests.helpers import NOW, PURPOSE, TRIPS, Clock, found_city

KEY = bytes(range(32))


def known_charter(**changed) -> Charter:
    """The charter of a city whose key was made before it was founded."""
    signing, opening = place.keys(KEY)

    class Known:
        id = ds.CityId("lake", signing.public, opening.public)

    return charter_for(Known, **changed)  # type: ignore[arg-type]


def test_a_city_without_a_charter_answers_for_every_declared_purpose(tmp_path):
    with found_city(tmp_path, Clock()) as city:
        assert city.charter is None
        assert city.programmes == ()
        answer = release(city)
        assert answer.programme == ""
        with pytest.raises(ProgrammeError, match="no charter"):
            release(city, programme=bytes(32))
        with pytest.raises(ProgrammeError, match="no charter"):
            city.approve(signed(programme_for(city)))
        city.adopt(signed(charter_for(city)))
        with pytest.raises(ProgrammeError):
            release(city)
        assert [r.digest for r in city.releases()] == [answer.digest], "what was answered stays answered"


def test_a_city_is_founded_under_a_charter_or_not_at_all(tmp_path):
    given = {"budget": ds.zcdp(rho=1), "purposes": [PURPOSE], "clock": Clock(), "operator_key": KEY}
    path = tmp_path / "lake.city"
    good = signed(known_charter())
    for wrong, error in (
        (signed(known_charter(), ORDINARY[1:]), ProgrammeError), (b"{}", VerificationError),
        (signed(known_charter(city=str(ds.CityId("hill", bytes(32), bytes(32))))), ProgrammeError),
        (signed(known_charter(version=2)), ProgrammeError),
    ):  # fmt: skip
        with pytest.raises(error):
            ds.City.open(path, charter=wrong, **given)
        assert not path.exists()
    with pytest.raises(StoreError, match="key"):
        ds.City.open(path, charter=good, **{**given, "operator_key": None})
    with ds.City.open(path, charter=good, **given) as city:
        assert city.charter == known_charter()
    with ds.City.open(path, charter=good.to_bytes(), clock=Clock(), operator_key=KEY) as city:
        assert city.charter == known_charter()


def test_what_a_charter_leaves_open_needs_no_programme(tmp_path):
    limit = ds.zcdp(rho="0.02")
    with governed_city(tmp_path, Clock(), open=((PURPOSE, limit),)) as city:
        leaf = city.log.leaves()
        answer = release(city, BASE.mean("km"), limit)
        assert answer.programme == ""
        assert release(city, BASE.mean("km"), ds.pure(epsilon="0.2")).loss.concentrated == limit
        for loss in (ds.Loss(limit.nano + 1), ds.pure(epsilon="0.2001")):
            with pytest.raises(ProgrammeError):
                release(city, BASE.mean("km"), loss)
        found = [decode_leaf(each) for each in city.log.leaves()[len(leaf) :]]
        assert [leaf.programme for leaf in found if isinstance(leaf, ReleaseLeaf)] == [b"", b""]


def test_a_programme_comes_before_what_is_open_and_stands_in_the_leaf(tmp_path):
    with governed_city(tmp_path, Clock(), open=((PURPOSE, ds.zcdp(rho=1)),), notice_days=0) as city:
        approved = city.approve(signed(programme_for(city, cohort=3)))
        answer = release(city)
        assert answer.programme == approved.identity.hex()
        assert answer.cohort == 3
        leaves = [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, ReleaseLeaf)]
        assert leaves[-1].programme == approved.identity
        assert release(city, BASE.mean("km")).programme == "", "open, and no programme covers it"
        assert city.remaining_under(approved.identity) == ds.zcdp(rho="0.01")


def test_a_city_opens_again_under_its_charter(tmp_path):
    clock = Clock()
    with governed_city(tmp_path, clock, notice_days=0) as city:
        approved = city.approve(signed(programme_for(city)))
        answer = release(city)
        path = city._path
    with ds.City.open(path, clock=clock) as again:
        assert again.charter == charter_for(again, notice_days=0)
        assert again.programmes == (approved,)
        assert release(again).digest == answer.digest
        with pytest.raises(ProgrammeError):
            release(again, BASE.mean("km"))


@pytest.fixture
def resident(tmp_path):
    with ds.Resident.create(tmp_path / "r.vault", device_key=KEY, clock=Clock()) as found:
        found.put(TRIPS, [{"district": "N", "km": 7}])
        yield found


def test_a_resident_sees_every_charter_programme_and_emergency(tmp_path, resident):
    clock = Clock()
    with governed_city(tmp_path, clock, notice_days=0) as city:
        with pytest.raises(ProofError, match="not the log of a city"):
            resident.notices(city.log)
        consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.5"), until="2030-01-01")
        city.admit(consent, resident.contribute(consent))
        city.approve(signed(programme_for(city)))
        clock.now += DAY
        times = {"issued": clock.now, "not_before": clock.now, "expires": clock.now + DAY}
        urgent = city.approve(signed(urgent_for(city, **times), URGENT))
        release(city, COUNTS)
        city.adopt(signed(replace(charter_for(city), version=2)))
        found = resident.notices(city.log)
        assert [n.subject for n in found] == ["charter", "programme", "emergency", "charter"]
        assert [n.time for n in found] == [NOW, NOW, NOW + DAY, NOW + DAY]
        assert found[2].identity == urgent.identity
        assert str(found[2]).startswith(f"emergency {found[2].fingerprint}: flood, version 1")
        assert Charter.from_document(found[3].document).version == 2
        assert [r.release.programme for r in resident.receipts(city.log)] == [found[1].identity]


def test_notices_of_a_shorter_log_are_refused(tmp_path, resident):
    with governed_city(tmp_path, Clock(), notice_days=0) as city:
        resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.5"), until="2030-01-01")
        before = city.log.checkpoint()
        city.approve(signed(programme_for(city)))
        assert len(resident.notices(city.log)) == 2

        class Older:
            checkpoint = staticmethod(lambda: before)
            leaves = city.log.leaves
            consistency = city.log.consistency

        with pytest.raises(ProofError, match="shorter"):
            resident.notices(Older())
