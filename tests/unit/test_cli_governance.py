"""`datasov key`, `charter` and `programme`: files that people send, print and type."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import datasov as ds
from datasov.authority import keyfile, paper, signature_file
from datasov.authority.approval import ABOUT, Signature, Signed
from datasov.cli import main
from datasov.errors import DecryptionError, InvalidDataError, StoreError
from tests.helpers import COUNT, PURPOSE, TRIPS
from tests.terminal import Terminal

Run = Callable[..., str]
NAMES = ("c1", "c2", "c3", "a1", "a2", "a3")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trips.json").write_text(json.dumps(TRIPS.document()))
    return tmp_path


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; what it printed, once its exit code is the one expected."""

    def call(*arguments: str, code: int = 0) -> str:
        try:
            found = main([*arguments])
        except SystemExit as end:
            found = int(str(end.code))
        printed = capsys.readouterr()
        assert found == code, printed.err + printed.out
        if code == 1 and not printed.out:
            assert printed.err.startswith("datasov: ")
            assert printed.err.count("\n") == 1
        return printed.out + printed.err

    return call


@pytest.fixture
def city(place: Path) -> Iterator[ds.City]:
    with ds.City.open(place / "lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], processing="JP-25") as found:
        yield found


@pytest.fixture
def keys(run: Run) -> dict[str, str]:
    return {name: run("key", "new", f"{name}.key", "--no-passphrase").strip() for name in NAMES}


@pytest.fixture
def charter(run: Run, city: ds.City, keys: dict[str, str]) -> str:
    """charter.json, unsigned: two of three and two of three, everybody in an emergency."""
    members = [f"--{'council' if n[0] == 'c' else 'assembly'}={n}={keys[n]}" for n in NAMES]
    numbers = [f"--{g}-{what}={n}" for g in ("council", "assembly") for what, n in (("threshold", 2), ("emergency", 3))]
    return run(
        "charter", "new", "charter.json", "--city", str(city.id), *members, *numbers, "--emergency-days", "7",
        "--notice-days", "0", "--expires", "2099-04-01", "--open", "surveys:rho=0.001",
    )  # fmt: skip


def sign(run: Run, noun: str, document: str, *names: str) -> list[str]:
    for name in names:
        run(noun, "sign", document, "--key", f"{name}.key", "--out", f"{document}.{name}")
    return [f"{document}.{name}" for name in names]


@pytest.fixture
def adopted(run: Run, charter: str) -> None:
    run("charter", "collect", "charter.json", *sign(run, "charter", "charter.json", *NAMES), "--out", "charter.signed")
    run("charter", "adopt", "lake.city", "charter.signed")


def new_programme(run: Run, out: str, *more: str, code: int = 0) -> str:
    return run(
        "programme", "new", out, "--charter", "charter.signed", "--name", "buses", "--purpose", PURPOSE, "--table",
        "trips.json", "--key", "district", "--aggregate", "count", "--aggregate", "distinct", "--aggregate", "sum:km",
        "--where", "km", "--rows", "5", "--keys", "2", "--largest", "rho=0.01", "--total", "rho=0.04",
        "--period-days", "30", "--period", "rho=0.02", "--processing", "JP", "--retention-days", "100",
        "--days", "300", *more, code=code,
    )  # fmt: skip


# --- keys


def test_a_key_is_readable_by_its_owner_alone_and_never_overwritten(run, place):
    public = run("key", "new", "mine.key", "--no-passphrase").strip()
    assert re.fullmatch("[0-9a-f]{64}", public)
    assert stat.S_IMODE(os.stat("mine.key").st_mode) == 0o600
    assert run("key", "show", "mine.key").strip() == public
    assert "never overwritten" in run("key", "new", "mine.key", "--no-passphrase", code=1)
    assert keyfile.load(place / "mine.key", None).public.hex() == public


def test_a_wrapped_key_needs_its_passphrase_and_shows_nothing_of_it(run, place):
    (place / "pass").write_text("correct horse\n")
    public = run("key", "new", "mine.key", "--passphrase-file", "pass").strip()
    text = (place / "mine.key").read_text()
    key = keyfile.load(place / "mine.key", "correct horse")
    assert key.public.hex() == public
    assert bytes(key._key).hex() not in text
    assert "correct" not in text
    for wrong in ("", "correct", None):
        with pytest.raises(DecryptionError):
            keyfile.load(place / "mine.key", wrong)


@pytest.mark.parametrize("change", [
    lambda t: t.replace("public ", "public 00", 1), lambda t: t[:-10], lambda t: t + "more\n", lambda _: "",
    lambda t: t.replace("secret", "sekret"), lambda t: re.sub("public .{8}", "public 00000000", t),
    lambda t: re.sub("secret .{64}", "secret " + "00" * 32, t), lambda t: re.sub("secret .{64}", "secret zz", t),
])  # fmt: skip
def test_a_damaged_key_file_signs_nothing(run, place, change):
    run("key", "new", "mine.key", "--no-passphrase")
    changed = change((place / "mine.key").read_text())
    (place / "mine.key").write_text(changed)
    with pytest.raises((InvalidDataError, DecryptionError)):
        keyfile.load(place / "mine.key", None)


def test_a_key_that_others_can_read_is_not_used(run, place, charter):
    os.chmod("c1.key", 0o640)
    assert "chmod 600" in run("charter", "sign", "charter.json", "--key", "c1.key", code=1)
    with pytest.raises(StoreError):
        keyfile.load(place / "missing.key", None)


# --- lines on paper


def test_typed_lines_are_read_however_they_are_spaced_and_quoted():
    data = bytes(range(7 * paper.LINE))
    lines = paper.lines(data)
    assert paper.read(lines, len(data)) == data
    typed = ["Dear clerk,", *(f"> {line.lower().replace(' ', '  ')}" for line in reversed(lines)), "3 apples", "yours"]
    with pytest.raises(InvalidDataError, match="line 3"):
        paper.read(typed, len(data))
    typed.remove("3 apples")
    assert paper.read(typed, len(data)) == data
    swapped = [re.sub("0", "O", re.sub("1 ", "1: ", line, count=1) if line[0] == "1" else line) for line in lines]
    assert paper.read(swapped, len(data)) == data


@pytest.mark.parametrize("number", range(1, 8))
def test_a_slip_in_a_line_is_named(number):
    data = bytes(range(7 * paper.LINE))
    lines = paper.lines(data)
    line = lines[number - 1]
    for at in (2, 7, 20, len(line) - 1):
        wrong = line[:at] + paper.DIGITS[(paper.DIGITS.index(line[at]) + 5) % 32] + line[at + 1 :]
        typed = [*lines[: number - 1], wrong, *lines[number:]]
        with pytest.raises(InvalidDataError, match=rf"line {number} was mistyped"):
            paper.read(typed, len(data))
    with pytest.raises(InvalidDataError, match=rf"line {number} is missing"):
        paper.read([*lines[: number - 1], *lines[number:]], len(data))
    renumbered = [*lines[: number - 1], f"{number % 7 + 1}{line[1:]}", *lines[number:]]
    with pytest.raises(InvalidDataError, match="line"):
        paper.read(renumbered, len(data))


def test_several_signatures_in_one_file(run, charter):
    one, two = (Signature(bytes([n]) * 32, bytes(ABOUT), bytes([n]) * 64) for n in (1, 2))
    text = "Hello\n" + signature_file.write(one) + "\n--\n" + signature_file.write(two, of="a charter")
    assert signature_file.read(text) == [one, two]
    for wrong in ("", "hello", signature_file.write(one)[:-40]):
        with pytest.raises(InvalidDataError):
            signature_file.read(wrong)


# --- charters


def test_a_charter_is_signed_by_mail_collected_checked_and_adopted(run, place, city, charter):
    assert "council: 2 of these 3 must sign; 3 in an emergency" in charter
    fingerprint = re.search("Fingerprint: (.{24})", charter)[1]
    names = sign(run, "charter", "charter.json", "c1", "c2", "a1")
    said = run("charter", "check", "charter.json", *names, code=1)
    assert "assembly: 1 of the 2 needed signed (a1); 1 MISSING of a2, a3" in said
    assert fingerprint in said
    run("charter", "collect", "charter.json", *names, "--out", "part.json")
    assert "must sign" in run("charter", "adopt", "lake.city", "part.json", code=1)
    mail = run("charter", "sign", "charter.json", "--key", "a2.key")
    assert fingerprint in mail, "the whole text is shown to who signs"
    quoted = "".join(f"> {line}\r\n" for line in mail[mail.index("datasov signature") :].splitlines())
    (place / "mail.txt").write_text(f"On Monday the clerk wrote:\n{quoted}-- \nKen, 3 Lake Road\n")
    run("charter", "collect", "part.json", "mail.txt", "--out", "charter.signed")
    assert "Nothing is missing" in run("charter", "check", "charter.signed")
    assert "under charter 1" in run("charter", "adopt", "lake.city", "charter.signed")
    with ds.City.open(place / "lake.city") as other:
        assert other.charter.version == 1
        assert other.charter.open == (("surveys", ds.zcdp(rho="0.001")),)
        assert city.charter == other.charter


def test_signatures_over_another_charter_are_refused_by_name(run, place, charter, keys):
    (good,) = sign(run, "charter", "charter.json", "c1")
    text = (place / "charter.json").read_text()
    (place / "wider.json").write_text(text.replace('"threshold": 2', '"threshold": 1'))
    said = run("charter", "collect", "wider.json", good, "--out", "x", code=1)
    assert keys["c1"] in said
    assert "another document" in said
    run("charter", "collect", "charter.json", good, "--out", "one.json")
    assert "another document" in run("charter", "collect", "wider.json", "one.json", "--out", "x", code=1)
    assert not (place / "x").exists()
    mistyped = re.sub(
        "(?m)^4 .", "4 Z" if "\n4 Z" not in (place / good).read_text() else "4 Y", (place / good).read_text()
    )
    (place / "typed.txt").write_text(mistyped)
    assert "line 4 was mistyped" in run("charter", "collect", "charter.json", "typed.txt", "--out", "x", code=1)


def test_a_rotation_is_checked_against_both(run, place, adopted, keys):
    extra = run("key", "new", "c4.key", "--no-passphrase").strip()
    run(
        "charter", "rotate", "charter.signed", "next.json", f"--council=c4={extra}", f"--council=c1={keys['c1']}",
        "--council-emergency", "0", "--assembly-emergency", "0", "--emergency-days", "0", "--withdraw", "ab" * 32,
    )  # fmt: skip
    document = json.loads((place / "next.json").read_text())
    assert (document["version"], document["withdrawn"], document["notice_days"]) == (2, ["ab" * 32], 0)
    names = sign(run, "charter", "next.json", "c1", "c4", "a1", "a2")
    said = run("charter", "check", "next.json", *names, "--previous", "charter.signed", code=1)
    assert "council: 2 of the 2 needed signed (c4, c1)" in said
    assert "council: 1 of the 2 needed signed (c1); 1 MISSING of c2, c3" in said
    assert "3 signatures are of nobody" not in said
    run("charter", "check", "next.json", *names, code=1)
    names += sign(run, "charter", "next.json", "c2")
    assert "Nothing is missing" in run("charter", "check", "next.json", *names, "--previous", "charter.signed")
    run("charter", "collect", "next.json", *names, "--out", "next.signed")
    run("charter", "adopt", "lake.city", "next.signed")
    assert "version" in run("charter", "adopt", "lake.city", "charter.signed", code=1)
    assert "no successor" in run("charter", "check", "next.signed", "--previous", "next.signed", code=1)


@pytest.mark.parametrize("arguments", [
    ["new", "x"], ["new", "x", "--city", "nothing"], ["sign", "missing", "--key", "c1.key"],
    ["sign", "trips.json", "--key", "c1.key"], ["check", "missing"], ["check", "trips.json"],
    ["sign", "charter.json", "--key", "trips.json"], ["sign", "charter.json", "--key", "missing"],
    ["collect", "charter.json", "trips.json", "--out", "x"], ["collect", "charter.json", "c1.key", "--out", "x"],
    ["adopt", "missing", "charter.json"], ["adopt", "lake.city", "charter.json"],
    ["rotate", "charter.json", "x"], ["check", "charter.json", "--previous", "charter.json"],
    ["collect", "charter.json", "charter.json", "--out", "charter.json"],
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(run, place, charter, arguments):
    run("charter", *arguments, code=1)
    assert not (place / "x").exists()


@pytest.mark.parametrize("arguments", [
    ["charter"], ["charter", "new"], ["charter", "new", "x", "--council", "key"], ["key"], ["programme", "check", "x"],
    ["charter", "new", "x", "--council", "Mayor=abc"], ["charter", "new", "x", "--expires", "tomorrow"],
    ["charter", "new", "x", "--open", "a"], ["charter", "new", "x", "--open", "a:0.1"], ["charter", "collect", "x"],
    ["charter", "sign", "x"], ["programme", "new", "x", "--charter", "y", "--total", "rho=-1"],
    ["charter", "sign", "x", "--key", "k", "--passphrase", "secret"], ["key", "new", "k", "--passphrase", "secret"],
])  # fmt: skip
def test_what_cannot_be_run_is_a_usage_error(run, arguments):
    run(*arguments, code=2)


# --- programmes


def test_a_programme_from_options_is_approved_and_answers(run, place, city, adopted):
    said = new_programme(run, "p.json", "--cohort", "10")
    assert "Cells with fewer than 10 residents" in said
    assert "conditions on km" in said
    names = sign(run, "programme", "p.json", "c1", "c2", "a1")
    assert "1 MISSING of a2, a3" in run("programme", "check", "p.json", *names, "--charter", "charter.signed", code=1)
    names += sign(run, "programme", "p.json", "a3")
    assert "Nothing is missing" in run("programme", "check", "p.json", *names, "--charter", "charter.signed")
    run("programme", "collect", "p.json", *names, "--out", "p.signed")
    identity = re.search("Approved: ([0-9a-f]{64})", run("programme", "approve", "lake.city", "p.signed"))[1]
    answer = city.release(COUNT.distinct(), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    assert answer.programme == identity
    assert "approved" in run("programme", "approve", "lake.city", "p.signed", code=1)


def test_an_emergency_on_the_command_line_needs_everybody(run, adopted, city):
    assert "EMERGENCY" in new_programme(run, "p.json", "--emergency", "--days", "3")
    names = sign(run, "programme", "p.json", *NAMES[:-1])
    assert "MISSING of a3" in run("programme", "check", "p.json", *names, "--charter", "charter.signed", code=1)
    names += sign(run, "programme", "p.json", "a3")
    run("programme", "collect", "p.json", *names, "--out", "p.signed")
    run("programme", "approve", "lake.city", "p.signed")
    assert city.programmes[0].programme.emergency


def test_a_programme_from_a_file_and_for_one_question(run, place, adopted):
    (place / "q.json").write_text(json.dumps(COUNT.document()))
    new_programme(run, "base.json")
    parts = json.loads((place / "base.json").read_text())
    older = "2020-01-01T00:00:00Z"
    (place / "from.json").write_text(json.dumps({**parts, "template": None, "cohort": 3, "not_before": older}))
    given = ("--charter", "charter.signed", "--from", "from.json")
    run("programme", "new", "p.json", *given, "--question", "q.json", "--version", "2", "--cohort", "4")
    made = json.loads((place / "p.json").read_text())
    assert made["question"] == COUNT.document()
    assert (made["version"], made["cohort"], made["retention_days"]) == (2, 4, 100)
    for bad in (["--question", "q.json", "--key", "district"], [], ["--question", "trips.json"]):
        run("programme", "new", "bad.json", *given, *bad, code=1)
    assert "no column" in new_programme(run, "bad.json", "--table", "trips.json:age", code=1)
    assert not (place / "bad.json").exists()


def test_a_programme_of_another_charter_is_not_checked_as_complete(run, place, adopted, keys):
    new_programme(run, "p.json")
    text = (place / "p.json").read_text()
    (place / "other.json").write_text(text.replace('"charter": 1', '"charter": 2'))
    names = sign(run, "programme", "other.json", *NAMES)
    assert "not under" in run("programme", "check", "other.json", *names, "--charter", "charter.signed", code=1)
    assert "which `collect` writes" in run("programme", "check", "p.json", "--charter", "charter.json", code=1)


def test_what_a_document_lacks_is_named(run, place, adopted):
    short = ("programme", "new", "q.json", "--charter", "charter.signed", "--name", "buses", "--purpose", PURPOSE)
    assert "a programme lacks expires, largest, processing, retention_days, tables, total\n" in run(*short, code=1)
    (place / "more.json").write_text('{"colour": "red"}')
    said = run(*short, "--from", "more.json", code=1)
    assert said.endswith("tables, total and has, and must not have, colour\n")


def test_the_signed_file_is_read_whatever_its_layout_and_refused_when_changed(run, place, adopted):
    data = (place / "charter.signed").read_bytes()
    found = Signed.from_bytes(data)
    assert Signed.from_bytes(found.to_bytes()) == found
    assert b"\n" in data
    assert b"\n" not in found.to_bytes()


# --- on a terminal


def test_somebody_signs_on_a_terminal(run, place, charter):
    terminal = Terminal("key", "new", "mine.key")
    terminal.until("New passphrase for mine.key: ")
    terminal.type("correct horse")
    terminal.until("The same again: ")
    terminal.type("correct horse")
    shown, code = terminal.end()
    assert code == 0
    assert "correct" not in shown
    assert re.search("[0-9a-f]{64}", shown)
    terminal = Terminal("charter", "sign", "charter.json", "--key", "mine.key")
    before = terminal.until("Passphrase of mine.key, to sign all of the above: ")
    assert "Fingerprint: " in before, "what is signed is read first"
    terminal.type("correct horse")
    shown, code = terminal.end()
    assert code == 0
    assert len(signature_file.read(shown)) == 1


def test_nobody_to_ask_is_a_usage_error(place, run, charter):
    (place / "pass").write_text("x\n")
    run("key", "new", "mine.key", "--passphrase-file", "pass")
    done = subprocess.run(
        [sys.executable, "-m", "datasov.cli", "charter", "sign", "charter.json", "--key", "mine.key"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no terminal" in done.stderr
    assert not done.stdout


def test_names_that_a_terminal_would_obey_are_no_names(run, place, charter):
    text = (place / "charter.json").read_text()
    (place / "evil.json").write_text(text.replace('"c1"', '"\\u001b[2Jc1"'))
    said = run("charter", "check", "evil.json", code=1)
    assert "\x1b" not in said
