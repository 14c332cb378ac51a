"""Claims: no client takes the memory, the disk or the pages of others; a key that is withdrawn counts no more; what
was asked under an idempotency key is answered once, whatever dies or takes long meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

import httpx
import polars as pl
import pytest
from joserfc.jwk import ECKey

import datasov as ds
from datasov.authority import delegation, letters
from datasov.city.public import TakenUp
from datasov.city.serving import LEASE, Retries, Shelf
from datasov.errors import InternalError, StoreError
from datasov.gateway import public_log
from datasov.gateway.auth import Issuer, JwtVerifier
from datasov.gateway.keys import KeyFile
from datasov.gateway.limits import Room, network
from datasov.gateway.problems import ProblemError
from datasov.store.inbox import Inbox
from tests.gateways import AUDIENCE, KEY, QUESTION, URL, city_of, client_of, short, token, write_keys
from tests.helpers import NOW, PURPOSE, TRIPS, Clock, consent_for, contribution
from tests.servers import LOSS, two_server_city

DAY = 86_400
TIMED = ds.Schema("timed", domain="mobility", columns={"at": ds.Timestamp("2027-01-01", "2027-12-31")})
SERIES = {
    "series": {"question": {"table": "timed", "ask": ["count"]}, "every": "1d", "rows": 5, "start": "2027-01-01",
               "steps": 30},
    "loss": {"rho": "0.1"}, "purpose": PURPOSE,
}  # fmt: skip


def test_pages_of_answers_hold_each_answer_once_also_beside_a_series(tmp_path: Path) -> None:
    clock = Clock()
    with (
        city_of(tmp_path / "c", clock, 0) as city,
        client_of(city, clock, tables={"timed": TIMED, "trips": TRIPS}) as ask,
    ):
        series = ask.post("/v1/series", SERIES).json()
        assert series["released_steps"] > 3
        made = [ask.post("/v1/releases", {**QUESTION, "loss": {"rho": f"0.0{n}"}}).json()["id"] for n in (1, 2, 3)]
        found, before = list[str](), ""
        for _ in range(8):
            page = ask("GET", f"/v1/releases?limit=1{before}", "analyst").json()
            found += [r["id"] for r in page["releases"]]
            if page["next"] is None:
                break
            before = f"&before={page['next']}"
        assert found == [*reversed(made), series["id"]]


def test_a_city_of_two_servers_lists_its_answers_while_it_collects(tmp_path: Path) -> None:
    clock = Clock()
    city, _ = two_server_city(tmp_path, clock)
    with city, client_of(city, clock) as ask:
        query = ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count()
        city.collect(query, loss=LOSS, purpose=PURPOSE, until="2027-12-31")
        assert Shelf(city).newest(None, 10) == []
        assert ask("GET", "/v1/releases", "auditor").json() == {"releases": [], "next": None}
        assert ask("GET", "/").status_code == 200


def test_a_text_that_is_no_unicode_is_refused_and_logs_nothing(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock) as ask:
        for text in ("\\ud800", "x\\udfff"):
            body = {"question": {"sql": "SELECT COUNT(*) FROM trips WHERE district = '?'"}, "loss": {"rho": 1}}
            made = ask(
                "POST", "/v1/previews", "analyst", content=json.dumps(body).replace("?", text),
                headers={"content-type": "application/json"},
            )  # fmt: skip
            assert made.status_code == 400


def test_a_key_that_is_withdrawn_from_the_file_counts_no_more(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "keys.json"
    stolen = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"}, private=True)
    write_keys(file, KEY, stolen)
    verify = JwtVerifier(Issuer(URL, AUDIENCE), KeyFile(file), clock)
    signed = [token("analyst", key=stolen, header={"kid": "two"}, exp=NOW + DAY, sub=str(n)) for n in range(2)]
    assert asyncio.run(verify(signed[0])).roles == {"analyst"}
    write_keys(file, KEY)
    clock.now += 61
    for text in signed:
        with pytest.raises(ProblemError):
            asyncio.run(verify(text))
    file.write_text("{")  # half written: the last ones count on
    assert asyncio.run(verify(token("analyst"))).subject == "ana"


def test_a_request_whose_process_died_yesterday_is_asked_anew(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        with pytest.MonkeyPatch.context() as patch:  # it dies: nothing is stored, and nobody says so
            patch.setattr(ds.City, "release", lambda *_, **__: 1 / 0)
            patch.setattr(Retries, "_end", lambda *_: None)
            assert ask.post("/v1/releases", QUESTION, key="k").status_code == 500
        assert ask.post("/v1/releases", QUESTION, key="k").status_code == 409
        clock.now += DAY
        left = city.remaining
        made = ask.post("/v1/releases", QUESTION, key="k")
        assert made.status_code == 200, made.text
        assert city.remaining != left
        left = city.remaining
        clock.now += DAY
        assert ask.post("/v1/releases", QUESTION, key="k").json() == made.json()
        assert city.remaining == left


def test_a_slow_attempt_that_is_refused_does_not_unbind_the_answer_of_the_next(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock, 0) as one, ds.City.open(tmp_path / "c", clock=clock) as two:
        slow, quick = Retries(one), Retries(two)
        with ExitStack() as held:
            held.enter_context(slow.attempt("ana", "k", b"a" * 32))
            clock.now += LEASE
            with quick.attempt("ana", "k", b"a" * 32) as second:
                second.answer = "ab" * 16
            # and the slow one is refused in the end
        with slow.attempt("ana", "k", b"a" * 32) as again:
            assert again.answer == "ab" * 16


def test_an_inbox_holds_what_it_may_over_all_processes(tmp_path: Path) -> None:
    letter = 4096
    boxes = [Inbox(tmp_path / "inbox", 40 * letter) for _ in range(4)]
    kept = 0
    for n in range(30):
        for m, box in enumerate(boxes):
            try:
                box.put(bytes([n, m]) * (letter // 2), 1)
                kept += 1
            except StoreError:
                pass
    assert 40 <= kept <= 44


def test_letters_leave_room_on_the_disk_for_everybody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box, real = Inbox(tmp_path / "inbox", 2**32), os.statvfs
    box.put(b"a" * 4096, 1)

    def nearly_full(path: object) -> os.statvfs_result:
        found = list(real(path))  # type: ignore[call-overload]
        found[4] = 10
        return os.statvfs_result(found)

    monkeypatch.setattr("os.statvfs", nearly_full)
    with pytest.raises(StoreError, match="free space"):
        box.put(b"b" * 4096, 1)
    assert len(box.waiting(2)) == 1


BOMBS = r"""
import resource
from datasov.errors import VerificationError
from datasov.wire import cbor

resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
large = b"\xc2\x5a" + (2**21).to_bytes(4, "big") + b"\xff" * 2**21
other = large.replace(b"\xff\xff", b"\xfd\xff", 1)
for head in (b"\xc4\x82", b"\xc5\x82", b"\xd8\x1e\x82", b"\x82\x01\xd8\x1e\x82"):
    try:
        cbor.decode(head + other + large)
    except VerificationError:
        continue
    raise AssertionError(head)
"""


def test_a_number_that_takes_hours_to_make_is_never_made() -> None:
    """A letter of a stranger is CBOR that the gateway opens: a fraction of megabytes held up everything for hours."""
    assert subprocess.run([sys.executable, "-c", BOMBS], check=False, capture_output=True).returncode == 0


def test_a_letter_that_makes_the_library_panic_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = Clock(), ds.City.admit_many

    def panics(self: ds.City, pairs: list[tuple[bytes, bytes]], **given: object) -> object:
        if any(contribution == b"poison" for _, contribution in pairs):
            raise pl.exceptions.PanicException("in Rust")
        return real(self, pairs, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(ds.City, "admit_many", panics)
    with city_of(tmp_path / "c", clock, 0) as city:
        for n, made in enumerate([b"poison", contribution(city, consent_for(city, TRIPS, 1), 1, 1, TRIPS, [])]):
            consent = consent_for(city, TRIPS, n)
            body = {1: 1, 2: delegation.bundle(consent), 3: made}
            city.receive(letters._seal(body, city.id))
        good = consent_for(city, TRIPS, "good")
        row = {"district": "N", "km": 1}
        city.receive(letters.seal_admission(good, contribution(city, good, "good", 1, TRIPS, [row]), city.id))
        clock.now += 3_600
        assert city.take_up() == TakenUp(taken=1, refused=2, kept=0)
        assert city.take_up() == TakenUp()


def test_letters_that_arrive_slowly_hold_a_bounded_memory_and_small_ones_pass(tmp_path: Path) -> None:
    clock = Clock()
    limits = short(bodies=4 * 2**20, bodies_each=2 * 2**20)
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock, limits=limits) as ask:
        octets = {"content-type": "application/octet-stream"}
        assert ask("POST", "/v1/letters", content=bytes(2**20), headers=octets).status_code == 202
        large = ask("POST", "/v1/letters", content=bytes(3 * 2**20), headers=octets)
        assert (large.status_code, "retry-after" in large.headers) == (429, True)
        room: Room = ask.app.state.gate.room  # type: ignore[attr-defined]
        with room.held("testclient") as held, room.held("another") as other:
            held(2**20)
            held(2**20 - 1)
            assert ask("POST", "/v1/letters", content=bytes(2**20), headers=octets).status_code == 429
            other(2**21)
            with room.held("third") as third, pytest.raises(ProblemError):
                third(2)
            assert ask("POST", "/v1/letters", content=bytes(2**14 + 48), headers=octets).status_code == 202
            assert ask.post("/v1/releases", QUESTION).status_code == 200
        assert ask("POST", "/v1/letters", content=bytes(2**20), headers=octets).status_code == 202


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True), ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False), ("::ffff:192.0.2.1", "192.0.2.1", True), ("", "unix:1", False),
    ],
)  # fmt: skip
def test_a_network_of_one_customer_is_one_client(one: str, two: str, same: bool) -> None:
    assert (network(one) == network(two)) == same


def test_a_compressed_body_is_refused_by_its_name(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock) as ask:
        for path, media in (("/v1/letters", "application/octet-stream"), ("/v1/previews", "application/json")):
            headers = {"content-type": media, "content-encoding": "gzip"}
            made: httpx.Response = ask("POST", path, "analyst", content=bytes(20_000), headers=headers)
            assert (made.status_code, "compress" in made.json()["detail"]) == (415, True)


def test_what_a_store_says_when_it_fails_is_in_no_answer_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock) as ask:
        ask.post("/v1/releases", QUESTION)

        def panics(*_: object, **__: object) -> None:
            raise pl.exceptions.PanicException("secret row")

        monkeypatch.setattr(ds.City, "release", panics)
        made = ask.post("/v1/releases", {**QUESTION, "loss": {"rho": "0.02"}})
        assert (made.status_code, made.json()["type"]) == (500, "/problems/internal")

        def fails(*_: object) -> None:
            raise StoreError("secret address")

        real = city.log
        monkeypatch.setattr(type(real), "leaves", fails)
        parts = public_log._leaves(city, 0, 1, 4)
        with pytest.raises(InternalError) as found:
            next(parts)
        shown = "".join(traceback.format_exception(found.value))
        assert "StoreError" in shown
        assert "secret" not in shown + made.text + caplog.text
