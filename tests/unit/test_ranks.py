"""Secret ranks: SipHash as published, ranks distinct within a resident, and nobody's ranks touched by anybody else."""

from __future__ import annotations

import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.model.partition import BLIND, index_name, indexes
from datasov.model.schema import Key
from datasov.model.shard import PAIR, RESIDENT, ROW
from datasov.pool import ranks
from datasov.pool.ranks import own_cells, physical_order, ranked, siphash
from tests.naive import siphash as scalar

SCHEMA = ds.Schema(
    "ev", domain="mobility", keys=[("cat", "flag"), (ds.bin("num", [3, 6]),)],
    columns={"cat": ds.Category("abc", nullable=True), "num": ds.Integer(0, 9), "flag": ds.Boolean()},
)  # fmt: skip
SECRET = bytes(range(32))
REFERENCE_KEY = bytes(range(16))


# --- SipHash-2-4


def test_the_official_vectors():
    """Reference implementation of SipHash-2-4, vectors for inputs 00 01 02 ... of each length under key 00 .. 0f."""
    published = {0: 0x726FDB47DD0E0E31, 1: 0x74F839C593DC67FD, 7: 0xAB0200F58B01D137, 8: 0x93F5F5799A932462,
                 15: 0xA129CA6149BE45E5}  # fmt: skip
    for length, expected in published.items():
        assert scalar(REFERENCE_KEY, bytes(range(length))) == expected
    (word,) = struct.unpack("<Q", bytes(range(8)))
    assert siphash(REFERENCE_KEY, np.array([word], dtype=np.uint64))[0] == published[8]


@given(st.binary(min_size=16, max_size=16), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_many_at_once_are_as_one_by_one(key, words):
    hashed = siphash(key, np.array(words, dtype=np.uint64))
    assert [int(h) for h in hashed] == [scalar(key, struct.pack("<Q", w)) for w in words]


def test_blocks_meet():
    words = np.arange(3 * (1 << 15) + 5, dtype=np.uint64)
    hashed = siphash(REFERENCE_KEY, words)
    for i in (0, 1, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 2 << 15, len(words) - 1):
        assert int(hashed[i]) == scalar(REFERENCE_KEY, struct.pack("<Q", i))
    assert (words == np.arange(len(words), dtype=np.uint64)).all(), "the input is left as it was"


# --- ranks


def frame(rng: np.random.Generator, residents: int, most: int = 12) -> pl.DataFrame:
    numbers = np.sort(np.concatenate([[r] * int(rng.integers(0, most)) for r in range(residents)] or [[]]))
    height = len(numbers)
    cat = pl.Series("cat", rng.integers(0, 3, height), dtype=pl.UInt8)
    return pl.DataFrame([
        cat.set(pl.Series(rng.random(height) < 0.2, dtype=pl.Boolean), None),
        pl.Series("num", rng.integers(0, 10, height), dtype=pl.UInt8),
        pl.Series("flag", rng.integers(0, 2, height), dtype=pl.UInt8),
        pl.Series(RESIDENT, numbers, dtype=pl.UInt32),
        pl.Series("id", np.arange(height), dtype=pl.Int64),
    ])  # fmt: skip


def identities(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)


@pytest.mark.parametrize("seed", range(12))
def test_ranks_count_from_zero_without_repetition_within_each_resident(seed):
    rng = np.random.default_rng(seed)
    rows = frame(rng, 9)
    out = ranked(rows, SCHEMA, SECRET, identities(9))
    assert out.select(rows.columns).sort("id").equals(rows), "no row is lost, added or changed"
    for name, keys in indexes(SCHEMA).items():
        cells = pl.Series("cell", own_cells(out, SCHEMA, keys))
        for _, one in out.with_columns(cells).group_by(RESIDENT):
            pairs = one.group_by("cell").agg(pl.col(PAIR + name).unique().alias("p"))
            assert all(len(p) == 1 for p in pairs["p"]), "one rank for all rows of a pair"
            assert sorted(p[0] for p in pairs["p"]) == list(range(len(pairs)))
            for _, pair in one.group_by("cell"):
                assert sorted(pair[ROW + name]) == list(range(len(pair)))
    assert out[RESIDENT].is_sorted()
    first = physical_order(SCHEMA, ["cat", "num", "flag"])
    keyed = list(zip(out[RESIDENT], out[PAIR + first], out[ROW + first], strict=True))
    assert keyed == sorted(keyed), "rows lie in the order of the first index"


@pytest.mark.parametrize("seed", range(6))
def test_a_residents_ranks_do_not_depend_on_others(seed):
    rng = np.random.default_rng(seed)
    rows, who = frame(rng, 7), identities(7)
    everybody = ranked(rows, SCHEMA, SECRET, who).drop("id", RESIDENT)
    alone = []
    for resident in range(7):
        one = rows.filter(pl.col(RESIDENT) == resident).with_columns(pl.lit(0, dtype=pl.UInt32).alias(RESIDENT))
        alone.append(ranked(one, SCHEMA, SECRET, who[resident : resident + 1]).drop("id", RESIDENT))
    assert everybody.equals(pl.concat(alone))


def test_ranks_depend_on_the_secret_the_resident_and_the_index():
    rows = frame(np.random.default_rng(0), 1, 2000)
    one = ranked(rows, SCHEMA, SECRET, identities(1)).sort("id")
    other_secret = ranked(rows, SCHEMA, bytes(32), identities(1)).sort("id")
    other_resident = ranked(rows, SCHEMA, SECRET, identities(1, 2)).sort("id")
    first, second, blind = indexes(SCHEMA)
    for name in (first, second, blind):
        assert (one[ROW + name] != other_secret[ROW + name]).any()
        assert (one[ROW + name] != other_resident[ROW + name]).any()
    assert (one[ROW + first].to_list()) != one[ROW + second].to_list()


@pytest.mark.parametrize("bits", [0, 1, 2, 4, 20])
@pytest.mark.parametrize("seed", range(4))
def test_collisions_of_packed_words_change_nothing(monkeypatch, bits, seed):
    """Few bits of every hash: rows and pairs then agree in the packed word, and must still be in the exact order."""
    real = ranks.siphash
    mask = np.uint64(((1 << bits) - 1) << (64 - bits) | 0xFF) if bits else np.uint64(0xFF)
    monkeypatch.setattr(ranks, "siphash", lambda key, words: real(key, words) & mask)
    rows, who = frame(np.random.default_rng(seed), 6, 40), identities(6)
    packed = ranked(rows, SCHEMA, SECRET, who)
    monkeypatch.setattr(
        ranks, "_order",
        lambda resident, pair_hash, cells, row_hash: np.lexsort((row_hash, cells, pair_hash, resident)),
    )  # fmt: skip
    exact = ranked(rows, SCHEMA, SECRET, who)
    for name in indexes(SCHEMA):
        a, b = (f.sort("id").select(PAIR + name) for f in (packed, exact))
        assert a.equals(b)
    if bits == 20:
        assert packed.equals(exact)
    for name, keys in indexes(SCHEMA).items():
        cells = own_cells(packed, SCHEMA, keys)
        together = list(zip(packed[RESIDENT], cells, packed[ROW + name], strict=True))
        assert len(set(together)) == len(together), "row ranks stay distinct"
        pairs = set(zip(packed[RESIDENT], packed[PAIR + name], strict=True))
        assert len(pairs) == len(set(zip(packed[RESIDENT], cells, strict=True))), "pair ranks stay distinct"


@pytest.mark.parametrize("seed", range(4))
def test_full_row_hashes_decide_where_packed_words_agree(monkeypatch, seed):
    """Hashes that differ in their low bits alone: the packed order sees none of it, the exact order all."""
    real = ranks.siphash
    monkeypatch.setattr(ranks, "siphash", lambda key, words: real(key, words) >> np.uint64(43))
    rows, who = frame(np.random.default_rng(seed), 5, 40), identities(5)
    packed = ranked(rows, SCHEMA, SECRET, who)
    monkeypatch.setattr(
        ranks, "_order",
        lambda resident, pair_hash, cells, row_hash: np.lexsort((row_hash, cells, pair_hash, resident)),
    )  # fmt: skip
    assert packed.equals(ranked(rows, SCHEMA, SECRET, who))


def test_many_residents_are_sorted_without_packing():
    resident = np.array([0, 0, 1 << 20, 1 << 20], dtype=np.uint32)
    words = np.array([9, 3, 7, 7], dtype=np.uint64)
    order = ranks._order(resident, words, np.zeros(4, dtype=np.uint32), np.array([1, 2, 2, 1], dtype=np.uint64))
    assert order.tolist() == [1, 0, 3, 2]


def test_ranks_beyond_16_bits_stay_distinct():
    rows = frame(np.random.default_rng(3), 1, 2)
    rows = pl.DataFrame({
        "cat": pl.Series([0] * 70_000, dtype=pl.UInt8), "num": pl.Series([1] * 70_000, dtype=pl.UInt8),
        "flag": pl.Series([0] * 70_000, dtype=pl.UInt8), RESIDENT: pl.Series([0] * 70_000, dtype=pl.UInt32),
    })  # fmt: skip
    out = ranked(rows, SCHEMA, SECRET, identities(1))
    assert out[ROW + BLIND].n_unique() == 70_000
    assert out[ROW + BLIND].max() == 69_999


def test_no_rows_have_no_ranks_but_their_columns():
    out = ranked(frame(np.random.default_rng(0), 0), SCHEMA, SECRET, identities(0))
    assert out.height == 0
    assert {PAIR + n for n in indexes(SCHEMA)} < set(out.columns)


def test_an_index_whose_columns_are_not_covered_is_left_out():
    rows = frame(np.random.default_rng(1), 3).drop("flag")
    out = ranked(rows, SCHEMA, SECRET, identities(3))
    first, second, _ = indexes(SCHEMA)
    assert PAIR + first not in out.columns
    assert {PAIR + second, ROW + BLIND} < set(out.columns)
    assert physical_order(SCHEMA, ["num"]) == second
    assert physical_order(SCHEMA, []) == BLIND


def test_an_index_is_named_by_its_exact_expressions():
    a, b = Key("a"), Key("b")
    assert index_name((a, b)) == index_name((b, a))
    assert index_name((a, Key("who.x"))) == index_name((a,))
    assert index_name((Key("who.x"),)) == index_name(()) == BLIND
    names = [
        index_name(k)
        for k in [(a,), (b,), (a, b), (Key("a", "bin", ("1",)),), (Key("a", "bin", ("2",)),),
                  (Key("a", "bin", ("1", "2")),), (Key("a", "hour"),), (Key("a", "day"),), ()]
    ]  # fmt: skip
    assert len(set(names)) == len(names)
