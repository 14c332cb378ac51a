"""Enrolment tokens: what issuing, accepting and checking one costs.

- `issued_per_s`: tokens issued in a second of processor time, each with a proof of its own: request read and verified,
  recorded in SQLite, evaluated; `issued_per_s_batched`: with one proof for `BATCH` answers.
- `redeemed_per_s`: tokens checked, `CHECKED` at a time.
- `issued_per_s_processes` (batched), `redeemed_per_s_processes`: on all processors, a process each, by the clock once
  they have started. Those that issue share one store.
- `request_ms`, `accept_ms`, `accept_batched_ms`: on the device, a token: asking, and verifying the answer.
- `request_bytes`, `answer_bytes`, `answer_batched_bytes`, `token_bytes`.
- `roll_open_s`: processor time of reading a roll of `residents` from its store; `roll_bytes`: of memory a resident.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import benches
from datasov.authority.credential import accept, enrolment_key, request
from datasov.authority.enrolment import Issuer, Roll
from datasov.crypto import oprf
from datasov.crypto.kdf import hkdf
from datasov.errors import DatasovError
from datasov.model.consent import CityId
from datasov.store.sqlite import SQLiteStore

BATCH, CHECKED, AT_ONCE = 64, 256, 256
CITY, TASK = CityId("lake", bytes(32), bytes(32)), hashlib.sha256(b"bench").digest()
KEY = oprf.PrivateKey.derive(bytes(32), b"bench")


def _vault(number: int) -> Callable[[bytes], bytes]:
    seed = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return lambda info: hkdf(seed, salt=b"bench", info=info)


def _answers(issuer: Issuer, epoch: int, requests: Sequence[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for start in range(0, len(requests), AT_ONCE):
        for answer in issuer.issue(TASK, epoch, requests[start : start + AT_ONCE]):
            if isinstance(answer, DatasovError):
                raise answer
            found.append(answer)
    return found


def _issue_part(path: str, requests: Sequence[bytes]) -> None:
    store = SQLiteStore(Path(path), key=bytes(32))
    _answers(Issuer(store, Roll(store), KEY, batch=BATCH), 2, requests)


def _redeem_part(path: str, tokens: Sequence[bytes]) -> None:
    store = SQLiteStore(Path(path), key=bytes(32))
    _redeemed(Issuer(store, Roll(store), KEY), tokens)


def _redeemed(issuer: Issuer, tokens: Sequence[bytes]) -> None:
    for start in range(0, len(tokens), CHECKED):
        if None in issuer.redeem(TASK, 0, tokens[start : start + CHECKED]):
            raise RuntimeError("the bench's own token was not accepted: that is a fault")


def _on_all(work: Callable[[str, Sequence[bytes]], None], path: str, items: Sequence[bytes]) -> float:
    """Items a second, by the clock, with a process for each processor."""
    many = benches.processors()
    parts = [items[i::many] for i in range(many)]
    with multiprocessing.get_context("spawn").Pool(many) as pool:
        pool.starmap(work, [(path, [])] * (4 * many), chunksize=1)
        began = time.perf_counter()
        pool.starmap(work, [(path, part) for part in parts], chunksize=1)
        return len(items) / (time.perf_counter() - began)


def run(size: str, tokens: int | None = None, residents: int | None = None) -> dict[str, object]:
    """The figures; "small" is 1,024 tokens and a roll of 20,000, "full" 16,384 and 1,000,000."""
    tokens = tokens or (1024 if size == "small" else 16_384)
    residents = max(residents or (20_000 if size == "small" else 1_000_000), tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "issuer.sqlite")
        store = SQLiteStore(Path(path), create=True, key=bytes(32))
        keys = [enrolment_key(_vault(i), CITY) for i in range(tokens)]
        rest = (enrolment_key(lambda _, i=i: i.to_bytes(32, "big"), CITY) for i in range(1, residents - tokens + 1))  # type: ignore[misc]
        people = [(hashlib.sha256(b"%d" % i).digest(), key.public) for i, key in enumerate([*keys, *rest])]
        Roll(store).enrol(people)
        began = time.process_time()
        roll = Roll(store)
        roll_open = time.process_time() - began
        issuer, batched = Issuer(store, roll, KEY), Issuer(store, roll, KEY, batch=BATCH)
        asked: dict[int, list[bytes]] = {}
        for epoch in range(3):
            began = time.process_time()
            wanted = issuer.wanted(TASK, epoch)
            asked[epoch] = [request(_vault(i), keys[i], wanted) for i in range(tokens)]
            requesting = time.process_time() - began
        times, answers = [], []
        for epoch, who in enumerate((issuer, batched)):
            began = time.process_time()
            answers.append(_answers(who, epoch, asked[epoch]))
            times.append(time.process_time() - began)
        accepting: tuple[list[float], list[float]] = [], []
        for epoch in (0, 1):
            for i in range(24):
                began = time.process_time()
                accept(_vault(i), issuer.wanted(TASK, epoch), answers[epoch][i])
                accepting[epoch].append(time.process_time() - began)
        held = [accept(_vault(i), issuer.wanted(TASK, 0), answers[0][i]).data for i in range(min(tokens, 1024))]
        shown = [held[i % len(held)] for i in range(tokens)]
        began = time.process_time()
        _redeemed(issuer, shown)
        redeeming = time.process_time() - began
        together = _on_all(_issue_part, path, asked[2]), _on_all(_redeem_part, path, shown)
        store.close()
    return {
        "tokens": tokens,
        "residents": residents,
        "issued_per_s": round(tokens / times[0]),
        "issued_per_s_batched": round(tokens / times[1]),
        "redeemed_per_s": round(tokens / redeeming),
        "issued_per_s_processes": round(together[0]),
        "redeemed_per_s_processes": round(together[1]),
        "processes": benches.processors(),
        "request_ms": round(requesting / tokens * 1000, 2),
        "accept_ms": round(statistics.median(accepting[0]) * 1000, 2),
        "accept_batched_ms": round(statistics.median(accepting[1]) * 1000, 2),
        "request_bytes": len(asked[0][0]),
        "answer_bytes": len(answers[0][0]),
        "answer_batched_bytes": len(answers[1][0]),
        "token_bytes": len(held[0]),
        "roll_open_s": round(roll_open, 2),
        "roll_bytes": round(roll.bytes / residents),
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
