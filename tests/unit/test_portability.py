"""Export and import: what stands in the files, who can read them, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import datasov as ds
from datasov.errors import ConsentError, DecryptionError, InvalidDataError, StoreError, VerificationError
from datasov.model.privacy import Loss
from datasov.portability import bundle
from tests.helpers import COUNT, PEOPLE, PURPOSE, RHO, TRIPS, found_city

KEY = bytes(range(32))
S = ds.Schema("stays", domain="health", columns={
    "ward": ds.Category(["a", "", "=SUM(A1)", 'b,"b"\n'], nullable=True),
    "cost": ds.Decimal("-99.5", "99.5", scale=2),
    "at": ds.Timestamp("2026-01-01", "2027-01-01", zone="Europe/Berlin", nullable=True),
    "n": ds.Integer(-1, 2**53, "B"),
    "ill": ds.Boolean(nullable=True),
})  # fmt: skip
ROWS: list[dict[str, object]] = [
    {"ward": "a", "cost": "0.07", "at": "2026-07-01T08:00", "n": 2**53, "ill": True},
    {"ward": "", "cost": "-99.5", "at": "2026-10-25T02:30:00.000001+01:00", "n": -1, "ill": False},
    {"ward": None, "cost": "99.5", "at": None, "n": 0, "ill": None},
    {"ward": "=SUM(A1)", "cost": 0, "at": "2026-01-01", "n": 5, "ill": True},
    {"ward": 'b,"b"\n', "cost": 1, "at": "2026-01-01T00:00Z", "n": 5, "ill": True},
]


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "ann.vault", device_key=KEY, clock=clock) as resident:
        resident.put(S, ROWS)
        yield resident


@pytest.fixture
def new(tmp_path, clock):
    with ds.Resident.create(tmp_path / "new.vault", device_key=bytes(32), clock=clock) as resident:
        yield resident


def rewrite(folder: Path, change: Any) -> None:
    """Change a manifest as somebody would who knows how it is hashed."""
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    data = bundle.text(document)
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.json.sha256").write_bytes(bundle.check_line(data))


def test_csv_is_exact_and_keeps_nulls_from_empty_texts(ann, tmp_path):
    ann.export(tmp_path / "out", form="csv")
    assert (tmp_path / "out" / "01-stays.csv").read_text("utf-8") == (
        "ward,cost,at,n,ill\n"
        "a,0.07,2026-07-01T08:00:00.000000+02:00,9007199254740992,true\n"
        '"",-99.50,2026-10-25T02:30:00.000001+01:00,-1,false\n'
        ",99.50,,0,\n"
        "=SUM(A1),0.00,2026-01-01T00:00:00.000000+01:00,5,true\n"
        '"b,""b""\n",1.00,2026-01-01T01:00:00.000000+01:00,5,true\n'
    )


def test_json_lines_hold_one_object_a_row(ann, tmp_path):
    ann.export(tmp_path / "out", form="json")
    lines = (tmp_path / "out" / "01-stays.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {
        "ward": "a", "cost": "0.07", "at": "2026-07-01T08:00:00.000000+02:00", "n": 2**53, "ill": True
    }  # fmt: skip
    assert len(lines) == 5


def test_parquet_has_types_that_any_reader_knows(ann, tmp_path):
    ann.export(tmp_path / "out")
    found = pl.read_parquet(tmp_path / "out" / "01-stays.parquet")
    assert found.dtypes == [
        pl.String, pl.Decimal(38, 2), pl.Datetime("us", "Europe/Berlin"), pl.Int64, pl.Boolean
    ]  # fmt: skip
    assert found["ward"].to_list() == [row["ward"] for row in ROWS]


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_the_manifest_counts_rows_and_hashes_every_file(ann, tmp_path, form):
    ann.export(tmp_path / "out", form=form)
    out = tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert (manifest["format"], manifest["version"], manifest["form"]) == ("datasov-export", 1, form)
    assert [(t["name"], t["rows"], t["digest"]) for t in manifest["tables"]] == [("stays", 5, S.digest.hex())]
    for entry in manifest["files"]:
        data = (out / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), sha256(data).hexdigest())
    assert {e["name"] for e in manifest["files"]} | {"manifest.json", "manifest.json.sha256"} == set(os.listdir(out))
    done = subprocess.run(["sha256sum", "-c", "manifest.json.sha256"], cwd=out, capture_output=True)
    assert done.returncode == 0
    assert ds.Schema.from_document(json.loads((out / "01-stays.schema.json").read_bytes())) == S
    for file in [out, *out.iterdir()]:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0


def test_nothing_is_written_over_and_nothing_half_written_stays(ann, tmp_path, monkeypatch):
    before = sorted(os.listdir(tmp_path))
    for taken in ("ann.vault", "link"):
        if taken == "link":
            (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(StoreError, match="exists already"):
            ann.export(tmp_path / taken)
        with pytest.raises(StoreError, match="exists already"):
            ann.export(tmp_path / taken, passphrase="p")
    (tmp_path / "link").unlink()
    with pytest.raises(StoreError, match="not written"):
        ann.export(tmp_path / "no" / "folder")
    with pytest.raises(InvalidDataError, match="parquet, csv, json"):
        ann.export(tmp_path / "out", form="xlsx")
    for wrong in ({"recipients": ["age1x"]}, {"recipients": ["age1x"], "passphrase": "p"}, {"passphrase": ""}):
        with pytest.raises(InvalidDataError, match=r"recipient|not empty"):
            ann.export(tmp_path / "out", **wrong)
    real, calls = os.fsync, iter(range(100))

    def full(fd):
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        ann.export(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before


def test_consents_and_the_account_come_along_and_the_identity_does_not(ann, new, tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        ann.put(TRIPS, [{"district": "N", "km": 1}])
        ann.lifetime = ds.zcdp(rho=1)
        new.lifetime = ds.zcdp(rho=2)
        live = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        city.admit(live, ann.contribute(live))
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        assert len(ann.receipts(city.log)) == 1
        ann.export(tmp_path / "out", form="json")
        (consent,) = json.loads((tmp_path / "out" / "consents.json").read_bytes())
        assert (consent["city"], consent["purpose"], consent["expires"][:10]) == (str(city.id), PURPOSE, "2030-01-01")
        everything = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
        secrets = ann._vault._secrets
        for secret in (secrets.identity_seed, secrets.device_seed, *(d.key for d in secrets.domains)):
            assert secret not in everything
            assert secret.hex().encode() not in everything
        new.import_(tmp_path / "out")
        assert new.lifetime == ds.zcdp(rho=1), "the smaller limit stands"
        assert new.granted == ann.granted == RHO
        assert new.consents == []
        with pytest.raises(ConsentError, match="grant a new one"):
            new.contribute(live)
        assert len(new.receipts(city.log)) == 1, "what was asked under it can still be checked"
        with pytest.raises(ConsentError, match="lifetime"):
            new.grant(city.id, TRIPS, purpose="other", loss=Loss(10**9 - RHO.nano + 1), until="2030-01-01")


def test_an_import_is_all_or_nothing(ann, new, tmp_path):
    ann.put(PEOPLE, [{"age": 3, "ward": None}])
    ann.export(tmp_path / "out")
    other = ds.Schema("stays", domain="health", columns={"n": ds.Integer(0, 1)})
    new.put(other, [])
    with pytest.raises(InvalidDataError, match="another schema"):
        new.import_(tmp_path / "out")
    assert set(new._vault.tables()) == {"stays"}
    with ds.Resident.create(tmp_path / "third", device_key=KEY) as third:
        assert third.import_(tmp_path / "out") == 6
        with pytest.raises(InvalidDataError, match="already"):
            third.import_(tmp_path / "out")
        assert third.scan(S).to_dicts() == ann.scan(S).to_dicts()
        assert third.scan(PEOPLE).to_dicts() == [{"age": 3, "ward": None}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.update(version=2), "version 1"), (lambda m: m.update(format="x"), "version 1"),
        (lambda m: m.update(form="xlsx"), "version 1"), (lambda m: m.update(more=1), "version 1"),
        (lambda m: m.pop("notes"), "version 1"), (lambda m: m.update(tables=[1]), "version 1"),
        (lambda m: m["tables"][0].update(data="../secret"), "version 1"),
        (lambda m: m["files"][0].update(name="../secret"), "version 1"),
        (lambda m: (m["files"].append({"name": "../s", "bytes": 1, "sha256": ""}), m["notes"].append("../s")),
         "missing"),
        (lambda m: m["tables"][0].update(name="../x", data="01-../x.csv", schema="01-../x.schema.json"), "version 1"),
        (lambda m: m["tables"][0].update(rows=4), "rows that the manifest counts"),
        (lambda m: m["tables"][0].update(digest="00"), "not the one exported"),
        (lambda m: m["files"][0].update(bytes="9"), "version 1"), (lambda m: m["files"][0].pop("sha256"), "version 1"),
        (lambda m: m["files"].append(m["files"][0]), "version 1"), (lambda m: m["notes"].append([]), "version 1"),
        (lambda m: m["files"][0].update(bytes=10**15), "not the file"),
    ],
)  # fmt: skip
def test_a_manifest_made_by_somebody_else_leads_nowhere(ann, new, tmp_path, change, why):
    (tmp_path / "secret").write_text("x")
    ann.export(tmp_path / "out", form="csv")
    rewrite(tmp_path / "out", change)
    with pytest.raises(VerificationError, match=why):
        new.import_(tmp_path / "out")
    assert new._vault.tables() == {}


def test_files_beside_those_of_the_manifest_are_refused(ann, new, tmp_path):
    ann.export(tmp_path / "out", form="csv")
    (tmp_path / "out" / "more.csv").write_text("x")
    with pytest.raises(VerificationError, match=r"'more.csv' is no file of this export"):
        new.import_(tmp_path / "out")
    (tmp_path / "out" / "more.csv").unlink()
    (tmp_path / "out" / "sub").mkdir()
    with pytest.raises(VerificationError, match="link or a folder"):
        new.import_(tmp_path / "out")
    (tmp_path / "out" / "sub").rmdir()
    shutil.copy(tmp_path / "out" / "01-stays.csv", tmp_path / "same.csv")
    (tmp_path / "out" / "01-stays.csv").unlink()
    (tmp_path / "out" / "01-stays.csv").symlink_to(tmp_path / "same.csv")
    with pytest.raises(VerificationError, match="link or a folder"):
        new.import_(tmp_path / "out")
    for nothing in (tmp_path / "none", tmp_path):
        with pytest.raises((StoreError, VerificationError)):
            new.import_(nothing)


def test_derived_columns_and_changed_schemas_come_along(ann, new, tmp_path):
    rides = ds.Schema("rides", domain="mobility", columns={"line": ds.Category(["U1"])})
    visits = ds.Schema("visits", domain="health", columns={"n": ds.Integer(0, 9), "rode": ds.Exists(rides)})
    later = ds.Schema("visits", domain="health", columns={**visits.columns, "paid": ds.Boolean()})
    ann.put_all([(rides, [{"line": "U1"}]), (visits, [{"n": 1}])])
    ann.evolve(later, {"paid": True})
    for form in ("parquet", "csv", "json"):
        ann.export(tmp_path / form, form=form)
        with ds.Resident.create(tmp_path / f"{form}.vault", device_key=KEY) as there:
            there.import_(tmp_path / form)
            assert there.tables() == ann.tables()
            assert there.scan(later, ["n", "rode", "paid"]).rows() == [(1, True, True)]


def test_consents_that_nobody_signed_are_refused(ann, new, tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        ann.grant(city.id, S, purpose=PURPOSE, loss=RHO, until="2030-01-01", columns=["n"])
    forged = bytearray(ann.consents[0].token)
    forged[-1] ^= 1
    lies = ({"token": forged.hex()}, {"token": "00"}, {"salt": 5}, {"revoked": 1}, {"loss": {}}, {"more": 1})
    for lie in (*lies, {"purpose": "other"}):
        ann.export(tmp_path / "out")
        document = json.loads((tmp_path / "out" / "consents.json").read_bytes())
        document[0].update(lie)
        data = bundle.text(document)
        (tmp_path / "out" / "consents.json").write_bytes(data)

        def hashed(manifest: Any, data: bytes = data) -> None:
            (entry,) = (e for e in manifest["files"] if e["name"] == "consents.json")
            entry.update(bytes=len(data), sha256=sha256(data).hexdigest())

        rewrite(tmp_path / "out", hashed)
        with pytest.raises(VerificationError, match="notes"):
            new.import_(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
    assert new.granted == Loss(0)


def test_an_export_wrapped_for_recipients_or_a_passphrase_comes_back(ann, new, tmp_path):
    import pyrage

    me, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    ann.export(tmp_path / "out.age", form="csv", recipients=[str(me.to_public())])
    assert stat.S_IMODE((tmp_path / "out.age").stat().st_mode) & 0o077 == 0
    data = (tmp_path / "out.age").read_bytes()
    assert data.startswith(b"age-encryption.org/v1\n-> X25519 ")
    for wrong in ({"identities": [str(other)]}, {"passphrase": "p"}):
        with pytest.raises(DecryptionError):
            new.import_(tmp_path / "out.age", **wrong)
    for wrong in ({}, {"identities": ["AGE-SECRET-KEY-1X"]}, {"passphrase": "p", "identities": [str(me)]}):
        with pytest.raises(InvalidDataError):
            new.import_(tmp_path / "out.age", **wrong)
    for at in (0, len(data) // 2, len(data) - 1):
        (tmp_path / "bad.age").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DecryptionError):
            new.import_(tmp_path / "bad.age", identities=[str(me)])
    assert new.import_(tmp_path / "out.age", identities=[str(other), str(me)]) == 5
    ann.export(tmp_path / "words.age", passphrase="correct horse")
    assert (tmp_path / "words.age").read_bytes().startswith(b"age-encryption.org/v1\n-> scrypt ")
    with ds.Resident.create(tmp_path / "third", device_key=KEY) as third:
        assert third.import_(tmp_path / "words.age", passphrase="correct horse") == 5
        assert third.scan(S).to_dicts() == ann.scan(S).to_dicts()


@pytest.mark.skipif(shutil.which("age") is None, reason="needs the tool age")
def test_the_tool_age_and_tar_read_a_wrapped_export(ann, new, tmp_path):
    key = subprocess.run(["age-keygen", "-o", "key.txt"], cwd=tmp_path, capture_output=True, text=True)
    recipient = key.stderr.split()[-1]
    ann.export(tmp_path / "out.age", form="csv", recipients=[recipient])
    subprocess.run("age -d -i key.txt out.age | tar x", shell=True, cwd=tmp_path, check=True)  # noqa: S602
    assert new.import_(tmp_path / "datasov-export") == 5
    with ds.Resident.create(tmp_path / "third", device_key=KEY) as third:
        subprocess.run(f"tar c datasov-export/* | age -r {recipient} > again.age", shell=True, cwd=tmp_path, check=True)  # noqa: S602
        identity = (tmp_path / "key.txt").read_text().splitlines()[-1]
        assert third.import_(tmp_path / "again.age", identities=[identity]) == 5


def test_without_the_extra_the_message_names_it(ann, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(InvalidDataError, match=r"datasov\[portability\]"):
        ann.export(tmp_path / "out.age", passphrase="p")
    ann.export(tmp_path / "out")


# --- put from files


def test_put_takes_the_files_that_export_wrote(ann, new, tmp_path):
    for form, ending in (("csv", "csv"), ("parquet", "parquet")):
        ann.export(tmp_path / form, form=form)
        assert new.put(S, tmp_path / form / f"01-stays.{ending}") == 5
    assert new.scan(S).to_dicts() == ann.scan(S).to_dicts() * 2


CSV = b'ward,cost,at,n,ill\na,0.07,2026-07-01T08:00,1,true\n"",1,,2,\n'


@pytest.mark.parametrize(
    ("content", "row", "column", "why"),
    [
        (CSV.replace(b",1,,2,", b",1,,2"), 1, None, "has 4 fields where the header has 5"),
        (CSV.replace(b"0.07", b"0,07"), 0, None, "has 6 fields"),
        (CSV + b"\n", 2, None, "has 0 fields"), (CSV.replace(b"0.07", b"0.071"), 0, "cost", "digits after the point"),
        (CSV.replace(b",2,", b",3.5,"), 1, "n", "whole number"),
        (CSV.replace(b"a,0", b"z,0"), 0, "ward", "categories"),
        (CSV.replace(b"true", b"yes"), 0, "ill", "true or false"),
        (CSV.replace(b",n,", b",m,"), None, "m", "leave it out"),
        (CSV.replace(b",n,", b",cost,"), None, None, "each once"), (b"", None, None, "names of the columns"),
        (CSV.replace(b"a,0", "ü,0".encode("latin-1")), None, None, "UTF-8"),
        (CSV.decode().encode("utf-16"), None, None, "UTF-8"), (CSV.replace(b'""', b'"'), None, None, "quotes"),
        (CSV.replace(b"\n", b"\r"), None, None, "LF or CRLF"), (CSV.replace(b",", b";"), None, None, "commas"),
        (CSV.replace(b",", b";").replace(b'""', b""), None, None, "no such column"),
        (CSV.replace(b"2026-07-01T08:00", b"1.7.2026"), 0, "at", "not a time"),
    ],
)  # fmt: skip
def test_csv_that_does_not_fit_is_refused_by_row_and_column(new, tmp_path, content, row, column, why):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InvalidDataError, match=why) as found:
        new.put(S, tmp_path / "x.csv")
    assert found.value.row == row
    if column is not None:
        assert found.value.column == column
    assert new.scan(S).height == 0


def test_lines_that_two_readers_would_count_differently_are_refused(new, tmp_path):
    one = ds.Schema("one", domain="health", columns={"c": ds.Category(["a", "a\rb"])})
    (tmp_path / "x.csv").write_bytes(b"c\na\ra\n")
    with pytest.raises(InvalidDataError, match="LF or CRLF"):
        new.put(one, tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b'c\n"a\rb"\n')
    assert new.put(one, tmp_path / "x.csv") == 1


def test_csv_as_spreadsheets_write_it(new, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n"))
    (tmp_path / "*.csv").write_bytes(CSV)
    assert new.put(S, tmp_path / "x.csv") == 2
    assert new.put(S, str(tmp_path / "*.csv")) == 2, "a name, not a pattern"
    assert new.scan(S, ["ward", "at"]).rows()[1] == ("", None)
