"""Claim: who asks a gateway learns nothing of whether somebody consents, revoked or was refused, before a tick is over.

And then only what the log tells everybody: padded batches of salted hashes. The attacker sends and asks all there is.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import datasov as ds
from datasov.authority import letters
from datasov.tlog.leaves import BATCH, BatchLeaf, decode_leaf
from tests.gateway_ports import serving
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, Clock, consent_for, contribution, few_lists, found_city
from tests.helpers import revocation as revoked

HOUR = 3_600
ASKED = (
    "/", "/?lang=ja", "/v1/city", "/v1/tasks", "/v1/charter", "/v1/programmes", "/v1/notices", "/v1/receipts",
    "/v1/status",
    "/log/checkpoint", "/log/cosigned", "/log/export", "/log/tile/0/000.p/3", "/log/tile/entries/000.p/3",
    "/log/tile/0/000.p/4", "/log/inclusion?index=2", "/log/consistency?old=1&new=3", "/v1/letters", "/openapi.json",
    *(f"/v1/status/{n}" for n in range(0, 4096, 512)),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)


def seen(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return answer.status_code, sorted((n, v) for n, v in answer.headers.items() if n != "date"), answer.content


def all_seen(at: str) -> dict[str, tuple[int, list[tuple[str, str]], bytes]]:
    with httpx.Client(base_url=at) as client:
        return {path: seen(client.get(path)) for path in ASKED}


@contextmanager
def world(folder: Path, name: str, clock: Clock) -> Iterator[tuple[ds.City, str]]:
    """One of several cities that were one until now."""
    copy = folder / name
    copy.mkdir()
    for part in folder.glob("lake.city*"):
        (shutil.copytree if part.is_dir() else shutil.copy)(part, copy / part.name)
    with ds.City.open(copy / "lake.city", clock=clock) as city, serving(city, {"trips": TRIPS}, clock) as at:
        yield city, at


def kinds(city: ds.City, clock: Clock) -> dict[str, bytes]:
    """A letter of every kind that comes to mind; the city has met `known`, `gone` and `later` before."""

    def sent(name: str, sequence: int = 1, to: ds.CityId | None = None, **given: object) -> bytes:
        consent = consent_for(city, TRIPS, name, **given)  # type: ignore[arg-type]
        rows = contribution(city, consent, name, sequence, TRIPS, [{"district": "N", "km": 3}])
        return letters.seal_admission(consent, rows, to or city.id)

    met = {name: consent_for(city, TRIPS, name) for name in ("known", "gone", "later")}
    for name, consent in met.items():
        city.admit(consent, contribution(city, consent, name, 1, TRIPS, [{"district": "N", "km": 3}]))
    city.revoke(revoked(met["gone"], "gone"))
    again = contribution(city, met["gone"], "gone", 2, TRIPS, [{"district": "N", "km": 3}])
    stranger = ds.CityId("other", consent_for(city, TRIPS, "x").claims.issuer, city.id.seal_key)
    size = letters.LEAST + letters.OVERHEAD
    return {
        "a newcomer": sent("new"), "one who is known": sent("known", 2, issued=NOW - 5),
        "one who left": letters.seal_admission(met["gone"], again, city.id),
        "of another purpose": sent("other", purpose="other"), "expired": sent("over", expires=int(clock()) - 1),
        "for another city": sent("far", to=stranger), "no letter": bytes(size), "random": b"\x5a" * size,
        "a revocation": letters.seal_ending(revoked(met["later"], "later"), city.id),
        "a revocation of one who left": letters.seal_ending(revoked(met["gone"], "gone"), city.id),
        "a revocation of nobody": letters.seal_ending(revoked(consent_for(city, TRIPS, "no"), "no"), city.id),
        "a revocation by another": letters.seal_ending(revoked(met["known"], "mallory"), city.id),
    }  # fmt: skip


def test_every_letter_gets_the_same_answer_and_none_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        sent = kinds(city, clock)
        assert {len(letter) for letter in sent.values()} == {letters.LEAST + letters.OVERHEAD}
        with monkeypatch.context() as patch, httpx.Client(base_url=at) as client:
            patch.setattr(letters, "open_letter", lambda *_: pytest.fail("a letter was opened while it was received"))
            patch.setattr(type(city._store), "append", lambda *_, **__: pytest.fail("the store was written to"))
            answers = {name: seen(post(client, letter)) for name, letter in sent.items()}
            again = {name: seen(post(client, letter)) for name, letter in sent.items()}
        ((status, headers, body),) = {(s, tuple(h), b) for s, h, b in (*answers.values(), *again.values())}
        assert status == 202
        assert b'"taken_up"' in body
        assert not [value for name, value in headers if name in ("set-cookie", "etag", "location")]
        clock.now += HOUR
        found = city.take_up()
        assert (found.taken, found.kept) == (4, 0), "a newcomer, a renewal, two revocations"


def post(client: httpx.Client, letter: bytes) -> httpx.Response:
    return client.post("/v1/letters", content=letter, headers={"content-type": "application/octet-stream"})


def test_worlds_that_differ_in_one_letter_look_the_same_until_the_log_tells(tmp_path: Path) -> None:
    clock = Clock(NOW // HOUR * HOUR)
    with found_city(tmp_path, clock) as city:
        sent = kinds(city, clock)
        clock.now += HOUR
        city.tick()
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
    names = ["nobody", "a newcomer", "a revocation", "one who left", "no letter"]
    looks: dict[str, list[dict[str, tuple[int, list[tuple[str, str]], bytes]]]] = {}
    for name in names:
        at_first = Clock(clock.now)
        with world(tmp_path, name, at_first) as (city, at):
            if name in sent:
                assert post(httpx.Client(base_url=at), sent[name]).status_code == 202
            looks[name] = [all_seen(at)]
            at_first.now += HOUR
            city.take_up()
            looks[name].append(all_seen(at))
            size = city.log.size
            city.tick()
            at_first.now += HOUR
            city.tick()
            told = [decode_leaf(leaf) for leaf in city.log.leaves(size)]
            assert all(isinstance(leaf, BatchLeaf) and len(leaf.hashes) % BATCH == 0 for leaf in told)
            assert [leaf.kind for leaf in told if isinstance(leaf, BatchLeaf)] == ["admissions", "revocations"] * 2
    for name in names[1:]:
        for moment in (0, 1):
            for path in ASKED:
                assert looks[name][moment][path] == looks["nobody"][moment][path], (name, moment, path)
    assert looks["nobody"][0]["/log/checkpoint"][0] == 200
    assert looks["nobody"][0]["/v1/status"][0] == 200


def test_sizes_alone_are_refused_and_say_nothing_of_the_bytes(tmp_path: Path) -> None:
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at, httpx.Client(base_url=at) as client:
        short = {seen(post(client, byte * 100))[::2] for byte in (b"\0", b"a", b"\xff")}
        assert {status for status, _ in short} == {422}
        assert len(short) == 1
        assert post(client, bytes(9 * 1024 * 1024)).status_code == 413
        assert client.post("/v1/letters", content=b"x" * 20_000).status_code == 415
        assert list(tmp_path.glob("*.inbox/*")) == []


def test_no_cookie_and_no_call_for_one_resident(tmp_path: Path) -> None:
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        document = httpx.get(f"{at}/openapi.json").json()
        public = {
            path: operation for path, methods in document["paths"].items() for operation in methods.values()
            if operation["security"] == []
        }  # fmt: skip
        assert {"/v1/letters", "/log/checkpoint", "/v1/receipts"} <= set(public)
        words = re.compile(r"consent|resident|token|subject|account|person|pseudonym")
        parameters = {p["name"] for operation in public.values() for p in operation["parameters"]}
        assert not [name for name in parameters if words.search(name)]
        for path in ASKED:
            assert "set-cookie" not in httpx.get(at + path).headers


def test_a_full_inbox_refuses_everybody_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("datasov.city.public.MAX_WAITING", 3 * (letters.LEAST + letters.OVERHEAD))
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at, httpx.Client(base_url=at) as client:
        sent = kinds(city, clock)
        for number in range(3):
            assert post(client, bytes([number]) * (letters.LEAST + letters.OVERHEAD)).status_code == 202
        answers = {seen(post(client, letter))[::2] for letter in sent.values()}
        ((status, body),) = answers
        assert status == 503
        assert b"letter" not in body
        clock.now += HOUR
        assert city.take_up().refused == 3
        assert post(client, sent["a newcomer"]).status_code == 202
