"""`datasov vault`: as a user types it on a terminal, and as a script calls it."""

from __future__ import annotations

import collections
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import datasov as ds
from datasov.cli import main
from datasov.commands.vault_options import add_commands
from datasov.errors import StoreError
from datasov.vault import KeyFile, Vault
from tests import faults, vaults
from tests.terminal import Terminal

SECRET = "correct horse battery staple"
TRIPS = ds.Schema("trips", domain="mobility", columns={
    "district": ds.Category(["N", "E", "\x1b[31mred"], nullable=True), "km": ds.Integer(0, 50),
    "cost": ds.Decimal(0, 99, scale=2, nullable=True),
})  # fmt: skip
CSV = "district,km,cost\nN,7,1.50\nE,3,\n,0,0.01\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trips.json").write_text(json.dumps(TRIPS.document()))
    (tmp_path / "trips.csv").write_text(CSV)
    return tmp_path


Run = Callable[..., str]


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; what it printed, once its exit code is the one expected."""

    def call(*arguments: str, code: int = 0, typed: bytes = b"") -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
            found = main(["vault", *arguments])
        printed = capsys.readouterr()
        assert found == code, printed.err
        if code:
            assert printed.err.startswith("datasov: ") or printed.out, "a reason"
            assert printed.err.count("\n") <= 1
        return printed.out + printed.err

    return call


KEYED = ("--device-key-file", "key")


@pytest.fixture
def filled(run: Run) -> Run:
    run("create", "v", *KEYED)
    run("put", "v", "trips", "trips.csv", "--schema", "trips.json", *KEYED)
    return run


# --- on a terminal


@pytest.fixture
def typed(place: Path) -> Path:
    """A vault that somebody made on a terminal."""
    terminal = Terminal("vault", "create", "v")
    assert terminal.until("New passphrase for v: ") == ""
    _silent(terminal)
    for where in ("cmdline", "environ"):
        assert SECRET.encode() not in Path(f"/proc/{terminal.process.pid}/{where}").read_bytes()
    terminal.type(SECRET)
    terminal.until("The same again: ")
    _silent(terminal)
    terminal.type(SECRET)
    shown, code = terminal.end()
    assert code == 0, shown
    assert SECRET not in shown
    assert "v is made" in shown
    return place


def _silent(terminal: Terminal) -> None:
    deadline = time.monotonic() + 30
    while terminal.echoes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_passphrase_is_typed_unseen_and_a_wrong_one_is_one_clear_line(typed: Path) -> None:
    assert Vault.open(typed / "v", passphrase=SECRET, write=False).tables() == {}
    terminal = Terminal("vault", "show", "v")
    terminal.until("Passphrase of v: ")
    _silent(terminal)
    terminal.type("wrong horse")
    shown, code = terminal.end()
    assert code == 1
    assert "wrong horse" not in shown
    assert re.fullmatch(r"\ndatasov: the vault cannot be read with this key: check the key; [^\n]*\n", shown)
    terminal = Terminal("vault", "show", "v")
    terminal.until("Passphrase of v: ")
    _silent(terminal)
    terminal.type(SECRET)
    shown, code = terminal.end()
    assert (code, SECRET in shown) == (0, False)
    assert "No table yet" in shown
    terminal = Terminal("vault", "check", "v")
    terminal.until("Passphrase of v: ")
    _silent(terminal)
    terminal.interrupt()
    shown, code = terminal.end()
    assert code == 130
    assert "Traceback" not in shown


def test_two_that_differ_make_no_vault(place: Path) -> None:
    terminal = Terminal("vault", "create", "v")
    terminal.until("New passphrase for v: ")
    _silent(terminal)
    terminal.type(SECRET)
    terminal.until("The same again: ")
    _silent(terminal)
    terminal.type(SECRET + "x")
    shown, code = terminal.end()
    assert code == 1
    assert "the two differ" in shown
    assert not (place / "v").exists()


def test_erasing_asks_for_the_name(filled: Run, place: Path) -> None:
    terminal = Terminal("vault", "erase", "v")
    terminal.until("to erase it: ")
    terminal.interrupt()
    assert terminal.end()[1] == 130
    for name, code in (("w", 1), ("", 1), ("v", 0)):
        terminal = Terminal("vault", "erase", "v")
        terminal.until("Type its name, v, to erase it: ")
        terminal.type(name)
        shown, found = terminal.end()
        assert found == code, shown
        assert (place / "v").exists() == (code == 1)
    assert "is erased" in shown


# --- secrets


def test_no_option_takes_a_secret() -> None:
    """Every option of every command that takes text is a path, a name, a number or a public key."""
    import argparse

    commands = argparse.ArgumentParser().add_subparsers()
    names = [
        "create",
        "put",
        "show",
        "export",
        "import",
        "evolve",
        "enrol",
        "enrolment-key",
        "merge",
        "keys",
        "check",
        "compact",
        "erase",
        "erase-domain",
    ]
    add_commands(commands, collections.defaultdict(lambda: lambda options: 0))
    (vault,) = commands.choices.values()
    (actions,) = (a for a in vault._actions if isinstance(a, argparse._SubParsersAction))
    assert list(actions.choices) == names
    (ways,) = (a for a in actions.choices["keys"]._actions if isinstance(a, argparse._SubParsersAction))
    assert list(ways.choices) == ["list", "add", "remove", "replace"]
    parsers = [*actions.choices.values(), *ways.choices.values()]
    taken = {o for p in parsers for a in p._actions if a.nargs != 0 for o in a.option_strings}
    public = {"--schema", "--table", "--city", "--rows", "--form", "--age-recipient", "--fill", "--label", "--drop"}
    assert {o for o in taken if not re.search(r"-file$|-identity$", o)} == public


@pytest.mark.parametrize("wrong", [["--passphrase", SECRET], ["--pass", "x"], [f"--passphrase={SECRET}"]])
def test_a_passphrase_in_the_arguments_is_no_option(place: Path, capsys, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["vault", "create", "v", *wrong])
    assert left.value.code == 2
    assert not (place / "v").exists()


def test_scripts_give_the_passphrase_in_a_file_on_standard_input_or_on_a_descriptor(run: Run, place: Path) -> None:
    (place / "pw").write_bytes(SECRET.encode() + b"\r\nmore\n")
    with vaults.cheap_argon2():
        run("create", "v", "--passphrase-file", "pw")
    assert "No table yet" in run("show", "v", "--passphrase-file", "-", typed=SECRET.encode())
    descriptor = os.open(place / "pw", os.O_RDONLY)
    assert "No table yet" in run("show", "v", "--passphrase-file", f"/dev/fd/{descriptor}")
    os.close(descriptor)
    for bad, why in (
        (b"", "not empty"), (b"\n", "not empty"), (b"\xff\n", "UTF-8"), (b"a\x1bb\n", "cannot be typed"),
        ("全　角\n".encode(), "check the key"),
    ):  # fmt: skip
        assert why in run("show", "v", "--passphrase-file", "-", typed=bad, code=1)
    assert "cannot be read" in run("show", "v", "--passphrase-file", "none", code=1)
    assert SECRET not in run("keys", "list", "v")


def test_without_a_terminal_nobody_is_asked(filled: Run, place: Path) -> None:
    for arguments in (["show", "v"], ["create", "w"], ["erase", "v"]):
        done = subprocess.run(
            [sys.executable, "-m", "datasov.cli", "vault", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("datasov: no")
        assert done.stderr.count("\n") == 1
    assert (place / "v").exists()
    assert not (place / "w").exists()


def test_a_key_file_is_made_for_its_owner_alone_and_never_written_over(run: Run, place: Path) -> None:
    run("create", "v", *KEYED)
    key = (place / "key").read_bytes()
    assert len(bytes.fromhex(key.decode())) == 32
    assert (place / "key").stat().st_mode & 0o077 == 0
    run("create", "w", *KEYED)
    assert (place / "key").read_bytes() == key
    (place / "bad").write_text("12")
    assert "64 hexadecimal digits" in run("show", "v", "--device-key-file", "bad", code=1)
    assert "cannot be used" in run("show", "v", "--device-key-file", "none", code=1)
    assert not (place / "none").exists()


# --- commands


def test_rows_are_put_counted_and_shown_where_asked(filled: Run, place: Path) -> None:
    shown = filled("show", "v", *KEYED)
    assert re.search(r"trips +mobility +events +3", shown)
    assert "Consents in force: 0" in shown
    assert "1.50" not in shown
    assert filled("show", "v", "--table", "trips", *KEYED).splitlines() == [
        "district  km  cost", "N          7  1.50", "E          3  -", "-          0  0.01"
    ]  # fmt: skip
    assert filled("show", "v", "--table", "trips", "--rows", "1", *KEYED).splitlines()[2] == (
        "1 of 3 rows; more with --rows N."
    )
    (place / "trips.csv").write_text("district,km,cost\n\x1b[31mred,1,0\n")
    assert filled("put", "v", "trips", "trips.csv", *KEYED) == "1 rows are in table trips.\n"
    shown = filled("show", "v", "--table", "trips", *KEYED)
    assert "\x1b" not in shown
    assert r"\x1b[31mred" in shown
    found = json.loads(filled("show", "v", "--json", *KEYED))
    assert found["tables"] == [{"name": "trips", "domain": "mobility", "kind": "events", "rows": 4}]
    found = json.loads(filled("show", "v", "--table", "trips", "--json", "--rows", "2", *KEYED))
    assert (found["count"], found["rows"][0]) == (4, {"district": "N", "km": 7, "cost": "1.50"})
    assert "no table 'none'" in filled("show", "v", "--table", "none", *KEYED, code=1)


def test_rows_that_do_not_fit_are_refused_by_row_and_column(filled: Run, place: Path) -> None:
    (place / "bad.csv").write_text(CSV + "N,51,1\n")
    assert filled("put", "v", "trips", "bad.csv", *KEYED, code=1) == (
        "datasov: row 3, column 'km': the value lies outside the declared bounds\n"
    )
    assert "give its schema with --schema" in filled("put", "v", "other", "trips.csv", *KEYED, code=1)
    assert "is of table 'trips'" in filled("put", "v", "other", "trips.csv", "--schema", "trips.json", *KEYED, code=1)
    for content in ("[]", "{", '{"name": "x"}', "7"):
        (place / "bad.json").write_text(content)
        assert "schema file" in filled("put", "v", "trips", "trips.csv", "--schema", "bad.json", *KEYED, code=1)
    assert "no such file" in filled("put", "v", "trips", "none.csv", *KEYED, code=1)


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_an_export_is_imported(filled: Run, place: Path, form: str) -> None:
    assert "in the clear" in filled("export", "v", "out", "--form", form, *KEYED)
    assert "exists already" in filled("export", "v", "out", *KEYED, code=1)
    filled("create", "w", *KEYED)
    assert filled("import", "w", "out", *KEYED) == "3 rows were imported.\n"
    same = ("--table", "trips", "--json", *KEYED)
    assert filled("show", "w", *same) == filled("show", "v", *same)
    assert "import into a new vault" in filled("import", "w", "out", *KEYED, code=1)
    assert "no export is there" in filled("import", "w", "none", *KEYED, code=1)


def test_an_export_wrapped_with_age_is_imported(filled: Run, place: Path) -> None:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    (place / "id").write_text(f"# created\n# public key: {identity.to_public()}\n{identity}\n")
    (place / "words").write_text(SECRET)
    filled("export", "v", "a.age", "--age-recipient", str(identity.to_public()), *KEYED)
    filled("export", "v", "b.age", "--age-passphrase-file", "words", *KEYED)
    for name, option in (("a", ("--age-identity", "id")), ("b", ("--age-passphrase-file", "words"))):
        filled("create", name, *KEYED)
        assert "3 rows" in filled("import", name, f"{name}.age", *option, *KEYED)
    assert "wrong key" in filled("import", "a", "a.age", "--age-passphrase-file", "words", *KEYED, code=1)


def test_a_table_gets_a_schema_that_follows(filled: Run, place: Path) -> None:
    columns = {**TRIPS.columns, "paid": ds.Boolean(), "km": ds.Integer(0, 500), "mode": ds.Category(["bus", "rail"])}
    later = ds.Schema("trips", domain="mobility", columns=columns)
    (place / "later.json").write_text(json.dumps(later.document()))
    assert "column 'paid'" in filled("evolve", "v", "later.json", "--fill", "mode=rail", *KEYED, code=1)
    assert "COLUMN=VALUE" in filled("evolve", "v", "later.json", "--fill", "paid", *KEYED, code=1)
    filled("evolve", "v", "later.json", "--fill", "paid=true", "--fill", "mode=rail", *KEYED)
    (row, *_) = json.loads(filled("show", "v", "--table", "trips", "--json", *KEYED))["rows"]
    assert row == {"district": "N", "km": 7, "cost": "1.50", "paid": True, "mode": "rail"}


def test_two_devices_are_merged(filled: Run, place: Path) -> None:
    filled("enrol", "v", "phone", "--new-device-key-file", "key2", *KEYED)
    filled("put", "phone", "trips", "trips.csv", "--device-key-file", "key2")
    other = ("--other-device-key-file", "key2", *KEYED)
    assert "is here now" in filled("merge", "v", "phone", *other)
    assert "nothing more" in filled("merge", "v", "phone", *other)
    assert json.loads(filled("show", "v", "--json", *KEYED))["tables"][0]["rows"] == 6
    assert "writes to this vault" in filled("merge", "v", "v", "--other-device-key-file", "key", *KEYED, code=1)


def test_check_reads_every_byte_and_names_the_file(filled: Run, place: Path) -> None:
    filled("put", "v", "trips", "trips.csv", *KEYED)
    filled("compact", "v", *KEYED)
    filled("put", "v", "trips", "trips.csv", *KEYED)
    assert re.fullmatch(r"5 files, [\d,]+ bytes: every byte is as it was written.\n", filled("check", "v", *KEYED))
    found = json.loads(filled("check", "v", "--json", *KEYED))
    assert found["whole"]
    assert sum(f["rows"] for f in found["files"]) == 9
    assert {f["file"]: f["bytes"] for f in found["files"]} == {
        str(f.relative_to(place / "v")): f.stat().st_size for f in vaults.sealed_files(place / "v")
    }
    for folder in ("seg", "log"):
        (file,) = (place / "v" / folder).iterdir()
        good = file.read_bytes()
        for at in (0, 40, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            shown = filled("check", "v", *KEYED, code=1)
            assert f"{folder}/{file.name}: a byte differs" in shown
            assert "1 of 5 files" in shown
        file.unlink()
        assert f"{folder}/{file.name}: it is gone" in filled("check", "v", *KEYED, code=1)
        assert not json.loads(filled("check", "v", "--json", *KEYED, code=1))["whole"]
        file.write_bytes(good)
    newest = max((place / "v" / "manifest").iterdir(), key=lambda f: int(f.name))
    good = newest.read_bytes()
    newest.write_bytes(good[:-1] + b"\0")
    assert "damaged" in filled("check", "v", *KEYED, code=1)
    newest.write_bytes(good)
    filled("check", "v", *KEYED)


def test_keys_lists_the_slots_without_a_passphrase(run: Run, place: Path) -> None:
    (place / "pw").write_text(SECRET)
    run("create", "v", "--passphrase-file", "pw", "--device-secret-file", "extra", "--device-key-file", "key")
    ids = [slot["id"] for slot in json.loads(run("keys", "list", "v", "--json"))["slots"]]
    assert run("keys", "list", "v").splitlines() == [
        f"{ids[0]}: device key", f"{ids[1]}: passphrase, Argon2id with 3 passes over 64 MiB, with a device secret"
    ]  # fmt: skip
    assert json.loads(run("keys", "list", "v", "--json"))["slots"][1]["memory"] == 64 << 20
    (place / "v" / "VAULT").write_bytes(b"x" * 500)
    run("keys", "list", "v", code=1)


def slot_ids(run: Run, kind: str) -> list[str]:
    return [slot["id"] for slot in json.loads(run("keys", "list", "v", "--json"))["slots"] if slot["kind"] == kind]


def test_keys_are_added_removed_and_replaced(filled: Run, place: Path) -> None:
    (place / "pw").write_text(SECRET)
    with vaults.cheap_argon2():
        filled("keys", "add", "v", *KEYED, "--new-passphrase-file", "pw", "--label", "mine")
        said = filled("keys", "add", "v", "--passphrase-file", "pw", "--recovery")
        (place / "paper").write_text(said.split(": ")[1].lower())
        assert "trips" in filled("show", "v", "--recovery-key-file", "paper")
        filled("keys", "remove", "v", "--recovery-key-file", "paper", *slot_ids(filled, "device key"))
        assert "check the key" in filled("show", "v", *KEYED, code=1)
        assert "trips" in filled("show", "v", "--passphrase-file", "pw")
        assert "give recovery_key" in filled(
            "keys", "replace", "v", "--passphrase-file", "pw", "--new-device-key-file", "next",
            "--drop", *slot_ids(filled, "passphrase"), code=1,
        )  # fmt: skip
        filled(
            "keys", "replace", "v", "--passphrase-file", "pw", "--new-device-key-file", "next", "--recovery",
            "--drop", *slot_ids(filled, "passphrase"),
        )  # fmt: skip
        for old in (("--passphrase-file", "pw"), ("--recovery-key-file", "paper")):
            assert "check the key" in filled("show", "v", *old, code=1)
    assert "no such slot" in filled("keys", "remove", "v", "--device-key-file", "next", "00000000", code=1)
    assert json.loads(filled("show", "v", "--json", "--device-key-file", "next"))["tables"][0]["rows"] == 3


def test_erase_domain_destroys_its_tables_alone_and_needs_a_word(filled: Run, place: Path) -> None:
    other = ds.Schema("meter", domain="energy", columns={"wh": ds.Integer(0, 9)})
    (place / "meter.json").write_text(json.dumps(other.document()))
    (place / "meter.csv").write_text("wh\n1\n2\n")
    filled("put", "v", "meter", "meter.csv", "--schema", "meter.json", *KEYED)
    erase = ["erase-domain", "v", "mobility", *KEYED, "--new-device-key-file", "next"]
    assert "give --yes" in filled(*erase, code=2)
    assert "no such domain" in filled("erase-domain", "v", "nowhere", *erase[3:], "--yes", code=1)
    filled(*erase, "--yes")
    assert "check the key" in filled("show", "v", *KEYED, code=1)
    (left,) = json.loads(filled("show", "v", "--json", "--device-key-file", "next"))["tables"]
    assert (left["name"], left["rows"]) == ("meter", 2)


def test_erase_destroys_the_header_first_and_leaves_what_is_not_the_vaults(
    filled: Run, place: Path, monkeypatch
) -> None:
    (place / "v" / "mine.txt").write_text("x")
    os.link(place / "v" / "VAULT", place / "header")
    header = (place / "header").read_bytes()
    with Vault.open(place / "v", device_key=bytes.fromhex((place / "key").read_text())):
        assert "another process or another Vault" in filled("erase", "v", "--yes", code=1)
    real = os.unlink

    def interrupted(path: object) -> None:
        real(path)  # type: ignore[arg-type]
        if str(path).endswith("VAULT"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "unlink", interrupted)
    filled("erase", "v", "--yes", code=1)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert not (place / "v" / "VAULT").exists()
    assert (place / "v" / "log").exists()
    kept = (place / "header").read_bytes()
    assert (len(kept), kept[:8] == header[:8]) == (len(header), False), "written over before it was unlinked"
    filled("erase", "v", "--yes")
    assert [f.name for f in (place / "v").iterdir()] == ["mine.txt"]
    assert "no vault is" in filled("erase", "v", "--yes", code=1)
    (place / "odd").mkdir()
    (place / "odd" / "VAULT").write_text("mine")
    assert "not one of datasov" in filled("erase", "odd", "--yes", code=1)
    assert (place / "odd" / "VAULT").read_text() == "mine"
    filled("create", "w", *KEYED)
    (place / "link").symlink_to("w")
    assert "no vault is" in filled("erase", "link", "--yes", code=1)
    assert (place / "w" / "VAULT").exists()


@pytest.mark.parametrize("command", ["put", "show", "export", "import", "check", "compact", "keys", "erase", "merge"])
def test_where_no_vault_is_nobody_is_asked_for_a_passphrase(run: Run, place: Path, command: str) -> None:
    more = {"put": ["t", "trips.csv"], "export": ["out"], "import": ["trips.csv"], "merge": ["w"], "erase": ["--yes"]}
    before = ["list"] if command == "keys" else []
    assert "no vault is" in run(command, *before, "none", *more.get(command, []), code=1)


@pytest.mark.parametrize(
    "wrong", [[], ["none"], ["show"], ["show", "v", "--rows", "-1"], ["keys", "v"], ["export", "v", "o", "--form", "x"],
              ["export", "v", "o", "--age-passphrase", "--age-recipient", "age1x"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(wrong: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main(["vault", *wrong])
    assert left.value.code == 2
    assert "usage: datasov vault" in capsys.readouterr().err


# --- what is left where a command fails


@pytest.mark.parametrize("arguments", [
    ("create", "nowhere/v", "--device-key-file", "new"),
    ("create", "v", "--device-key-file", "new", "--passphrase-file", "none"),
    ("create", "v", "--device-key-file", "new", "--device-secret-file", "secret"),
    ("enrol", "held", "nowhere/v", "--new-device-key-file", "new", *KEYED),
])  # fmt: skip
def test_a_key_file_that_was_made_for_nothing_goes_again(run: Run, place: Path, arguments: tuple[str, ...]) -> None:
    run("create", "held", *KEYED)
    (place / "secret").write_text("no key")
    kept = {p.name for p in place.iterdir()}
    run(*arguments, code=1)
    assert {p.name for p in place.iterdir()} == kept
    if arguments[1] == "held":
        run("enrol", "held", "phone", "--new-device-key-file", "new", *KEYED)
        run("show", "phone", "--device-key-file", "new")


def test_a_key_file_stays_where_a_vault_is_that_may_need_it(run: Run, place: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ds.Resident, "close", lambda resident: (_ for _ in ()).throw(StoreError("full")))
        run("create", "v", *KEYED, code=1)
    run("show", "v", *KEYED)


def test_a_key_file_that_was_there_stays_where_the_vault_is_not_made(run: Run, place: Path) -> None:
    run("create", "v", *KEYED)
    run("create", "nowhere/w", *KEYED, code=1)
    run("show", "v", *KEYED)


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_key_file_is_durable_with_its_name_before_the_vault_is(run: Run, place: Path, step: str) -> None:
    calls: list[str] = []
    with faults.before_each(calls.append):
        run("create", "v", *KEYED)
    assert calls[:3] == ["write", "fsync", "fsync"], "the file, and the folder that names it"
    count = 0

    def fail(name: str) -> None:
        nonlocal count
        count += name == step
        if name == step and count == (1 if step == "write" else 2):
            raise OSError(errno.EIO, "broken")

    with faults.before_each(fail):
        run("create", "w", "--device-key-file", "other", code=1)
    assert not (place / "other").exists()
    assert not (place / "w").exists()


def test_a_passphrase_file_is_taken_whole_or_not_at_all(run: Run, place: Path) -> None:
    (place / "long").write_text("x" * 5000)
    assert "longer" in run("create", "v", "--passphrase-file", "long", code=1)
    assert "longer" in run("create", "v", "--passphrase-file", "-", typed=b"x" * 5000, code=1)
    assert not (place / "v").exists()
    (place / "marked").write_bytes(b"\xef\xbb\xbfcorrect horse\r\n")
    with vaults.cheap_argon2():
        run("create", "v", "--passphrase-file", "marked")
    run("show", "v", "--passphrase-file", "-", typed=b"correct horse\n")


def test_without_the_extra_a_wrapped_export_cannot_be_run_as_asked(filled: Run, place: Path) -> None:
    (place / "p").write_text("horse\n")
    (place / "e.age").write_bytes(b"age-encryption.org/v1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyrage", None)
        for more in (("--age-passphrase-file", "p"), ("--age-passphrase",), ("--age-recipient", "age1x")):
            assert "datasov[portability]" in filled("export", "v", "out.age", *more, *KEYED, code=2)
        assert "datasov[portability]" in filled("import", "v", "e.age", "--age-passphrase-file", "p", *KEYED, code=2)
        filled("export", "v", "out", *KEYED)
    assert not (place / "out.age").exists()


def test_long_work_counts_on_a_terminal_and_is_quiet_elsewhere(filled: Run, place: Path) -> None:
    for words, shown in (
        (("export", "v", "out"), "exported 0 of 1 tables"), (("compact", "v"), "compacted 0 of 1 tables"),
        (("check", "v"), "checked 0 of 1 files"),
    ):  # fmt: skip
        terminal = Terminal("vault", *words, *KEYED)
        seen, code = terminal.end()
        assert code == 0
        assert shown in seen
        assert "\x1b[K" in seen, "and the line is cleared"
    assert " of 1 " not in filled("export", "v", "quiet", *KEYED)
    filled("create", "w", "--device-key-file", "key2")
    seen, code = Terminal("vault", "import", "w", "out", "--device-key-file", "key2").end()
    assert (code, "read 0 of 1 tables" in seen) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing_in_the_clear(filled: Run, place: Path, number: int) -> None:
    code = (
        "import os, signal, sys; from datasov.portability import bundle; from datasov.cli import main\n"
        f"write = bundle._write\ndef end(path, data): write(path, data); os.kill(os.getpid(), {int(number)})\n"
        f"bundle._write = end\nsignal.signal({int(number)}, signal.SIG_DFL)\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "vault", "export", "v", "out", *KEYED], timeout=60)
    assert done.returncode == 128 + number
    assert not [p for p in place.iterdir() if "out" in p.name]


def test_no_path_raises_a_raw_error(run: Run, place: Path) -> None:
    run("create", "v", *KEYED)
    long = "x" * 300
    for arguments in (
        ("show", long), ("create", long, "--device-key-file", "k2"), ("keys", "list", long), ("erase", long),
        ("export", "v", long, *KEYED), ("import", "v", long, *KEYED), ("check", f"v/{long}", *KEYED),
        ("show", "v/VAULT/x", *KEYED), ("put", "v", "trips", long, *KEYED),
        ("put", "v", "trips", "trips.csv", "--schema", long, *KEYED),
        ("merge", "v", long, "--other-device-key-file", "key", *KEYED),
    ):  # fmt: skip
        run(*arguments, code=1)
    (place / "v" / "VAULT").write_bytes(bytes(2 << 20))
    assert "longer" in run("keys", "list", "v", code=1)


def test_a_name_that_the_terminal_cannot_show_is_escaped(place: Path) -> None:
    command = [sys.executable, "-m", "datasov.cli", "vault", "create", b"caf\xe9", *KEYED]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, b"is made" in done.stdout) == (0, True), done.stderr


# --- a device that keeps what it needs


def test_a_device_file_opens_a_vault_that_python_made_and_the_other_way_round(run: Run, place: Path) -> None:
    with ds.Resident.create("p", device=KeyFile("p.device")) as resident:
        resident.put(TRIPS, [{"district": "N", "km": 7, "cost": "1.50"}])
    assert "trips" in run("show", "p", "--device-file", "p.device")
    run("put", "p", "trips", "trips.csv", "--device-file", "p.device")
    run("create", "c", "--device-file", "c.device")
    assert "another vault" in run("show", "c", "--device-file", "p.device", code=1)
    with ds.Resident.open("c", device=KeyFile("c.device")) as resident:
        assert resident.tables() == {}


def test_a_device_file_keeps_its_key_through_an_erasure_and_a_second_device(run: Run, place: Path) -> None:
    run("create", "v", *KEYED)
    run("put", "v", "trips", "trips.csv", "--schema", "trips.json", *KEYED)
    run("keys", "add", "v", *KEYED, "--new-device-file", "v.device", "--label", "laptop")
    (key,) = (s["id"] for s in json.loads(run("keys", "list", "v", "--json"))["slots"] if s["slot"] == 1)
    run("keys", "remove", "v", key, "--device-file", "v.device")
    run("show", "v", *KEYED, code=1)
    run("enrol", "v", "w", "--device-file", "v.device", "--new-device-file", "w.device")
    run("merge", "w", "v", "--device-file", "w.device", "--other-device-file", "v.device")
    before = Path("v.device").read_bytes()
    run("erase-domain", "v", "mobility", "--yes", "--device-file", "v.device")
    assert Path("v.device").read_bytes() != before, "a key of its own, new"
    assert "No table yet" in run("show", "v", "--device-file", "v.device")


def test_a_passphrase_beside_a_device_is_asked_for(run: Run, place: Path) -> None:
    (place / "pass").write_text(SECRET + "\n")
    run("create", "v", "--device-file", "v.device", "--passphrase-file", "pass")
    assert "give the passphrase" in run("show", "v", "--device-file", "v.device", code=1)
    terminal = Terminal("vault", "show", "v", "--device-file", "v.device", "--ask-passphrase")
    terminal.until("Passphrase of v: ")
    _silent(terminal)
    terminal.type(SECRET)
    assert terminal.end()[1] == 0
    run("show", "v", "--device-file", "v.device", "--passphrase-file", "pass")
    run("show", "v", "--passphrase-file", "pass", code=1)


def test_the_keyring_of_the_system_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Kept(dict[bytes, bytes]):
        def read(self, vault_id: bytes) -> bytes | None:
            asked.append(vault_id)
            return self.get(vault_id)

        write, forget = dict.__setitem__, dict.pop

    monkeypatch.setattr("datasov.commands.secret.Keyring", lambda kept=Kept(): kept)  # noqa: B008
    run("create", "v", "--keyring")
    asked.clear()
    assert "No table yet" in run("show", "v", "--keyring")
    assert asked
