"""One suite over every engine: what builtin map gives, every item once, faults that tell nothing.

Ray runs as a real cluster of three nodes on this machine: this process's own, without processors, and two workers.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.engine import ray as on_ray
from datasov.engine.local import threads
from datasov.errors import ConflictError, InternalError, PeerError
from datasov.kernel.contribute import contribute, shares
from datasov.kernel.plan import compile
from datasov.model.plan import Request
from datasov.model.shard import RESIDENT, Shard
from tests.engines import KM, LOSS, Panic, answered, asked
from tests.helpers import COUNT, NOW, PEOPLE, PURPOSE, TRIPS, Clock, Harness, enrol, found_city

SECRET = "987654321 rides of ann"


@pytest.fixture(params=["threads", "ray"])
def engine(request):
    if request.param == "threads":
        return threads()
    request.getfixturevalue("nodes")
    return on_ray.cluster()


# --- the same integers


def test_results_come_in_the_order_of_the_items_and_once_each(engine):
    assert list(engine(lambda n: (n, os.getpid() and n * n), range(40))) == [(n, n * n) for n in range(40)]
    assert list(engine(lambda n: n, iter(()))) == []
    assert list(engine(lambda n: (), [1])) == [()]


QUESTIONS = {
    "count": COUNT,
    "sum, distinct": KM.distinct(),
    "variance": COUNT.variance("km"),
    "bounds that bind": ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count().sum("km"),
    "where": KM.where(ds.col("km") > 10),
    "median, within the person": COUNT.median("km").sum("km", low=0, high=99, per="district"),
    "the highest": ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count().top(2),
    "unknown keys": ds.query(TRIPS).keys(ds.unknown("km")).bound(rows=3, keys=2).distinct(),
    "blind": ds.query(TRIPS).keys(ds.bin("km", [10, 20])).bound(rows=3, keys=2).count().distinct(),
    "joined": COUNT.join(PEOPLE).keys("people.ward").where(ds.col("people.age") >= 30),
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """Twenty residents in shards of three, some without rows, without a profile, or not eligible."""
    made = Harness(tmp_path_factory.mktemp("pool"), per_shard=3)
    rides = {n: [{"district": "NESW"[(n * k) % 4], "km": (7 * n * k) % 51} for k in range(n % 7)] for n in range(20)}
    ages = {n: {"age": 20 + 3 * n, "ward": (None, "a", "b", "c")[n % 4]} for n in range(0, 20, 2)}
    made.admit(TRIPS, rides, {PEOPLE: ages})
    return made


@pytest.mark.parametrize("question", QUESTIONS)
def test_totals_and_prices_are_those_of_builtin_map(engine, harness, question):
    query = QUESTIONS[question]
    snapshot = harness.pool.snapshot(Request(compile(query), LOSS, PURPOSE, ds.central(), 0))
    eligible = snapshot.eligible.copy()
    eligible[[3, 4, 5, 16]] = False
    expected = answered(map, query, snapshot.shards, eligible)
    assert len(snapshot.shards) == 7
    assert any(map(any, expected[0]))
    assert answered(engine, query, snapshot.shards, eligible) == expected
    assert answered(engine, query, snapshot.shards, eligible) == expected, "shards that are held"


def test_large_shards_give_the_same_too(engine, shards):
    assert answered(engine, KM.distinct(), shards) == answered(map, KM.distinct(), shards)


def test_a_city_charges_the_same_by_every_engine(engine, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    expected = asked(tmp_path / "a", map)
    assert expected[1] == [[0, 3, 6, 9], [0, 15, 36, 63]]
    assert len(set(expected[0][0])) > 2
    assert asked(tmp_path / "b", engine) == expected


# --- faults


def test_a_fault_in_a_task_is_one_error_that_tells_nothing(engine, tmp_path):
    def failing(item):
        (tmp_path / "raised").touch()
        raise ValueError(SECRET)

    with found_city(tmp_path, Clock(), engine=lambda f, items: engine(failing, items)) as city:
        enrol(city, range(3), lambda n: [{"district": "N", "km": n}])
        with pytest.raises(InternalError) as why:
            city.release(COUNT, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)
        assert (tmp_path / "raised").exists()
        assert SECRET not in "".join(traceback.format_exception(why.value))
        assert city.remaining == ds.zcdp(rho="0.9")
        assert city.releases() == []


def test_what_a_worker_raised_leaves_no_text_here_and_no_line_in_rays_logs(ray_engine, tmp_path):
    def failing(kind):
        (tmp_path / kind.__name__).touch()
        raise kind(SECRET)

    for kind in (ValueError, Panic):
        with pytest.raises(InternalError) as why:
            list(ray_engine(failing, [kind]))
        assert (tmp_path / kind.__name__).exists()
        assert SECRET not in "".join(traceback.format_exception(why.value, chain=True))
        assert why.value.__cause__ is None
        assert why.value.__context__ is None
    import ray

    logs = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs"
    texts = [path.read_bytes() for path in logs.rglob("*") if path.is_file()]
    assert len(texts) > 5
    assert not any(SECRET.encode() in text for text in texts)


def test_an_error_of_this_library_stays_itself(engine):
    def failing(item):
        raise ConflictError("moved on")

    with pytest.raises(ConflictError, match="moved on"):
        list(engine(failing, [1]))


def test_after_a_fault_the_engine_serves_on(ray_engine):
    def failing(item):
        if item == 3:
            raise ValueError
        return item

    with pytest.raises(InternalError):
        list(ray_engine(failing, range(40)))
    assert list(ray_engine(failing, range(3))) == [0, 1, 2]


def test_a_worker_that_dies_at_every_try_is_a_peer_error(nodes):
    engine = on_ray.cluster(retries=1)

    def dying(item):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PeerError) as why:
        list(engine(dying, [1]))
    assert why.value.__context__ is None


def test_a_worker_with_other_sources_computes_nothing(ray_engine, monkeypatch):
    monkeypatch.setattr(on_ray, "_code", lambda: b"other")
    with pytest.raises(PeerError, match="versions"):
        list(ray_engine(lambda n: n, [1]))


# --- what travels


def test_at_most_so_many_tasks_are_handed_out(nodes):
    engine, taken = on_ray.cluster(in_flight=3), []
    for n, result in enumerate(engine(lambda n: n, (taken.append(i) or i for i in range(20)))):
        assert result == n
        assert len(taken) <= n + 3


def test_a_shard_is_sent_once_for_many_questions_and_let_go_with_the_pool(nodes, monkeypatch, harness):
    import ray

    sent, put = [], ray.put

    def counting(value):
        sent.append(isinstance(value, Shard))
        return put(value)

    monkeypatch.setattr(ray, "put", counting)
    frame = pl.DataFrame({RESIDENT: [0, 0]})
    one = Shard(0, 1, frame, pl.DataFrame({"people.age": [1]}), "x")
    held = on_ray._Held(ray, 10**6)
    refs = [held.put(one), held.put(replace(one)), held.put(replace(one, residents=2)), held.put(replace(one, first=1))]
    assert sum(sent) == 3, "equal frames, and another place"
    assert refs[0] == refs[1]
    assert held.put(replace(one, first=1)) == refs[3]
    assert [ray.get(r).first for r in refs] == [0, 0, 0, 1]
    assert len(held._kept) == 1
    del one, frame
    gc.collect()
    assert not held._kept, "an erased row is not held by the engine"
    little = on_ray._Held(ray, 10)
    (shard, *_) = harness.pool.snapshot(Request(compile(COUNT), LOSS, PURPOSE, ds.central(), NOW)).shards
    assert little.put(shard) != little.put(shard)
    assert not little._kept


def test_neither_shards_nor_parts_travel_with_a_function(nodes, ray_engine, shards):
    class Snapshot:
        def __init__(self):
            self.shards, self.eligible = shards, np.ones(9_000, dtype=np.bool_)

    snapshot = Snapshot()
    data, buffers = on_ray._carried(lambda shard: snapshot.eligible[shard.first])
    assert len(data) < 5_000
    assert sum(len(b.raw()) for b in buffers) == 9_000
    assert not any(ray_engine(lambda shard: snapshot.shards[0] is not None, shards))
    plan = compile(KM)

    def part(shard):
        made = contribute(plan, shard, snapshot.eligible[:1_500])
        return made, shares(plan, made, LOSS)

    for made, _ in ray_engine(part, shards):
        assert not hasattr(made, "vectors"), "the vectors stay with the worker"
        assert "1500" not in repr(made)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"datasov\[ray\]"):
        on_ray.cluster()
