"""One suite over every engine: what builtin map gives, every item once, faults that tell nothing.

Ray runs as a real cluster of three nodes on this machine: this process's own, without processors, and two workers.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.authority.registry import partition_name
from datasov.engine import ray as on_ray
from datasov.engine.local import threads
from datasov.errors import ConflictError, InternalError, PeerError
from datasov.kernel.contribute import RESIDENT, Shard, add, contribute, costs, total
from datasov.kernel.monitor import Request
from datasov.kernel.plan import compile
from datasov.model.privacy import Loss
from datasov.pool.pool import schema_order
from datasov.pool.ranks import ranked
from tests.helpers import COUNT, NOW, PEOPLE, PURPOSE, TRIPS, Clock, Harness, enrol, found_city, values

SECRET = "987654321 rides of ann"
LOSS = Loss(10**6)
STORE = 100 * 2**20
KM = COUNT.sum("km")


@pytest.fixture(scope="module")
def nodes():
    """A running cluster to which nodes can be added; it is gone before the tests of other files run."""
    ray = pytest.importorskip("ray")
    environment = pytest.MonkeyPatch()
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "POLARS_MAX_THREADS": "1"}.items():
        environment.setenv(name, value)
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0, "object_store_memory": 2 * STORE, "include_dashboard": False,
        "_system_config": {"automatic_object_spilling_enabled": False, "health_check_period_ms": 500},
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield cluster
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()
    cluster.shutdown()
    environment.undo()


@pytest.fixture(params=["threads", "ray"])
def engine(request):
    if request.param == "threads":
        return threads()
    request.getfixturevalue("nodes")
    return on_ray.cluster()


@pytest.fixture
def ray_engine(nodes):
    return on_ray.cluster()


@pytest.fixture(scope="module")
def shards():
    """Six shards of 1,500 residents with 12 rows each: large enough for their parts to lie in an object store."""
    rng, made = np.random.default_rng(5), []
    for n in range(6):
        frame = pl.DataFrame({
            "district": rng.integers(0, 4, 18_000).astype(np.uint8), "km": rng.integers(0, 51, 18_000).astype(np.uint8),
            RESIDENT: np.repeat(np.arange(1_500, dtype=np.uint32), 12),
        })  # fmt: skip
        identities = np.arange(n * 1_500, (n + 1) * 1_500, dtype=np.uint64)
        made.append(Shard(n * 1_500, 1_500, ranked(frame, TRIPS, bytes(32), identities), None, schema_order(TRIPS)))
    return made


def answered(engine, query, shards, eligible=None, between=lambda: None, within=lambda f: f):
    """Totals and prices as the monitor has them made, of residents who can pay four fifths of the dearest."""
    plan = compile(query)
    eligible = np.ones(sum(s.residents for s in shards), dtype=np.bool_) if eligible is None else eligible

    def part(shard):
        made = contribute(plan, shard, eligible[shard.first : shard.first + shard.residents])
        return made, costs(plan, made, LOSS)

    parts = list(engine(within(part), shards))
    owed = np.zeros(len(eligible), dtype=np.int64)
    for made, cost in parts:
        owed[made.first : made.first + made.residents] = cost
    pays = owed <= 0.8 * owed.max()
    between()

    def paid(item):
        return total(plan, item[0], pays[item[0].first : item[0].first + item[0].residents])

    return values(add(engine(within(paid), parts), plan)).tolist(), owed.tolist()


def once(marker: Path) -> bool:
    """Whether nobody, in any process, came here before."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


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


def recorded(engine, seen):
    """The engine, with the exact totals of its second map written down."""

    def wrapped(function, items):
        for result in engine(function, items):
            seen.append(result)
            yield result

    return wrapped


def asked(folder, engine):
    """Prices, exact totals and what is left after a release of a city with 12 residents."""
    seen = []
    with found_city(folder, Clock(), engine=recorded(engine, seen)) as city:
        enrol(city, range(12), lambda n: [{"district": "NESW"[n % 4], "km": n}] * (n % 4))
        released = city.release(KM, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE)
        assert city.release(KM, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE).identifier == released.identifier
        spent = city._ledger.spent(partition_name(TRIPS, PURPOSE), 12)
        assert len(city.releases()) == 1
        return spent.tolist(), values(seen[-1]).tolist(), city.remaining, released.frame().shape


def test_a_city_charges_the_same_by_every_engine(engine, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    expected = asked(tmp_path / "a", map)
    assert expected[1] == [[0, 3, 6, 9], [0, 15, 36, 63]]
    assert len(set(expected[0])) > 2
    assert asked(tmp_path / "b", engine) == expected


# --- faults


class Panic(BaseException):
    """As a panic of Polars: not an Exception."""


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


# --- workers and machines that die


def test_a_killed_worker_costs_time_and_nothing_else(ray_engine, shards, tmp_path):
    expected = answered(map, KM.distinct(), shards)
    deaths, runs = [tmp_path / "first", tmp_path / "second"], tmp_path / "runs"

    def within(function):
        def mortal(item):
            first = item.first if isinstance(item, Shard) else item[0].first
            with runs.open("a") as log:
                log.write(f"{first}\n")
            result = function(item)
            if first == 3_000 and once(deaths[isinstance(item, tuple)]):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return mortal

    assert answered(ray_engine, KM.distinct(), shards, within=within) == expected
    assert all(marker.exists() for marker in deaths)
    assert runs.read_text().split().count("3000") >= 4, "in each map it ran, was killed, and ran again"


def test_a_killed_worker_charges_nobody_twice(ray_engine, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    marker = tmp_path / "died"

    def engine(function, items):
        def mortal(item):
            result = function(item)
            if once(marker):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return ray_engine(mortal, items)

    assert asked(tmp_path / "b", engine) == asked(tmp_path / "a", map)
    assert marker.exists()


def test_a_node_that_leaves_in_the_middle_of_a_map(nodes, ray_engine, shards, tmp_path):
    import ray

    doomed = nodes.add_node(num_cpus=2, object_store_memory=STORE)
    here, identity = tmp_path / "here", doomed.node_id
    expected = answered(map, KM, shards)

    def within(function):
        def slow_there(item):
            if ray.get_runtime_context().get_node_id() == identity:
                here.touch()
                time.sleep(60)
            return function(item)

        return slow_there

    def remove():
        while not here.exists():
            time.sleep(0.02)
        nodes.remove_node(doomed, allow_graceful=False)

    removing = threading.Thread(target=remove)
    removing.start()
    assert answered(ray_engine, KM, shards, within=within) == expected
    removing.join()


def test_parts_that_left_with_their_node_are_made_again(nodes, shards, tmp_path):
    import ray

    doomed = nodes.add_node(num_cpus=2, object_store_memory=STORE)
    identity, made = doomed.node_id, tmp_path / "made"
    expected = answered(map, KM.distinct(), shards)
    engine = on_ray.cluster(hold=0)

    def within(function):
        def noted(item):
            if isinstance(item, Shard):
                with made.open("a") as log:
                    log.write(f"{item.first} {ray.get_runtime_context().get_node_id() == identity}\n")
                time.sleep(0.2)
            return function(item)

        return noted

    def remove():
        assert "True" in made.read_text(), "some parts were made there"
        nodes.remove_node(doomed, allow_graceful=False)

    assert answered(engine, KM.distinct(), shards, between=remove, within=within) == expected
    assert len(made.read_text().splitlines()) > len(shards), "and again elsewhere"


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
        return made, costs(plan, made, LOSS)

    for made, _ in ray_engine(part, shards):
        assert not hasattr(made, "values"), "the vectors stay with the worker"
        assert "1500" not in repr(made)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"datasov\[ray\]"):
        on_ray.cluster()
