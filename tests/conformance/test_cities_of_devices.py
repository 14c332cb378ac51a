"""Cities whose devices answer keep the same in a file and in PostgreSQL: rolls, tokens, reports, what is deleted."""

from __future__ import annotations

import pytest

import datasov as ds
from datasov.aggregator.client import with_city
from datasov.errors import DeniedError, VerificationError
from datasov.mpc.noised import NoisedReport
from tests.helpers import PURPOSE
from tests.locals import COUNT, LARGE, Way, certain, city_of, person, read_task
from tests.servers import ENROLLED, LONG, Servers, opened, silent


@pytest.fixture(params=["sqlite", "postgres"])
def given(request) -> dict[str, str]:
    return {"store": request.getfixturevalue("postgres").url()} if request.param == "postgres" else {}


def test_devices_with_a_roll_and_a_pool_answer_over_a_restart(tmp_path, clock, given, monkeypatch):
    silent(monkeypatch)
    certain(monkeypatch)
    city, _ = city_of(tmp_path, clock, [ds.central(), ds.local()], enrol=True, **given)
    way = Way(city, None)
    post = with_city(lambda path, body: way(way.city.id, path, body))
    local = city.trust.part("local")
    people = [person(tmp_path, clock, n, city, d, local) for n, d in enumerate(["N", "N", "E", None])]
    pooled = person(tmp_path, clock, "pool", city, "S", ds.central())
    everybody = [*people, pooled]
    city.enrol([(str(n), who.enrolment_key(city.id)) for n, who in enumerate(everybody)])
    task = opened(city, COUNT, clock, LARGE)
    reports = [who.answer(task, post=post) for who in people]
    assert pooled.answer(task, post=post) == b""
    assert city.take_many(reports[:2]) == [None, None]
    city.close()
    way.city = city = ds.City.open(tmp_path / "l.city", clock=clock, **given)
    with city:
        assert city.tasks() == [task]
        assert people[2].answer(task, post=post) == reports[2], "the same after the city's restart"
        assert city.take_many(reports) == [None] * 4, "the first two are taken once"
        stranger = NoisedReport(read_task(task).id, bytes(16), b"\x01").with_token(city.id, bytes(64))
        with pytest.raises((DeniedError, VerificationError)):
            city.take(stranger.to_bytes())
        clock.now += LONG
        release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
        tally = release.responses.tally
        assert (tally.reports, tally.supports.tolist(), release.values[0].tolist()) == (4, [2, 1, 0, 0], [0, 0, 1, 0])
        kept = [n for n in city._store.blobs() if n.startswith("responses/")]
        assert kept == [], "answers are deleted once their release is stored"
        city._store.verify()
    with ds.City.open(tmp_path / "l.city", clock=clock, **given) as city:
        assert city.release(COUNT, loss=LARGE, purpose=PURPOSE).digest == release.digest
    for who in everybody:
        who.close()


def test_a_city_of_two_servers_collects_over_a_restart(tmp_path, clock, given, monkeypatch):
    silent(monkeypatch)
    city, servers = city_of(tmp_path, clock, ENROLLED, **given)
    servers = Servers(clock, str(city.id), budgets=(ds.pure(epsilon=100),) * 2, trust=ENROLLED)
    monkeypatch.setattr(city, "_post", servers.post)
    people = [person(tmp_path, clock, n, city, d, ENROLLED) for n, d in enumerate("NES")]
    servers.enrol({str(n): who.enrolment_key(city.id) for n, who in enumerate(people)})
    task = opened(city, COUNT, clock, LARGE)
    servers.upload([who.answer(task, post=servers.post) for who in people])
    city.close()
    with ds.City.open(tmp_path / "l.city", clock=clock, post=servers.post, **given) as city:
        clock.now += LONG
        release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
        assert release.values[0].tolist() == [1, 1, 1, 0]
        assert city.release(COUNT, loss=LARGE, purpose=PURPOSE).digest == release.digest
        city._store.verify()
    for who in people:
        who.close()
