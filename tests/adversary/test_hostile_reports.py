"""Claim: who sends a gateway noised reports learns nothing of anybody, counts once a vault at most, and stops nobody.

The attacker has tags and reports of others, knows every task, and sends whatever there is, as often as it likes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

import datasov as ds
from datasov.city import responding
from datasov.gateway.intake import Intake
from datasov.mpc.noised import MOST, NoisedReport
from datasov.mpc.task import read_task
from datasov.store import inbox
from datasov.wire import cbor
from tests.gateways import client_of, short
from tests.helpers import PURPOSE, TRIPS, instant
from tests.locals import LARGE, PURE, city_of
from tests.servers import LONG, resident, two_server_city

QUERY = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
OCTETS = {"content-type": "application/octet-stream"}


def send(client: Any, data: bytes) -> httpx.Response:
    return client("POST", "/v1/reports", content=data, headers=OCTETS)


def look(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


@pytest.fixture
def asked(tmp_path, clock):
    """A city under local trust, an open task, one that is over, a client, and a report to the open one."""
    city, _ = city_of(tmp_path, clock, ds.local())
    with city, client_of(city, clock) as client:
        over = city.collect(QUERY, loss=PURE, purpose=PURPOSE, until=instant(clock.now + 10))
        with resident(tmp_path, clock, "ann", {TRIPS: []}) as who:
            late = who.answer(over)
            clock.now += 10
            task = city.collect(QUERY, loss=LARGE, purpose=PURPOSE, until=instant(clock.now + LONG))
            yield city, client, task, who.answer(task), late


def tags(city: ds.City, task: bytes) -> list[bytes]:
    """The tags that were kept, in the order of the store."""
    bodies = city._store.read(f"responses/{read_task(task).id.hex()}")
    return [body[at : at + 16] for body in bodies for at in range(0, len(body), 16)]


def test_reports_that_come_again_together_are_read_once_together(asked, monkeypatch):
    city, _, task, report, _ = asked
    mine, read = NoisedReport.from_bytes(report), []
    answers = responding.Responding._answers
    monkeypatch.setattr(
        responding.Responding, "_answers", lambda self, t, entry: read.append(entry) or answers(self, t, entry)
    )
    many = [NoisedReport(mine.task, bytes([n]) * 16, mine.answer).to_bytes() for n in range(30)]
    assert city.take_many(many[:20]) + city.take_many(many[20:]) == [None] * 30
    assert not read
    other = NoisedReport(mine.task, bytes(16), bytes([mine.answer[0] ^ 1]) + mine.answer[1:]).to_bytes()
    assert [type(each) for each in city.take_many([other, *many])] == [ds.DeniedError, *[type(None)] * 30]
    assert read == [0, 1]
    assert len(tags(city, task)) == 30


def test_a_tag_that_is_known_gets_the_answer_of_one_that_is_not(asked):
    city, client, task, report, _ = asked
    mine = NoisedReport.from_bytes(report)
    fresh = NoisedReport(mine.task, bytes(16), mine.answer).to_bytes()
    forged = NoisedReport(mine.task, mine.tag, bytes(len(mine.answer))).to_bytes()
    first, again, taken, new = (look(send(client, data)) for data in (report, report, forged, fresh))
    assert first == again == taken == new
    assert first[0] == 202
    assert sorted(tags(city, task)) == sorted([mine.tag, bytes(16)])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00", b"\x81" * (MOST - 1), b"\x9f" * 100, b"\xa0", b"\xff" * 64, cbor.encode([bytes(32), bytes(16)]),
        cbor.encode([bytes(32), bytes(16), b""]), cbor.encode([bytes(31), bytes(16), b"\0"]), b"\x1b" + b"\xff" * 8,
    ],
)  # fmt: skip
def test_bytes_that_are_no_report_are_refused_and_leave_nothing(asked, data):
    city, client, _, _, _ = asked
    before = city._store.head()
    answer = send(client, data)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/not-verified")
    assert city._store.head() == before


def test_reports_of_another_task_size_or_time_and_long_ones_are_refused(asked, clock):
    city, client, _, report, late = asked
    mine = NoisedReport.from_bytes(report)
    before = city._store.head()
    assert send(client, late).status_code == 422, "its task is over"
    assert send(client, NoisedReport(bytes(32), mine.tag, mine.answer).to_bytes()).status_code == 400
    for answer in (mine.answer + b"\0", mine.answer[:-1], b"\xff" * len(mine.answer)):
        assert send(client, NoisedReport(mine.task, mine.tag, answer).to_bytes()).status_code == 400
    assert send(client, b"x" * (MOST + 1)).status_code == 413
    assert client("POST", "/v1/reports", content=report, headers={"content-type": "text/plain"}).status_code == 415
    assert (
        client("POST", "/v1/reports", content=report, headers={**OCTETS, "content-encoding": "gzip"}).status_code == 415
    )
    assert city._store.head() == before
    assert send(client, report).status_code == 202
    clock.now += LONG
    assert send(client, report).status_code == 422, "a report that was taken is not told apart after the end"


def test_a_task_of_two_servers_takes_no_report_here(tmp_path, clock):
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as client:
        task = city.collect(QUERY, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE, until=instant(clock.now + LONG))
        found = NoisedReport(read_task(task).id, bytes(16), b"\0").to_bytes()
        assert send(client, found).status_code == 400


def test_more_tags_than_a_city_keeps_are_not_kept_and_what_was_kept_stays(asked, monkeypatch):
    city, client, task, report, _ = asked
    mine = NoisedReport.from_bytes(report)
    monkeypatch.setattr(responding, "MOST_REPORTS", 3)
    made = [NoisedReport(mine.task, bytes([n] * 16), mine.answer).to_bytes() for n in range(5)]
    assert len({str(look(send(client, data))) for data in (*made, made[0])}) == 1
    assert tags(city, task) == [bytes([n] * 16) for n in range(3)]


def test_reports_leave_the_last_of_the_disk_to_the_city(asked, monkeypatch):
    city, client, task, report, _ = asked
    monkeypatch.setattr(inbox, "FREE", 2**62)
    assert send(client, report).status_code == 503
    assert tags(city, task) == []


def together(keep: Any, reports: list[bytes]) -> list[BaseException | None]:
    """What is said to reports that come within one tick."""

    async def run() -> list[BaseException | None]:
        intake = Intake(keep, 0.01)
        return await asyncio.gather(*map(intake.put, reports), return_exceptions=True)

    return asyncio.run(run())


def test_a_report_that_makes_the_library_fail_fails_alone(asked):
    city, _, task, report, _ = asked
    mine = NoisedReport.from_bytes(report)
    good = [NoisedReport(mine.task, bytes([n] * 16), mine.answer).to_bytes() for n in range(3)]
    evil = b"\x83evil"

    def fragile(reports: Any) -> Any:
        if evil in reports:
            raise ZeroDivisionError
        return city.take_many(reports)

    *others, fault = together(fragile, [*good, evil])
    assert others == [None] * 3
    assert isinstance(fault, ZeroDivisionError)
    assert len(tags(city, task)) == 3


def test_a_store_that_refuses_is_told_to_all_and_nothing_is_kept(asked, monkeypatch):
    city, _, task, report, _ = asked
    monkeypatch.setattr(inbox, "FREE", 2**62)

    def keep(reports: Any) -> Any:
        city.check_room()
        return city.take_many(reports)

    assert [type(why) for why in together(keep, [report, report])] == [ds.StoreError] * 2
    assert tags(city, task) == []


def test_of_a_tick_neither_the_order_nor_single_arrivals_are_kept(asked):
    city, _, task, report, _ = asked
    mine = NoisedReport.from_bytes(report)
    made = [NoisedReport(mine.task, bytes([n] * 16), mine.answer).to_bytes() for n in (5, 3, 9, 1)]
    calls = list[int]()

    def counted(reports: Any) -> Any:
        calls.append(len(reports))
        return city.take_many(reports)

    assert together(counted, made) == [None] * 4
    assert calls == [4]
    assert [tag[0] for tag in tags(city, task)] == [1, 3, 5, 9]


def test_too_many_at_once_are_told_to_come_later(asked, monkeypatch):
    city, _, _, report, _ = asked
    monkeypatch.setattr("datasov.gateway.intake.MOST", 0)
    with client_of(city, city._clock) as client:
        answer = send(client, report)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_an_address_sends_at_its_rate(asked):
    city, _, _, report, _ = asked
    with client_of(city, city._clock, limits=short(client_rate=1e-6, client_burst=2)) as client:
        assert [send(client, report).status_code for _ in range(3)] == [202, 202, 429]
