"""The publisher: the five traps of a broker, retries, and what the outbox remembers."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import datasov as ds
from datasov import ngsi
from datasov.errors import InvalidQueryError, MissingExtraError, PeerError, ProofError, StoreError
from datasov.ngsi import broker as broker_module
from datasov.ngsi import describe as describe_module
from datasov.ngsi import entity as entity_module
from datasov.ngsi import statistic as statistic_module
from datasov.ngsi.broker import Broker
from datasov.ngsi.outbox import Delivered, Outbox
from datasov.ngsi.publishing import Piece, entities, publish
from datasov.ngsi.texts import plain
from tests.helpers import PURPOSE, Clock
from tests.ngsi import BEGIN, BY_AREA, LOSS, asked, city_at, later, piece
from tests.orion import Linked, Orion, served
from tests.paths import ROOT, city_os

Served = tuple[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ds.City]:
    with city_at(tmp_path_factory.mktemp("ngsi"), Clock(BEGIN)) as found:
        yield found


@pytest.fixture(scope="module")
def told(city: ds.City) -> list[Piece]:
    return asked(city)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox") as found:
        yield found


@pytest.fixture
def orion() -> Iterator[tuple[Orion, Broker, list[tuple[Any, ...]]]]:
    made = Orion()
    with served(made) as (url, seen):
        yield made, Broker(url, service="city", path="/dp", sleep=lambda _: None), seen


def differences(held: Orion, made: list[ngsi.Entity]) -> list[str]:
    """The entities that a broker holds otherwise than they were made."""
    own = held.held.get(("city", "/dp"), {})
    return [e.identifier for e in made if own.get(e.identifier) != ngsi.normalized(e)]


def delivered(held: Orion, broker: Broker, outbox: Outbox, given: list[Piece], **options: Any) -> list[str]:
    """Publish pieces one after the other; what the broker then holds otherwise than the last of each question."""
    publish(given, broker, outbox, **options).check()
    last = {p.statistics[0].source.standing: p for p in given}.values()
    return [d for p in last for d in differences(held, entities(p, by=options.get("by", "release")))]


def answers(city: ds.City, told: list[Piece]) -> list[Piece]:
    """A question's answer, and a later one of which a cell is withheld."""
    release = next(r for r in city.releases() if r.query == BY_AREA)
    return [piece(release), piece(later(release, withheld=(0,)))]


# --- the five traps


def test_a_broker_holds_exactly_what_was_released(orion, outbox, told):
    made, broker, _ = orion
    assert delivered(made, broker, outbox, told, by="release") == []
    labels = {
        plain(e[name]["value"]) for e in made.held["city", "/dp"].values() for name in e if name.startswith("key__")
    }
    assert {"北(N)", "東=E", "南"} <= labels


def test_each_answer_takes_the_place_of_the_one_before(orion, outbox, city, told):
    made, broker, _ = orion
    assert delivered(made, broker, outbox, answers(city, told), by="question") == []
    withheld = [e for e in made.held["city", "/dp"].values() if e["withheld"]["value"]]
    assert len(withheld) == 2
    assert all(e["value"]["value"] is None and "low" not in e["value"]["metadata"] for e in withheld)


def test_trap_1_without_the_option_an_old_interval_would_stay(orion, outbox, city, told, monkeypatch):
    monkeypatch.setattr(broker_module, "UPDATE", "/v2/op/update")
    made, broker, _ = orion
    assert delivered(made, broker, outbox, answers(city, told), by="question") != []


def test_trap_2_without_encoding_a_label_is_refused(orion, outbox, told, monkeypatch):
    monkeypatch.setattr(entity_module, "safe", lambda text: text)
    made, broker, _ = orion
    with pytest.raises(PeerError, match="Invalid characters in attribute value"):
        delivered(made, broker, outbox, told)


@pytest.mark.parametrize("name", ["token", "attribute"])
def test_trap_3_without_ascii_names_an_id_or_an_attribute_is_refused(orion, outbox, city, told, monkeypatch, name):
    monkeypatch.setattr(statistic_module, name, lambda text: text)
    made, broker, _ = orion
    with pytest.raises(PeerError, match=r"Invalid characters in (entity id|attribute name)"):
        delivered(made, broker, outbox, answers(city, told))


def test_trap_4_a_local_date_is_told_apart_since_times_become_utc(orion, outbox, told, monkeypatch):
    made, broker, _ = orion
    assert delivered(made, broker, outbox, told) == []
    days = [e for e in made.held["city", "/dp"].values() if "localFrom" in e]
    assert {e["localDate"]["value"] for e in days} == {f"2027-01-0{d}" for d in range(1, 6)}
    assert all(e["dateObserved"]["value"][:10] != e["localDate"]["value"] for e in days)
    assert all(e["localFrom"]["value"].endswith("T00:00:00+09:00") for e in days)

    monkeypatch.setattr(describe_module, "utc", lambda moment: "2027-01-02T00:00:00+09:00")
    publish(told, dataclasses.replace(broker, path="/other"), outbox).check()
    changed = made.held["city", "/other"]
    assert any(ngsi.normalized(e) != changed[e.identifier] for p in told for e in entities(p))


def test_trap_5_a_plain_creation_is_refused_the_second_time(orion, outbox, city, told, monkeypatch):
    monkeypatch.setattr(broker_module, "ACTION", "appendStrict")
    made, broker, _ = orion
    with pytest.raises(PeerError, match=r"422, .*Already Exists"):
        delivered(made, broker, outbox, answers(city, told), by="question")


# --- replay of what Orion answered


def test_the_recorded_batch_is_made_byte_for_byte_alike_in_meaning(monkeypatch):
    pair = json.loads(city_os("orion_3.10.1_transcripts.json").read_text())["transcripts"][13]
    asked_ = pair["request"]
    made = [
        ngsi.Entity(e["id"], e["type"], tuple(
            entity_module.Attribute(n, a["type"], a["value"], {k: m["value"] for k, m in a.get("metadata", {}).items()})
            for n, a in e.items() if n not in ("id", "type")
        )) for e in asked_["body"]["entities"]
    ]  # fmt: skip
    seen: list[tuple[Any, ...]] = []

    def replay(method: str, target: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        seen.append((method, target, headers, body))
        return pair["response"]["status"], {}, pair["response"]["body"]

    with served(replay) as (url, _):
        assert Broker(url, service="city", path="/dp").deliver(made) == 1
    ((method, target, headers, body),) = seen
    assert (method, target) == (asked_["method"], asked_["path"])
    assert all(headers[name] == value for name, value in asked_["headers"].items())
    for entity in body["entities"]:
        for name, attribute in entity.items():
            if name not in ("id", "type") and attribute["metadata"] == {}:
                del attribute["metadata"]
    assert body == asked_["body"]


@pytest.mark.parametrize("place", [2, 8, 9, 18])
def test_what_orion_refused_is_a_peer_error_with_its_words(place, told, outbox):
    answer = json.loads(city_os("orion_3.10.1_transcripts.json").read_text())["transcripts"][place]["response"]
    words = answer["body"].get("description") or answer["body"]["orionError"]["details"]
    with served(lambda *_: (answer["status"], {}, answer["body"])) as (url, seen):
        report = publish(told, Broker(url), outbox)
        assert len(seen) == len(told), "each is tried once: a refusal is not asked again, and others may fare better"
    assert [key for key, _ in report.failed] == [p.key for p in told]
    assert all(words in why and str(answer["status"]) in why for _, why in report.failed)
    with pytest.raises(PeerError, match="4 releases are not at the broker"):
        report.check()
    assert outbox.entries(Broker(url).name) == []


# --- retries


def flaky(real: Callable[..., Any], *answers_: tuple[int, dict[str, str], Any]) -> Callable[..., Any]:
    left = list(answers_)
    return lambda *request: left.pop(0) if left else real(*request)


def test_a_broker_that_fails_for_a_while_gets_the_same_bytes_again(outbox, told):
    made, slept = Orion(), list[float]()
    busy = (503, {"Retry-After": "7"}, {}), (500, {}, {}), (429, {}, {})
    with served(flaky(made, *busy)) as (url, seen):
        broker = Broker(url, service="city", path="/dp", pause=1, sleep=slept.append)
        assert delivered(made, broker, outbox, told[:1]) == []
        assert len({body for *_, body in seen[:4]}) == 1
        assert len(seen) == 4
    assert [round(s / 0.75, 2) <= p <= round(s / 0.5, 2) for s, p in zip(slept, (7, 14, 28), strict=True)]
    assert all(low <= s <= high for s, (low, high) in zip(slept, [(5, 9), (10, 18), (20, 36)], strict=True))


def test_a_broker_that_is_not_there_ends_the_attempt_and_the_next_one_delivers(outbox, told):
    made = Orion()
    with served(made) as (url, _):
        pass
    report = publish(told, Broker(url, retries=1, sleep=lambda _: None), outbox)
    assert [key for key, _ in report.failed] == [told[0].key]
    assert report.left == [p.key for p in told[1:]]
    assert "asked 2 times" in report.failed[0][1]
    assert "ConnectError" in report.failed[0][1]
    with served(made) as (url, _):
        broker = Broker(url, service="city", path="/dp")
        assert delivered(made, broker, outbox, told) == []


def test_a_broker_that_does_not_answer_in_time_is_given_up(outbox, told):
    done = threading.Event()
    with served(lambda *_: (done.wait(20), (204, {}, ""))[1]) as (url, _):
        report = publish(told[:1], Broker(url, retries=0, timeout=0.2), outbox)
        done.set()
    assert "ReadTimeout" in report.failed[0][1]


def test_a_redirect_is_not_followed_and_a_hostile_answer_is_cut(outbox, told):
    with served(lambda *_: (302, {"Location": "http://127.0.0.1:1/"}, "x\x1b[2J" * 10**5)) as (url, seen):
        report = publish(told[:1], Broker(url), outbox)
        assert len(seen) == 1
    assert "status 302" in report.failed[0][1]
    assert len(report.failed[0][1]) < 500
    assert report.failed[0][1].isprintable()


def test_an_answer_s_words_are_shown_on_one_line_that_no_terminal_obeys():
    shown = broker_module._line(b"no\x1b[2J\nno \xe9\x8c\xaf" + b"x" * 10**6)
    assert shown.startswith("no [2J no 錯")
    assert len(shown) <= 300


# --- batches and headers


def test_batches_are_as_long_as_was_asked_and_never_above_orion_s_limit(told, monkeypatch):
    made = entities(told[0])
    bodies = [json.loads(body) for _, body in Broker("http://x", batch=4).requests(made)]
    assert [len(b["entities"]) for b in bodies] == [4, 3]
    monkeypatch.setattr(broker_module, "MAX_BYTES", 9000)
    small = list(Broker("http://x").requests(made))
    assert len(small) > 1
    assert all(len(body) <= 9100 for _, body in small)
    assert [e["id"] for _, body in small for e in json.loads(body)["entities"]] == [e.identifier for e in made]


def test_headers_name_the_tenant_and_the_bearer(told, outbox):
    with served(lambda *_: (204, {}, "")) as (url, seen):
        publish(told[:1], Broker(url, service="city", path="/dp", token="s3cret"), outbox).check()
        publish(told[:1], Broker(url, "ngsi-ld", service="city", token="s3cret"), outbox).check()
    (_, _, first, _), (_, target, second, _) = seen
    assert (first["Fiware-Service"], first["Fiware-ServicePath"]) == ("city", "/dp")
    assert second["NGSILD-Tenant"] == "city"
    assert "Fiware-Service" not in second
    assert target.startswith("/ngsi-ld/v1/entityOperations/upsert")
    assert {h["Authorization"] for h in (first, second)} == {"Bearer s3cret"}
    assert "s3cret" not in repr(Broker(url, token="s3cret"))


@pytest.mark.parametrize(("given", "word"), [
    ({"url": "orion:1026"}, "URL"), ({"url": "http://a:b@orion"}, "user and password"),
    ({"url": "http://o/?x=1"}, "URL"),
    ({"dialect": "ngsi9"}, "speaks"), ({"service": "City"}, "Fiware-Service"), ({"path": "dp"}, "ServicePath"),
    ({"batch": 0}, "batch"), ({"retries": -1}, "retries"), ({"timeout": 0}, "timeout"), ({"token": "a\nb"}, "token"),
])  # fmt: skip
def test_a_broker_is_refused_that_is_none(given, word):
    with pytest.raises(InvalidQueryError, match=word):
        Broker(**{"url": "http://orion:1026", **given})


# --- the outbox


def test_what_a_broker_has_is_not_sent_again_and_each_broker_has_its_own_account(orion, outbox, told, tmp_path):
    _, broker, seen = orion
    first = publish(told, broker, outbox)
    assert (len(first.delivered), first.known) == (4, [])
    count = len(seen)
    with Outbox(tmp_path / "outbox") as again:
        second = publish(told, broker, again)
    assert (second.delivered, len(second.known), len(seen)) == ([], 4, count)
    other = publish(told, dataclasses.replace(broker, path="/other"), outbox)
    assert len(other.delivered) == 4
    assert {d.entities for d in outbox.entries(broker.name)} == {7, 5, 2, 3}


def test_a_delivery_that_two_publishers_note_stands_once(told, tmp_path):
    source = told[0].statistics[0].source
    noted = Delivered(*told[0].key, "release", source.standing, told[0].order, 7, "00")
    with Outbox(tmp_path / "o") as one, Outbox(tmp_path / "o") as two:
        for box in (one, two, one):
            box.note("broker", noted)
        two.note("broker", dataclasses.replace(noted, by="question"))
        assert [d.by for d in one.entries("broker")] == ["release", "question"]
        assert two.entries("other") == []


def test_a_crash_between_delivery_and_note_delivers_the_same_once_more(orion, outbox, told, monkeypatch):
    made, broker, seen = orion
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "note", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
        with pytest.raises(StoreError):
            publish(told, broker, outbox)
    before = json.dumps(made.held["city", "/dp"], sort_keys=True)
    told_of = len(made.notified)
    assert delivered(made, broker, outbox, told[:1]) == []
    assert json.dumps(made.held["city", "/dp"], sort_keys=True) == before
    assert (len(made.notified), seen[0][3]) == (told_of, seen[1][3])


def test_a_killed_publisher_leaves_an_outbox_that_goes_on(orion, told, tmp_path, city):
    made, broker, seen = orion
    script = f"""
import os, pickle, sys, signal
import datasov, datasov.ngsi, datasov.cli
assert not any(name.split(".")[0] in ("httpx", "starlette") for name in sys.modules), "loaded lazily"
from datasov.ngsi.broker import Broker
from datasov.ngsi.outbox import Delivered, Outbox
from datasov.ngsi.publishing import publish
told = pickle.load(open({str(tmp_path / "pieces")!r}, "rb"))
note, count = Outbox.note, []
def killed(self, *given):
    count.append(1)
    if len(count) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, *given)
Outbox.note = killed
with Outbox({str(tmp_path / "box")!r}) as box:
    publish(told, Broker({broker.url!r}, service="city", path="/dp"), box)
"""
    (tmp_path / "pieces").write_bytes(pickle.dumps(told))
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(seen) == 3
    with Outbox(tmp_path / "box") as box:
        report = publish(told, broker, box)
    assert (len(report.known), len(report.delivered)) == (2, 2)
    assert [d for p in told for d in differences(made, entities(p))] == []


def test_an_older_answer_never_takes_the_place_of_a_newer_one(orion, outbox, city, told):
    made, broker, _ = orion
    old, new = answers(city, told)
    publish([new], broker, outbox, by="question").check()
    report = publish([old, new], broker, outbox, by="question")
    assert (report.superseded, report.delivered, report.known) == ([old.key], [], [new.key])
    assert differences(made, entities(new, "question")) == []
    assert publish([old, new], broker, outbox, by="question").known == [old.key, new.key]
    assert publish([old], broker, outbox).delivered == [old.key], "by release it has entities of its own"


def test_a_question_for_unknown_keys_is_published_by_release_alone(told, orion, outbox):
    _, broker, _ = orion
    found = dataclasses.replace(told[0], unlisted=True)
    with pytest.raises(InvalidQueryError, match="unknown keys"):
        publish([found], broker, outbox, by="question")
    publish([found], broker, outbox).check()


def test_projections_go_along_where_they_fit(orion, outbox, told):
    made, broker, _ = orion
    publish(told, broker, outbox, projections=["CrowdFlowObserved", "Observation"]).check()
    kinds = [e["type"] for e in made.held["city", "/dp"].values()]
    assert {k: kinds.count(k) for k in set(kinds)} == {"DPStatistic": 17, "CrowdFlowObserved": 14, "Observation": 17}
    with pytest.raises(InvalidQueryError, match="projections are"):
        publish(told, broker, outbox, projections=["AirQuality"])


def test_an_ngsi_ld_broker_replaces_an_entity_whole(outbox, city, told):
    made = Linked()
    with served(made) as (url, _):
        broker = Broker(url, "ngsi-ld", service="city")
        given = answers(city, told)
        publish(given, broker, outbox, by="question").check()
    held = made.held["city"]
    assert all(held[e.identifier] == ngsi.linked(e) for e in entities(given[1], "question"))
    hidden = [e for e in held.values() if e["withheld"]["value"]]
    assert len(hidden) == 2
    assert all("noisyValue" not in e and "low" not in e for e in hidden)


def test_without_replacing_an_ngsi_ld_broker_would_keep_a_withheld_value(outbox, city, told, monkeypatch):
    monkeypatch.setattr(broker_module, "UPSERT", "/ngsi-ld/v1/entityOperations/upsert?options=update")
    made = Linked()
    with served(made) as (url, _):
        publish(answers(city, told), Broker(url, "ngsi-ld"), outbox, by="question").check()
    assert any("noisyValue" in e for e in made.held[""].values() if e["withheld"]["value"])


def test_an_answer_207_is_no_success(outbox, told):
    body = {"success": [], "errors": [{"entityId": "urn:x", "error": {"title": "no"}}]}
    with served(lambda *_: (207, {}, body)) as (url, _):
        report = publish(told[:1], Broker(url, "ngsi-ld"), outbox)
    assert "1 entities failed" in report.failed[0][1]


def test_a_release_without_a_leaf_is_a_proof_error(city, told, monkeypatch):
    monkeypatch.setattr("datasov.ngsi.publishing.proofs", lambda *_: {})
    with pytest.raises(ProofError, match="the log does not tell"):
        ngsi.pieces(city)


def test_a_missing_library_is_said(told, outbox, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match="gateway"):
        publish(told, Broker("http://x"), outbox)


def test_an_outbox_of_something_else_is_refused(tmp_path):
    (tmp_path / "o").write_text("no database")
    with pytest.raises(StoreError):
        Outbox(tmp_path / "o")


def test_publishing_spends_nothing(city, told):
    before = city.remaining
    ngsi.pieces(city)
    city.release(BY_AREA, loss=LOSS, purpose=PURPOSE)
    assert city.remaining == before


@pytest.mark.parametrize("body", [b"no: Bearer s3cret", b"[" * 60_000, b'{"errors": ' + b"[" * 60_000])
@pytest.mark.parametrize("status", [207, 403, 302])
def test_a_broker_s_words_bring_neither_the_token_nor_an_end(status: int, body: bytes) -> None:
    """A proxy that shows what it was sent, and answers that are nested without an end."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"location": "http://127.0.0.1:1/"})

    broker = Broker("http://broker", token="s3cret", retries=0)
    entity = ngsi.Entity("urn:x", "T", {})
    with (
        httpx.Client(transport=httpx.MockTransport(answer), base_url=broker.url) as sender,
        pytest.raises(PeerError) as f,
    ):
        broker.deliver([entity], sender)
    assert "s3cret" not in str(f.value)
    assert str(status) in str(f.value)
