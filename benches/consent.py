"""Consents at the size of a city: reading tokens, admitting contributions, deciding who takes part.

`verify_ratio_to_raw` is the rate of `token.read` over that of PyNaCl's `crypto_sign_open` on the same signed bytes and
keys, on one thread: form, canonical encoding, every claim, the signature and the identity against the signature alone.
Keys were met before, as those of residents who enrolled; `verify_ratio_new_keys` is the same where each key is new and
is checked to be a point of the prime-order group. Both sides run in turns, medians count, and seconds are those of the
thread's processor time.

`admitted_per_s` counts seconds of the clock from a consent and its sealed contribution of one row to a durable
admission, with threads, as :meth:`datasov.City.admit_many` does it; making the contributions counts for none.
`admitted_per_cpu_s` counts seconds of processor time over all threads, so that it holds on a busy machine.
`eligibility_s_10m` and what stands beside it are those of :mod:`benches.eligibility_part`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nacl.bindings

from benches.eligibility_part import eligibility
from datasov.authority import messages, token
from datasov.authority.admission import pack_table
from datasov.authority.coverage import coverage
from datasov.authority.record import make_record
from datasov.city import City
from datasov.crypto.kdf import random, sha256
from datasov.crypto.sign import SigningKey, check_public
from datasov.model.columns import Category, Integer, Timestamp
from datasov.model.consent import CityId, Claims, Consent
from datasov.model.frames import encode
from datasov.model.privacy import central, zcdp
from datasov.model.purposes import Purpose
from datasov.model.schema import Schema
from datasov.wire import cose

SCHEMA = Schema(
    "trips",
    domain="mobility",
    columns={
        "district": Category("NESW"),
        "km": Integer(0, 50),
        "at": Timestamp("2027-01-01", "2028-01-01", zone="Asia/Tokyo"),
    },
    keys=[("district",)],
)
PURPOSE = Purpose(
    "bus-planning", within="dpv:ImproveTransportMobility", ja="バス路線の計画", en="Planning of bus lines"
)
NOW = 1_800_000_000
_AT_ONCE, _RUNS, _TURN = 4096, 5, 100


def consents(city: CityId, count: int, first: int = 0) -> Iterator[tuple[Consent, SigningKey]]:
    """A consent of each of `count` residents for the whole table, with the key that signed it."""
    claims = Claims(
        issuer=b"", audience=str(city), token_id=b"", issued=NOW, not_before=NOW, expires=NOW + 10**8,
        coverage=coverage(SCHEMA, None), purpose=PURPOSE.name, trust=central(), loss=zcdp(rho="0.1"),
        jurisdiction="JP", processing="JP-10", status=0,
    )  # fmt: skip
    shared = replace(claims, record=make_record(claims, PURPOSE).digest)
    for number in range(first, first + count):
        key = SigningKey(sha256(b"resident", number.to_bytes(8, "big")))
        index = number * 2_654_435_761 % 2**32  # as good as random, and no two alike: a city refuses those
        own = replace(shared, issuer=key.public, token_id=random(16), status=index)
        yield token.issue(own, key), key


def _seconds(task: Callable[[], object]) -> float:
    """Processor time of this thread, so that the figures hold on a machine that does other things too."""
    start = time.thread_time()
    task()
    return time.thread_time() - start


def verifying(city: CityId, count: int) -> dict[str, object]:
    """Reading `count` tokens of as many keys against verifying their signatures, on this thread."""
    tokens = [consent.token for consent, _ in consents(city, count)]
    raw = [
        (p.signature + p.signed, token.reread(t).claims.issuer) for t in tokens for p in [cose.parts1(t, token.KIND)]
    ]

    def verify(first: int) -> None:
        for signed, public in raw[first : first + _TURN]:
            nacl.bindings.crypto_sign_open(signed, public)

    def read(first: int) -> None:
        for signed in tokens[first : first + _TURN]:
            token.read(signed)

    plain, known, new = list[float](), list[float](), list[float]()
    for _ in range(_RUNS):
        check_public.cache_clear()
        for first in range(0, count, _TURN):
            new.append(_seconds(lambda at=first: read(at)))  # type: ignore[misc]
            plain.append(_seconds(lambda at=first: verify(at)))  # type: ignore[misc]
            known.append(_seconds(lambda at=first: read(at)))  # type: ignore[misc]
    base = statistics.median(plain)
    return {
        "token_bytes": len(tokens[0]),
        "verify_ratio_to_raw": base / statistics.median(known),
        "verify_ratio_new_keys": base / statistics.median(new),
        "raw_verified_per_s": _TURN / base,
        "read_per_s": _TURN / statistics.median(known),
    }


def admitting(folder: Path, count: int) -> dict[str, object]:
    """Admitting `count` residents' first contributions, of one row each, in a city on disk."""
    row = {"district": "N", "km": 7, "at": "2027-06-01T08:00"}
    packed, spent, cpu = pack_table(SCHEMA, encode(SCHEMA, [row])), 0.0, 0.0
    with City.open(
        folder / "bench.city", budget=zcdp(rho=1), purposes=[PURPOSE], processing="JP-10", clock=lambda: NOW + 1
    ) as city:
        for first in range(0, count, _AT_ONCE):
            pairs = []
            for consent, key in consents(city.id, min(_AT_ONCE, count - first), first):
                sent = messages.Contribution(consent.digest, 1, sha256(consent.digest), packed)
                pairs.append((consent.token, messages.sign_contribution(sent, key, city.id)))
            start, began = time.perf_counter(), time.process_time()
            refused = [r for r in city.admit_many(pairs) if r is not None]
            spent, cpu = spent + time.perf_counter() - start, cpu + time.process_time() - began
            if refused:
                raise AssertionError(f"refused: {refused[0]}")
            _show(first + len(pairs), count, (first + len(pairs)) / spent)
    return {"tokens": count, "admitted_per_s": count / spent, "admitted_per_cpu_s": count / cpu}


def _show(done: int, count: int, rate: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {count:,} admitted, {rate:,.0f} a second", end="", file=sys.stderr, flush=True)
        if done == count:
            print(file=sys.stderr)


def run(size: str, tokens: int | None = None) -> dict[str, object]:
    """The figures: "small" reads 2,000 tokens, admits 4,096 residents, looks at 500,000 consents; "full" ten times as
    many tokens, 1M residents, 10M consents.

    Args:
        tokens: so many residents are admitted instead.
    """
    count = tokens or (1_000_000 if size == "full" else 4_096)
    many, consented = (20_000, 10_000_000) if size == "full" else (2_000, 500_000)
    city = CityId("lakeside", SigningKey(bytes(32)).public, bytes([9]) + bytes(31))
    with tempfile.TemporaryDirectory() as folder:
        return verifying(city, many) | admitting(Path(folder), count) | eligibility(consented)
