"""What the gateway tells everybody beside the log: the city, governance, receipts, status lists, the page's HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import datasov as ds
from datasov.authority import status
from datasov.authority.approval import Signed
from datasov.errors import StoreError
from datasov.gateway import governance, public, residents, schedule
from datasov.gateway.page import POLICY, chart, telling
from datasov.gateway.page.words import preferred, words
from datasov.gateway.shared import Shared
from datasov.model.charter import Member
from datasov.tlog.bundle import verify_bundle
from datasov.tlog.note import parse_vkey
from tests.city_page import build
from tests.gateway_ports import serving
from tests.governing import URGENT, charter_for, governed_city, programme_for, signed, urgent_for
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, Clock, few_lists, found_city

DAY = 86_400


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[ds.City]:
    with governed_city(tmp_path_factory.mktemp("city"), clock) as found:
        found.approve(signed(programme_for(found)))
        found.approve(signed(urgent_for(found), URGENT))
        yield found


@pytest.fixture(scope="module")
def client(city: ds.City, clock: Clock) -> Iterator[httpx.Client]:
    with serving(city, {"trips": TRIPS}, clock) as at, httpx.Client(base_url=at) as found:
        yield found


def test_the_document_is_openapi_and_names_every_operation(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    told = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    assert {operation.name for operation in public.operations()} <= told


@pytest.mark.parametrize(
    "name", ["getCity", "listProgrammes", "listNotices", "getCharter"],
)  # fmt: skip
def test_answers_are_of_their_schemas(client: httpx.Client, name: str) -> None:
    operation = next(o for o in public.operations() if o.name == name)
    ((schema),) = operation.replies[0].content.values()
    answer = client.get(operation.path)
    assert answer.status_code == 200
    Draft202012Validator(dict(schema)).validate(answer.json())


def test_the_city_says_who_it_is(client: httpx.Client, city: ds.City) -> None:
    found = client.get("/v1/city").json()
    assert found["id"] == str(city.id)
    assert parse_vkey(found["log"]["key"]) == (city.log.origin, city.log.public)
    ((table),) = found["tables"]
    assert ds.Schema.from_document(table["schema"]).digest.hex() == table["digest"] == TRIPS.digest.hex()
    assert (found["tick"], found["epoch"], found["erase_within"]) == (3_600, DAY, 30 * DAY)
    assert [p["name"] for p in found["purposes"]] == [PURPOSE]


def test_governance_is_what_was_signed(client: httpx.Client, city: ds.City, clock: Clock) -> None:
    charter = client.get("/v1/charter").json()
    assert charter["document"] == charter_for(city).document()
    assert {s["group"] for s in charter["signers"]} == {"council", "assembly"}
    notices = client.get("/v1/notices").json()
    assert [n["subject"] for n in notices] == ["charter", "programme", "emergency"]
    for notice in notices:
        body = client.get(f"/v1/notices/{notice['identity']}")
        assert Signed.from_bytes(body.content).identity.hex() == notice["identity"]
        assert "immutable" in body.headers["cache-control"]
    buses, flood = client.get("/v1/programmes").json()
    assert (buses["state"], flood["state"]) == ("coming", "running"), "an emergency needs no days of notice"
    assert len(flood["signers"]) == 10
    assert flood["signers"][0]["name"]
    assert client.get("/v1/notices/" + "0" * 64).status_code == 404
    assert client.get("/v1/notices/zz").status_code in (400, 404)


def test_programmes_start_and_end_with_the_clock(city: ds.City) -> None:
    states = [
        [p["state"] for p in governance.programmes(city, NOW + days * DAY)] for days in (0, 3, 6, 201)
    ]  # fmt: skip
    assert states == [["coming", "running"], ["running", "running"], ["running", "over"], ["over", "over"]]


def test_a_city_without_a_charter_says_so(tmp_path: Path, clock: Clock) -> None:
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        assert httpx.get(f"{at}/v1/charter").status_code == 404
        assert httpx.get(f"{at}/v1/programmes").json() == []
        assert "no charter" in httpx.get(f"{at}/").text


def _published(city: ds.City) -> list[int]:
    found = []
    for number in range(4096):
        with suppress(StoreError):
            city.status_list(number)
            found.append(number)
    return found


def test_status_lists_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        clock.now += 3_600
        city.tick()
        assert httpx.get(f"{at}/v1/status").content == city.status() != b""
        number, *_ = _published(city)
        answer = httpx.get(f"{at}/v1/status/{number}")
        assert answer.status_code == 200
        assert httpx.get(f"{at}/v1/status/{min(set(range(4096)) - set(_published(city)))}").status_code == 404
        assert answer.headers["content-type"] == "application/statuslist+cwt"
        status.read(answer.content, city.id.verify_key, number)
        assert httpx.get(f"{at}/v1/status/4096").status_code in (400, 404)


def test_receipts_name_their_approvals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)
    clock = Clock()
    with build(tmp_path, clock, 8) as city, serving(city, {}, clock) as at:
        found = verify_bundle(httpx.get(f"{at}/v1/receipts").content, city.id)
        assert len(found.receipts) == len(city.releases()) == 8
        assert all(r.approval is not None and r.approved for r in found.receipts)


def test_a_turn_of_the_clock_takes_letters_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)
    clock = Clock()
    with found_city(tmp_path, clock) as city:
        shared = Shared(city, {}, clock=clock)
        size = city.log.size
        city.receive(bytes(16 * 1024 + 48))
        clock.now += 3_600
        schedule.turn(shared)
        assert list((tmp_path / "lake.city.inbox").iterdir()) == []
        assert city.log.size > size
        shared.close()


def test_a_running_gateway_takes_letters_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)
    clock = Clock()
    with found_city(tmp_path, clock) as city:
        city.receive(bytes(16 * 1024 + 48))
        clock.now += 3_600
        with serving(city, {}, clock, scheduled=True) as at:
            for _ in range(400):
                if not list((tmp_path / "lake.city.inbox").iterdir()) and city.log.size:
                    break
                httpx.get(f"{at}/log/checkpoint")
            assert list((tmp_path / "lake.city.inbox").iterdir()) == []


HOSTILE = "<script>alert(1)</script>\"'&"


def test_words_of_others_are_escaped(tmp_path: Path) -> None:
    clock = Clock()
    purpose = ds.Purpose(PURPOSE, ja=HOSTILE, en=HOSTILE)
    with found_city(tmp_path, clock, purposes=[purpose], name="<b>lake</b>", processing="JP-25") as city:
        council = charter_for(city).council
        named = type(council)((Member(HOSTILE, council.members[0].key), *council.members[1:]), council.threshold, 4)
        city.adopt(signed(charter_for(city, council=named)))
        city.approve(signed(programme_for(city, name=HOSTILE, cohort=0)))
        clock.now += 4 * DAY
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        with serving(city, {}, clock) as at:
            for path in ("/", "/?lang=ja", f"/answers/{city.releases()[0].identifier.hex()}"):
                text = httpx.get(at + path).text
                assert "&lt;script&gt;" in text
                assert "<script" not in text
                assert "<b>lake" not in text
                assert " style=" not in text
                assert not re.search(r"\son\w+=", text)


def test_pages_forbid_all_but_their_style(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "script-src" not in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert answer.headers["vary"] == "accept-language"
    addresses = re.findall(r'(?:href|src)="([^"]*)"', answer.text)
    assert all(a.startswith(("/", "#", "?")) and not a.startswith("//") for a in addresses)
    for address in {a.split("#")[0] for a in addresses if a.startswith("/")}:
        assert client.get(address).status_code == 200, address
    style = client.get("/page.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"), ("ja", "ja"), ("ja-JP,ja;q=0.9,en;q=0.8", "ja"), ("en-GB,ja;q=0.9", "en"), ("fr,ja;q=0.2", "ja"),
        ("en;q=0.1,ja;q=0.9", "ja"), ("de", "en"), ("ja;q=x,en", "en"), (",;,=", "en"), ("jan", "en"),
    ],
)  # fmt: skip
def test_the_language_is_the_one_asked_for(client: httpx.Client, accepted: str, language: str) -> None:
    assert preferred(None, accepted) == language
    answer = client.get("/", headers={"accept-language": accepted})
    assert answer.headers["content-language"] == language
    assert f'<html lang="{language}">' in answer.text
    assert '<html lang="ja">' in client.get("/?lang=ja", headers={"accept-language": accepted}).text


def test_every_text_is_there_in_both_languages() -> None:
    en, ja = words("en"), words("ja")
    assert en.keys() == ja.keys()
    for name in en:
        fields = [set(re.findall(r"\{(\w+)\}", text[name])) for text in (en, ja)]
        assert fields[0] == fields[1], name
        assert en[name], name
        assert ja[name], name


def test_a_page_is_made_anew_with_the_log(city: ds.City, client: httpx.Client, clock: Clock) -> None:
    before = client.get("/").text
    assert client.get("/").text == before
    size = re.search(r"<b>(\d+)</b> <span>entries", before)
    assert size is not None
    assert int(size[1]) == city.log.size
    clock.now += 3 * DAY
    city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    after = client.get("/").text
    assert f"<b>{city.log.size}</b>" in after
    city.release(COUNT, loss=ds.zcdp(rho="0.004"), purpose=PURPOSE)
    after = client.get("/").text
    assert f"<b>{city.log.size}</b>" in after, "at once, and not when some seconds are over"
    assert f'href="/answers/{city.releases()[-1].identifier.hex()}?lang=en"' in after


def test_an_answer_page_has_all_numbers(city: ds.City, client: httpx.Client, clock: Clock) -> None:
    clock.now += DAY
    release = city.release(COUNT.sum("km"), loss=ds.zcdp(rho="0.004"), purpose=PURPOSE)
    text = client.get(f"/answers/{release.identifier.hex()}").text
    for name in ("count", "km_sum"):
        for value in release.frame()[name].to_list():
            assert f">{telling.number(value)}<" in text
    assert release.digest.hex() in text
    assert client.get("/answers/" + "0" * 32).status_code == 404
    assert client.get("/answers/x").status_code == 404


def test_withheld_cells_say_so(tmp_path: Path) -> None:
    clock = Clock()
    with governed_city(tmp_path, clock) as city:
        city.approve(signed(programme_for(city, cohort=10**6)))
        clock.now += 3 * DAY
        release = city.release(COUNT.distinct(), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        with serving(city, {}, clock) as at:
            assert release.withheld
            assert httpx.get(f"{at}/answers/{release.identifier.hex()}").text.count("withheld: too few") == 8


def test_budget_that_was_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
        text = httpx.get(f"{at}/").text
        assert "<dd>ρ = 0.9</dd>" in text
        assert "set aside" not in text
        with monkeypatch.context() as patch:
            patch.setattr("datasov.city.asking.record_release", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                city.release(COUNT, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE)
        clock.now += 10
        text = httpx.get(f"{at}/").text
        assert "<dd>ρ = 0.85</dd>" in text
        assert "ρ = 0.05 was set aside" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-3.0, "−3"), (1234.0, "1,234"), (0.1234, "0.123"), (12.345, "12.3"), (-123.456, "−123"),
     (98765.4, "98,765"), (float("inf"), "∞"), (float("-inf"), "−∞")],
)  # fmt: skip
def test_numbers_for_people(value: float, text: str) -> None:
    assert telling.number(value) == text


def test_a_scale_holds_zero_and_all_values() -> None:
    scale = chart.Scale.over([-10.0, 30.0, float("inf")])
    assert (scale.at(-10), scale.at(0), scale.at(30), scale.at(1e9)) == (0.0, 250.0, 1000.0, 1000.0)
    assert chart.Scale.over([]).at(0.5) == 500.0


def test_bars_and_steps_are_where_the_numbers_are() -> None:
    bar = chart.bar(chart.Scale(0, 100), 50, 40, 60)
    assert 'x="0.0" y="4" width="500.0"' in bar
    assert '<line class="whisker" x1="400.0" x2="600.0"' in bar
    line = chart.steps([(0, 0), (50, 0.5), (100, 0.5)], 1.0)
    assert "M0.0 220.0H500.0V116.2H1000.0V116.2" in line


def test_residents_operations_take_no_more_than_a_letter() -> None:
    (letters,) = [o for o in residents.operations() if o.name == "postLetter"]
    assert letters.most == 8 * 1024 * 1024 + 48
    assert json.dumps([dict(r.content) for r in letters.replies])
