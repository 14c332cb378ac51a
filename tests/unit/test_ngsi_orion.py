"""The stand-in for Orion answers as Orion 3.10.1 answered; and the publisher survives what was recorded."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.orion import Orion, served
from tests.paths import city_os


def recorded() -> dict[str, Any]:
    return json.loads(city_os("orion_3.10.1_transcripts.json").read_text(encoding="utf-8"))


def test_the_stand_in_answers_every_recorded_request_as_orion_did():
    traffic, broker = recorded(), Orion()
    assert len(traffic["transcripts"]) == 19
    with served(broker) as (url, _), httpx.Client(base_url=url) as client:
        for place, pair in enumerate(traffic["transcripts"]):
            asked, told = pair["request"], pair["response"]
            content = None if asked["body"] is None else json.dumps(asked["body"]).encode()
            answer = client.request(asked["method"], asked["path"], headers=asked["headers"], content=content)
            assert answer.status_code == told["status"], place
            body = answer.json() if answer.content else ""
            assert body == told["body"], place
            wanted = {k.lower(): v for k, v in told["headers"].items()}
            for name in ("location", "fiware-total-count"):
                if place:  # the id of a subscription is Orion's own
                    assert answer.headers.get(name) == wanted.get(name), place
    first = [n["body"]["data"] for n in traffic["notifications"]]
    assert broker.notified[: len(first)] == first


def test_a_tenant_sees_its_own_entities_alone():
    broker = Orion()
    entity = {"id": "a", "type": "T", "n": {"type": "Number", "value": 1}}
    broker("POST", "/v2/entities", {"Fiware-Service": "one"}, entity)
    assert broker("GET", "/v2/entities?type=T", {"Fiware-Service": "two"}, None)[2] == []
    assert broker("POST", "/v2/entities", {"Fiware-Service": "two"}, entity)[0] == 201
