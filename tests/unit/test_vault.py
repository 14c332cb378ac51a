"""What a vault does for its owner, and how it refuses."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import polars as pl
import pytest

import datasov as ds
from datasov.errors import DecryptionError, InvalidDataError, InvalidQueryError, StoreError
from datasov.model.columns import Integer
from datasov.model.schema import Schema
from datasov.vault import KeyFile, Vault, codec, keys, session
from tests import vaults
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips


def test_rows_come_back_in_the_order_they_were_put(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1, 2))])
        with vaults.large_from(2):
            vault.put([(TRIPS, trips(3, None, 5)), (METER, meter(9))])
        vault.put([(TRIPS, trips(6))])
        expected = trips(1, 2, 3, None, 5, 6)
        assert vault.scan("trips").equals(expected)
        vault.compact()
        assert vault.scan("trips").equals(expected)
        assert vault.scan("trips", ["km"]).equals(expected.select("km"))
        assert vault.scan("trips", ["km", "district"]).equals(expected.select("km", "district"))
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        assert vault.scan("trips").equals(expected)
        assert vault.scan("meter").equals(meter(9))
        assert vault.tables() == {"trips": TRIPS, "meter": METER}


def test_an_attribute_table_gives_the_newest_row(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        for age in (20, 21):
            vault.put([(PERSON, person(age))])
        assert vault.scan("person").equals(person(21))
        vault.compact()
        assert vault.scan("person").equals(person(21))
        vault.put([(PERSON, person(22))])
        assert vault.scan("person", ["age"]).equals(person(22))
        with vaults.large_from(1):
            vault.put([(TRIPS, trips(1, 2)), (PERSON, person(23))])
        assert vault.scan("person").equals(person(23))
        vault.compact()
        assert vault.scan("person").equals(person(23))


def test_an_empty_put_makes_the_table_known(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips())])
        assert vault.scan("trips").schema == trips(1).schema
        assert vault.scan("trips", ["km"]).columns == ["km"]
        with pytest.raises(InvalidDataError, match="no table 'meter'"):
            vault.scan("meter")
        with pytest.raises(InvalidQueryError, match="no column 'speed'"):
            vault.scan("trips", ["speed"])
        for columns in ([], ["km", "km"], "km"):
            with pytest.raises(InvalidDataError, match="different names"):
                vault.scan("trips", columns)


def test_state_is_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        assert vault.state("a") is None
        vault.set_state({"a": b"1", "b": b"2"})
        vault.set_state({"a": None, "b": b"3", "c": b""})
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        assert [vault.state(name) for name in "abc"] == [None, b"3", b""]
        before = sorted(os.listdir(tmp_path / "v" / "manifest"))
        vault.set_state({"b": b"3"})
        assert sorted(os.listdir(tmp_path / "v" / "manifest")) == before
        with pytest.raises(InvalidDataError, match="texts to bytes"):
            vault.set_state({"a": "text"})  # type: ignore[dict-item]


def test_derived_keys_are_stable_and_differ(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        first = vault.derive(b"mobility")
        assert len(first) == 32
        assert vault.derive(b"energy") != first
        identity = vault.id
    with Vault.open(tmp_path / "v", device_key=KEY, write=False) as vault:
        assert (vault.derive(b"mobility"), vault.id) == (first, identity)
    with Vault.create(tmp_path / "w", device_key=KEY) as other:
        assert other.derive(b"mobility") != first
        assert other.id != identity


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        ({"passphrase": "correct horse"}, {"passphrase": "correct  horse"}),
        ({"passphrase": "correct horse"}, {"device_key": KEY}),
        ({"passphrase": "correct horse", "device_secret": KEY}, {"passphrase": "correct horse"}),
        (
            {"passphrase": "correct horse", "device_secret": KEY},
            {"passphrase": "correct horse", "device_secret": bytes(32)},
        ),
        ({"device_key": KEY}, {"device_key": bytes(32)}),
        ({"device_key": KEY}, {"passphrase": "correct horse"}),
    ],
)
def test_only_the_right_key_opens(tmp_path: Path, made: dict[str, object], wrong: dict[str, object]) -> None:
    with vaults.cheap_argon2():
        Vault.create(tmp_path / "v", **made).close()  # type: ignore[arg-type]
        with pytest.raises(DecryptionError, match="check the key"):
            Vault.open(tmp_path / "v", **wrong)  # type: ignore[arg-type]
        Vault.open(tmp_path / "v", **made).close()  # type: ignore[arg-type]


def test_either_of_two_slots_opens_and_composed_characters_do_not_matter(tmp_path: Path) -> None:
    with vaults.cheap_argon2():
        Vault.create(tmp_path / "v", passphrase="caf\u00e9", device_key=KEY).close()
        Vault.open(tmp_path / "v", passphrase="cafe\u0301").close()
        Vault.open(tmp_path / "v", device_key=KEY).close()
        Vault.open(tmp_path / "v", device_key=bytes(32), passphrase="café").close()


def test_the_default_passphrase_slot_costs_what_the_specification_says(tmp_path: Path) -> None:
    Vault.create(tmp_path / "v", passphrase="correct horse").close()
    header = (tmp_path / "v" / "VAULT").read_bytes()
    assert header[109:117] == (3).to_bytes(4, "big") + (64 * 1024 * 1024).to_bytes(4, "big")
    Vault.open(tmp_path / "v", passphrase="correct horse", write=False).close()


@pytest.mark.parametrize(
    "given",
    [{}, {"passphrase": ""}, {"device_key": b"short"}, {"device_key": "x" * 32}, {"device_secret": KEY},
     {"device_key": KEY, "device_secret": KEY}, {"passphrase": "p", "device_secret": b""}],
)  # fmt: skip
def test_keys_of_the_wrong_shape_are_named(tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(InvalidDataError):
        Vault.create(tmp_path / "v", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("ops", "memory"),
    [(0, 8 << 20), (17, 8 << 20), (2**32 - 1, 8 << 20), (1, (8 << 20) - 1), (1, (1 << 30) + 1), (1, 2**32 - 1), (1, 0)],
)
def test_argon2_parameters_out_of_bounds_are_refused_before_use(tmp_path: Path, ops: int, memory: int) -> None:
    with vaults.cheap_argon2():
        Vault.create(tmp_path / "v", passphrase="correct horse").close()
    file = tmp_path / "v" / "VAULT"
    header = bytearray(file.read_bytes())
    assert header[109:117] == (1).to_bytes(4, "big") + (8 << 20).to_bytes(4, "big")
    header[109:117] = ops.to_bytes(4, "big") + memory.to_bytes(4, "big")
    file.write_bytes(header)
    with pytest.raises(DecryptionError):
        Vault.open(tmp_path / "v", passphrase="correct horse")


def test_a_frame_that_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    other = Schema("trips", domain="mobility", columns={"km": Integer(0, 60)})
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        good = (METER, meter(1))
        for bad, message in [
            ((other, pl.DataFrame({"km": pl.Series([1], dtype=pl.UInt8)})), "another schema"),
            ((TRIPS, trips(1).select("km")), "columns are not those"),
            ((TRIPS, trips(1).select("km", "district")), "columns are not those"),
            ((TRIPS, trips(1).cast(pl.Int64)), "do not hold codes"),
            ((TRIPS, [{"km": 1}]), "Polars frame"),
            ((PERSON, pl.concat([person(1), person(2)])), "one row"),
        ]:
            with pytest.raises(InvalidDataError, match=message):
                vault.put([good, bad])  # type: ignore[list-item]
        with pytest.raises(InvalidDataError, match="one row"):
            vault.put([(PERSON, person(1)), good, (PERSON, person(2))])
        with pytest.raises(InvalidDataError, match="another schema"):
            vault.put([(Schema("new", domain="health", columns={"a": Integer(0, n)}),
                        pl.DataFrame({"a": pl.Series([1], dtype=pl.UInt8)})) for n in (1, 2)])  # fmt: skip
        assert set(vault.tables()) == {"trips"}
        assert vault.scan("trips").equals(trips(1))


def test_a_put_over_several_domains_is_one_record(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1)), (METER, meter(1)), (PERSON, person(1))])
        before = vault._session._live.entry  # type: ignore[union-attr]
        vault.put([(TRIPS, trips(2)), (METER, meter(2)), (PERSON, person(2))])
        after = vault._session._live.entry  # type: ignore[union-attr]
    assert (before.id, before.records + 1) == (after.id, after.records)


def test_paths_that_hold_no_vault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "VAULT").mkdir(parents=True)
    for name in ("nothing", "file", "empty", "odd"):
        with pytest.raises(StoreError, match="no vault is there"):
            Vault.open(tmp_path / name, device_key=KEY)
    for name in ("file", "empty"):
        with pytest.raises(StoreError, match="exists already"):
            Vault.create(tmp_path / name, device_key=KEY)
    with pytest.raises(StoreError, match="cannot be created"):
        Vault.create(tmp_path / "no" / "parent", device_key=KEY)


def test_directories_and_foreign_files_in_the_wrong_places_raise_no_raw_error(tmp_path: Path) -> None:
    vaults.varied(tmp_path / "v")
    (tmp_path / "v" / "log" / ".DS_Store").write_bytes(b"x" * 500)
    (tmp_path / "v" / "seg" / "notes.txt").write_bytes(b"x" * 500)
    (tmp_path / "v" / "manifest" / "7.conflict").write_bytes(b"x" * 500)
    expected = vaults.contents(tmp_path / "v")
    for name in ("seg", "log", "manifest"):
        foreign = (".DS_Store", "notes.txt", "7.conflict")
        file = next(f for f in vaults.sealed_files(tmp_path / "v" / name) if f.name not in foreign)
        kept = file.read_bytes()
        file.unlink()
        file.mkdir()
        with pytest.raises((StoreError, DecryptionError)):
            vaults.contents(tmp_path / "v")
        file.rmdir()
        file.write_bytes(kept)
    assert vaults.contents(tmp_path / "v") == expected


def test_a_closed_vault_and_a_reader_refuse(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        assert vault.writable
        vault.put([(TRIPS, trips(1))])
        with Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader:
            assert not reader.writable
            for refused in (
                lambda: reader.put([(TRIPS, trips(1))]), lambda: reader.set_state({"a": b""}), reader.compact
            ):  # fmt: skip
                with pytest.raises(StoreError, match="open for reading"):
                    refused()
    vault.close()
    assert not vault.writable
    for refused in (lambda: vault.put([]), lambda: vault.scan("trips"), vault.tables, lambda: vault.derive(b"")):
        with pytest.raises(StoreError, match="closed"):
            refused()


def test_a_forked_writer_does_not_write(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        child = os.fork()
        if child == 0:
            try:
                vault.put([(TRIPS, trips(2))])
            except StoreError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        vault.put([(TRIPS, trips(3))])
        assert vault.scan("trips").equals(trips(1, 3))


def test_nobody_else_may_read_the_files_and_nothing_readable_is_in_them(tmp_path: Path) -> None:
    vaults.varied(tmp_path / "v")
    for file in [tmp_path / "v", *(tmp_path / "v").rglob("*")]:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    held = b"".join(file.read_bytes() for file in vaults.sealed_files(tmp_path / "v"))
    for text in (b"trips", b"mobility", b"district", b"ARROW", b"PAR1", b"note", b"kept"):
        assert text not in held


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        secrets = vault._secrets
        shown = repr(vault) + repr(secrets) + repr(keys.access(None, KEY, None))
        for secret in (secrets.identity_seed, secrets.vault_keys[0], secrets.device_seed, secrets.domains[0].key, KEY):
            assert repr(secret) not in shown
            assert secret.hex() not in shown


def test_logs_are_folded_when_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FOLD_RECORDS", 8)
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        for km in range(45):
            vault.put([(TRIPS, trips(km)), (PERSON, person(km))])
        assert vault.scan("trips").equals(trips(*range(45)))
        assert vault.scan("person").equals(person(44))
        assert len(os.listdir(tmp_path / "v" / "log")) == 1
        assert 0 < len(os.listdir(tmp_path / "v" / "seg")) <= 6


def test_many_short_sessions_do_not_pile_up_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FOLD_LOGS", 3)
    Vault.create(tmp_path / "v", device_key=KEY).close()
    for km in range(20):
        with Vault.open(tmp_path / "v", device_key=KEY) as vault:
            vault.put([(TRIPS, trips(km))])
    assert len(os.listdir(tmp_path / "v" / "log")) <= 4
    assert vaults.contents(tmp_path / "v")["trips"] == trips(*range(20)).rows()


def test_large_tables_are_split_and_merged_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasov.vault.segment.MIN_ROWS", 10)
    monkeypatch.setattr("datasov.vault.segment.MAX_CELLS", 1)
    rows = [k % 50 for k in range(35)]
    with Vault.create(tmp_path / "v", device_key=KEY) as vault, vaults.large_from(3):
        vault.put([(TRIPS, trips(*rows[:25]))])
        for at in range(25, 35):
            vault.put([(TRIPS, trips(rows[at]))])
        vault.compact()
        assert vault.scan("trips").equals(trips(*rows))
        assert [s.rows for s in vault._session.manifest.segments] == [10, 10, 5, 10]
        vault.compact()
        assert vault.scan("trips").equals(trips(*rows))


def test_parquet_and_arrow_payloads_both_come_back() -> None:
    frame = trips(*(k % 50 for k in range(codec.SMALL_ROWS + 1)))
    for part, kind in ((frame, codec.PARQUET), (frame.head(codec.SMALL_ROWS), codec.IPC)):
        found, data = codec.write(part)
        assert found == kind
        assert codec.read(found, data, None).equals(part)
        assert codec.read(found, data, ["km"]).equals(part.select("km"))
    with pytest.raises(DecryptionError):
        codec.read(3, b"", None)
    with pytest.raises(DecryptionError):
        codec.read(codec.IPC, b"no frame", None)


def test_texts_that_utf_8_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="no character"):
        Vault.create(tmp_path / "v", passphrase="\ud800abc")
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        with pytest.raises(InvalidDataError, match="state maps texts"):
            vault.set_state({"\ud800": b""})
        with pytest.raises(InvalidDataError, match="an anchor's name"):
            vault.anchor("\ud800")


def test_rows_and_small_values_are_kept_in_one_step(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.set_state({"old": b"1", "stays": b"2"})
        before = len(list((tmp_path / "v" / "manifest").iterdir()))
        counter = vault._session.manifest.counter
        vault.put([(TRIPS, trips(1)), (PERSON, person(3))], state={"old": None, "new": b"3"})
        assert (before, vault._session.manifest.counter) == (2, counter + 1)
        vault.put([], state={"more": b""})
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        assert vault.states() == {"stays": b"2", "new": b"3", "more": b""}
        assert vault.scan("trips").equals(trips(1))
        assert vault.scan("person").equals(person(3))


@pytest.mark.parametrize("name", ["VAULT", "manifest", "seg", "log"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    vaults.varied(tmp_path / "v")
    place = tmp_path / "v" / name
    for file in [place] if place.is_file() else list(place.iterdir()):
        file.unlink()
        os.mkfifo(file)
    with pytest.raises((DecryptionError, StoreError)):
        vaults.contents(tmp_path / "v")
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(StoreError):
        KeyFile(tmp_path / "key").read(bytes(16))


def test_what_is_no_way_of_opening_a_vault_is_no_argument(tmp_path: Path) -> None:
    for call in (Vault.create, Vault.open, ds.Resident.create, ds.Resident.open):
        with pytest.raises(TypeError, match="passphrse"):
            call(tmp_path / "v", passphrse="correct horse")
    with Vault.create(tmp_path / "v", device_key=KEY) as vault, pytest.raises(TypeError, match="guardian"):
        vault.enrol(tmp_path / "w", device_key=KEY, guardian=bytes(32))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="anchor"):
        Vault.create(tmp_path / "w", device_key=KEY, anchor=b"")  # type: ignore[call-arg]


def test_an_enrolment_copies_no_damaged_segment(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(*range(50)))])
        vault.compact()
        (segment,) = (tmp_path / "v" / "seg").iterdir()
        good = segment.read_bytes()
        for at in (0, 60, 200, len(good) - 1):
            segment.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            with pytest.raises(DecryptionError):
                vault.enrol(tmp_path / "w", device_key=KEY)
            assert not (tmp_path / "w").exists()
