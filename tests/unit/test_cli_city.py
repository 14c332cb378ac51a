"""`datasov city` and `datasov receipts`, as a script calls them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from datasov.commands import receipts as receipts_command
from datasov.errors import ProofError
from datasov.tlog.bundle import verify_bundle
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, decode_leaf, encode_leaf
from datasov.tlog.receipt import Receipt
from datasov.wire import cbor
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, Clock

Run = Callable[..., str]
KEY = bytes(range(32))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; what it printed, once its exit code is the one expected."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        found = main(arguments)
        printed = capsys.readouterr()
        assert found == code, printed.err + printed.out
        assert not printed.err or (code and printed.err.startswith("datasov: ") and printed.err.count("\n") == 1)
        return printed.out + printed.err

    return call


@pytest.fixture
def filled(run: Run, tmp_path: Path) -> Run:
    """A city of the present, with one resident whose data entered two questions."""
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    with ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE, "other"]) as city, \
            ds.Resident.create("ann", device_key=KEY) as ann:  # fmt: skip
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        consent = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        city.admit(consent, ann.contribute(consent))
        for rows in (3, 4):
            city.release(COUNT.bound(rows=rows), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        city.release(COUNT, loss=RHO, purpose="other")
    return run


def test_a_city_is_shown(filled):
    shown = filled("city", "show", "lake.city")
    assert "rho = 1" in shown
    assert "rho = 0.88" in shown
    found = json.loads(filled("city", "show", "lake.city", "--json"))
    assert (found["answers"], found["size"], found["purposes"]) == (3, 3, [PURPOSE, "other"])
    assert found["id"] in shown
    assert found["checkpoint"].startswith(found["origin"] + "\n3\n")
    assert "no city" in filled("city", "show", "nowhere", code=1)


def test_a_city_is_founded_from_the_command_line(run):
    identity = run("city", "key", "new.city").strip()
    assert run("city", "key", "new.city").strip() == identity, "the key is made once"
    assert os.stat("new.city.key").st_mode & 0o777 == 0o600
    public = run("city", "key", "new.city", "--public").strip()
    assert bytes.fromhex(public) == ds.CityId.parse(identity).verify_key
    budget = ("--budget", "rho=1", "--allowance", "rho=0.5", "--period-days", "30", "--erase-within-days", "7")
    given = (*budget, "--purpose", PURPOSE, "--purpose", "dpv:ImproveHealthcare", "--processing", "JP-25")
    assert run("city", "found", "new.city", *given).strip() == identity
    assert "exists already" in run("city", "found", "new.city", *given, code=1)
    with ds.City.open("new.city", budget=ds.zcdp(rho=1), allowance=ds.zcdp(rho="0.5"), processing="JP-25") as city:
        assert city.purposes == (PURPOSE, "dpv:ImproveHealthcare")
        assert city._settings["period"] == 30 * 86_400
        assert city._settings["erase_within"] == 7 * 86_400


def test_a_key_that_is_kept_elsewhere_serves_every_command(run, tmp_path):
    elsewhere = ("--operator-key-file", "safe/city.key")
    (tmp_path / "safe").mkdir()
    identity = run("city", "key", "new.city", *elsewhere, "--name", "lake").strip()
    assert identity.startswith("lake+")
    run("city", "found", "new.city", *elsewhere, "--name", "lake", "--budget", "rho=1", "--purpose", PURPOSE)
    assert not Path("new.city.key").exists()
    for command in (("city", "show"), ("log", "checkpoint"), ("log", "verify"), ("city", "check")):
        assert "--operator-key-file" in run(*command, "new.city", code=1)
        run(*command, "new.city", *elsewhere)
    run("log", "publish", "new.city", "mirror", *elsewhere)
    run("log", "compare", "mirror", "mirror", "--key", identity, "--log", "new.city", *elsewhere)
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    with ds.Resident.create("ann", device_key=KEY) as ann:
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        ann.grant(ds.CityId.parse(identity), TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
    run("receipts", "ann", "--log", "new.city", "--device-key-file", "key", *elsewhere)
    assert "no city" in run("charter", "adopt", "nowhere", "c", *elsewhere, code=1)


def test_a_city_is_backed_up_lost_and_restored(filled):
    filled("city", "backup", "lake.city", "b")
    assert "exists" in filled("city", "backup", "lake.city", "b", code=1)
    assert "exists" in filled("city", "restore", "lake.city", "b", code=1)
    os.rename("lake.city", "gone")
    assert "rho = 0.88 of rho = 1" in filled("city", "restore", "lake.city", "b")
    with ds.City.open("lake.city") as city:
        head = city.log.checkpoint().note
        city.release(COUNT.bound(rows=9), loss=RHO, purpose=PURPOSE)
        Path("newest").write_bytes(city.log.checkpoint().note)
    Path("head").write_bytes(head)
    os.rename("lake.city", "gone again")
    assert "behind its anchor" in filled("city", "restore", "lake.city", "b", code=1)
    os.unlink("lake.city.anchor")
    assert "reanchor" in filled("city", "restore", "lake.city", "b", code=1)
    for more in ([], ["--reanchor"]):
        assert "behind the log" in filled("city", "restore", "lake.city", "b", "--log-head", "newest", *more, code=1)
    assert "cannot be read" in filled("city", "restore", "lake.city", "b", "--log-head", "none", code=1)
    filled("city", "restore", "lake.city", "b", "--log-head", "head")
    assert json.loads(filled("city", "show", "lake.city", "--json"))["size"] == 4, "the notice of it"


def test_a_check_has_an_exit_code_for_scripts(filled):
    assert json.loads(filled("city", "check", "lake.city", "--json"))["whole"] is True
    assert filled("city", "check", "lake.city").count("whole") == 5
    for shard in Path("lake.city/pool").glob("*/*.shard"):
        shard.write_bytes(b"")
    found = json.loads(filled("city", "check", "lake.city", "--json", code=1))
    assert [p["part"] for p in found["parts"] if p["fault"]] == ["pool"]


def test_a_key_is_changed_and_kept_in_files_alone(filled):
    before = json.loads(filled("city", "show", "lake.city", "--json"))
    assert json.loads(filled("city", "show", "lake.city", "--json"))["id"] == before["id"]
    new = filled("city", "rotate", "lake.city", "--grace", "0").strip().split("\n")[-1]
    after = json.loads(filled("city", "show", "lake.city", "--json"))
    assert after["id"] == new != before["id"]
    assert (after["origin"], after["size"]) == (before["origin"], before["size"] + 1)
    os.rename("lake.city.key", "elsewhere")
    assert "key" in filled("city", "show", "lake.city", code=1)
    filled("city", "show", "lake.city", "--operator-key-file", "elsewhere")
    Path("next").write_bytes(bytes(32))
    Path("short").write_bytes(bytes(31))
    assert "give the new one" in filled("city", "rotate", "lake.city", "--operator-key-file", "elsewhere", code=1)
    given = ["--operator-key-file", "elsewhere", "--new-key-file"]
    assert "32 bytes" in filled("city", "rotate", "lake.city", *given, "short", code=1)
    filled("city", "rotate", "lake.city", *given, "next")
    filled("city", "check", "lake.city", "--operator-key-file", "next")
    assert not Path("lake.city.key").exists()


def test_a_city_of_this_version_needs_no_migration(filled):
    assert "nothing to do" in filled("city", "migrate", "lake.city").lower()


@pytest.mark.parametrize("command", ["show", "check", "backup", "restore", "rotate", "migrate", "export-log"])
def test_every_command_says_what_it_does(command, capsys):
    with pytest.raises(SystemExit) as left:
        main(["city", command, "--help"])
    assert left.value.code == 0
    assert "CITY" in capsys.readouterr().out


# --- receipts

KEYED = ("--device-key-file", "key")


@pytest.fixture
def logged(filled: Run) -> Run:
    filled("city", "export-log", "lake.city", "log")
    return filled


def test_receipts_are_listed_with_losses_and_running_totals(logged):
    shown = logged("receipts", "ann", "--log", "log", *KEYED)
    lines = shown.splitlines()
    assert [line.split()[1] for line in lines[1:3]] == [PURPOSE, PURPOSE]
    assert "rho = 0.01" in lines[1]
    assert "rho = 0.02" in lines[2], "in all so far"
    assert "2 questions" in lines[-1]
    found = json.loads(logged("receipts", "ann", "--log", "log", "--json", *KEYED))
    assert [r["purpose"] for r in found["receipts"]] == [PURPOSE, PURPOSE]
    assert found["totals"][0]["loss"]["nano"] == 2 * 10**7
    assert {r["status"] for r in found["receipts"]} == {None}, "no status list is due in a city's first tick"
    assert json.loads(logged("receipts", "ann", "--log", "lake.city", "--json", *KEYED)) == found


def test_a_receipt_names_the_status_lists_that_were_applied(logged, capsys):
    with ds.Resident.open("ann", device_key=KEY) as ann, ds.City.open("lake.city") as city:
        found = ann.receipts(city.log)
    named = [replace(r.release, status=bytes([n]) * 32) for n, r in enumerate(found)]
    applied = [replace(r, leaf=encode_leaf(leaf)) for r, leaf in zip(found, named, strict=True)]
    receipts_command._show(applied, None, True)
    shown = json.loads(capsys.readouterr().out)["receipts"]
    assert [r["status"] for r in shown] == ["00" * 32, "01" * 32]


def test_an_exported_file_is_verified_offline(logged):
    identity = json.loads(logged("city", "show", "lake.city", "--json"))["id"]
    logged("receipts", "ann", "--log", "log", "--export", "bundle", *KEYED)
    assert "exists" in logged("receipts", "ann", "--log", "log", "--export", "bundle", *KEYED, code=1)
    assert "2 questions" in logged("receipts", "verify", "bundle", "--city", identity)
    assert "--city" in logged("receipts", "verify", "bundle", code=1)
    other = str(ds.CityId("x", *(bytes([n]) * 32 for n in (1, 2))))
    assert "id you hold" in logged("receipts", "verify", "bundle", "--city", other, code=1)
    data = Path("bundle").read_bytes()
    for at in range(0, len(data), 37):
        Path("bad").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        logged("receipts", "verify", "bad", "--city", identity, code=1)
    assert cbor.decode(data)[6] == []
    logged("receipts", "ann", "--log", "log", "--export", "more", "--with-consents", *KEYED)
    assert len(cbor.decode(Path("more").read_bytes())[6]) == 1


def test_receipts_and_bundles_follow_the_operators_keys(logged):
    first = json.loads(logged("city", "show", "lake.city", "--json"))["id"]
    logged("city", "rotate", "lake.city")
    with ds.City.open("lake.city") as city:
        city.release(COUNT.bound(rows=7), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        city.log.publish("mirror")
        present = str(city.id)
    logged("city", "export-log", "lake.city", "log2")
    logged("receipts", "ann", "--log", "log2", "--export", "bundle", *KEYED)
    for identity in (first, present):
        assert "3 questions" in logged("receipts", "verify", "bundle", "--city", identity)
    assert "--city" in logged("receipts", "ann", "--log", "mirror", *KEYED, code=1)
    assert "3 questions" in logged("receipts", "ann", "--log", "mirror", "--city", present, *KEYED)
    bundle = cbor.decode(Path("bundle").read_bytes())
    Path("bad").write_bytes(cbor.encode({**bundle, 3: []}))
    logged("receipts", "verify", "bad", "--city", first, code=1)
    assert "shorter" in logged("receipts", "ann", "--log", "log", *KEYED, code=1)


def test_residents_are_told_of_other_keys_and_of_older_copies(logged):
    assert "The city" not in logged("receipts", "ann", "--log", "log", *KEYED)
    logged("city", "backup", "lake.city", "b")
    os.rename("lake.city", "gone")
    os.unlink("lake.city.anchor")
    logged("city", "restore", "lake.city", "b", "--reanchor")
    logged("city", "rotate", "lake.city")
    logged("city", "export-log", "lake.city", "log2")
    present = json.loads(logged("city", "show", "lake.city", "--json"))["id"]
    shown = logged("receipts", "ann", "--log", "log2", "--export", "bundle", *KEYED)
    assert "restored" in shown
    assert "an older copy, of 3 leaves" in shown
    assert present in shown
    found = json.loads(logged("receipts", "ann", "--log", "log2", "--json", *KEYED))["operators"]
    assert [told["kind"] for told in found] == ["restored", "key"]
    assert json.loads(logged("receipts", "verify", "bundle", "--city", present, "--json"))["operators"] == found


def test_a_file_that_is_no_log_is_refused(logged):
    data = Path("log").read_bytes()
    for cut in (0, 7, 8, 9, 11, 60, len(data) - 1):
        Path("bad").write_bytes(data[:cut])
        logged("receipts", "ann", "--log", "bad", *KEYED, code=1)
    last = data[:-1] + bytes([data[-1] ^ 1])
    Path("bad").write_bytes(last)
    assert "not those that the log signed" in logged("receipts", "ann", "--log", "bad", *KEYED, code=1)
    assert "cannot be read" in logged("receipts", "ann", "--log", "nothing", *KEYED, code=1)
    assert "no vault" in logged("receipts", "bob", "--log", "log", *KEYED, code=1)
    assert "name one vault" in logged("receipts", "ann", *KEYED, code=1)


def test_an_erasure_is_among_the_notices(run, tmp_path):
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    clock = Clock()
    with ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], erase_within=7200, clock=clock) as city, \
            ds.Resident.create("ann", device_key=KEY, clock=clock) as ann:  # fmt: skip
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        consent = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        city.admit(consent, ann.contribute(consent))
        city.revoke(ann.revoke(consent))
        for _ in range(3):
            clock.now += 7200
            city.tick()
    told = run("receipts", "ann", "--log", "lake.city", "--notices", *KEYED)
    assert "No charter." in told
    assert f"your rows for {PURPOSE} left the city's pool" in told
    (gone,) = json.loads(run("receipts", "ann", "--log", "lake.city", "--notices", "--json", *KEYED))["erasures"]
    assert gone["purpose"] == PURPOSE


# --- approvals


def approved(named: bytes, *, after: bool = False) -> tuple[ds.City, ds.Resident, bytes]:
    """A city whose log holds a notice and a release that names an approval, put there by hand."""
    clock = Clock()
    city = ds.City.open("a.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=clock)
    ann = ds.Resident.create("bea", device_key=KEY, clock=clock)
    ann.put(TRIPS, [{"district": "N", "km": 7}])
    ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
    clock.now += 2 * 86_400
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    plain = decode_leaf(city.log.leaves()[-1])
    assert isinstance(plain, ReleaseLeaf)
    notice = encode_leaf(NoticeLeaf("programme", clock.now, bytes([5]) * 32, b"the document"))
    release = encode_leaf(replace(plain, programme=named, release_id=bytes(16)))
    leaves = [release, notice] if after else [notice, release]
    city._store.append({"log": (city._store.length("log"), leaves)})
    return city, ann, release


def test_a_receipt_shows_the_notice_that_approved_it(run):
    city, ann, release = approved(bytes([5]) * 32)
    with city, ann:
        plain, found = ann.receipts(city.log)
        assert (plain.approval, plain.approved) == (None, "")
        assert found.leaf == release
        assert found.approval is not None
        assert (found.approval.notice.subject, found.approval.notice.body) == ("programme", b"the document")
        assert found.approved == "programme 0505050505050505"
        found.verify(city.log.checkpoint())
        again = Receipt.from_bytes(found.to_bytes())
        assert again == found
        bundle = verify_bundle(ann.bundle(city.log), city.id)
        assert bundle.receipts == (plain, found)


@pytest.mark.parametrize(("named", "after"), [(bytes([6]) * 32, False), (bytes([5]) * 32, True)])
def test_an_approval_that_is_not_there_or_came_late_does_not_verify(run, named, after):
    city, ann, _ = approved(named, after=after)
    with city, ann:
        found = ann.receipts(city.log)[-1]
        with pytest.raises(ProofError):
            found.verify(city.log.checkpoint())
        with pytest.raises(ProofError):
            ann.bundle(city.log)
