"""The log: appending, proving, opening, publishing, and reading it back from tiles.

Leaves are steps of series (79 bytes). They are appended durably through the store, `BATCH` in one transaction, as ticks
append them, and after each transaction the log is asked for its signed checkpoint: hashed, kept, signed.

- `append_leaves_per_s`: of all that; `single_append_ms`: one leaf in a transaction, and the checkpoint after it.
- `proof_ms`, `consistency_ms`: a proof of a random leaf, or from a random earlier size, made and verified; medians, and
  `proof_ms_p99`. `proof_cpu_ms_p99`: of the thread's own time, so without the waits for other work of the machine,
  which are most of the 99th percentile on the clock. `first_proof_ms`: the first one after the store was opened anew,
  opening included.
- `open_s`: from the store's file to the signed checkpoint; `verify_s`: the store's own chain followed over all that it
  holds, which a city does besides when it is opened.
- `bytes_per_leaf`: of memory, for the hashes; `stored_bytes_per_leaf`: of the store's file, the leaf and all.
- `publish_s`: all of it into a folder of tiles; `mirror_proof_ms`: a proof from that folder, every tile verified.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from datasov.crypto.sign import SigningKey
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.hashes import LEAVES
from datasov.tlog.leaves import StepLeaf, encode_leaf
from datasov.tlog.log import Log
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import origin_of
from datasov.tlog.tree import leaf_hash, verify_consistency, verify_inclusion

BATCH, PROOFS = 1000, 1000
KEY = SigningKey(bytes(range(32)))
CHAIN = bytes(range(32, 64))


def _leaf(number: int) -> bytes:
    return encode_leaf(StepLeaf(bytes(16), number, 1_800_000_000 + number, number.to_bytes(32, "big")))


def _milliseconds(
    run: Callable[[int], None], places: list[int], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    times = []
    for place in places:
        began = clock()
        run(place)
        times.append((clock() - began) * 1000)
    return sorted(times)


def _log(store: SQLiteStore) -> Log:
    return Log(store, KEY, origin_of(KEY.public))


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The figures; `size` is "small" (100,000 leaves) or "full" (1,000,000), unless `rows` says otherwise."""
    leaves = rows or (100_000 if size == "small" else 1_000_000)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = SQLiteStore(folder / "log.db", create=True, key=CHAIN)
        log, spent = _log(store), 0.0
        for first in range(0, leaves, BATCH):
            batch = [_leaf(n) for n in range(first, min(first + BATCH, leaves))]
            began = time.perf_counter()
            store.append({LEAVES: (first, batch)})
            log.checkpoint()
            spent += time.perf_counter() - began

        def append_one(number: int) -> None:
            store.append({LEAVES: (number, [_leaf(number)])})
            log.checkpoint()

        singles = _milliseconds(append_one, [*range(leaves, leaves + 50)])
        total, leaf = log.size, _leaf
        store.close()

        gc.collect()
        tracemalloc.start()
        began = time.perf_counter()
        store = SQLiteStore(folder / "log.db", key=CHAIN)
        log = _log(store)
        root = log.checkpoint().root
        opened = time.perf_counter() - began
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        store.close()

        def included(reader: Log | TileLog) -> Callable[[int], None]:
            return lambda at: verify_inclusion(leaf_hash(leaf(at)), at, total, reader.inclusion(at, total), root)

        def consistent(old: int) -> None:
            verify_consistency(old, total, roots[old], root, log.consistency(old, total))

        began = time.perf_counter()
        store = SQLiteStore(folder / "log.db", key=CHAIN)
        log = _log(store)
        included(log)(draw.randrange(total))
        first_proof = (time.perf_counter() - began) * 1000
        proofs = _milliseconds(included(log), [draw.randrange(total) for _ in range(PROOFS)])
        cpu = _milliseconds(included(log), [draw.randrange(total) for _ in range(PROOFS)], time.thread_time)
        olds = [draw.randrange(1, total) for _ in range(PROOFS)]
        roots = {old: log.root(old) for old in olds}
        consistencies = _milliseconds(consistent, olds)
        began = time.perf_counter()
        store.verify()
        verified = time.perf_counter() - began
        began = time.perf_counter()
        log.publish(folder / "mirror")
        published = time.perf_counter() - began
        mirror = TileLog(folder / "mirror", KEY.public)
        mirror.checkpoint()
        mirrored = _milliseconds(included(mirror), [draw.randrange(total) for _ in range(PROOFS)])
        store.close()
        stored = (folder / "log.db").stat().st_size
    return {
        "leaves": total,
        "leaf_bytes": len(leaf(0)),
        "batch": BATCH,
        "append_leaves_per_s": round(leaves / spent),
        "single_append_ms": round(statistics.median(singles), 3),
        "proof_ms": round(statistics.median(proofs), 4),
        "proof_ms_p99": round(proofs[-len(proofs) // 100], 4),
        "proof_cpu_ms_p99": round(cpu[-len(cpu) // 100], 4),
        "consistency_ms": round(statistics.median(consistencies), 4),
        "first_proof_ms": round(first_proof, 2),
        "open_s": round(opened, 4),
        "verify_s": round(verified, 3),
        "bytes_per_leaf": round(held / total, 3),
        "stored_bytes_per_leaf": round(stored / total, 1),
        "publish_s": round(published, 2),
        "mirror_proof_ms": round(statistics.median(mirrored), 4),
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
