"""Attacks with exports made by somebody else: bombs, links, forged notes; and an import that is cut off.

Claims: whatever the bytes, an import is refused with a DatasovError before anything is put, in memory and time that the
file's size bounds; and an import is there whole or not at all, also where the power fails in it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import datasov as ds
from datasov.authority import held
from datasov.crypto import age
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import DatasovError, InvalidDataError, StoreError, VerificationError
from datasov.model import parquet
from datasov.portability import bundle, load
from datasov.tlog.note import origin_of
from datasov.vault import Vault
from tests import faults
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, found_city
from tests.vaults import KEY


def _member(name: str, kind: bytes, **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def _sparse(size: int) -> bytes:
    """A member of GNU's sparse type: a kilobyte that says it holds `size` zeros."""
    head = bytearray(_member("datasov-export/manifest.json", tarfile.GNUTYPE_SPARSE))
    head[386:410], head[483:495] = b"%011o\0" % 0 * 2, b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _pax_sparse(size: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("datasov-export/manifest.json")
        info.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""}
        tar.addfile(info)
    return out.getvalue()


ARCHIVES = {
    "sparse": _sparse(8 << 30), "sparse in pax": _pax_sparse(8 << 30),
    "headers of headers": _member("x", tarfile.XHDTYPE) * 5000,
    "long names of long names": _member("././@LongLink", tarfile.GNUTYPE_LONGNAME) * 5000,
    "symbolic link": _member("datasov-export/manifest.json", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": _member("datasov-export/manifest.json", tarfile.LNKTYPE, linkname="datasov-export/x"),
    "folder": _member("datasov-export/manifest.json", tarfile.DIRTYPE),
    "pipe": _member("datasov-export/manifest.json", tarfile.FIFOTYPE),
    "device": _member("datasov-export/manifest.json", tarfile.CHRTYPE),
    "upwards": _member("datasov-export/../../x", tarfile.REGTYPE),
    "absolute": _member("/datasov-export/x", tarfile.REGTYPE),
    "twice": _member("datasov-export/x", tarfile.REGTYPE) * 2,
    "longer than the file": _member("datasov-export/x", tarfile.REGTYPE, size=1 << 40),
}  # fmt: skip

_CHILD = """
import resource, sys
from datasov.errors import VerificationError
from datasov.portability import bundle, load
data = sys.stdin.buffer.read()
resource.setrlimit(resource.RLIMIT_AS, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 8 + (1 << 30),) * 2)
try:
    load._read(bundle.open_tar(data))
except VerificationError:
    sys.exit(7)
"""


@pytest.mark.parametrize("name", sorted(ARCHIVES))
def test_archives_of_anything_but_plain_files_are_refused(name: str) -> None:
    with pytest.raises(VerificationError):
        load._read(bundle.open_tar(ARCHIVES[name] + bytes(1024)))


@pytest.mark.parametrize("name", ["sparse", "sparse in pax"])
def test_a_member_takes_no_more_memory_than_its_archive(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], input=ARCHIVES[name] + bytes(1024), timeout=60)
    assert done.returncode == 7
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1 << 20, "in KiB"


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "ann", device_key=KEY, clock=clock) as resident:
        resident.put(TRIPS, [{"district": "N", "km": 1}, {"district": "S", "km": 2}])
        yield resident


@pytest.fixture
def new(tmp_path, clock):
    with ds.Resident.create(tmp_path / "new", device_key=KEY, clock=clock) as resident:
        yield resident


def _rewrite(folder: Path, changes: dict[str, bytes]) -> None:
    """Files of an export exchanged for others, and a manifest that says so."""
    manifest = json.loads((folder / bundle.MANIFEST).read_bytes())
    for entry in manifest["files"]:
        data = changes.get(entry["name"])
        if data is not None:
            (folder / entry["name"]).write_bytes(data)
            entry.update(bytes=len(data), sha256=sha256(data).hex())
    text = bundle.text(manifest)
    (folder / bundle.MANIFEST).write_bytes(text)
    (folder / bundle.CHECK).write_bytes(bundle.check_line(text))


def test_a_parquet_file_of_more_rows_than_one_may_hold_is_not_unpacked(ann, new, tmp_path, monkeypatch):
    ann.export(tmp_path / "out")
    out = io.BytesIO()
    pl.DataFrame({"district": ["N"], "km": [1]}).select(pl.all().repeat_by(5).explode()).write_parquet(out)
    _rewrite(tmp_path / "out", {"01-trips.parquet": out.getvalue()})
    (tmp_path / "rows.parquet").write_bytes(out.getvalue())
    monkeypatch.setattr(parquet, "MAX_ROWS", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "read_parquet", lambda *_: pytest.fail("it was unpacked"))
        with pytest.raises(InvalidDataError, match="at most 4 rows"):
            new.import_(tmp_path / "out")
        with pytest.raises(InvalidDataError, match="at most 4 rows"):
            new.put(TRIPS, tmp_path / "rows.parquet")
    assert new.tables() == {}


def _checkpoint(audience: str, note: str) -> bytes:
    return bundle.text({held.log_note(audience): note})


def test_a_checkpoint_that_the_city_did_not_sign_is_refused(ann, new, tmp_path, clock):
    city = found_city(tmp_path, clock)
    ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2029-12-31")
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    ann.receipts(city.log)
    audience = str(city.id)
    ann.export(tmp_path / "out")
    true = (tmp_path / "out" / "checkpoints.json").read_bytes()
    origin = origin_of(city.id.verify_key)
    forged = [f"{origin}\n5\n{'A' * 43}=\n\n— {origin} AAAA\n", "", "\n", f"{origin}\nx\ny\n"]
    note = json.loads(true)[held.log_note(audience)]
    other = origin_of(SigningKey(bytes(32)).public)
    forged += [note.replace("\n1\n", "\n2\n"), note.replace(origin, other)]
    for document in (
        *(_checkpoint(audience, text) for text in forged), bundle.text({"log/" + "0" * 32: note}),
        bundle.text({"lifetime": note}),
    ):  # fmt: skip
        assert document != true
        _rewrite(tmp_path / "out", {"checkpoints.json": document})
        with pytest.raises(VerificationError):
            new.import_(tmp_path / "out")
        assert new._vault.states() == {}
    _rewrite(tmp_path / "out", {"checkpoints.json": true})
    new.import_(tmp_path / "out")
    assert new._vault.state(held.log_note(audience)) == note.encode()
    city.close()


def test_an_import_that_fails_or_is_killed_at_any_step_is_there_whole_or_not_at_all(ann, tmp_path, clock):
    ann.lifetime = ds.zcdp(rho=1)
    ann.export(tmp_path / "out")
    empty = tmp_path / "empty"
    Vault.create(empty, device_key=KEY).close()
    for at in range(1, 100):
        shutil.copytree(empty, tmp_path / "v")
        step = faults.Failing(at)
        copies = faults.Copies(tmp_path / "copies", tmp_path / "v")
        with (
            ds.Resident.open(tmp_path / "v", device_key=KEY, clock=clock) as resident,
            faults.before_each(lambda name: (copies(name), step(name))[0]),  # noqa: B023
        ):
            try:
                resident.import_(tmp_path / "out")
            except StoreError:
                assert (resident.tables(), resident.lifetime) == ({}, None)
        seen = set()
        for copy in [*copies.made, tmp_path]:
            with ds.Resident.open(copy / "v", device_key=KEY, clock=clock) as resident:
                found = resident.scan(TRIPS).height, resident.lifetime is not None
                assert found in ((0, False), (2, True))
                seen.add(found)
        shutil.rmtree(tmp_path / "v")
        shutil.rmtree(tmp_path / "copies")
        if step.count < at:
            assert (2, True) in seen
            break
    assert at > 5


def test_links_and_pipes_in_a_folder_are_not_followed(ann, new, tmp_path):
    ann.export(tmp_path / "out")
    rows = tmp_path / "out" / "01-trips.parquet"
    kept = rows.read_bytes()
    (tmp_path / "elsewhere").write_bytes(kept)
    for place in (
        lambda: rows.symlink_to(tmp_path / "elsewhere"), lambda: os.mkfifo(rows), lambda: rows.mkdir(),
        lambda: rows.symlink_to("/dev/zero"),
    ):  # fmt: skip
        rows.rmdir() if rows.is_dir() and not rows.is_symlink() else rows.unlink()
        place()
        with pytest.raises(VerificationError, match="link or a folder"):
            new.import_(tmp_path / "out")


def test_age_files_that_hold_no_export(new, tmp_path):
    key = pytest.importorskip("pyrage").x25519.Identity.generate()
    for number, data in enumerate((b"", b"x" * 5000, ARCHIVES["sparse"] + bytes(1024))):
        path = tmp_path / f"{number}.age"
        path.write_bytes(age.encrypt(data, passphrase=None, recipients=[str(key.to_public())]))
        with pytest.raises(DatasovError):
            new.import_(path, identities=[str(key)])
    assert new.tables() == {}


def test_notes_of_a_device_in_other_hands_are_not_merged(ann, tmp_path, clock):
    ann.enrol(tmp_path / "phone", device_key=KEY)
    before = ann._vault.states()
    for note, match in (
        ({held.log_note("a city"): b"nobody signed this"}, "no consent names"),
        ({held.SEQUENCE + "a": b"\xff" * 8}, "no clock"), ({held.NUMBER + "00": b"\xff" * 8}, "no clock"),
    ):  # fmt: skip
        with Vault.open(tmp_path / "phone", device_key=KEY) as phone:
            phone.set_state(note)
        with pytest.raises((VerificationError, StoreError), match=match):
            ann.merge(tmp_path / "phone", device_key=KEY)
        assert ann._vault.states() == before
        with Vault.open(tmp_path / "phone", device_key=KEY) as phone:
            phone.set_state(dict.fromkeys(note))
    assert not ann.merge(tmp_path / "phone", device_key=KEY)
