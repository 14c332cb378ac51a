"""What deciding who takes part in a question costs among many consents, and what holding and reading them does.

The consents are admitted as a city's process reads them: events in the form of `datasov.authority.events`, applied by
`Partition.apply`, under a few hundred different terms and all 4,096 status lists. The heads of the events are made in
bulk, with random keys and digests; of a token there are 400 random bytes, which nothing here looks at.

- `eligibility_s_10m`: the median of seven times of `Partition.eligible`, status lists applied, scaled to 10M consents.
- `eligibility_s_10m_missing`: the same where one status list is missing, so that each consent's list is looked up.
- `registry_bytes_per_consent`: what the columns and indexes hold, a consent.
- `registry_apply_ms_per_consent`: reading the events into the columns.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt

from datasov.authority import events
from datasov.authority.partition import Partition
from datasov.authority.status import LISTS

NOW = 1_800_000_000
TABLE = ("trips", bytes(32))
_AT_ONCE, _TERMS, _TOKEN = 1 << 15, 200, 400


def terms() -> list[events.Terms]:
    """Different terms: all cover the asked column, half of them in the asked measure."""
    return [
        events.Terms(frozenset({"km", f"c{i // 2}"}), frozenset({TABLE}), "central", ("zcdp", "pure")[i % 2])
        for i in range(_TERMS)
    ]


def admitted(rng: np.random.Generator, first: int, count: int) -> list[bytes]:
    """The events of so many admissions, at places from `first` on."""
    heads = np.zeros(count, dtype=events.HEAD)
    heads["kind"] = events.ADMIT
    heads["place"] = np.arange(first, first + count)
    heads["terms"] = rng.integers(_TERMS, size=count)
    heads["status"] = rng.integers(1 << 32, size=count)
    heads["issued"] = heads["begins"] = heads["admitted"] = NOW - rng.integers(10**7, size=count)
    heads["ends"] = NOW + rng.integers(-(10**6), 10**8, size=count)
    heads["nano"], heads["sequence"] = 10**8, 1
    for name in ("account", "digest", "erasure"):
        heads[name] = rng.integers(256, size=(count, 32), dtype=np.uint8)
    token = rng.bytes(_TOKEN)
    return [head.tobytes() + token for head in heads]


def filled(consents: int) -> tuple[Partition, float]:
    """A partition with so many consents, and the seconds that applying their events took."""
    rng, partition, seconds = np.random.default_rng(5), Partition("0" * 32), 0.0
    partition.apply([t.event() for t in terms()])
    for first in range(0, consents, _AT_ONCE):
        batch = admitted(rng, first, min(_AT_ONCE, consents - first))
        began = time.perf_counter()
        partition.apply(batch)
        seconds += time.perf_counter() - began
    return partition, seconds


def eligibility(consents: int) -> dict[str, float]:
    """The figures over so many consents."""
    partition, reading = filled(consents)
    usable = np.ones(LISTS, dtype=np.bool_)
    whole = _decided(partition, usable)
    usable[7] = False
    return {
        "eligibility_s_10m": round(whole / consents * 10**7, 4),
        "eligibility_s_10m_missing": round(_decided(partition, usable) / consents * 10**7, 4),
        "registry_bytes_per_consent": round(partition.bytes / consents, 1),
        "registry_apply_ms_per_consent": round(reading / consents * 1e3, 5),
    }


def _decided(partition: Partition, usable: npt.NDArray[np.bool_]) -> float:
    """Seconds in which it is decided who takes part: half of the consents."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        mask = partition.eligible(["km"], dict([TABLE]), "central", "zcdp", NOW, usable, NOW - 3600)
        times.append(time.perf_counter() - began)
    if not 0.4 < mask.mean() < 0.6:
        raise RuntimeError("half of the consents should take part")
    return statistics.median(times)


def run(size: str) -> dict[str, float]:
    """The figures over 10M consents, or with "small" over one."""
    return eligibility(10_000_000 if size == "full" else 1_000_000)
