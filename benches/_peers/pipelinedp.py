"""PipelineDP on its local backend: rows as Python tuples, Laplace noise of Google's library (python-dp)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pipeline_dp as pdp
import polars as pl

from benches._peers import job

Rows = list[tuple[int, int, int]]
EXTRACTORS = pdp.DataExtractors(
    privacy_id_extractor=lambda row: row[0], partition_extractor=lambda row: row[1], value_extractor=lambda row: row[2]
)


def prepare(frame: pl.DataFrame) -> Rows:
    """The rows as tuples."""
    return list(zip(*(frame[name].to_list() for name in ("resident", "key", "value")), strict=True))


def ask(rows: Rows, epsilon: float = job.EPSILON) -> job.Totals:
    """One engine, one aggregation. The seed settles which rows are sampled; noise has its own, secret source."""
    np.random.seed(7)
    accountant = pdp.NaiveBudgetAccountant(total_epsilon=epsilon, total_delta=0)
    parameters = pdp.AggregateParams(
        metrics=[pdp.Metrics.COUNT, pdp.Metrics.SUM],
        noise_kind=pdp.NoiseKind.LAPLACE,
        max_partitions_contributed=job.KEYS_A_RESIDENT,
        max_contributions_per_partition=job.ROWS_A_KEY,
        min_value=job.LOW,
        max_value=job.HIGH,
    )
    engine = pdp.DPEngine(accountant, pdp.LocalBackend())
    made = engine.aggregate(rows, parameters, EXTRACTORS, public_partitions=list(range(job.KEYS)))
    accountant.compute_budgets()
    found = [(key, metrics.count, metrics.sum) for key, metrics in made]
    return job.by_key([f[0] for f in found], [f[1] for f in found], [f[2] for f in found])


SYSTEM = job.System(
    "pipeline-dp",
    f"{job.KEYS_A_RESIDENT} keys a resident and {job.ROWS_A_KEY} rows in each, sampled",
    prepare,
    ask,
    lambda rows: np.round(partial(ask, epsilon=1e7)(rows)),
)

if __name__ == "__main__":
    job.main(SYSTEM)
