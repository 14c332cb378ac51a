"""Idempotency keys: one answer for one request, over days, restarts and processes; limits and ticks beside them."""

import threading
import time
from pathlib import Path

import pytest

import datasov as ds
from datasov.city.serving import KEPT, LEASE, Retries, ReusedError, RunningError
from tests.gateways import EASY, QUESTION, bearer, city_of, client_of, short
from tests.helpers import Clock

DAY = 86_400


def test_a_retry_on_another_day_is_the_same_answer_at_no_charge(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        first = ask.post("/v1/releases", QUESTION, key="k1")
        left = city.remaining
        clock.now += 3 * DAY
        again = ask.post("/v1/releases", QUESTION, key="k1")
        assert (again.content, city.remaining) == (first.content, left)
        assert ask.post("/v1/releases", QUESTION, key="k2").json()["id"] != first.json()["id"]
        assert city.remaining != left
        left = city.remaining
    with ds.City.open(tmp_path / "c", clock=clock) as city, client_of(city, clock) as ask:
        assert ask.post("/v1/releases", QUESTION, key="k1").content == first.content
        assert city.remaining == left
        clock.now += KEPT + DAY
        assert ask.post("/v1/releases", QUESTION, key="k1").json()["id"] != first.json()["id"]


def test_the_same_key_with_another_body_is_refused_and_of_another_asker_is_another_key(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        first = ask.post("/v1/releases", QUESTION, key="k")
        other = {**QUESTION, "loss": {"rho": "0.02"}}
        left = city.remaining
        refused = ask.post("/v1/releases", other, key="k")
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
        assert city.remaining == left
        eve = ask.post("/v1/releases", other, key="k", subject="eve")
        assert (eve.status_code, eve.json()["id"] != first.json()["id"]) == (200, True)
        twice = ask.inner.post(
            "/v1/releases", json=QUESTION,
            headers=[*bearer("analyst").items(), ("idempotency-key", "a"), ("idempotency-key", "b")],
        )  # fmt: skip
        assert twice.status_code == 400
        assert ask.post("/v1/releases", QUESTION, key="x" * 129).status_code == 400


def test_a_refusal_binds_nothing(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        assert ask.post("/v1/releases", {**QUESTION, "loss": {"rho": 2}}, key="k").status_code == 429
        assert ask.post("/v1/releases", QUESTION, key="k").status_code == 200


def test_what_is_under_way_in_another_process_is_not_asked_twice(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as one, ds.City.open(tmp_path / "c", clock=clock) as two:
        here, there = Retries(one), Retries(two)
        with here.attempt("ana", "k", b"a" * 32) as held:
            with pytest.raises(RunningError), there.attempt("ana", "k", b"a" * 32):
                pass
            with pytest.raises(ReusedError), there.attempt("ana", "k", b"b" * 32):
                pass
            held.answer = "ab" * 16
        with there.attempt("ana", "k", b"a" * 32) as again:
            assert again.answer == "ab" * 16
        lost = here._begin(b"n" * 32, b"a" * 32)  # a process that dies says no more
        assert lost.answer is None
        with pytest.raises(RunningError):
            there._begin(b"n" * 32, b"a" * 32)
        clock.now += LEASE
        assert there._begin(b"n" * 32, b"a" * 32).epoch == lost.epoch


def test_a_retry_while_it_is_answered_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, go, began = Clock(), threading.Event(), threading.Event()
    real = ds.City.release

    def slow(self: ds.City, *given: object, **more: object) -> object:
        began.set()
        assert go.wait(30)
        return real(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ds.City, "release", slow)
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        found: list[object] = []
        first = threading.Thread(target=lambda: found.append(ask.post("/v1/releases", QUESTION, key="k")))
        first.start()
        assert began.wait(30)
        second = ask.post("/v1/releases", QUESTION, key="k")
        assert (second.status_code, "retry-after" in second.headers) == (409, True)
        go.set()
        first.join()
        assert found[0].status_code == 200  # type: ignore[attr-defined]
        assert ask.post("/v1/releases", QUESTION, key="k").json() == found[0].json()  # type: ignore[attr-defined]


def test_two_processes_give_one_answer_to_one_key(tmp_path: Path) -> None:
    clock = Clock()
    with (
        city_of(tmp_path / "c", clock) as one, ds.City.open(tmp_path / "c", clock=clock) as two,
        client_of(one, clock) as here, client_of(two, clock) as there,
    ):  # fmt: skip
        first = here.post("/v1/releases", QUESTION, key="k")
        assert there.post("/v1/releases", QUESTION, key="k").content == first.content
        assert there("GET", first.headers["location"], "auditor").content == first.content


def test_keys_survive_a_backup_and_a_rotation(tmp_path: Path) -> None:
    clock = Clock()
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock) as ask:
        first = ask.post("/v1/releases", QUESTION, key="k")
    ds.City.open(tmp_path / "c", clock=clock).rotate()
    with ds.City.open(tmp_path / "c", clock=clock) as city, client_of(city, clock) as ask:
        assert ask.post("/v1/releases", QUESTION, key="k").json()["id"] == first.json()["id"]
        city.backup(tmp_path / "b")
        (tmp_path / "c").rename(tmp_path / "old")
    with ds.City.restore(tmp_path / "b", tmp_path / "c", clock=clock) as city, client_of(city, clock) as ask:
        assert ask.post("/v1/releases", QUESTION, key="k").json()["id"] == first.json()["id"]


def test_a_client_that_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    clock = Clock()
    limits = short(client_rate=0.5, client_burst=3)
    with city_of(tmp_path / "c", clock, 0) as city, client_of(city, clock, limits=limits) as ask:
        found = [ask("GET", "/v1/budget", "auditor") for _ in range(5)]
        assert [r.status_code for r in found] == [200, 200, 200, 429, 429]
        assert found[-1].headers["retry-after"] == "2"
        assert ask("GET", "/v1/budget", headers=bearer("auditor", subject="bob")).status_code == 200
        guesses = [ask("GET", "/v1/budget", headers={"authorization": f"Bearer {n}"}).status_code for n in range(5)]
        assert guesses == [401, 401, 401, 429, 429]
        assert [ask("GET", "/healthz").status_code for _ in range(5)][-1] == 429
    with (
        city_of(tmp_path / "d", clock, 0) as city,
        client_of(city, clock, limits=short(all_rate=0.1, all_burst=2)) as ask,
    ):
        assert [ask("GET", "/healthz").status_code for _ in range(3)] == [200, 200, 429]


def test_a_full_queue_refuses_and_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, go, began = Clock(), threading.Event(), threading.Semaphore(0)
    real = ds.City.release

    def slow(self: ds.City, *given: object, **more: object) -> object:
        began.release()
        assert go.wait(30)
        return real(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ds.City, "release", slow)
    limits = short(kernel_threads=1, kernel_waiting=1, kernel_each=1)
    with city_of(tmp_path / "c", clock) as city, client_of(city, clock, limits=limits) as ask:
        found: list[int] = []

        def send(subject: str) -> None:
            found.append(ask.post("/v1/releases", QUESTION, subject=subject).status_code)

        threads = [threading.Thread(target=send, args=(s,)) for s in ("a", "b")]
        threads[0].start()
        assert began.acquire(timeout=30)
        assert ask.post("/v1/releases", QUESTION, subject="a").json()["detail"].startswith("1 questions of yours")
        threads[1].start()
        until = time.monotonic() + 30
        while city_waits(ask) and time.monotonic() < until:
            time.sleep(0.01)
        third = ask.post("/v1/releases", QUESTION, subject="c")
        assert (third.status_code, third.headers["retry-after"]) == (429, "1")
        assert ask("GET", "/v1/budget", "auditor").status_code == 200
        go.set()
        for thread in threads:
            thread.join()
        assert found == [200, 200]
        assert ask.post("/v1/releases", QUESTION, subject="c").status_code == 200


def city_waits(ask: object) -> bool:
    """Whether there is room in the kernel's queue still."""
    return bool(ask.inner.app.state.shared.kernel._free)  # type: ignore[attr-defined]


def test_answers_leave_on_doubling_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio
    from types import SimpleNamespace

    from datasov.gateway import answering, ticks
    from datasov.gateway.limits import Busy

    slept, now = list[float](), [0.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(answering.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ticks.asyncio, "sleep", sleep)
    for taken, until in ((0.0, 0.5), (0.4, 0.5), (0.6, 1.0), (1.1, 2.0), (3.9, 4.0), (4.1, 8.0)):

        async def run(task: object, taken: float = taken) -> None:
            now[0] += taken
            raise ds.BudgetExceededError("no")

        shared = SimpleNamespace(asking=Busy(4), kernel=SimpleNamespace(run=run), limits=short(tick_ms=500))
        call = SimpleNamespace(shared=shared, caller=None)
        with pytest.raises(ds.BudgetExceededError):
            asyncio.run(answering.on_ticks(call, lambda: None))  # type: ignore[arg-type, return-value]
        assert taken + slept[-1] == pytest.approx(until)
    assert EASY.tick_ms == 0
