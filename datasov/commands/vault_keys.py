"""`datasov vault keys` and `erase-domain`: what opens a vault, and what is gone for good."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from datasov.commands import secret
from datasov.errors import InvalidDataError, StoreError
from datasov.resident import Resident
from datasov.vault import files, keys, new_recovery_key, slots
from datasov.vault.keychain import NewSecrets

Open = Callable[[argparse.Namespace], Resident]


def listed(options: argparse.Namespace) -> int:
    """Slots show without a key: whoever holds the file can see as much. Labels do not: they are sealed."""
    path = options.vault / "VAULT"
    if not path.is_file():
        raise StoreError(f"no vault is at {options.vault}: check the path")
    found = []
    with files.storing("the vault cannot be read"):
        data = files.read(path, keys.MAX_HEADER)
    for number, held in enumerate(keys.read_slots(data)[2], 1):
        kind = slots.NAMES.get(held.kind, f"unknown ({held.kind})")
        slot: dict[str, object] = {"slot": number, "id": held.id, "kind": kind}
        if held.kind == slots.PASSPHRASE and len(held.params) == 8:
            passes, memory = held.params[:4], held.params[4:]
            slot["passes"], slot["memory"] = int.from_bytes(passes, "big"), int.from_bytes(memory, "big")
            slot["device_secret"] = bool(held.flags & slots.WITH_DEVICE_SECRET)
        found.append(slot)
    if options.json:
        _say(json.dumps({"slots": found}))
        return 0
    for slot in found:
        more = ""
        if "memory" in slot:
            more = f", Argon2id with {slot['passes']} passes over {int(str(slot['memory'])) >> 20} MiB"
            more += ", with a device secret" if slot["device_secret"] else ""
        _say(f"{slot['id']}: {slot['kind']}{more}")
    return 0


def added(options: argparse.Namespace, open_: Open) -> int:
    with open_(options) as resident:
        if options.recovery:
            _print_key(resident.keys.add_recovery(label=options.label))
            return 0
        given = secret.opening(options, "New passphrase", prefix="new-", new=True)
        if "device" in given:
            resident.keys.enrol(given["device"], passphrase=given.get("passphrase"), label=options.label)
            _say("This device opens the vault from now on.")
            return 0
        if "device_key" in given:
            resident.keys.add_device_key(given["device_key"], label=options.label)
        if "passphrase" in given:
            resident.keys.add_passphrase(
                given["passphrase"], device_secret=given.get("device_secret"), label=options.label
            )
    _say("It opens the vault from now on.")
    return 0


def removed(options: argparse.Namespace, open_: Open) -> int:
    with open_(options) as resident:
        resident.keys.remove(*options.id)
    _say("What is removed opens the vault no more. Older copies of its files it still opens.")
    return 0


def replaced(options: argparse.Namespace, open_: Open) -> int:
    with open_(options) as resident:
        resident.keys.rotate(**_new(options))
    _say("Every key is a new one. Older copies of the files still open by the old ones.")
    return 0


def erased(options: argparse.Namespace, open_: Open) -> int:
    with open_(options) as resident:
        if not options.yes:
            confirmed(f"This destroys every row of domain {options.domain}.", options.domain)
        resident.erase_domain(options.domain, **_new(options))
    _say(f"Domain {options.domain} is erased, and every key is a new one. Copies elsewhere, and exports, are not.")
    return 0


def confirmed(what: str, name: str) -> None:
    """Raise unless somebody types the name of what is to be destroyed."""
    if not sys.stdin.isatty():
        raise secret.NoTerminalError("nobody to ask whether to erase: give --yes if you are sure")
    secret.interruptible()
    print(f"{what} Type its name, {name}, to erase it: ", end="", flush=True)
    if sys.stdin.readline().strip() != name:
        raise InvalidDataError("that is not its name: nothing was erased")


def _new(options: argparse.Namespace) -> NewSecrets:
    """New secrets in place of all old ones; a recovery key is printed before anything opens by it alone."""
    given: NewSecrets = {"drop": options.drop}
    named = (options.new_passphrase_file, options.new_device_key_file, options.new_device_secret_file)
    if any(named) or not (options.keyring or options.device_file):
        found = secret.opening(options, "New passphrase", prefix="new-", new=True)
        if "passphrase" in found:
            given["passphrase"] = found["passphrase"]
        if "device_key" in found:
            given["device_key"] = found["device_key"]
        if "device_secret" in found:
            given["device_secret"] = found["device_secret"]
    if options.recovery:
        given["recovery_key"] = new_recovery_key()
        _print_key(given["recovery_key"])
    return given


def _print_key(text: str) -> None:
    _say(f"Recovery key, to be printed and kept well: {text}")


def _say(text: str) -> None:
    print(text, flush=True)
