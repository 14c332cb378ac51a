"""A resident on their own device: put, grant, contribute, revoke, and check the log."""

from __future__ import annotations

import datetime as dt
import math
import shutil

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.authority import messages, token
from datasov.errors import ConsentError, InvalidDataError, InvalidQueryError, ProofError, StoreError
from datasov.kernel import monitor
from datasov.model.document import canonical
from datasov.model.privacy import Loss
from tests.helpers import COUNT, NOW, PEOPLE, PURPOSE, RHO, TRIPS, found_city, values

KEY = bytes(range(32))
ROWS = [{"district": "N", "km": 7}, {"district": "E", "km": 3}]
SECRET = ds.Schema("secret", domain="health", columns={
    "n": ds.Integer(0, 9), "illness": ds.Category("ab", legal="special"),
})  # fmt: skip


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "ann.vault", device_key=KEY, clock=clock) as resident:
        yield resident


def grant(resident: ds.Resident, city: ds.City, schema: ds.Schema = TRIPS, **given: object) -> ds.Consent:
    return resident.grant(city.id, schema, **{"purpose": PURPOSE, "loss": RHO, "until": "2030-01-01", **given})


@pytest.fixture
def exact(monkeypatch) -> list[np.ndarray]:
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(values(t).copy()), real(t, p, r))[1])
    return seen


# --- rows


def test_what_is_put_is_there_after_opening_again(tmp_path, clock, ann):
    assert ann.put(TRIPS, ROWS) == 2
    assert ann.put_all([(TRIPS, pl.DataFrame(ROWS[:1])), (PEOPLE, [{"age": 33, "ward": None}])]) == 2
    ann.close()
    with ds.Resident.open(tmp_path / "ann.vault", device_key=KEY, clock=clock) as again:
        assert again.scan(TRIPS).to_dicts() == [*ROWS, ROWS[0]]
        assert again.scan(TRIPS, ["km"]).to_dicts() == [{"km": 7}, {"km": 3}, {"km": 7}]
        assert again.scan(PEOPLE).to_dicts() == [{"age": 33, "ward": None}]
        again.compact()
        assert again.scan(TRIPS).height == 3


def test_a_table_never_put_has_no_rows(ann):
    assert ann.scan(TRIPS).height == 0
    assert ann.scan(TRIPS).columns == ["district", "km"]
    with pytest.raises(InvalidQueryError):
        ann.scan(TRIPS, ["none"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e308, 2**53 + 1, 51, -1, 0.5, None, "x"])
def test_a_bad_row_is_refused_with_its_place_and_no_good_one_is_half_written(ann, bad):
    with pytest.raises(InvalidDataError) as why:
        ann.put(TRIPS, [*ROWS, {"district": "S", "km": bad}, *ROWS])
    assert (why.value.row, why.value.column) == (2, "km")
    assert ann.scan(TRIPS).height == 0
    with pytest.raises(InvalidDataError):
        ann.put_all([(TRIPS, ROWS), (PEOPLE, [{"age": 200}])])
    assert ann.scan(TRIPS).height == 0
    ann.put(TRIPS, [{"district": "S", "km": -0.0}])
    assert ann.scan(TRIPS)["km"].to_list() == [0]


def test_the_row_of_an_attribute_table_replaces_the_one_before(ann):
    ann.put(PEOPLE, [{"age": 33, "ward": "a"}])
    ann.put(PEOPLE, [{"age": 34, "ward": "a"}])
    assert ann.scan(PEOPLE)["age"].to_list() == [34]
    with pytest.raises(InvalidDataError):
        ann.put(PEOPLE, [{"age": 1, "ward": "a"}, {"age": 2, "ward": "a"}])
    assert ann.scan(PEOPLE)["age"].to_list() == [34]


def test_a_table_is_kept_under_one_schema(ann):
    ann.put(TRIPS, ROWS)
    other = ds.Schema("trips", domain="mobility", columns={"district": ds.Category("NESW"), "km": ds.Integer(0, 51)})
    with pytest.raises(InvalidDataError):
        ann.scan(other)
    with pytest.raises(InvalidDataError):
        ann.put(other, ROWS)
    assert ann.scan(TRIPS).height == 2


# --- consents


def test_a_consent_says_what_was_granted(ann, city, clock):
    consent = grant(ann, city, columns=["km"], join={PEOPLE: ["age"]}, until="2027-12-31", jurisdiction="JP-10")
    claims = token.read(consent.token).claims
    assert claims == consent.claims
    assert [(c.table, c.columns) for c in claims.coverage] == [("trips", ("km",)), ("people", ("age",))]
    assert (claims.purpose, claims.loss, claims.jurisdiction, claims.issued) == (
        PURPOSE,
        RHO,
        "JP-10",
        NOW // 86_400 * 86_400,
    )
    assert claims.expires == int(dt.datetime.fromisoformat("2028-01-01T00:00+09:00").timestamp())
    assert claims.audience == str(city.id)
    assert ann.consents == [consent]


def test_special_columns_are_covered_only_by_name(ann, city):
    ann.put(SECRET, [{"n": 1, "illness": "a"}])
    assert grant(ann, city, SECRET).claims.coverage[0].columns == ("n",)
    for given in ({"columns": ["illness", "n"]}, {"columns": ["illness"], "special": ["n"]}, {"special": ["n"]},
                  {"special": ["illness", "people.ward"]}, {"special": "illness"}):  # fmt: skip
        with pytest.raises(ConsentError, match="special="):
            grant(ann, city, SECRET, **given)
    with pytest.raises(InvalidQueryError):
        grant(ann, city, SECRET, special=["disease"])
    for given in ({"columns": ["illness", "n"], "special": ["illness"]}, {"special": ["secret.illness"]},
                  {"columns": ["n"], "special": ["illness"]}):  # fmt: skip
        claims = grant(ann, city, SECRET, **given).claims
        assert (claims.coverage[0].columns, claims.special) == (("n", "illness"), ("secret.illness",))


def test_special_columns_of_joined_tables_and_of_derived_columns_are_named_too(ann, city):
    care = ds.Schema("care", domain="health", kind="attributes", columns={
        "level": ds.Integer(0, 5, legal="special"), "ward": ds.Category("ab"),
    })  # fmt: skip
    told = ds.Schema("told", domain="mobility", columns={
        "km": ds.Integer(0, 9), "ill": ds.Exists(SECRET, where=ds.col("illness") == "a"),
    })  # fmt: skip
    assert told.column("ill").legal == "special"
    with pytest.raises(ConsentError, match=r"special=\['care.level'\]"):
        grant(ann, city, join={care: ["level"]})
    assert grant(ann, city, join=[care]).claims.special == ()
    joined = grant(ann, city, join=[care], special=["care.level"]).claims
    assert (joined.coverage[1].columns, joined.special) == (("level", "ward"), ("care.level",))
    with pytest.raises(ConsentError, match=r"special=\['secret.illness', 'told.ill'\]"):
        grant(ann, city, told, columns=["km", "ill"], reads=[SECRET], special=["ill"])
    derived = grant(ann, city, told, columns=["km"], reads=[SECRET], special=["ill", "secret.illness"]).claims
    assert derived.special == ("secret.illness", "told.ill")
    assert [(c.table, c.columns) for c in derived.coverage] == [("told", ("km", "ill")), ("secret", ("illness",))]


def test_a_resident_who_named_special_columns_is_admitted(ann, city):
    ann.put(SECRET, [{"n": 1, "illness": "a"}])
    consent = grant(ann, city, SECRET, special=["illness"])
    city.admit(consent, ann.contribute(consent))


def test_a_place_of_processing_is_granted(ann, city):
    assert grant(ann, city).claims.place == "JP"
    claims = grant(ann, city, processing="JP-10").claims
    assert (claims.processing, claims.jurisdiction, claims.place) == ("JP-10", "JP", "JP-10")
    for bad in ({"processing": "Gunma"}, {"special": [7]}, {"purpose": " "}, {"purpose": 7}):
        with pytest.raises(ds.DatasovError):
            grant(ann, city, **bad)


def test_keys_of_domains_and_cities_are_unlinkable(ann, city, tmp_path, clock):
    (tmp_path / "b").mkdir()
    with found_city(tmp_path / "b", clock) as other:
        issuers = [grant(ann, c, s).claims.issuer for c in (city, other) for s in (TRIPS, SECRET)]
    assert len(set(issuers)) == 4
    assert grant(ann, city).claims.issuer == issuers[0], "and stay the same"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"until": "2020-01-01"}, ConsentError), ({"until": "soon"}, InvalidQueryError),
        ({"until": 7}, InvalidQueryError),
        ({"until": "9999-12-31"}, InvalidQueryError), ({"until": None}, InvalidQueryError),
        ({"until": dt.datetime.fromtimestamp(NOW, dt.UTC)}, ConsentError), ({"zone": "Mars/X"}, InvalidQueryError),
        ({"loss": Loss(0)}, InvalidQueryError),
        ({"loss": 0.1}, InvalidQueryError), ({"loss": Loss(-4)}, InvalidQueryError),
        ({"columns": ["none"]}, InvalidQueryError), ({"columns": []}, ConsentError),
        ({"purpose": " x"}, InvalidQueryError),
        ({"jurisdiction": "japan"}, ds.DatasovError), ({"join": [TRIPS]}, ds.DatasovError),
        ({"purpose": ""}, ds.DatasovError),
    ],
)  # fmt: skip
def test_what_is_no_consent_is_refused_and_reserves_nothing(ann, city, bad, error):
    with pytest.raises(error):
        grant(ann, city, **bad)
    assert ann.consents == []
    assert ann.granted == Loss(0)


@pytest.mark.parametrize("audience", ["lake", "", "lake+xx", "lake+" + "A" * 86 + "=="])
def test_what_is_no_city_is_refused(ann, audience):
    with pytest.raises(ds.DatasovError):
        ann.grant(audience, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")


def test_the_lifetime_account_counts_the_largest_consent_of_each_purpose(ann, city):
    ann.lifetime = Loss(3 * RHO.nano)
    assert ann.lifetime == Loss(3 * RHO.nano)
    first = grant(ann, city)
    grant(ann, city, loss=Loss(RHO.nano // 2))
    assert ann.granted == RHO
    grant(ann, city, loss=Loss(2 * RHO.nano))
    assert ann.granted == Loss(2 * RHO.nano)
    ann.revoke(first)
    assert ann.granted == Loss(2 * RHO.nano), "what was answered stays answered"
    with pytest.raises(ConsentError, match="lifetime"):
        grant(ann, city, purpose="other", loss=Loss(RHO.nano + 1))
    grant(ann, city, purpose="other")
    assert ann.granted == ann.lifetime


# --- contributions


def test_a_contribution_holds_what_is_covered_and_replaces_the_one_before(ann, city, clock, exact):
    ann.put_all([(TRIPS, ROWS), (PEOPLE, [{"age": 33, "ward": "b"}])])
    consent = grant(ann, city, join=[PEOPLE], loss=ds.zcdp(rho=1))
    first = ann.contribute(consent)
    city.admit(consent, first)
    ann.put(TRIPS, ROWS)
    city.admit(consent, ann.contribute(consent))
    with pytest.raises(ConsentError):
        city.admit(consent, first)
    city.release(COUNT.join(PEOPLE).keys("people.ward"), loss=RHO, purpose=PURPOSE)
    assert exact[-1].sum() == 4
    again = grant(ann, city, columns=["km"], loss=ds.zcdp(rho=1))
    clock.now += 1  # a renewal within one second begins with the next
    city.admit(again, ann.contribute(again))
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    assert exact[-1].sum() == 0, "the newer consent covers less"
    city.release(ds.query(TRIPS).bound(rows=9).sum("km"), loss=RHO, purpose=PURPOSE)
    assert exact[-1].tolist() == [[20]]
    city.revoke(ann.revoke(again))
    city.release(ds.query(TRIPS).bound(rows=9).sum("km", high=49), loss=RHO, purpose=PURPOSE)
    assert exact[-1].tolist() == [[0]]


def test_sequences_rise_even_where_the_clock_goes_back(ann, city, clock):
    ann.put(TRIPS, ROWS)
    consent = grant(ann, city)
    for moved in (0, -500, -1000, 3):
        clock.now = NOW + moved
        city.admit(consent, ann.contribute(consent))


def test_a_city_is_told_days_and_counts_and_no_finer_times(ann, city, clock):
    """Times to the second, or to the microsecond, would join the pools of two domains (tests/adversary)."""
    ann.put(TRIPS, ROWS)
    told = []
    for seconds in (0, 3_601, 7_203):
        clock.now = NOW + seconds
        consent = grant(ann, city, until="2027-12-31")
        city.admit(consent, ann.contribute(consent))
        city.admit(consent, ann.contribute(consent))
        revocation = ann.revoke(consent)
        city.revoke(revocation)
        ended, sent = messages.open_revocation(revocation, city._who.opening, city.id)
        (partition,) = city._registry.refresh()
        told.append((ended.claims.issued, ended.claims.not_before, partition.member(0).sequence, sent.time))
    day = NOW // 86_400 * 86_400
    assert told == [(day + i, day + i, day * 10**6 + 2 * i + 2, day) for i in range(3)]
    assert int(partition.columns["admitted"][0]) == clock.now - 3
    assert [time for time, _ in partition.revoked] == [NOW, NOW + 3_600, NOW + 7_200], "ticks of an hour"


def test_what_was_revoked_or_never_granted_is_not_contributed(ann, city, tmp_path, clock):
    ann.put(TRIPS, ROWS)
    consent = grant(ann, city)
    ann.revoke(consent)
    assert ann.consents == []
    with pytest.raises(ConsentError, match="revoked"):
        ann.contribute(consent)
    with ds.Resident.create(tmp_path / "bob.vault", device_key=KEY, clock=clock) as bob:
        foreign = grant(bob, city)
    for use in (ann.contribute, ann.revoke):
        with pytest.raises(ConsentError, match="not a consent of this vault"):
            use(foreign)
    empty = grant(ann, city, PEOPLE)
    with pytest.raises(ConsentError, match="put rows"):
        ann.contribute(empty)


def test_a_new_consent_within_the_same_second_supersedes(ann, city):
    ann.put(TRIPS, ROWS)
    first, second = grant(ann, city), grant(ann, city)
    assert first.claims.issued < second.claims.issued
    city.admit(first, ann.contribute(first))
    city.admit(second, ann.contribute(second))
    with pytest.raises(ConsentError):
        city.admit(first, ann.contribute(first))


def test_a_message_names_no_row(ann, city):
    ann.put(TRIPS, ROWS * 50)
    consent = grant(ann, city)
    sealed = ann.contribute(consent)
    assert messages.envelope_digest(sealed) == consent.digest
    assert b"district" not in sealed
    assert b"trips" not in sealed


# --- receipts


def test_receipts_are_of_the_questions_that_a_consent_covered(ann, city, clock):
    ann.put_all([(TRIPS, ROWS), (PEOPLE, [{"age": 33, "ward": "b"}])])
    grant(ann, city, columns=["km"], loss=ds.zcdp(rho=1), until="2027-06-30")
    base = ds.query(TRIPS).bound(rows=2, keys=1)
    for query in (
        base.sum("km"),
        base.keys("district").count(),
        base.join(PEOPLE).keys("people.ward").count(),
        base.count(),
    ):
        city.release(query, loss=RHO, purpose=PURPOSE)
    clock.now += 400 * 86_400
    city.release(base.sum("km"), loss=RHO, purpose=PURPOSE)
    receipts = ann.receipts(city.log)
    assert [r.question for r in receipts] == [city_leaf_question(city, i) for i in (0, 3)]
    for receipt in receipts:
        receipt.verify(city.log.checkpoint())
        assert (receipt.purpose, receipt.loss) == (PURPOSE, RHO)


def city_leaf_question(city: ds.City, release: int) -> str:
    return canonical(city.releases()[release].query.document()).decode()


class Forgetful:
    """A log that shows fewer leaves than it did, or another history."""

    def __init__(self, log, other=None) -> None:
        self.log, self.other = log, other

    def __getattr__(self, name: str):
        return getattr(self.other or self.log, name)


def test_a_log_that_forgot_what_it_showed_is_noticed(ann, city, tmp_path, clock):
    ann.put(TRIPS, ROWS)
    grant(ann, city)
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    shutil.copytree(tmp_path / "lake.city", tmp_path / "old")
    shutil.copy(tmp_path / "lake.city.key", tmp_path / "old.key")
    for rows in (9, 10):
        city.release(COUNT.bound(rows=rows), loss=RHO, purpose=PURPOSE)
    assert len(ann.receipts(city.log)) == 3
    with ds.City.open(tmp_path / "old", clock=clock, reanchor=True) as old:
        assert old.log.size == 2, "its own release, and the notice that it goes on from an older copy"
        with pytest.raises(ProofError, match="shorter"):
            ann.receipts(old.log)
        for rows in (11, 12):
            old.release(COUNT.bound(rows=rows), loss=RHO, purpose=PURPOSE)
        with pytest.raises(ProofError):
            ann.receipts(old.log)
    assert len(ann.receipts(city.log)) == 3


def test_the_log_of_another_city_is_no_answer(ann, city, tmp_path, clock):
    """A log under another name must not pass for one in which nothing was asked."""
    (tmp_path / "other").mkdir()
    with found_city(tmp_path / "other", clock) as other:
        assert ann.receipts(other.log) == []
        ann.put(TRIPS, ROWS)
        grant(ann, city)
        with pytest.raises(ProofError, match="not the log"):
            ann.receipts(other.log)


def test_the_shape_of_a_resident_tells_nothing(ann):
    ann.put(TRIPS, ROWS)
    assert repr(ann) == "<Resident>"


def test_a_path_that_is_taken_or_empty_is_a_store_error(tmp_path, ann):
    with pytest.raises(StoreError):
        ds.Resident.create(tmp_path / "ann.vault", device_key=KEY)
    with pytest.raises(StoreError):
        ds.Resident.open(tmp_path / "none", device_key=KEY)
