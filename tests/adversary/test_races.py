"""Claim: threads and processes that race for the last of a budget never overspend it; one question has one answer."""

from __future__ import annotations

import threading

import pytest

import datasov as ds
from tests.adversary.asking import LOSS, ask
from tests.adversary.test_kill import child, found
from tests.audit import audit
from tests.helpers import NOW, PURPOSE, TRIPS, consent_for, contribution, revocation


def in_threads(count: int, work) -> list:
    """What `work(i)` gives in each of many threads that start together; errors too."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = work(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_fifty_threads_race_for_the_last_of_the_budget(tmp_path):
    with ds.City.open(found(tmp_path, ds.zcdp(rho="0.05")), clock=lambda: NOW) as city:
        results = in_threads(50, lambda i: ask(city, i))
        answered = [r for r in results if isinstance(r, str)]
        refused = [r for r in results if isinstance(r, ds.BudgetExceededError)]
        assert len(answered) == 5
        assert len(refused) == 45, [r for r in results if isinstance(r, Exception)]
        assert city.remaining == ds.Loss(0)
        assert audit(city) == 5


def test_residents_caps_hold_under_racing_threads(tmp_path):
    path = tmp_path / "lake.city"
    with ds.City.open(path, budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=lambda: NOW) as city:
        for n in range(3):
            consent = consent_for(city, TRIPS, n, loss=ds.Loss(LOSS.nano * (n + 1)))
            city.admit(consent, contribution(city, consent, n, 1, TRIPS, [{"district": "N", "km": n}]))
        costly = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()

        def release(i: int) -> str:
            return str(city.release(costly.where(ds.col("km") > -1 - i), loss=LOSS, purpose=PURPOSE))

        results = in_threads(20, release)
        assert all(isinstance(r, str) for r in results), results
        audit(city)
        (partition,) = city._registry.refresh()
        assert city._ledger.spent(partition.name, 3)[0].tolist() == [LOSS.nano, 2 * LOSS.nano, 3 * LOSS.nano]


def test_one_question_asked_at_once_by_many_threads_has_one_answer_and_one_charge(tmp_path):
    with ds.City.open(found(tmp_path, ds.zcdp(rho="0.05")), clock=lambda: NOW) as city:
        answers = in_threads(30, lambda _: ask(city, 1))
        assert len(set(answers)) == 1
        assert isinstance(answers[0], str)
        assert audit(city) == 1


@pytest.mark.parametrize("same", [False, True])
def test_eight_processes_race_on_one_city(tmp_path, same):
    path = found(tmp_path, ds.zcdp(rho="0.05"))
    children = [child("once", path, "1" if same else str(i)) for i in range(8)]
    for process in children:
        assert process.stdout.readline() == "ready\n"
    path.with_name(path.name + ".go").touch()
    results = [(p.communicate(), p.returncode) for p in children]
    assert all(code == 0 for _, code in results), results
    answers = [out.strip() for (out, _), _ in results]
    with ds.City.open(path, clock=lambda: NOW) as city:
        reservations = audit(city)
        if same:
            assert len(set(answers) - {"refused"}) == 1
            assert len(city.releases()) == 1
        else:
            assert reservations == 5
            assert sorted(answers).count("refused") == 3
            assert len(set(answers)) == 6


def test_admissions_top_ups_and_revocations_race_with_questions(tmp_path):
    """Nothing is lost or taken twice: in the end the pool holds exactly the newest contribution of each resident."""
    path = tmp_path / "lake.city"
    with ds.City.open(path, budget=ds.zcdp(rho=5), purposes=[PURPOSE], clock=lambda: NOW) as city:
        consents = {n: consent_for(city, TRIPS, n, loss=ds.zcdp(rho=5)) for n in range(12)}

        def send(n: int, sequence: int) -> None:
            rows = [{"district": "N", "km": sequence}]
            city.admit(consents[n], contribution(city, consents[n], n, sequence, TRIPS, rows))

        def work(i: int) -> None:
            if i < 12:
                for sequence in range(1, 6):
                    send(i, sequence)
                if i % 3 == 0:
                    city.revoke(revocation(consents[i], i))
            elif i == 12:
                for _ in range(8):
                    city.compact(TRIPS, PURPOSE)
            else:
                for number in range(6):
                    ask(city, i * 100 + number)

        errors = [r for r in in_threads(16, work) if r is not None]
        assert errors == []
        audit(city)
        city.compact(TRIPS, PURPOSE)
        (partition,) = city._registry.refresh()
        assert len(partition) == 12
        assert partition.pending() == {}
        shard = city._pool._shard(TRIPS, partition, 0)
        held = dict(zip(shard.rows["_resident"], shard.rows["km"], strict=True))
        stay = {partition.places[consents[n].claims.issuer]: 5 for n in range(12) if n % 3}
        assert held == stay
        assert not list(city._store._db.execute("SELECT name FROM blobs WHERE name LIKE 'pool/%'"))
