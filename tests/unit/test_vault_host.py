"""A tenant host: what is admitted and put comes back, by tenant; tenants leave with real vaults; nothing by halves."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.model.columns import Integer
from datasov.model.schema import Schema
from datasov.model.shard import RESIDENT
from datasov.vault import Vault, codec, pack, tenants
from datasov.vault.host import Host
from tests.failing import Faults, faults
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips


def _rows(host: Host, table: str, columns: list[str] | None = None) -> list[tuple[object, ...]]:
    frames = list(host.collect(table, columns))
    return pl.concat(frames).rows() if frames else []


def _three(path: Path) -> tuple[Host, list[bytes]]:
    host = Host.create(path, device_key=KEY)
    ids = host.admit([[(TRIPS, trips(1, None)), (PERSON, person(30))], [(METER, meter(5))], [(TRIPS, trips(7))]])
    return host, ids


def test_what_is_admitted_and_put_comes_back_by_tenant(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    host.put([(ids[2], [(TRIPS, trips(8, 9)), (PERSON, person(40))]), (ids[0], [(PERSON, person(31))])])
    expected = {
        "trips": [(0, *trips(1).row(0)), (0, *trips(None).row(0)), *((2, *trips(k).row(0)) for k in (7, 8, 9))],
        "meter": [(1, *meter(5).row(0))],
        "person": [(2, 40), (0, 31)],
    }
    with host:
        assert {table: _rows(host, table) for table in expected} == expected
    with Host.open(tmp_path / "h", device_key=KEY) as again:
        assert {table: _rows(again, table) for table in expected} == expected
        assert again.tenants() == ids
        assert len(again) == 3
        assert [again.number(tenant) for tenant in ids] == [0, 1, 2]
        assert _rows(again, "trips", ["km"]) == [(row[0], row[2]) for row in expected["trips"]]
        (first, *_) = again.collect("trips")
        assert first.schema == {RESIDENT: pl.UInt32, **trips(1).schema}


@pytest.mark.parametrize("full", [1, 5000])
@pytest.mark.parametrize("batch", [1, 3, 2048])
def test_over_many_packs_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int, batch: int) -> None:
    monkeypatch.setattr(pack, "FULL", full)
    monkeypatch.setattr(tenants, "BATCH", batch)
    with Host.create(tmp_path / "h", device_key=KEY) as host:
        ids = host.admit([(TRIPS, trips(*range(k % 5))), (PERSON, person(k))] for k in range(20))
        host.put((tenant, [(PERSON, person(100 + k))]) for k, tenant in enumerate(ids) if k % 3 == 0)
        assert len(list((tmp_path / "h" / "packs").iterdir())) > 2
        assert _rows(host, "trips", ["km"]) == [(k, km) for k in range(20) for km in range(k % 5)]
        ages = {k: k if k % 3 else 100 + k for k in range(20)}
        assert sorted(_rows(host, "person")) == sorted(ages.items())
        assert all(frame.height <= batch * 4 for frame in host.collect("trips"))


def test_streams_of_several_writers_and_large_segments_are_read_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_ipc = codec.to_ipc

    def other(codes: pl.DataFrame) -> bytes:
        """As another version of Polars might: the schema's message is longer."""
        data = to_ipc(codes)
        size = int.from_bytes(data[4:8], "little")
        return data[:4] + (size + 8).to_bytes(4, "little") + data[8 : 8 + size] + bytes(8) + data[8 + size :]

    sizes = (1, 2, 5, 9, 3)
    with Host.create(tmp_path / "h", device_key=KEY) as host:
        host.admit([[(TRIPS, trips(2))]])
        monkeypatch.setattr(codec, "to_ipc", other)
        host.admit([[(TRIPS, trips(4))]])
        host.put([(host.tenants()[1], [(TRIPS, trips(6))])])
        monkeypatch.undo()
        host.admit([[(TRIPS, trips(3))]])
        assert _rows(host, "trips", ["km"]) == [(0, 2), (1, 4), (1, 6), (2, 3)]
        host.remove(host.tenants())
        monkeypatch.setattr(codec, "to_ipc", lambda codes: (other if codes.height == 2 else to_ipc)(codes))
        monkeypatch.setattr(codec, "SMALL_ROWS", 3)
        for some in (sizes, (1, 2, 3)):
            host.admit([(TRIPS, trips(*range(k)))] for k in some)
        expected = [(3 + i, km) for i, k in enumerate((*sizes, 1, 2, 3)) for km in range(k)]
        assert _rows(host, "trips", ["km"]) == expected


def test_a_tenant_leaves_with_a_vault_of_the_same_sealed_bytes(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    host.put([(ids[0], [(TRIPS, trips(3)), (METER, meter(2))])])
    host.put([(ids[0], [(PERSON, person(31))])])
    device_key = host.device_key(ids[0])
    host.export(ids[0], tmp_path / "v")
    packed = b"".join(file.read_bytes() for file in (tmp_path / "h" / "packs").iterdir())
    moved = [*(tmp_path / "v" / "seg").iterdir(), tmp_path / "v" / "VAULT"]
    assert len(moved) == 6
    assert all(file.read_bytes() in packed for file in moved)
    host.remove([ids[0]])
    with Vault.open(tmp_path / "v", device_key=device_key) as vault:
        assert vault.id == ids[0]
        assert {name: vault.scan(name).rows() for name in vault.tables()} == {
            "trips": trips(1, None, 3).rows(), "meter": meter(2).rows(), "person": person(31).rows(),
        }  # fmt: skip
        vault.put([(TRIPS, trips(4)), (PERSON, person(32))])
        vault.compact()
    with Vault.open(tmp_path / "v", device_key=device_key) as vault:
        assert vault.scan("trips").rows() == trips(1, None, 3, 4).rows()
        assert vault.scan("person").rows() == person(32).rows()
    with pytest.raises(DecryptionError):
        Vault.open(tmp_path / "v", device_key=KEY)


def test_who_is_removed_is_gone_with_the_bytes_and_the_key_and_the_others_stay(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    host.export(ids[0], tmp_path / "v")
    gone = [file.read_bytes() for file in (tmp_path / "v" / "seg").iterdir()] + [(tmp_path / "v/VAULT").read_bytes()]
    host.remove([ids[0]])
    packed = b"".join(file.read_bytes() for file in (tmp_path / "h" / "packs").iterdir())
    assert not any(blob in packed for blob in gone)
    with pytest.raises(InvalidDataError, match="no such tenant"):
        host.device_key(ids[0])
    host.close()
    with Host.open(tmp_path / "h", device_key=KEY) as host:
        assert host.tenants() == ids[1:]
        assert [host.number(tenant) for tenant in ids[1:]] == [1, 2]
        assert _rows(host, "trips") == [(2, *trips(7).row(0))]
        assert _rows(host, "person") == []
        (new,) = host.admit([[(TRIPS, trips(2))]])
        assert host.number(new) == 3
        device_key = host.device_key(ids[2])
        host.export(ids[2], tmp_path / "w")
        host.remove(host.tenants())
        assert len(host) == 0
        assert list((tmp_path / "h" / "packs").iterdir()) == []
    with Vault.open(tmp_path / "w", device_key=device_key) as vault:
        assert vault.scan("trips").rows() == trips(7).rows()


def test_what_does_not_fit_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    other = Schema("trips", domain="mobility", columns={"km": Integer(0, 50)})
    before = _state(host)
    calls = (
        lambda: host.admit([[(TRIPS, trips(1))], [(TRIPS, meter(1))]]),
        lambda: host.admit([[(TRIPS, trips(1)), (other, trips(1).select("km"))]]),
        lambda: host.admit([[(PERSON, pl.concat([person(1), person(2)]))]]),
        lambda: host.put([(ids[0], [(TRIPS, trips(1))]), (bytes(16), [(TRIPS, trips(1))])]),
        lambda: host.remove([ids[0], bytes(16)]),
        lambda: host.export(bytes(16), tmp_path / "v"),
        lambda: host.collect("nothing"),
        lambda: host.collect("trips", []),
        lambda: host.collect("trips", ["km", "km"]),
        lambda: host.collect("trips", "km"),
        lambda: host.collect("trips", ["miles"]),
        lambda: Host.create(tmp_path / "v", device_key=b"short"),
    )
    for call in calls:
        with pytest.raises(InvalidDataError):
            call()
    with host:
        assert _state(host) == before
    assert not (tmp_path / "v").exists()


def test_many_rows_of_one_tenant_lie_in_several_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasov.vault.segment.MIN_ROWS", 4)
    monkeypatch.setattr("datasov.vault.segment.MAX_CELLS", 1)
    monkeypatch.setattr(pack, "FULL", 3000)
    with Host.create(tmp_path / "h", device_key=KEY) as host:
        ids = host.admit([[(TRIPS, trips(*range(50)))], [(TRIPS, trips(*range(9)))]])
        assert len(list((tmp_path / "h" / "packs").iterdir())) > 3
        assert _rows(host, "trips", ["km"]) == [*((0, km) for km in range(50)), *((1, km) for km in range(9))]
        host.export(ids[0], tmp_path / "v")
        device_key = host.device_key(ids[0])
    with Vault.open(tmp_path / "v", device_key=device_key) as vault:
        assert vault.scan("trips").equals(trips(*range(50)))
        assert len(list((tmp_path / "v" / "seg").iterdir())) == 13


def test_packs_written_before_a_refusal_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "FULL", 1)
    host, _ = _three(tmp_path / "h")
    before = sorted((tmp_path / "h" / "packs").iterdir())
    with host, pytest.raises(InvalidDataError):
        host.admit([[(TRIPS, trips(1))], [(TRIPS, trips(2))], [(TRIPS, meter(1))]])
    assert sorted((tmp_path / "h" / "packs").iterdir()) == before


def test_rows_that_are_not_as_many_as_the_index_says(tmp_path: Path) -> None:
    host, _ = _three(tmp_path / "h")
    with host:
        (found,) = host._tenants.packs
        entries = list(found.entries("trips"))
        ids, device_keys = (host._tenants.table[[e.number for e in entries]][name].tobytes() for name in ("id", "key"))
        assert pack.collect(found, host._index.id, entries, ids, device_keys, None).height == 3
        swapped = [entries[0]._replace(rows=1), entries[1]._replace(rows=2)]
        with pytest.raises(DecryptionError):
            pack.collect(found, host._index.id, swapped, ids, device_keys, None)


def test_a_damaged_segment_does_not_leave(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    with host:
        (found,) = host._tenants.packs
        (entry, *_) = found.entries("trips")
        whole = bytearray(found.path.read_bytes())
        whole[found.blobs + entry.at + pack.SLIP + entry.size - 1] ^= 1
        found.path.write_bytes(whole)
        with pytest.raises(DecryptionError):
            host.export(ids[0], tmp_path / "v")
        assert not (tmp_path / "v").exists()
        host.export(ids[1], tmp_path / "w")


def test_one_writer_and_readers(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    with pytest.raises(StoreError, match="another process or another Vault writes"):
        Host.open(tmp_path / "h", device_key=KEY)
    with pytest.raises(StoreError, match="exists already"):
        Host.create(tmp_path / "h", device_key=KEY)
    with pytest.raises(StoreError, match="exists already"):
        host.export(ids[0], tmp_path / "h")
    with Host.open(tmp_path / "h", device_key=KEY, write=False) as reader:
        assert _state(reader) == _state(host)
        for change in (
            lambda: reader.admit([[]]),
            lambda: reader.put([(ids[0], [(TRIPS, trips(1))])]),
            lambda: reader.remove(ids),
        ):
            with pytest.raises(StoreError, match="open for reading"):
                change()
    host.close()
    Host.open(tmp_path / "h", device_key=KEY).close()
    for wrong in (bytes(32), host._key):
        with pytest.raises(DecryptionError):
            Host.open(tmp_path / "h", device_key=wrong)


def test_nobody_and_nothing(tmp_path: Path) -> None:
    with Host.create(tmp_path / "h", device_key=KEY) as host:
        assert host.admit([]) == []
        (tenant,) = host.admit([[(TRIPS, trips())]])
        assert len(host) == 1
        assert list(host.collect("trips")) == []
        host.put([])
        host.remove([])
        host.export(tenant, tmp_path / "v")
        device_key = host.device_key(tenant)
    with Vault.open(tmp_path / "v", device_key=device_key) as vault:
        assert vault.tables() == {}


def _state(host: Host) -> dict[str, object]:
    tables = {table: _rows(host, table) for table in ("trips", "meter", "person")}
    return {"tenants": host.tenants(), **tables}


OPERATIONS: dict[str, Callable[[Host], object]] = {
    "admit": lambda host: host.admit([[(TRIPS, trips(4)), (METER, meter(1))], [(TRIPS, trips(5))]]),
    "admit a new table": lambda host: host.admit([[(FRESH, trips(4).select("km"))]]),
    "put": lambda host: host.put([(host.tenants()[0], [(TRIPS, trips(9))])]),
    "remove": lambda host: host.remove(host.tenants()[:1]),
}
FRESH = Schema("fresh", domain="mobility", columns={"km": Integer(0, 50, nullable=True)})


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("for_good", [False, True])
def test_an_operation_that_fails_at_any_step_keeps_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, for_good: bool
) -> None:
    monkeypatch.setattr(pack, "FULL", 1)
    _three(tmp_path / "base")[0].close()
    at, after = 0, None
    while after is None:
        at += 1
        shutil.copytree(tmp_path / "base", tmp_path / f"h{at}")
        with Host.open(tmp_path / f"h{at}", device_key=KEY) as host:
            before = _state(host)
            raised = False
            with faults(Faults(at, for_good=for_good)) as fault:
                try:
                    OPERATIONS[name](host)
                except StoreError as failure:
                    raised = "are gone" not in str(failure)
            live = _state(host)
            assert not raised or live == before
            if fault.count < at:
                after = live
                assert after != before or name == "admit a new table"
        with Host.open(tmp_path / f"h{at}", device_key=KEY) as again:
            kept = _state(again)
            assert kept == live
            named = {p.id.hex() for p in again._tenants.packs}
            assert {file.name for file in (tmp_path / f"h{at}" / "packs").iterdir()} == named
            (new,) = again.admit([[(TRIPS, trips(6))]])
            assert _rows(again, "trips")[-1] == (again.number(new), *trips(6).row(0))
    assert at > 4


def test_an_export_that_fails_at_any_step_leaves_no_path(tmp_path: Path) -> None:
    host, ids = _three(tmp_path / "h")
    with host:
        for at in range(1, 100):
            with faults(Faults(at, code=errno.ENOSPC)) as fault:
                try:
                    host.export(ids[0], tmp_path / "v")
                except StoreError:
                    assert not (tmp_path / "v").exists()
            if fault.count < at:
                break
        assert at > 8
        device_key = host.device_key(ids[0])
    with Vault.open(tmp_path / "v", device_key=device_key) as vault:
        assert vault.scan("trips").rows() == trips(1, None).rows()
