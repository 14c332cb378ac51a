"""Coming back into a vault: drills from an empty machine, the text of a recovery key, what a guardian answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.vault import Asked, Guardian, KeyFile, Vault, new_recovery_key, recovery
from tests import vaults
from tests.vaults import KEY, METER, meter

AUNT, UNCLE = Guardian(bytes(range(64, 96))), Guardian(bytes(range(96, 128)))

DRILL = """
import json, sys
from pathlib import Path
from datasov.vault import KeyFile, Vault
from tests import vaults

told = json.loads(sys.stdin.read())
device = KeyFile(Path(told["home"]) / "device.key")
with Vault.open(told["vault"], recovery_key=told["paper"]) as vault:
    rows = {name: vault.scan(name).rows() for name in vault.tables()}
    vault.keys.enrol(device, label="new phone")
    lost = [slot.id for slot in vault.keys.slots() if slot.kind == "device key" and slot.label != "new phone"]
    vault.keys.remove(*lost)
with Vault.open(told["vault"], device=device) as vault:
    assert rows == {name: vault.scan(name).rows() for name in vault.tables()}
print(json.dumps(rows))
"""


def test_drill_an_empty_machine_with_a_copy_of_the_vault_and_a_printed_key(tmp_path: Path) -> None:
    lost, empty = tmp_path / "lost", tmp_path / "empty"
    held = vaults.varied(lost)
    with Vault.open(lost, device_key=KEY) as vault:
        paper = vault.keys.add_recovery()
    empty.mkdir()
    shutil.copytree(lost, empty / "v")
    told = json.dumps({"vault": str(empty / "v"), "home": str(empty), "paper": paper.lower().replace("-", " ")})
    done = subprocess.run([sys.executable, "-c", DRILL], input=told, capture_output=True, text=True, check=True)
    rows = {name: [tuple(row) for row in table] for name, table in json.loads(done.stdout).items()}
    assert rows == {name: held[name] for name in rows}
    assert set(rows) == {schema.name for schema in vaults.TABLES}
    with pytest.raises(DecryptionError):
        Vault.open(empty / "v", device_key=KEY)
    with Vault.open(empty / "v", recovery_key=paper) as vault:
        assert [(s.kind, s.label) for s in vault.keys.slots()] == [("recovery key", ""), ("device key", "new phone")]
    assert vaults.contents(lost) == held, "the lost device's own copy opens still: it is as good as what it holds"
    for name in ("VAULT", "manifest"):
        (shutil.rmtree if name == "manifest" else Path.unlink)(empty / "v" / name)  # type: ignore[operator]
        (shutil.copytree if name == "manifest" else shutil.copy)(lost / name, empty / "v" / name)
    with pytest.raises(DecryptionError):
        vaults.contents(empty / "v")


def test_drill_an_empty_machine_with_a_copy_of_the_vault_and_a_guardian(tmp_path: Path) -> None:
    lost, empty = tmp_path / "lost", tmp_path / "empty"
    held = vaults.varied(lost)
    with Vault.open(lost, device_key=KEY) as vault:
        vault.keys.add_guardian(UNCLE.public, label="uncle")
        vault.keys.add_guardian(AUNT.public, label="aunt")
    empty.mkdir()
    shutil.copytree(lost, empty / "v")
    asked = Asked.of(empty / "v", AUNT.public)
    (tmp_path / "mail").write_bytes(asked.request)
    answer = Guardian(bytes(range(64, 96))).answer((tmp_path / "mail").read_bytes(), code=asked.code.lower())
    device = KeyFile(empty / "device.key")
    with Vault.open(empty / "v", guardian=asked.receive(answer)) as vault:
        assert vaults.held(vault) == held
        assert [slot.label for slot in vault.keys.slots() if slot.opened] == ["aunt"]
        vault.keys.enrol(device)
        vault.keys.remove(vault.keys.slots()[0].id)
        vault.put([(METER, meter(3))])
    with Vault.open(empty / "v", device=device) as vault:
        assert vault.scan("meter").rows() == [*held["meter"], *meter(3).rows()]  # type: ignore[misc]
        assert [slot.label for slot in vault.keys.slots()] == ["uncle", "aunt", ""]
    for refused in ({"device_key": KEY}, {"guardian": asked.receive(answer)}):
        with pytest.raises(DecryptionError):
            Vault.open(empty / "v", **refused)  # type: ignore[arg-type]
    again = Asked.of(empty / "v", UNCLE.public, seed=bytes(32))
    assert Asked.of(empty / "v", UNCLE.public, seed=again.seed) == again
    got = again.receive(UNCLE.answer(again.request, code=again.code))
    Vault.open(empty / "v", guardian=got, write=False).close()


def test_neither_the_request_nor_the_answer_opens_the_vault_or_shows_a_secret(tmp_path: Path) -> None:
    vaults.varied(tmp_path / "v")
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        vault.keys.add_guardian(AUNT.public)
    asked = Asked.of(tmp_path / "v", AUNT.public)
    answer = AUNT.answer(asked.request, code=asked.code)
    secret = asked.receive(answer)
    header = (tmp_path / "v" / "VAULT").read_bytes()
    for shown in (asked.request, answer, header, repr(asked).encode(), repr(AUNT).encode()):
        assert secret not in shown
        assert secret.hex().encode() not in shown
        assert asked.seed not in shown
    assert len(asked.request) == 2446


def test_what_is_asked_of_the_wrong_place_is_said(tmp_path: Path) -> None:
    Vault.create(tmp_path / "v", device_key=KEY).close()
    with pytest.raises(InvalidDataError, match="no slot for this guardian"):
        Asked.of(tmp_path / "v", AUNT.public)
    with pytest.raises(StoreError):
        Asked.of(tmp_path / "nothing", AUNT.public)
    (tmp_path / "v" / "VAULT").write_bytes(b"x")
    with pytest.raises(DecryptionError):
        Asked.of(tmp_path / "v", AUNT.public)
    for seed in (b"", bytes(31), "x" * 32):
        with pytest.raises(InvalidDataError, match="32 random bytes"):
            Guardian(seed)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), mess=st.data())
def test_a_recovery_key_comes_back_as_it_is_copied_and_up_to_four_typos_are_found(
    secret: bytes, mess: st.DataObject
) -> None:
    text = recovery.recovery_text(secret)
    digits = text.replace("-", "")
    assert len(digits) == 60
    assert set(digits) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    same = {"0": "0oO", "1": "1iIlL"}
    written = [mess.draw(st.sampled_from(same.get(d, d + d.lower()))) for d in digits]
    copied = "".join(d + mess.draw(st.sampled_from(["", "", "-", " "])) for d in written)
    assert recovery.read_recovery_key(copied) == secret
    places = mess.draw(st.sets(st.integers(0, 59), min_size=1, max_size=4))
    wrong = list(digits)
    for place in places:
        others = [d for d in "0123456789ABCDEFGHJKMNPQRSTVWXYZ" if d != wrong[place]]
        wrong[place] = mess.draw(st.sampled_from(others))
    with pytest.raises(InvalidDataError, match="mistyped"):
        recovery.read_recovery_key("".join(wrong))


def test_exchanged_missing_doubled_and_foreign_digits_are_found() -> None:
    text = new_recovery_key()
    digits = text.replace("-", "")
    for i in range(59):
        swapped = digits[:i] + digits[i + 1] + digits[i] + digits[i + 2 :]
        if swapped != digits:
            with pytest.raises(InvalidDataError, match="mistyped"):
                recovery.read_recovery_key(swapped)
        for length in (digits[:i] + digits[i + 1 :], digits[: i + 1] + digits[i:]):
            with pytest.raises(InvalidDataError, match="has 60 letters and digits"):
                recovery.read_recovery_key(length)
        with pytest.raises(InvalidDataError, match="mistyped"):
            recovery.read_recovery_key(digits[:i] + "U" + digits[i + 1 :])
    groups = text.split("-")
    for a in range(12):
        for b in range(a):
            moved = list(groups)
            moved[a], moved[b] = moved[b], moved[a]
            if moved != groups:
                with pytest.raises(InvalidDataError, match="mistyped"):
                    recovery.read_recovery_key("-".join(moved))
    with pytest.raises(InvalidDataError, match="text that was printed"):
        recovery.read_recovery_key(b"x")  # type: ignore[arg-type]
    assert new_recovery_key() != text


def test_a_typo_is_said_before_the_vault_is_looked_at_and_never_repeated(tmp_path: Path) -> None:
    text = new_recovery_key()
    wrong = ("2" if text[8] != "2" else "3").join([text[:8], text[9:]])
    with pytest.raises(InvalidDataError, match="mistyped") as found:
        Vault.open(tmp_path / "nothing", recovery_key=wrong)
    assert all(group not in str(found.value) for group in wrong.split("-"))
