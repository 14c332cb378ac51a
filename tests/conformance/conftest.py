"""A Ray cluster on this machine, for the engine's tests; it is gone before the tests of other folders run."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasov.engine import ray as on_ray
from datasov.model.shard import RESIDENT, Shard
from datasov.pool.pool import schema_order
from datasov.pool.ranks import ranked
from tests import engines
from tests.helpers import TRIPS


@pytest.fixture(scope="package")
def nodes():
    """A running cluster to which nodes can be added."""
    ray = pytest.importorskip("ray")
    environment = pytest.MonkeyPatch()
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "POLARS_MAX_THREADS": "1"}.items():
        environment.setenv(name, value)
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0, "object_store_memory": 2 * engines.STORE, "include_dashboard": False,
        "_system_config": {"automatic_object_spilling_enabled": False, "health_check_period_ms": 500},
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=engines.STORE)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(engines)
    yield cluster
    ray.cloudpickle.unregister_pickle_by_value(engines)
    ray.shutdown()
    cluster.shutdown()
    environment.undo()


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
