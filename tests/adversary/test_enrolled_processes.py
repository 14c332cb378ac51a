"""Claim: one person is one report, with aggregators as processes of their own, over HTTP, killed on the way.

All by the commands that operators and residents use. The loss is so large that the noise is zero but for a probability
below 1e-9: what comes out is what went in.
"""

from __future__ import annotations

import base64
import hashlib

import pytest

import datasov as ds
from datasov.aggregator.client import over_http
from datasov.cli import main
from datasov.crypto.sign import SigningKey
from datasov.errors import PeerError
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.adversary.test_aggregator_kill import CELL, LOUD, Pair
from tests.helpers import PURPOSE, TRIPS, instant

ROW = {TRIPS: [{"district": "N", "km": 9}]}


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path, tokens=True)
    yield made
    for each in made.both:
        each.kill()
    made.city.close()


def device(folder, name, now):
    key = folder / f"{name}.device"
    key.write_text(hashlib.sha256(name.encode()).hexdigest())
    who = ds.Resident.create(folder / f"{name}.vault", device_key=bytes.fromhex(key.read_text()), clock=now)
    who.put_all(ROW.items())
    return who


def forget(who):
    who._vault.set_state({n: None for n in who._vault.states() if n.startswith("answer/")})


@pytest.mark.campaign
def test_one_person_one_report_by_commands_over_http_and_after_kills(pair, tmp_path, capsys):
    city = str(pair.city.id)
    people = [device(tmp_path, name, lambda: float(pair.now)) for name in "abc"]
    lines = []
    for name, who in zip("abc", people, strict=True):
        if name != "b":
            who.grant(pair.city.id, TRIPS, purpose=PURPOSE, loss=LOUD, until="2028-12-31", trust=pair.trust)
        who.close()
        given = ["vault", "enrolment-key", str(tmp_path / f"{name}.vault"), "--city", city]
        assert main([*given, "--device-key-file", str(tmp_path / f"{name}.device")]) == 0
        lines.append(f"{name} of Lake Street,{capsys.readouterr().out.strip()}")
    people = [
        ds.Resident.open(
            tmp_path / f"{n}.vault", device_key=bytes.fromhex((tmp_path / f"{n}.device").read_text()),
            clock=lambda: float(pair.now),
        )
        for n in "abc"
    ]  # fmt: skip
    assert lines[0].endswith(base64.urlsafe_b64encode(people[0].enrolment_key(pair.city.id)).decode().rstrip("="))
    file = tmp_path / "people.csv"
    file.write_text("# of the counter\n\n" + "\n".join(lines[:2]) + "\n", "utf-8")
    for folder in "ab":  # while both run
        assert main(["aggregator", "enrol", str(tmp_path / folder), str(file), "--city", city]) == 0
        assert "2 are on the roll now, which has places for 2." in capsys.readouterr().out

    end = pair.now + 3600
    signed = pair.city.collect(CELL, loss=LOUD, purpose=PURPOSE, until=instant(end))
    task = read_task(signed)
    first = people[0].answer(signed)
    refused = people[1].answer(signed)
    with pytest.raises(ds.ConsentError, match="a: this key is not on the roll"):
        people[2].answer(signed)
    pair.ask("reports", cbor.encode([first, refused]))
    pair.both[1].kill()
    forget(people[0])
    with pytest.raises(PeerError):
        people[0].answer(signed)
    pair.again(*pair.both)
    second = people[0].answer(signed)  # the same tokens from the processes that came after
    assert second != first
    pair.ask("reports", cbor.encode([second]))
    file.write_text(lines[2] + "\n", "utf-8")
    for folder in "ab":
        assert main(["aggregator", "enrol", str(tmp_path / folder), str(file), "--city", city]) == 0
    pair.ask("reports", cbor.encode([people[2].answer(signed), first]))
    file.write_text("c of Lake Street\n", "utf-8")
    assert main(["aggregator", "enrol", str(tmp_path / "a"), str(file), "--city", city, "--strike"]) == 0
    forget(people[2])
    with pytest.raises(ds.ConsentError, match="not on the roll"):
        people[2].answer(signed)
    pair.at(end)
    shares = pair.ask("collect", task.id)
    assert pair.city.release(CELL, loss=LOUD, purpose=PURPOSE).values[0].tolist() == [2, 0, 0, 0]
    assert over_http(pair.trust.aggregators[0], "collect", task.id) == shares
    for who in people:
        who.close()


def test_what_the_enrol_command_refuses(tmp_path, capsys):
    city = str(ds.CityId("c", bytes(32), bytes(range(32))))
    given = ["aggregator", "init", str(tmp_path / "a"), "--name", "a", "--url", "http://127.0.0.1:1"]
    assert main([*given, "--budget", "rho=1"]) == 0
    assert len(ds.AggregatorId.parse(capsys.readouterr().out.strip()).issuer_key) == 33
    file, key = tmp_path / "people", base64.urlsafe_b64encode(SigningKey(bytes(32)).public).decode().rstrip("=")
    run = ["aggregator", "enrol", str(tmp_path / "a"), str(file), "--city", city]
    for text, why in (
        (f"a,{key}\nb,{key}", "stands twice"),
        ("a", "line 1 is not PERSON,KEY"),
        (f"\na,{key}=x", "line 2 is not PERSON,KEY"),
        (f"a,{key[:-2]}", "line 1"),
        (f",{key}", "a person is named by"),
    ):
        file.write_text(text, "utf-8")
        assert main(run) != 0
        assert why in capsys.readouterr().err
    file.write_text(f"１２,{key}\n", "utf-8")
    assert main(run) == 0
    file.write_text("12\n", "utf-8")  # the same number in other digits
    assert main([*run, "--strike"]) == 0
    file.write_text("13\n", "utf-8")
    assert main([*run, "--strike"]) != 0
    assert main(["aggregator", "init", str(tmp_path / "b"), "--name", "b", "--url", "http://127.0.0.1:2",
                 "--budget", "rho=1", "--without-tokens"]) == 0  # fmt: skip
    file.write_text(f"a,{key}\n", "utf-8")
    run[2] = str(tmp_path / "b")
    assert main(run) != 0
    assert "no roll" in capsys.readouterr().err
    for name in ("a", "b"):
        assert "12" not in (tmp_path / name).name
    assert "１２".encode() not in (tmp_path / "a" / "aggregator.db").read_bytes()
