"""Workers and machines of a Ray cluster that die in the middle of a question: every item once, nobody charged twice."""

from __future__ import annotations

import os
import signal
import threading
import time

from datasov.engine import ray as on_ray
from datasov.model.shard import Shard
from tests.engines import KM, STORE, answered, asked, once


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
