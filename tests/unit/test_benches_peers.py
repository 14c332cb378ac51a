"""The bench `peers`: the same rows for everybody, real figures here, and a reason for each peer that has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benches import peers
from benches.__main__ import names, table
from benches._peers import datasov_release, job

ABSENT = peers.Peer("absent", "raw_polars", ("datasov-bench-of-no-such-name==0.0.1",))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASOV_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no network, and so no wait for it
    monkeypatch.delenv("DATASOV_BENCH_INSTALL", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "rows.parquet"
    peers.simulated(4000).write_parquet(path)
    return path


def entry(name: str, path: Path, runs: int = 2) -> dict[str, object]:
    (peer,) = [p for p in peers.PEERS if p.module == name]
    return peers.figures(peer, Path(sys.executable), path, runs, 60)


def naive(frame: pl.DataFrame) -> list[list[int]]:
    counts, sums = [0] * job.KEYS, [0] * job.KEYS
    for key, value in frame.select("key", "value").rows():
        counts[key] += 1
        sums[key] += value
    return [counts, sums]


def test_the_bench_is_listed_and_its_parts_are_not() -> None:
    assert "peers" in names()
    assert not [n for n in names() if n.startswith("_")]


def test_rows_come_from_their_seed_alone() -> None:
    once, again, other = peers.simulated(3000), peers.simulated(3000), peers.simulated(3000, seed=2)
    assert once.equals(again)
    assert not once.equals(other)
    assert once.group_by("resident").len()["len"].unique().to_list() == [peers.ROWS_A_RESIDENT]
    assert once["resident"].to_list() != [i % 300 for i in range(3000)]
    assert once["key"].max() < job.KEYS


def test_rows_are_the_same_in_every_form(rows: Path) -> None:
    frame = pl.read_parquet(rows)
    assert frame.equals(peers.simulated(4000))
    wanted = naive(frame)
    made = job.raw(frame)
    assert job.by_key(made["key"].to_list(), made["rows"].to_list(), made["value"].to_list()).tolist() == wanted
    shards = datasov_release.shards(frame)
    laid = pl.concat([s.rows.select("key", "value") for s in shards])
    assert naive(laid) == wanted
    assert sum(s.residents for s in shards) == frame["resident"].n_unique()


def test_shards_hold_each_resident_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasov_release, "RESIDENTS_PER_SHARD", 64)
    frame = peers.simulated(2000)
    shards = datasov_release.shards(frame)
    assert [s.residents for s in shards] == [64, 64, 64, 8]
    for shard in shards:
        of = frame.filter(pl.col("resident").is_between(shard.first, shard.first + shard.residents - 1))
        assert naive(shard.rows) == naive(of)


def test_the_scales_are_those_that_datasov_gives_its_question() -> None:
    assert datasov_release.PLAN.scales(datasov_release.LOSS) == pytest.approx(job.SCALES, rel=1e-9)
    assert not datasov_release.PLAN.blind


def test_bounds_of_datasov_are_those_of_the_job() -> None:
    frame = peers.simulated(4000)
    exact = datasov_release.exact(datasov_release.prepare(frame))
    pairs = frame.group_by("resident", "key").len().with_columns(pl.col("len").clip(upper_bound=job.ROWS_A_KEY))
    assert exact[0].sum() < pairs["len"].sum()  # the bound on keys bites
    keys = frame.group_by("resident").agg(pl.col("key").n_unique())["key"]
    assert keys.max() > job.KEYS_A_RESIDENT
    one = frame.filter(pl.col("resident") == 7)
    alone = datasov_release.exact(datasov_release.prepare(one.with_columns(resident=pl.lit(0, pl.UInt32))))
    assert np.count_nonzero(alone[0]) == min(one["key"].n_unique(), job.KEYS_A_RESIDENT)
    assert alone[0].max() <= job.ROWS_A_KEY
    assert (alone[1] <= alone[0] * job.HIGH).all()


def test_datasov_runs_and_its_error_is_its_noise(rows: Path) -> None:
    found = entry("datasov_release", rows)
    assert found["error_as_expected"] is True
    assert found["expected_l1_error"] == job.SCALES[0]
    assert 0 < found["rows_counted"] < 1
    assert min(found[n] for n in ("ratio_to_raw_polars", "uncharged_ratio", "prepare_ratio")) > 0
    assert found["peak_bytes"] >= found["peak_bytes_before"] > 1 << 20


def test_raw_polars_runs_without_error_or_bounds(rows: Path) -> None:
    found = entry("raw_polars", rows)
    assert (found["l1_error"], found["sum_l1_error"], found["rows_counted"]) == (0, 0, 1)
    assert found["version"] == pl.__version__
    assert "_raw" not in found


@pytest.mark.parametrize(("scale", "right"), [(32.0, True), (16.0, False), (64.0, False), (0.0, False)])
def test_noise_of_another_scale_shows(rows: Path, scale: float, right: bool) -> None:
    rng = np.random.default_rng(5)
    nothing = np.zeros((2, job.KEYS))
    system = job.System(
        "polars", "", lambda f: f, lambda _: rng.laplace(0, 1, (2, job.KEYS)) * [[scale], [1600.0]], lambda _: nothing
    )
    assert job.measure(system, rows, 4)["error_as_expected"] is right


def test_the_peak_is_the_processs_own_and_not_its_parents() -> None:
    held = bytearray(os.urandom(1)) * (300 << 20)
    code = "from benches._peers.job import peak_bytes; print(peak_bytes())"
    out = subprocess.run([sys.executable, "-c", code], cwd=peers.ROOT, capture_output=True, text=True, check=True)
    assert len(held) > int(out.stdout) > 1 << 20
    assert job.peak_bytes() > len(held)


def test_a_peer_that_does_not_install_is_skipped_with_the_reason(cache: Path, rows: Path) -> None:
    (why,) = peers.made([ABSENT], "small")
    found = peers.measured(ABSENT, why, rows, "small")
    assert found.keys() == {"name", "skipped"}
    assert found["skipped"].startswith("not installed: ERROR: ")
    assert "datasov-bench-of-no-such-name" in found["skipped"]
    assert list(cache.iterdir()) == []


def test_a_peer_is_not_waited_for_without_end(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "INSTALL_SECONDS", {"small": (90.0, 0.0)})
    assert peers.made([ABSENT], "small") == ["not installed: the time for installing was over"]
    assert not cache.exists()


def test_nothing_is_installed_where_that_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASOV_BENCH_INSTALL", "0")
    (why,) = peers.made([ABSENT], "small")
    assert "DATASOV_BENCH_INSTALL" in str(why)
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_is_a_reason(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DATASOV_BENCH_CACHE", str(tmp_path / "file"))
    (why,) = peers.made([ABSENT], "small")
    assert str(why).startswith("not installed: ")


def test_an_environment_is_made_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(peers, "run_process", lambda command, *_: calls.append(command))  # pip itself, which fails here
    first, second = peers.environment(ABSENT, 60), peers.environment(ABSENT, 60)
    assert first == second
    assert len(calls) == 1
    assert subprocess.run([first, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True).stdout.strip()
    assert [p.name for p in cache.iterdir()] == [first.parent.parent.name]
    other = peers.Peer("absent", "raw_polars", ("datasov-bench-of-no-such-name==0.0.2",))
    assert peers.environment(other, 60) != first


def test_a_process_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with pytest.raises(peers.SkippedError, match="more than 1 s"):
        peers.run_process([sys.executable, "-c", outer], 1)
    time.sleep(3)
    assert not mark.exists()


def test_a_peer_that_fails_is_skipped_with_its_last_words(rows: Path) -> None:
    found = peers.measured(peers.Peer("gone", "gone"), Path(sys.executable), rows, "small")
    assert found["name"] == "gone"
    assert str(found["skipped"]).startswith("it did not run: ")
    assert "benches._peers.gone" in str(found["skipped"])


def test_a_peer_that_counted_other_rows_is_skipped(rows: Path, tmp_path: Path) -> None:
    peer = peers.PEERS[0]
    right = json.loads(peers.run_process([sys.executable, "-m", "benches._peers.raw_polars", rows, "1"], 60))
    right["_raw"][0][3] += 1
    script = f"import json; print(json.dumps({right!r}))"
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{script}\n")
    fake.chmod(0o700)
    assert "raw totals" in str(peers.measured(peer, fake, rows, "small")["skipped"])


def test_last_words_hold_no_address() -> None:
    said = "WARNING: one\nERROR: No matching distribution at https://user:word@index.example/simple/x\nnoise\n"
    assert peers.last_words(said) == "ERROR: No matching distribution at (address)"
    assert peers.last_words("a\nb\n\n") == "b"
    assert peers.last_words("") == ""


def test_every_peer_pins_what_it_installs() -> None:
    for peer in peers.PEERS:
        assert all("==" in pin for pin in peer.pins)
        assert (peers.ROOT / "benches" / "_peers" / f"{peer.module}.py").is_file()


def test_the_table_gives_each_system_a_line() -> None:
    shown = table({"rows": 10, "systems": [{"name": "a", "ratio": 1.5}, {"name": "b", "skipped": "why"}]})
    assert shown.splitlines()[1:] == ["systems", "  name: a, ratio: 1.5", "  name: b, skipped: why"]
