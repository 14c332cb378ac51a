"""A gateway over cities that ask devices: collections, their releases, the list of tasks, noised reports, the page."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import datasov as ds
from datasov.aggregator.client import with_city
from datasov.gateway.page import telling
from datasov.mpc.listed import Listed
from datasov.mpc.noised import NoisedReport
from datasov.mpc.task import read_task
from datasov.remote import Remote
from datasov.wire import cbor
from tests.gateway_ports import serving
from tests.gateways import client_of, short
from tests.helpers import PURPOSE, TRIPS, Clock, instant
from tests.locals import ALL, LARGE, certain, city_of, person
from tests.servers import LONG, grant, resident, silent, two_server_city

DAY = 86_400
CELL: dict[str, Any] = {
    "question": {"table": "trips", "keys": ["district"], "bound": {"rows": 1, "keys": 1}, "ask": ["count"]},
    "loss": {"rho": "0.05"}, "purpose": PURPOSE,
}  # fmt: skip
NOISED: dict[str, Any] = {**CELL, "loss": {"epsilon": "16"}}


def until(clock: Clock, seconds: int = LONG) -> dict[str, str]:
    return {"until": instant(clock.now + seconds).isoformat()}


def report(client: Any, data: bytes) -> httpx.Response:
    return client("POST", "/v1/reports", content=data, headers={"content-type": "application/octet-stream"})


def test_a_collection_from_its_opening_to_its_release(tmp_path, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        early = client.post("/v1/releases", CELL)
        assert (early.status_code, early.json()["type"]) == (409, "/problems/not-collected")
        made = client.post("/v1/collections", {**CELL, **until(clock)}, key="one")
        assert made.status_code == 201
        told = made.json()
        at = made.headers["location"]
        assert at == f"/v1/collections/{told['id']}"
        assert told == client("GET", at, "auditor").json()
        assert (told["state"], told["release"], told["trust"]) == ("open", None, city.trust.text)
        (task,) = city.tasks()
        assert read_task(task).id.hex() == told["id"]
        assert city.remaining == ds.zcdp(rho="0.95")
        assert servers.leader.ledger.stored(read_task(task).id) == task
        clock.now += 60
        still = client.post("/v1/releases", CELL)
        assert (still.status_code, still.json()["type"]) == (409, "/problems/collection-open")
        assert still.headers["retry-after"] == str(LONG - 60)
        reports = []
        for n in range(3):
            who = resident(tmp_path, clock, n, {TRIPS: [{"district": "NES"[n], "km": n}]})
            grant(who, city)
            reports.append(who.answer(task))
            who.close()
        servers.upload(reports)
        clock.now += LONG
        assert client("GET", at, "analyst").json()["state"] == "ended"
        answer = client.post("/v1/releases", CELL, key="two")
        assert answer.status_code == 200
        assert [row["count"] for row in answer.json()["rows"]] == [1, 1, 1, 0]
        assert client.post("/v1/releases", CELL, key="two").json() == answer.json()
        after = client("GET", at, "operator").json()
        assert (after["state"], after["release"]) == ("released", answer.json()["id"])
        assert client("GET", f"/v1/releases/{after['release']}", "analyst").json() == answer.json()
        assert city.remaining == ds.zcdp(rho="0.95")


def test_collections_are_listed_the_newest_first(tmp_path, clock):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        assert client("GET", "/v1/collections", "analyst").json() == {"collections": [], "next": None}
        made = []
        for cut in (1, 2, 3):
            question = {**CELL["question"], "where": {"column": "km", "gt": cut}}
            asked = {**CELL, "question": question, **until(clock, LONG * cut)}
            made.append(client.post("/v1/collections", asked).json()["id"])
        first = client("GET", "/v1/collections?limit=2", "auditor").json()
        assert [c["id"] for c in first["collections"]] == made[:0:-1]
        last = client("GET", f"/v1/collections?limit=2&before={first['next']}", "auditor").json()
        assert ([c["id"] for c in last["collections"]], last["next"]) == (made[:1], None)
        clock.now += LONG
        states = [c["state"] for c in client("GET", "/v1/collections", "analyst").json()["collections"]]
        assert states == ["open", "open", "ended"]
        assert client("GET", f"/v1/collections/{'0' * 64}", "analyst").status_code == 404


def test_who_may_open_and_see(tmp_path, clock):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        body = {**CELL, **until(clock)}
        assert client("POST", "/v1/collections", "operator", json=body).status_code == 403
        assert client("POST", "/v1/collections", json=body).status_code == 401
        assert client("GET", "/v1/collections").status_code == 401
        assert client("GET", f"/v1/collections/{'0' * 64}").status_code == 401
        assert city.remaining == city.budget


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"until": "2020-01-01"}, 400), ({"until": "soon"}, 400), ({"until": "2099-01-01"}, 400),
        ({"zone": "Nowhere/../x"}, 400), ({"every": -1}, 400), ({"purpose": "other"}, 403),
        ({"loss": {"rho": "3"}}, 429), ({"question": {"sql": "SELECT 1"}}, 400), ({"more": 1}, 400),
        ({"question": {**CELL["question"], "top": 2}}, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_costs_nothing(tmp_path, clock, changed, status):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        body = {**CELL, "until": "2027-02-01", **changed}
        assert client.post("/v1/collections", body, key="k").status_code == status
        assert (city.remaining, city.tasks()) == (city.budget, [])


def test_a_question_in_sql_and_a_last_day_in_a_zone(tmp_path, clock):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        sql = {"sql": "SELECT district, COUNT(*) FROM trips GROUP BY district", "bound": {"rows": 1, "keys": 1}}
        body = {**CELL, "question": sql, "until": "2027-02-01", "zone": "Europe/Berlin"}
        made = client.post("/v1/collections", body).json()
        assert made["until"] == "2027-02-01T23:00:00Z"
        same = client.post("/v1/collections", {**CELL, **until(clock)}).json()
        assert same == made, "the same question in an epoch is one collection, with the end that it has"


def test_a_central_city_opens_none_and_lists_none(city, clock):
    with client_of(city, clock) as client:
        refused = client.post("/v1/collections", {**CELL, **until(clock)})
        assert (refused.status_code, refused.json()["type"]) == (400, "/problems/invalid-question")
        listed = client("GET", "/v1/tasks")
        assert Listed.from_bytes(listed.content).entries == ()
        assert report(client, b"\x80").status_code == 400


def test_a_retry_is_the_same_collection_also_on_another_day(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        servers.down.add(servers.leader.me.url)
        body = {**CELL, **until(clock, 3 * DAY)}
        lost = client.post("/v1/collections", body, key="one")
        assert (lost.status_code, lost.json()["type"]) == (503, "/problems/unavailable")
        assert city.remaining == ds.zcdp(rho="0.95"), "the task stands"
        clock.now += DAY
        servers.down.clear()
        made = client.post("/v1/collections", body, key="one")
        assert made.status_code == 201
        (task,) = city.tasks()
        assert made.json()["id"] == read_task(task).id.hex()
        assert servers.leader.ledger.stored(read_task(task).id) == task, "the leader was told"
        assert city.remaining == ds.zcdp(rho="0.95")
        assert client.post("/v1/collections", {**body, "every": 1}, key="one").status_code == 422
        assert client.post("/v1/collections", body, key="two").json()["id"] != made.json()["id"]
        assert city.remaining == ds.zcdp(rho="0.9")


def test_a_retry_after_its_process_died_finds_the_collection_of_its_day(tmp_path, clock, monkeypatch):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        body = {**CELL, **until(clock, 3 * DAY)}
        with monkeypatch.context() as patch:
            patch.setattr("datasov.city.serving.Retries._end", lambda *_: None)  # as if it had died before its word
            first = client.post("/v1/collections", body, key="one").json()
        clock.now += DAY
        assert client.post("/v1/collections", body, key="one").json() == first
        assert city.remaining == ds.zcdp(rho="0.95")


def test_many_who_ask_the_same_at_once_open_one_and_pay_once(tmp_path, clock, monkeypatch):
    city, _ = two_server_city(tmp_path, clock)
    opening = city._open_task

    def slow(*given: Any) -> bytes:
        time.sleep(0.2)
        return opening(*given)

    monkeypatch.setattr(city, "_open_task", slow)
    with city:
        query = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
        gate, found = threading.Barrier(4), list[bytes]()

        def ask() -> None:
            gate.wait()
            end = instant(clock.now + LONG)
            found.append(city.collect(query, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE, until=end))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1 == len(city.tasks())
        assert city.remaining == ds.zcdp(rho="0.95")


def test_what_an_aggregator_does_wrong_is_not_the_analysts_fault(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        made = client.post("/v1/collections", {**CELL, **until(clock)})
        clock.now += LONG
        honest, city._post = city._post, lambda *_: b"\x82\x40\x40"
        rubbish = client.post("/v1/releases", CELL)
        servers.down.add(servers.leader.me.url)
        city._post = honest
        down = client.post("/v1/releases", CELL)
        for answer in (rubbish, down):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        servers.down.clear()
        assert client.post("/v1/releases", CELL).status_code == 200
        assert client("GET", made.headers["location"], "analyst").json()["state"] == "released"


def test_the_list_of_tasks_is_the_same_for_everybody_and_each_stands_in_the_log(tmp_path, clock):
    city, _ = two_server_city(tmp_path, clock)
    who = resident(tmp_path, clock, "ann", {TRIPS: []})
    with city, who, client_of(city, clock) as client:
        client.post("/v1/collections", {**CELL, **until(clock)})
        client.post("/v1/collections", {**CELL, "loss": {"rho": "0.1"}, **until(clock, 2 * LONG)})
        listed = client("GET", "/v1/tasks")
        assert listed.status_code == 200
        assert listed.headers["cache-control"].startswith("public")
        assert not [n for n in listed.headers if n in ("set-cookie", "vary")]
        assert client("GET", "/v1/tasks", "analyst").content == listed.content
        assert client("GET", "/v1/tasks", headers={"if-none-match": listed.headers["etag"]}).status_code == 304
        assert who.tasks(listed.content, city=city.id) == city.tasks()
        assert len(city.tasks()) == 2
        clock.now += LONG
        assert who.tasks(listed.content, city=city.id) == city.tasks(), "a list from before names none that is over"
        later = client("GET", "/v1/tasks")
        assert later.headers["etag"] != listed.headers["etag"]
        assert who.tasks(later.content, city.log, city=city.id) == city.tasks()
        assert len(city.tasks()) == 1


def test_reports_all_get_one_answer_and_count_once(tmp_path, clock, monkeypatch):
    certain(monkeypatch)
    city, _ = city_of(tmp_path, clock, ds.local())
    people = [person(tmp_path, clock, n, city, "NES"[n], ds.local()) for n in range(3)]
    people.append(resident(tmp_path, clock, "none", {TRIPS: [{"district": "N", "km": 1}]}))
    with city, client_of(city, clock) as client:
        assert client.post("/v1/collections", {**NOISED, **until(clock)}).status_code == 201
        (task,) = people[0].tasks(client("GET", "/v1/tasks").content)
        reports = [who.answer(task) for who in people]
        other = reports[0][:-1] + bytes([reports[0][-1] ^ 1])
        answers = [report(client, data) for data in (*reports, *reports, other, reports[0])]
        assert {(a.status_code, a.content, *sorted(a.headers.items())) for a in answers} == {
            (answers[0].status_code, answers[0].content, *sorted(answers[0].headers.items()))
        }
        assert answers[0].status_code == 202
        clock.now += LONG
        late = report(client, reports[0])
        assert (late.status_code, late.json()["type"]) == (422, "/problems/invalid-data")
        answer = client.post("/v1/releases", NOISED).json()
        assert [round(row["count"]) for row in answer["rows"]] == [2, 2, 2, 0], "one said for sure is two expected"
    for who in people:
        who.close()


def test_the_page_tells_who_must_be_trusted_and_what_is_open(tmp_path, clock, monkeypatch):
    city, _ = city_of(tmp_path, clock, ALL)
    query = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
    with city, client_of(city, clock) as client:
        closed = client("GET", "/").text
        assert "No question is open now." in closed
        task = city.collect(query, loss=LARGE, purpose=PURPOSE, until=instant(clock.now + LONG))
        text, ja = (client("GET", f"/?lang={language}").text for language in ("en", "ja"))
        name = read_task(task).id.hex()
        end = telling.moment(clock.now + LONG, telling.zone("JP"), "en")
        assert f'id="c-{name}"' in text
        assert f'id="c-{name}"' in ja
        assert end in text
        assert "one at least of two servers (city, council)" in text
        assert "nobody, for privacy" in text
        assert "二つのサーバー" in ja
        clock.now += LONG
        release = city.release(query, loss=LARGE, purpose=PURPOSE)
        over = client("GET", "/").text
        assert "No question is open now." in over
        answer = client("GET", f"/answers/{release.identifier.hex()}?lang=en").text
        assert answer.count("Who must be trusted") == 3


def test_a_central_citys_page_has_no_collections(city: ds.City, clock: Clock, tmp_path: Path) -> None:
    with client_of(city, clock) as client:
        text = client("GET", "/?lang=en").text
        assert "#collections" not in text
        assert "the city’s operator, who adds the rows up" in text


def test_a_city_with_a_roll_gives_a_token_and_counts_a_person_once(tmp_path, clock, monkeypatch):
    certain(monkeypatch)
    city, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    ann, ben, eve = (person(tmp_path, clock, name, city, "N", city.trust) for name in ("ann", "ben", "eve"))
    city.enrol([("Ann", ann.enrolment_key(city.id)), ("Ben", ben.enrolment_key(city.id))])
    query = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
    with city, serving(city, {"trips": TRIPS}, clock, short()) as at, Remote(at) as remote:
        task = city.collect(query, loss=LARGE, purpose=PURPOSE, until=instant(clock.now + LONG))
        way = with_city(remote.tokens)
        for who in (ann, ben):
            remote.report(who.answer(task, post=way))
            remote.report(who.answer(task, post=way))
        with pytest.raises(ds.ConsentError):
            eve.answer(task, post=way)
        bare = NoisedReport(read_task(task).id, bytes(16), NoisedReport.from_bytes(ann.answer(task)).answer)
        for refused in (bare.to_bytes(), NoisedReport.from_bytes(ann.answer(task)).to_bytes()[:-1] + b"\0"):
            with pytest.raises(ds.PeerError, match="answered 400"):
                remote.report(refused)
        assert ds.Trust.from_document(remote.city()["parties"]) == city.trust  # type: ignore[arg-type]
        clock.now += LONG
        found = city.release(query, loss=LARGE, purpose=PURPOSE)
        assert found.responses is not None
        assert found.responses.tally.reports == 2
    for who in (ann, ben, eve):
        who.close()


@pytest.mark.parametrize(
    "body", [b"", b"\x82", cbor.encode([bytes(32), [b"x"]]), cbor.encode([bytes(31), [b"x"]]), b"\xff"]
)
def test_requests_for_tokens_that_are_none_are_refused(tmp_path, clock, body):
    city, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    with city, client_of(city, clock) as client:
        city.collect(
            ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count(), loss=LARGE, purpose=PURPOSE,
            until=instant(clock.now + LONG),
        )  # fmt: skip
        headers = {"content-type": "application/octet-stream"}
        assert client("POST", "/v1/tokens", content=body, headers=headers).status_code == 400
        assert client("POST", "/v1/tokens", content=bytes(65 * 1024), headers=headers).status_code == 413


def test_a_city_without_a_roll_gives_no_tokens(city, clock):
    with client_of(city, clock) as client:
        body = cbor.encode([bytes(32), [b"x"]])
        answer = client("POST", "/v1/tokens", content=body, headers={"content-type": "application/octet-stream"})
        assert answer.status_code == 400
