"""The log over HTTP: what a mirror, a witness and a resident read from a gateway, and that it is what C2SP says."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import datasov as ds
from datasov.cli import main
from datasov.errors import InvalidDataError, PeerError, ProofError
from datasov.remote import Remote
from datasov.tlog import tiles
from datasov.tlog.bundle import verify_bundle
from datasov.tlog.export import read_log
from datasov.tlog.leaves import NoticeLeaf, encode_leaf
from datasov.tlog.log import Log
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import decode_proof, open_checkpoint, vkey
from datasov.tlog.tree import leaf_hash, verify_consistency, verify_inclusion
from datasov.tlog.witness import Witness
from datasov.vault import KeyFile
from tests.gateway_ports import serving
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, Clock, few_lists, found_city
from tests.logs import files_of

LEAVES = 600
WIDE = 300


def notice(number: int, size: int = 20) -> bytes:
    return encode_leaf(NoticeLeaf("test", NOW, number.to_bytes(32, "big"), b"n" * size))


def grow(city: ds.City, many: int, wide: int | None = None) -> None:
    first = city.log.size
    new = [notice(first + n, 70_000 if first + n == wide else 20) for n in range(many)]
    city._store.append({"log": (first, new)})


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ds.City]:
    with found_city(tmp_path_factory.mktemp("city"), Clock()) as found:
        grow(found, LEAVES, WIDE)
        yield found


@pytest.fixture(scope="module")
def at(city: ds.City) -> Iterator[str]:
    with serving(city, {"trips": TRIPS}, Clock()) as address:
        yield address


def test_every_file_is_the_one_that_publish_writes(city: ds.City, at: str, tmp_path: Path) -> None:
    city.log.publish(tmp_path / "mirror")
    files = files_of(tmp_path / "mirror")
    assert {"tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000", "datasov/entries/001"} <= set(files)
    with httpx.Client(base_url=at) as client:
        for path, data in files.items():
            found = client.get(f"/log/{path}")
            assert (found.status_code, found.content) == (200, data), path
            kind = "text/plain; charset=utf-8" if path == "checkpoint" else "application/octet-stream"
            assert found.headers["content-type"] == kind
            kept = "immutable" in found.headers["cache-control"]
            assert kept == (path != "checkpoint")


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/003", "tile/0/002", "tile/0/002.p/89", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
        "tile/0/0", "tile/0/x000/000", "tile/0/1000", "tile/0/000/", "tile/1/000", "tile/63/000", "tile/64/000",
        "tile/entries/002", "tile/entries/001", "datasov/entries/000", "tile/entries/..%2f000", "tile/0/x" + "9" * 60,
        "inclusion?index=600", "consistency?old=1&new=601", "consistency?old=9&new=2", "cosigned",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(at: str, path: str) -> None:
    found = httpx.get(f"{at}/log/{path}")
    assert found.status_code == 404
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["cache-control"] == "no-store"


def test_partial_tiles_of_earlier_sizes_stay(at: str, city: ds.City) -> None:
    whole = httpx.get(f"{at}/log/tile/0/000").content
    assert httpx.get(f"{at}/log/tile/0/000.p/7").content == whole[: 7 * 32]
    assert httpx.get(f"{at}/log/tile/entries/000.p/3").content == tiles.write_bundle(city.log.leaves(0, 3))


def test_proofs_verify(at: str, city: ds.City) -> None:
    proof = decode_proof(httpx.get(f"{at}/log/inclusion", params={"index": 299}).content)
    checkpoint = open_checkpoint(proof.note, city.log.origin, city.log.public)
    (leaf,) = city.log.leaves(299, 300)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    found = httpx.get(f"{at}/log/consistency", params={"old": 77, "new": 600}).json()
    path = [base64.b64decode(h) for h in found["hashes"]]
    verify_consistency(77, 600, city.log.root(77), city.log.root(600), path)


def test_the_whole_log_in_one_file(at: str, city: ds.City, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(httpx.get(f"{at}/log/export").content)
    held = read_log(tmp_path / "log")
    assert held.leaves() == city.log.leaves()
    assert held.checkpoint() == city.log.checkpoint()


def test_a_mirror_follows_over_http(at: str, city: ds.City, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key, seen, mirror = str(city.id), str(tmp_path / "seen"), tmp_path / "mirror"
    assert main(["log", "verify", f"{at}/log", "--key", key, "--remember", seen]) == 0
    assert main(["log", "publish", f"{at}/log", str(mirror), "--key", key]) == 0
    grow(city, 5)
    assert main(["log", "verify", f"{at}/log", "--key", key, "--remember", seen, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["size"], told["since"]) == (LEAVES + 5, LEAVES)
    assert main(["log", "publish", f"{at}/log", str(mirror), "--key", key]) == 0
    assert TileLog(mirror, city.log.public).checkpoint() == city.log.checkpoint()
    assert main(["log", "compare", seen, f"{at}/log", "--key", key]) == 0
    assert main(["log", "compare", f"{at}/log", str(mirror), "--key", key]) == 0
    assert main(["log", "verify", f"{at}/log"]) == 1
    assert main(["log", "verify", f"{at}/log", "--key", vkey("datasov/log/" + "0" * 32, bytes(31) + b"\1")]) == 1


def test_a_witness_cosigns_over_http(
    at: str, city: ds.City, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    witness = Witness.create(tmp_path / "witness", "witness.example/lake")
    witness.trust(vkey(city.log.origin, city.log.public))
    assert main(["log", "witness", "cosign", str(tmp_path / "witness"), f"{at}/log"]) == 0
    city.log.cosign(capsys.readouterr().out.encode(), [witness.cosigner])
    assert httpx.get(f"{at}/log/cosigned").content == city.log.cosigned().note  # type: ignore[union-attr]
    assert b"witness.example/lake" in httpx.get(f"{at}/log/checkpoint").content


def test_a_resident_reads_receipts_over_http(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clock = Clock()
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        with ds.Resident.create("ann.vault", device=KeyFile(Path("ann.device")), clock=clock) as ann:
            ann.put(TRIPS, [{"district": "N", "km": 7}])
            ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        release = city.release(COUNT, loss=RHO, purpose=PURPOSE)
        assert main(["receipts", "ann.vault", "--log", f"{at}/log", "--device-file", "ann.device", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["receipts"]
        assert found["purpose"] == PURPOSE
        everybody = httpx.get(f"{at}/v1/receipts").content
        (receipt,) = verify_bundle(everybody, city.id).receipts
        assert receipt.release.release_id == release.identifier
        city.release(COUNT, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE)
        assert httpx.get(f"{at}/v1/receipts").content == everybody, "the same for everybody within a tick"
        clock.now += 3_600
        assert len(verify_bundle(httpx.get(f"{at}/v1/receipts").content, city.id).receipts) == 2


def test_a_mirror_that_lies_or_overloads_is_refused(city: ds.City, at: str) -> None:
    def lying(request: httpx.Request) -> httpx.Response:
        found = httpx.get(f"{at}{request.url.path}")
        data = bytearray(found.content)
        if "/tile/entries" in request.url.path:
            data[40] ^= 1
        return httpx.Response(found.status_code, content=bytes(data))

    with Remote(f"{at}/log", client=httpx.Client(transport=httpx.MockTransport(lying))) as remote:
        log = remote.log(city.log.public)
        assert log.checkpoint() == city.log.checkpoint()
        with pytest.raises(ProofError):
            log.leaves(0, 10)


def test_a_busy_gateway_is_asked_again_and_a_missing_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    answers = iter([429, 503, 200])

    def busy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(next(answers), headers={"retry-after": "7"}, content=b"here")

    client = httpx.Client(transport=httpx.MockTransport(busy))
    assert Remote("https://city.example", client=client, sleep=waited.append).read("x") == b"here"
    assert waited == [7.0, 7.0]
    never = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(429, headers={"retry-after": "30"})))
    waited.clear()
    with pytest.raises(OSError, match="429"):
        Remote("https://city.example", client=never, sleep=waited.append).read("x")
    assert sum(waited) == 120
    endless = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * 300_000)))
    with pytest.raises(PeerError):
        Remote("https://city.example", client=endless).note()
    monkeypatch.setattr("datasov.remote.MAX_ANSWER", 200_000)
    with pytest.raises(OSError, match="without an end"):
        Remote("https://city.example", client=endless).read("tile/0/000")
    away = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": "/y"})))
    with pytest.raises(PeerError, match="302"):
        Remote("https://city.example", client=away).note()
    with pytest.raises(InvalidDataError):
        Remote("https://")


def test_the_checkpoint_is_anchored_before_it_is_shown(tmp_path: Path) -> None:
    with found_city(tmp_path, Clock()) as city:
        grow(city, 1)
        before = (tmp_path / "lake.city.anchor").read_bytes()
        assert isinstance(city.log, Log)
        city.checkpoint()
        assert (tmp_path / "lake.city.anchor").read_bytes() != before


def test_a_resident_sends_and_finds_out_by_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few_lists(monkeypatch)
    clock = Clock(int(time.time()))
    opening = ["--device-file", "ann.device"]
    with found_city(tmp_path, clock) as city, serving(city, {}, clock) as at:
        with ds.Resident.create("ann.vault", device=KeyFile(Path("ann.device"))) as ann:
            ann.put(TRIPS, [{"district": "N", "km": 7}])
            consent = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        identity = consent.digest.hex()[:16]
        assert main(["consent", "contribute", "ann.vault", identity, at, *opening]) == 0
        assert main(["receipts", "ann.vault", "--log", f"{at}/log", "--sent", *opening]) == 0
        assert "Contribution 1 for bus-planning is not in the log" in capsys.readouterr().out
        for _ in range(2):
            clock.now += 3_600
            city.take_up()
            city.tick()
        assert main(["receipts", "ann.vault", "--log", f"{at}/log", "--sent", "--json", *opening]) == 0
        (told,) = json.loads(capsys.readouterr().out)["sent"]
        assert told == {"consent": consent.digest.hex(), "purpose": PURPOSE, "number": 1, "admitted": True}
        assert main(["consent", "revoke", "ann.vault", identity, at, *opening]) == 0
        clock.now += 3_600
        assert city.take_up().taken == 1
        assert main(["consent", "revoke", "ann.vault", identity, "https://127.0.0.1:1", *opening]) == 1
        assert "cannot be reached" in capsys.readouterr().err
