"""`datasov log`: as an operator, a witness, a resident and an auditor type it, on folders and files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from datasov.crypto.sign import SigningKey
from datasov.store.place import keys
from datasov.tlog.note import sign_checkpoint, vkey
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, enrol

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; its standard output, once its exit code is the one expected."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        found = main(["log", *arguments])
        printed = capsys.readouterr()
        assert found == code, printed.err
        if code and not printed.out:
            assert printed.err.startswith("datasov: ")
            assert printed.err.count("\n") == 1
        return printed.out + printed.err

    return call


@pytest.fixture
def city(run: Run) -> str:
    """A city that released one answer; its id."""
    with ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city:
        enrol(city, ["ann"], lambda n: [{"district": "N", "km": 7}])
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
        return str(city.id)


def grow(path: str = "lake.city", above: int = 0, count: int = 1) -> None:
    with ds.City.open(path) as city:
        for n in range(count):
            city.release(COUNT.where(ds.col("km") > above + n), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)


def test_a_city_is_published_verified_and_read(run: Run, city: str):
    shown = run("checkpoint", "lake.city")
    assert shown.startswith("datasov/log/")
    assert "holds 1 leaf of" in run("publish", "lake.city", "mirror")
    assert run("checkpoint", "mirror", "--key", city) == shown
    assert run("checkpoint", "lake.city", "--key", city) == shown
    assert Path("mirror/checkpoint").read_text() == shown
    assert "1 leaf is what the checkpoint commits to (1 release)" in run("verify", "mirror", "--key", city)
    grow()
    run("publish", "lake.city", "mirror")
    for place, key in (("mirror", ["--key", city]), ("lake.city", [])):
        found = json.loads(run("verify", place, *key, "--json"))
        assert (found["size"], found["leaves"], found["cosigned"], found["since"]) == (2, {"release": 2}, 0, None)
    run("publish", "mirror", "again", "--key", city)
    assert Path("again/checkpoint").read_bytes() == Path("mirror/checkpoint").read_bytes()


def test_a_verifier_key_is_as_good_as_the_citys_id(run: Run, city: str):
    run("publish", "lake.city", "mirror")
    with ds.City.open("lake.city") as opened:
        key = vkey(opened.log.origin, opened.log.public)
    assert "1 leaf is" in run("verify", "mirror", "--key", key)


def test_a_checkpoint_is_remembered_and_the_log_must_continue_it(run: Run, city: str):
    key = ("--key", city)
    run("publish", "lake.city", "mirror")
    shutil.copytree("mirror", "old")
    run("verify", "mirror", *key, "--remember", "seen")
    assert Path("seen").read_bytes() == Path("mirror/checkpoint").read_bytes()
    grow()
    run("publish", "lake.city", "mirror")
    said = run("verify", "mirror", *key, "--remember", "seen")
    assert "It continues the checkpoint of 1 leaf that you had." in said
    seen = Path("seen").read_bytes()
    assert "shorter" in run("verify", "old", *key, "--remember", "seen", code=1)
    assert Path("seen").read_bytes() == seen


def test_what_was_remembered_before_a_change_of_keys_is_continued_or_not(run: Run, city: str):
    """The file need not be thrown away with the old key, and a log that forked before the change is found out."""
    run("publish", "lake.city", "mirror")
    run("verify", "mirror", "--key", city, "--remember", "seen")
    for name in ("lake.city", "lake.city.key", "lake.city.anchor"):
        target = name.replace("lake", "fork")
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, target)
    grow()
    run("publish", "lake.city", "mirror")
    run("verify", "mirror", "--key", city, "--remember", "seen")
    grow("fork.city", above=5)
    keys = {}
    for name in ("lake", "fork"):
        origin = run("checkpoint", f"{name}.city").split("\n", 1)[0]
        new = ds.City.open(f"{name}.city").rotate()
        grow(f"{name}.city", above=9)
        run("publish", f"{name}.city", f"{name}.new")
        keys[name] = vkey(origin, new.verify_key)
    before = Path("seen").read_bytes()
    assert run("verify", "fork.new", "--key", keys["fork"], "--remember", "seen", code=1)
    run("verify", "lake.new", "--key", keys["fork"], "--remember", "seen", code=1)
    assert Path("seen").read_bytes() == before
    said = run("verify", "lake.new", "--key", keys["lake"], "--remember", "seen")
    assert "It continues the checkpoint of 2 leaves that you had." in said
    assert Path("seen").read_bytes() == Path("lake.new/checkpoint").read_bytes()


@pytest.mark.parametrize("harm", ["leaf", "tile", "checkpoint", "missing"])
def test_a_mirror_that_was_changed_is_refused(run: Run, city: str, harm: str):
    run("publish", "lake.city", "mirror")
    (bundle,), (tile,) = Path("mirror/tile/entries").rglob("1"), Path("mirror/tile/0").rglob("1")
    file = {"leaf": bundle, "tile": tile, "checkpoint": Path("mirror/checkpoint"), "missing": bundle}[harm]
    if harm == "missing":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-20] ^= 1
        file.write_bytes(data)
    run("verify", "mirror", "--key", city, code=1)
    assert not Path("seen").exists()
    run("verify", "mirror", "--key", city, "--remember", "seen", code=1)
    assert not Path("seen").exists(), "what does not verify is not remembered"


def test_what_a_city_that_was_tampered_with_says_of_itself_is_checked(run: Run, city: str):
    """The hashes that it keeps beside its leaves are not believed."""
    with ds.City.open("lake.city") as opened:
        opened.log._hashes.refresh()
        opened.log._hashes._last._levels[0][0] ^= 1
        from datasov.commands.log import _every_leaf
        from datasov.errors import ProofError

        with pytest.raises(ProofError, match="not those that the checkpoint commits to"):
            _every_leaf(opened.log, opened.log.checkpoint())


def test_witnesses_cosign_and_policies_demand_it(run: Run, city: str):
    key = ("--key", city)
    names = [run("witness", "create", f"w{n}", f"witness.example/w{n}").strip() for n in range(3)]
    policy = [f"witness W{n} {name}" for n, name in enumerate(names)]
    Path("policy").write_text("\n".join([*policy, "group all-of 2 W0 W1 W2", "quorum all-of", ""]))
    run("publish", "lake.city", "mirror")
    demanded = ("verify", "mirror", *key, "--policy", "policy")
    assert "not cosigned by enough witnesses" in run(*demanded, code=1)
    assert "not a log that this witness knows" in run("witness", "cosign", "w0", "mirror", code=1)
    for n in range(2):
        assert "knows datasov/log/" in run("witness", "trust", f"w{n}", city)
        Path("note").write_text(run("witness", "cosign", f"w{n}", "mirror"))
        assert "is cosigned" in run("cosign", "lake.city", "note", "--witness", names[n])
        run("publish", "lake.city", "mirror")
        if n == 0:
            assert "not cosigned by enough witnesses" in run(*demanded, code=1)
    assert "2 witnesses of the policy cosigned it." in run(*demanded)
    assert json.loads(run(*demanded, "--json", "--within", "3600"))["cosigned"] == 2
    assert run("checkpoint", "mirror", *key, "--policy", "policy").count("witness.example/") == 2
    grow()
    assert "enough" in run("checkpoint", "lake.city", "--policy", "policy", code=1)
    run("publish", "lake.city", "cosigned", "--cosigned")
    assert Path("cosigned/checkpoint").read_bytes() == Path("mirror/checkpoint").read_bytes()
    assert "no cosignature of a known witness" in run("cosign", "lake.city", "note", "--witness", names[2], code=1)
    assert "--cosigned is for a city" in run("publish", "mirror", "x", "--cosigned", *key, code=1)
    assert "give a policy" in run("verify", "mirror", *key, "--within", "5", code=1)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 3), (3, 1)])
def test_a_fork_is_found_proved_and_judged(run: Run, city: str, a: int, b: int):
    key = ("--key", city)
    Path("x").mkdir()
    for name in ("lake.city", "lake.city.key", "lake.city.anchor"):
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, f"x/{name}")
    run("witness", "create", "w", "w")
    run("witness", "trust", "w", city)
    run("publish", "lake.city", "before")
    run("verify", "before", *key, "--remember", "seen")
    grow("lake.city", 0, a)
    grow("x/lake.city", 9, b)
    run("publish", "lake.city", "one")
    run("publish", "x/lake.city", "two")
    for place in ("one", "two"):
        run("verify", place, *key)
        assert "belong to one tree" in run("compare", "before", place, *key)
        assert "belong to one tree" in run("compare", "seen", place, *key)
    said = run("compare", "one", "two", *key, "--evidence", "fork", code=1)
    assert "The log forked" in said
    assert "forked" in run("evidence", "fork", *key)
    shutil.copy("one/checkpoint", "first")
    shutil.copy("two/checkpoint", "second")
    assert "The log forked" in run(
        "compare", "second", "first", *key, "--log", "lake.city" if a > b else "x/lake.city", code=1
    )
    if a != b:
        assert "give a reader" in run("compare", "first", "second", *key, code=1)
    run("witness", "cosign", "w", "one")
    assert "datasov: " in run("witness", "cosign", "w", "two", code=1)
    assert len([*Path("w/forks").iterdir()]) == (a == b)
    run("verify", "one", *key, "--remember", "seen")
    if a <= b:
        assert "seen.fork is evidence" in run("verify", "two", *key, "--remember", "seen", code=1)
        assert "forked" in run("evidence", "seen.fork", *key)
    refusal = "holds another tree" if a <= b else "holds a longer log"
    assert refusal in run("publish", "x/lake.city", "one", code=1)
    other = vkey("datasov/log/0", bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    assert "another log" in run("evidence", "fork", "--key", other, code=1)
    data = Path("fork").read_bytes()
    Path("fork").write_bytes(data.replace(b"second ", b"second A", 1))
    run("evidence", "fork", *key, code=1)


def test_what_is_missing_is_said(run: Run, city: str):
    run("publish", "lake.city", "mirror")
    for arguments, why in (
        (("checkpoint", "none"), "no log is at none"),
        (("verify", "mirror"), "a mirror proves nothing by itself"),
        (("verify", "mirror", "--key", "nonsense"), "--key is a city's id"),
        (("verify", "mirror", "--key", city, "--policy", "none"), "none cannot be read"),
        (("compare", "none", "mirror", "--key", city), "none cannot be read"),
        (("witness", "cosign", "none", "mirror"), "no witness"),
        (("witness", "create", "mirror", "w"), "there already"),
        (("evidence", "mirror/checkpoint", "--key", city), "not evidence"),
        (("cosign", "lake.city", "none", "--witness", "x"), "none cannot be read"),
    ):
        assert why in run(*arguments, code=1), arguments
    with ds.City.open("other.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as other:
        assert "another city" in run("checkpoint", "lake.city", "--key", str(other.id), code=1)
        assert "check --key" in run("verify", "mirror", "--key", str(other.id), code=1)


@pytest.mark.parametrize(
    "wrong", [[], ["nothing"], ["verify"], ["compare", "a", "b"], ["cosign", "a", "b"], ["witness"],
              ["verify", "m", "--within", "0"], ["witness", "create", "w"]]
)  # fmt: skip
def test_wrong_usage_exits_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["log", *wrong])
    assert left.value.code == 2
    assert "usage: datasov log" in capsys.readouterr().err


def test_the_help_says_where_a_key_comes_from(capsys: pytest.CaptureFixture[str]):
    for arguments, words in (
        (["--help"], ("never from the mirror", "Exit codes", "publish", "witness", "compare", "evidence")),
        (["witness", "--help"], ("create", "trust", "cosign")),
        (["verify", "--help"], ("--remember", "--policy", "--within")),
    ):
        with pytest.raises(SystemExit) as left:
            main(["log", *arguments])
        assert left.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words)


def test_it_runs_as_a_process(run: Run, city: str):
    command = [sys.executable, "-m", "datasov.cli", "log", "checkpoint", "lake.city"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run("checkpoint", "lake.city")
    assert TRIPS.name not in done.stdout


def test_a_log_is_read_and_compared_after_the_city_changed_its_key(run, tmp_path):
    with ds.City.open(tmp_path / "new.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city:
        before = str(city.id)
        city.release(COUNT.where(ds.col("km") > 1), loss=RHO, purpose=PURPOSE)
    run("publish", "new.city", "early")
    run("verify", "early", "--key", before, "--remember", "seen")
    run("verify", "early", "--key", before, "--remember", "seen")
    run("witness", "create", "w", "witness.example/w")
    run("witness", "trust", "w", before)
    run("witness", "cosign", "w", "early")
    old, _ = keys((tmp_path / "new.city.key").read_bytes())
    after = str(ds.City.open(tmp_path / "new.city").rotate())
    with ds.City.open(tmp_path / "new.city") as city:
        key, origin = vkey(city.log.origin, city.log.public), city.log.origin
        city.release(COUNT, loss=RHO, purpose=PURPOSE)
    run("publish", "new.city", "mirror")
    run("verify", "new.city", "--key", after)
    assert "another city" in run("verify", "new.city", "--key", before, code=1)
    for command in (("verify", "mirror"), ("compare", "mirror", "mirror")):
        assert "datasov city show" in run(*command, "--key", after, code=1)
        run(*command, "--key", key)
    run("witness", "cosign", "w", "mirror", code=1)
    run("witness", "trust", "w", key, "--replace")
    assert "witness.example/w" in run("witness", "cosign", "w", "mirror")
    said = run("verify", "mirror", "--key", key, "--remember", "seen")
    assert "continues the checkpoint of 1 leaf that" in said
    assert run("verify", "mirror", "--key", key, "--remember", "seen").endswith("3 leaves that you had.\n")
    Path("seen").write_bytes(sign_checkpoint(origin, 1, bytes(32), SigningKey(bytes(32))).note)
    assert "none of the city's keys" in run("verify", "mirror", "--key", key, "--remember", "seen", code=1)
    Path("seen").write_bytes(sign_checkpoint(origin, 1, bytes(32), old).note)
    run("verify", "mirror", "--key", key, "--remember", "seen", code=1)
    Path("seen").write_bytes(sign_checkpoint(origin, 9, bytes(32), old).note)
    assert "shorter" in run("verify", "mirror", "--key", key, "--remember", "seen", code=1)
