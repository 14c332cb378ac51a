"""DPStatistic and its projections: exact, in every form, valid under the schemas, the OpenAPI document and JSON-LD."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator
from pyld import jsonld
from referencing import Registry, Resource

import datasov as ds
from datasov import ngsi
from datasov.errors import InvalidQueryError
from datasov.ngsi import context, units
from datasov.ngsi.broker import Broker
from datasov.ngsi.describe import describe
from datasov.ngsi.periods import period_of, utc
from datasov.ngsi.publishing import Piece, entities
from datasov.ngsi.reading import read
from datasov.ngsi.statistic import MAX_STATISTICS, DPStatistic, of_release
from datasov.ngsi.texts import FORBIDDEN, attribute, plain, safe, token
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from tests.helpers import PURPOSE, Clock
from tests.ngsi import BEGIN, BY_AREA, BY_BIN, BY_DAY, LOSS, PROOF, WALKS, asked, city_at, later, piece
from tests.paths import city_os


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ds.City]:
    with city_at(tmp_path_factory.mktemp("ngsi"), Clock(BEGIN)) as found:
        yield found


@pytest.fixture(scope="module")
def told(city: ds.City) -> list[Piece]:
    return asked(city)


def of(told: list[Piece], name: str) -> list[DPStatistic]:
    return [s for p in told for s in p.statistics if s.name == name]


# --- texts


@given(st.text())
def test_any_text_comes_back_and_what_is_sent_has_no_forbidden_character(text):
    assert plain(safe(text)) == text
    assert not FORBIDDEN & set(safe(text))
    assert all(ord(c) >= 32 and ord(c) != 127 for c in safe(text))


def test_japanese_labels_stay_readable_and_others_are_marked():
    assert safe("北区, 1丁目: [5]") == "北区, 1丁目: [5]"
    assert safe("北(N)") == "base64url:5YyXKE4p"
    assert plain("base64url:") == ""
    assert plain("base64url:===") == "base64url:==="
    assert plain(safe("base64url:YQ")) == "base64url:YQ"


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_in_ids_and_attributes_are_plain_ascii_and_differ(one, other):
    for made in (token(one), attribute(one)):
        assert made.isascii()
        assert 0 < len(made) <= 256
        assert all(c.isalnum() or c in "_-" for c in made)
    assert attribute(one).replace("_", "").isalnum()
    if one != other:
        assert token(one) != token(other)
        if "." not in one + other:
            assert attribute(one) != attribute(other)


# --- what is told is what was released


def test_every_number_is_the_release_s_own_and_the_leaf_is_its_own(city, told):
    release = next(r for r in city.releases() if r.query == BY_AREA)
    found = next(p for p in told if p.key[0] == release.identifier.hex())
    frame, whole = release.frame(0.95), release.overall(0.95)
    for name in ("count", "距離_sum"):
        numbers = [(s.value, s.low, s.high) for s in of([found], name)]
        assert numbers == frame.select(name, name + "_low", name + "_high").rows()
        assert [s.scale for s in of([found], name)] == [release.scale(name)] * 3
    (coverage,) = of([found], "took_part")
    assert (coverage.value, coverage.low, coverage.high, coverage.cell) == (*whole.row(0), None)
    assert [s.keys[0][2] for s in of([found], "count")] == ["北(N)", "東=E", "南"]
    leaf = decode_leaf(city.log.leaves()[coverage.source.proof.index])
    assert isinstance(leaf, ReleaseLeaf)
    entity = ngsi.key_values(describe(coverage))
    assert (entity["releaseId"], entity["resultDigest"]) == (leaf.release_id.hex(), leaf.result_digest.hex())
    assert (entity["queryHash"], entity["logOrigin"]) == (leaf.query_digest.hex(), city.log.origin)
    assert (entity["purpose"], entity["trust"], entity["mechanism"]) == (leaf.purpose, leaf.trust, leaf.mechanism)


def test_the_guarantee_is_told_in_full(told):
    entity = ngsi.key_values(describe(of(told, "距離_sum")[0]))
    wanted = {
        "informationClass": "統計情報", "privacyMeasure": "zcdp", "rho": 0.02, "delta": 0, "unitOfPrivacy": "resident",
        "adjacency": "add-remove", "mechanism": "discrete Gaussian", "trust": "central", "purpose": PURPOSE,
        "programme": None, "unit": "km", "statistic": "距離_sum", "confidence": 0.95, "domain": "mobility",
        "table": "walks", "city": "lake", "step": None, "dataEpoch": BEGIN // 86_400, "keys": ["地区"],
    }  # fmt: skip
    assert {name: entity[name] for name in wanted} == wanted
    assert "epsilon" not in entity
    assert entity["id"].startswith("urn:ngsi-ld:DPStatistic:")
    assert entity["id"].isascii()


def test_a_pure_loss_is_told_as_epsilon(city):
    release = next(r for r in city.releases() if r.query == BY_BIN)
    changed = dataclasses.replace(release, loss=ds.pure(epsilon="0.5"))
    entity = ngsi.key_values(describe(of_release(changed, PROOF)[0]))
    assert (entity["epsilon"], entity["privacyMeasure"]) == (0.5, "pure")
    assert "rho" not in entity


def test_every_answer_to_a_question_has_the_same_attributes_and_ids_by_question(city):
    release = next(r for r in city.releases() if r.query == BY_AREA)
    one, two = of_release(release, PROOF), of_release(later(release, withheld=(0, 2)), PROOF)
    for a, b in zip(one, two, strict=True):
        assert [x.name for x in describe(a).attributes] == [x.name for x in describe(b).attributes]
        assert a.identifier("question") == b.identifier("question") != a.identifier()
        assert a.identifier() != b.identifier()
    for changed in ({"purpose": "other"}, {"loss": ds.zcdp(rho="0.03")}, {"programme": "ab" * 32}):
        other = dataclasses.replace(release, **changed)
        assert of_release(other, PROOF)[0].identifier("question") != one[0].identifier("question")
    ids = [s.identifier(by) for s in one for by in ("release", "question")]
    assert len(set(ids)) == 2 * len(one)


def test_a_withheld_cell_is_told_as_withheld_and_has_no_number(city):
    release = next(r for r in city.releases() if r.query == BY_AREA)
    found = describe(of_release(later(release, withheld=(1,)), PROOF)[1])
    plain_, linked = ngsi.key_values(found), ngsi.linked(found)
    assert (plain_["withheld"], plain_["minimumCohort"]) == (True, 5)
    assert [plain_[n] for n in ("value", "low", "high")] == [None, None, None]
    assert not {"noisyValue", "low", "high"} & set(linked)
    assert ngsi.crowd_flow(of_release(later(release, withheld=(1,)), PROOF)[1]) is None
    status = ngsi.key_values(ngsi.observation(of_release(later(release, withheld=(1,)), PROOF)[1]))
    assert status["obsStatus"] == "Q"
    assert "obsValue" not in status


def test_a_question_for_the_top_tells_ranks_without_numbers(city):
    release = city.release(
        ds.query(WALKS).keys("地区").bound(rows=1, keys=1).count().top(2), loss=LOSS, purpose=PURPOSE
    )
    found = of_release(release, PROOF)
    assert [(s.value, s.low, s.kind) for s in found] == [(1, None, "top"), (2, None, "top")]
    assert [s.keys[0][2] for s in found] == release.frame()["地区"].to_list()


def test_too_many_numbers_are_refused(city, monkeypatch):
    monkeypatch.setattr("datasov.ngsi.statistic.MAX_STATISTICS", 5)
    assert MAX_STATISTICS == 100_000
    with pytest.raises(InvalidQueryError, match="above 5 entities"):
        of_release(city.releases()[0], PROOF)


# --- times and places


@pytest.mark.parametrize(("key", "first", "last"), [
    (ds.day("at"), "2027-01-01T00:00:00+09:00", "2027-01-02T00:00:00+09:00"),
    (ds.week("at"), "2026-12-28T00:00:00+09:00", "2027-01-04T00:00:00+09:00"),
    (ds.month("at"), "2027-01-01T00:00:00+09:00", "2027-02-01T00:00:00+09:00"),
])  # fmt: skip
def test_a_period_among_the_keys_is_told_in_utc_and_locally(city, key, first, last):
    release = city.release(ds.query(WALKS).keys(key).bound(rows=1, keys=1).count(), loss=LOSS, purpose=PURPOSE)
    entity = ngsi.key_values(describe(of_release(release, PROOF)[0]))
    assert (entity["localFrom"], entity["localTo"], entity["timeZone"]) == (first, last, "Asia/Tokyo")
    assert entity["localDate"] == first[:10]
    assert entity["dateObservedFrom"] == entity["dateObserved"]
    assert entity["dateObserved"].endswith("15:00:00.000Z")


def test_a_period_may_end_in_another_year_and_an_hour_where_clocks_change():
    berlin = ds.Schema("b", domain="mobility", columns={
        "at": ds.Timestamp("2026-01-01", "2028-01-01", zone="Europe/Berlin")})  # fmt: skip
    month = period_of(ds.query(berlin).keys(ds.month("at")), [dt.date(2026, 12, 1)])
    assert (month.begin.isoformat(), month.end.isoformat()) == (
        "2026-12-01T00:00:00+01:00",
        "2027-01-01T00:00:00+01:00",
    )
    day = period_of(ds.query(berlin).keys(ds.day("at")), [dt.date(2027, 3, 28)])
    assert (utc(day.begin), utc(day.end)) == ("2027-03-27T23:00:00.000Z", "2027-03-28T22:00:00.000Z")


def test_an_hour_of_a_day_is_told_and_an_hour_alone_is_no_period(city):
    query = ds.query(WALKS).keys(ds.day("at"), ds.hour("at")).bound(rows=1, keys=1).count()
    both = of_release(city.release(query, loss=LOSS, purpose=PURPOSE), PROOF)[24 + 7]
    entity = ngsi.key_values(describe(both))
    assert (entity["localFrom"][:16], entity["localTo"][:16]) == ("2027-01-02T07:00", "2027-01-02T08:00")
    assert entity["key_at_hour"] == 7
    assert entity["key_at_day"] == "2027-01-02"
    alone = ds.query(WALKS).keys(ds.hour("at")).bound(rows=1, keys=1).count()
    assert of_release(city.release(alone, loss=LOSS, purpose=PURPOSE), PROOF)[0].period is None


def test_a_mesh_code_among_the_keys_gives_the_place(told):
    (found, _) = [s for s in of(told, "residents") if s.mesh]
    (ring,) = ngsi.key_values(describe(found))["location"]["coordinates"]
    assert ring[0] == ring[-1] == pytest.approx([139.7, 35 + 41 / 60])  # 53394526, its south-western corner
    assert len(ring) == 5


# --- projections


def validator(name: str) -> jsonschema.Draft202012Validator:
    common = json.loads(city_os("schemas", "common-schema.json").read_text(encoding="utf-8"))
    schema = json.loads(city_os("schemas", name).read_text(encoding="utf-8"))
    where = "https://smart-data-models.github.io/data-models/common-schema.json"
    registry = Registry().with_resource(where, Resource.from_contents(common))
    return jsonschema.Draft202012Validator(schema, registry=registry, format_checker=jsonschema.FormatChecker())


def test_crowd_flow_is_valid_and_rounds_and_clamps_in_the_projection_alone(told):
    check, found = validator("CrowdFlowObserved.schema.json"), of(told, "residents")
    for number in found:
        check.validate(ngsi.key_values(ngsi.crowd_flow(number)))
    low = dataclasses.replace(found[0], value=-3, low=-9, high=3)
    assert ngsi.key_values(ngsi.crowd_flow(low))["peopleCount"] == 0
    assert ngsi.key_values(describe(low))["value"] == -3
    assert ngsi.key_values(ngsi.crowd_flow(dataclasses.replace(found[0], value=2.5)))["peopleCount"] == 2
    assert ngsi.key_values(ngsi.crowd_flow(low))["seeAlso"] == [low.identifier()]
    unclamped = {**ngsi.key_values(ngsi.crowd_flow(low)), "peopleCount": -3}
    with pytest.raises(jsonschema.ValidationError):
        check.validate(unclamped)
    with pytest.raises(InvalidQueryError, match="counts people"):
        ngsi.crowd_flow(of(told, "距離_sum")[0])


def test_an_observation_is_valid_and_has_the_value_as_released(told):
    check = validator("SDMX-Observation.schema.json")
    for number in [s for p in told for s in p.statistics]:
        made = ngsi.key_values(ngsi.observation(number))
        check.validate(made)
        assert made["obsValue"] == number.value
        assert made["dimensions"][2:] == [{"key": c, "value": safe(str(v))} for _, c, v in number.keys]
    day = ngsi.key_values(ngsi.observation(next(s for s in of(told, "residents") if s.period)))
    assert (day["timePeriod"], day["freq"], day["obsStatus"]) == ("2027-01-01T00:00:00/P1D", "D", "E")


# --- NGSI-LD: the OpenAPI document, and JSON-LD


@functools.cache
def api() -> dict[str, Any]:
    text = city_os("ngsi-ld-api.yaml").read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506


def ld(name: str) -> OAS30Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": api()["components"]}
    return OAS30Validator(schema, format_checker=OAS30Validator.FORMAT_CHECKER)


def all_entities(told: list[Piece], city: ds.City) -> list[ngsi.Entity]:
    hidden = piece(later(city.releases()[0], withheld=(0,)))
    return [e for p in [*told, hidden] for e in entities(p, "release", ["CrowdFlowObserved", "Observation"])]


def test_a_linked_entity_of_each_shape_is_valid_under_the_openapi_document(told, city):
    """Each of its attributes is tried against sixteen shapes, and so is each attribute of these: it takes a while."""
    placed = next(s for s in of(told, "residents") if s.mesh)
    hidden = piece(later(city.releases()[0], withheld=(0,))).statistics[0]
    check = ld("Entity")
    for entity in (describe(placed), describe(hidden), ngsi.crowd_flow(placed), ngsi.observation(placed)):
        made = ngsi.linked(entity)
        ld("LdContext").validate(made.pop("@context"))
        check.validate(made)
    broken = {**made, "title": {"type": "Property", "observedAt": "yesterday", "value": 1}}
    with pytest.raises(jsonschema.ValidationError):
        check.validate(broken)


def test_a_request_goes_to_a_path_of_the_openapi_document_with_a_body_and_parameters_that_it_has(told):
    ((target, body),) = list(Broker("http://x", "ngsi-ld").requests([ngsi.observation(told[0].statistics[0])]))
    path, _, query = target.removeprefix("/ngsi-ld/v1").partition("?")
    operation, parts = api()["paths"][path]["post"], api()["components"]["parameters"]
    parameters = {parts[p["$ref"].rpartition("/")[2]]["name"]: parts[p["$ref"].rpartition("/")[2]] for p in
                  operation["parameters"]}  # fmt: skip
    name, value = query.split("=")
    shape = parameters[name]["schema"]
    told_ = value.split(",") if shape.get("type") == "array" else value
    OAS30Validator({**shape, "components": api()["components"]}).validate(told_)
    assert "NGSILD-Tenant" in parameters
    content = operation["requestBody"]["content"]
    entity_ = json.loads(body)[0]
    with_context = content["application/json+ld"]["schema"]["items"]["allOf"]
    assert with_context[0] == {"type": "object", "properties": {"@context": {"$ref": "#/components/schemas/LdContext"}}}
    assert set(with_context[2]["required"]) <= set(entity_)
    # The second part of that schema takes @context for an attribute, so that no object passes: each part for itself.
    ld("LdContext").validate(entity_.pop("@context"))
    check = OAS30Validator({**content["application/json"]["schema"], "components": api()["components"]})
    check.validate([entity_])
    with pytest.raises(jsonschema.ValidationError):
        check.validate([{k: v for k, v in entity_.items() if k != "id"}])
    assert set(operation["responses"]) == {"201", "204", "207", "400"}


def test_a_subscription_is_valid_and_no_other_value_would_be(told):
    made = ngsi.subscription("http://consumer:8080/n", dialect="ngsi-ld", query="ab" * 32)
    made.pop("@context")
    ld("Subscription.OnChange").validate(made)
    with pytest.raises(jsonschema.ValidationError):
        ld("Subscription.OnChange").validate({**made, "watchedAttributes": []})


def expanded(entity: dict[str, Any]) -> dict[str, Any]:
    core = json.loads(city_os("core-v1.9.jsonld").read_text(encoding="utf-8"))["@context"]

    def offline(url: str, _: object) -> dict[str, Any]:
        raise AssertionError(f"nothing is fetched, and this was: {url}")

    document = {**entity, "@context": [entity["@context"], core]}
    (found,) = jsonld.expand(document, {"documentLoader": offline})
    return found


def test_the_context_gives_every_term_an_iri_fetches_nothing_and_takes_none_of_the_core(told, city):
    core = json.loads(city_os("core-v1.9.jsonld").read_text(encoding="utf-8"))["@context"]
    for entity in all_entities(told, city)[::3]:
        made = ngsi.linked(entity)
        assert not set(made["@context"]) & set(core), "a term of the core cannot be another's"
        assert {n for n in made if n in core} <= context.CORE
        found = expanded(made)
        assert found["@type"] == [context.NAMESPACE + entity.type]
        ours = {k for k in found if not k.startswith("@")}
        assert len(ours) == len(made) - 3, "no attribute was dropped"
        assert not any("default-context" in k for k in ours)
        for name in ours:
            if name.startswith(context.NAMESPACE):
                assert found[name][0]["@type"] == ["https://uri.etsi.org/ngsi-ld/Property"]
    taken = {"id": "urn:x", "type": "T", "value": {"type": "Property", "value": 1}}
    found = expanded({**taken, "@context": {"T": "urn:t", "value": "urn:mine"}})
    assert "urn:mine" not in found, "which is why NGSI-LD has noisyValue, and not value"


# --- reading


def test_every_form_reads_back_to_the_same_values(told, city):
    for entity in all_entities(told, city):
        wanted = {a.name: a.value for a in entity.attributes if a.value is not None}
        forms = [ngsi.normalized(entity), ngsi.key_values(entity), ngsi.linked(entity)]
        for made, form in zip(forms, ("v2", "kv", "ld"), strict=True):
            (found,), faults = read(json.dumps(made).encode())
            assert faults == []
            values = {n: v.value for n, v in found.values.items() if v.value is not None}
            if form == "ld":
                values = {("value" if n == "noisyValue" else n): v for n, v in values.items()}
            assert json.loads(json.dumps(values, default=float)) == json.loads(json.dumps(wanted))
            assert (found.identifier, found.type) == (entity.identifier, entity.type)


def test_recorded_notifications_are_read(told):
    recorded = json.loads(city_os("orion_3.10.1_transcripts.json").read_text(encoding="utf-8"))
    for each in recorded["notifications"]:
        (found,) = ngsi.notified(json.dumps(each["body"]).encode())
        assert found.type == "DPStatistic"
        assert found.values["meshCode"].value == "53394526"
    bodies = [json.dumps(n["body"]).encode() for n in recorded["notifications"]]
    assert [ngsi.notified(body)[0].values["value"].value for body in bodies] == [-3, 5, 9, 9, 1000]


def test_units_are_converted_exactly_or_refused():
    from decimal import Decimal

    assert units.convert(Decimal("1500"), "WHR", "kWh") == Decimal("1.5")
    assert units.convert(Decimal("0.25"), "MTQ", "l") == Decimal(250)
    assert units.convert(Decimal("3.6"), "3B", "KWH") == Decimal(1)
    for given_, wanted in (("KWH", "m3"), ("XYZ", "kWh"), ("kWh", "XYZ")):
        with pytest.raises(InvalidQueryError, match="another unit"):
            units.convert(Decimal(1), given_, wanted)
    assert units.code_of("kWh") == "KWH"
    assert units.code_of("JPY") is None


def test_a_period_of_days_by_day_covers_each_once(told):
    days = [s.period for p in told for s in p.statistics if s.period]
    assert all(a.end == b.begin for a, b in itertools.pairwise(days))
    assert BY_DAY.key_list[0].kind == "day"
