"""`datasov log`: a city's public log from the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasov.commands import operator
from datasov.commands.log_options import add_commands
from datasov.commands.outgoing import Place
from datasov.errors import InvalidDataError, InvalidQueryError, ProofError, StoreError
from datasov.model.consent import CityId
from datasov.remote import Remote
from datasov.store import place
from datasov.tlog import tiles
from datasov.tlog.cosignature import Policy, open_cosigned, read_policy, verify_cosigned
from datasov.tlog.evidence import Evidence, compare
from datasov.tlog.leaves import decode_leaf
from datasov.tlog.log import Log
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import MAX_NOTE, Checkpoint, open_checkpoint, origin_of, parse_vkey, peek_checkpoint, vkey
from datasov.tlog.operators import SUBJECT, follow, notices
from datasov.tlog.publish import publish
from datasov.tlog.tree import Tree, leaf_hash
from datasov.tlog.whole import Whole
from datasov.tlog.witness import Witness, ask

_PAGE = 16 * tiles.TILE


def add(commands: Any) -> None:
    """Add `log` with its commands to those of `datasov`."""
    add_commands(commands, {
        "checkpoint": _checkpoint, "verify": _verify, "publish": _publish, "cosign": _cosign, "compare": _compare,
        "evidence": _evidence, "witness create": _create, "witness trust": _trust, "witness cosign": _witness,
    })  # fmt: skip


def _say(text: str) -> None:
    print(text, flush=True)


def _count(leaves: int) -> str:
    return "1 leaf" if leaves == 1 else f"{leaves} leaves"


def _key(text: str) -> tuple[str, bytes]:
    """Origin and key of a city's id or a verifier key."""
    try:
        public = CityId.parse(text).verify_key
        return origin_of(public), public
    except InvalidQueryError:
        pass
    try:
        return parse_vkey(text)
    except ProofError:
        raise InvalidDataError("--key is a city's id, or its log's verifier key: copy the whole text") from None


@contextmanager
def _log(path: Place, key: str | None, operator_key: Path | None = None) -> Iterator[Log | TileLog]:
    """The log at a place. A mirror's key is never taken from the mirror."""
    if isinstance(path, str):
        origin, public = _key(_needed(key))
        with Remote(path) as remote:
            _same(remote.note(), origin)
            yield TileLog(remote.read, public, origin=origin)
    elif place.is_city(path):
        with operator.open_city(path, operator_key) as city:
            if key is not None and _key(key)[1] != city.log.public:
                raise ProofError("the log of another city: check the path and --key")
            yield city.log
    elif (path / tiles.CHECKPOINT).is_file():
        origin, public = _key(_needed(key))
        _same(_read(path / tiles.CHECKPOINT), origin)
        yield TileLog(path, public, origin=origin)
    else:
        raise StoreError(f"no log is at {path}: name a city's folder, or a mirror that `datasov log publish` wrote")


def _needed(key: str | None) -> str:
    if key is None:
        raise InvalidDataError("a mirror proves nothing by itself: give the city's id with --key")
    return key


def _same(note: bytes, origin: str) -> None:
    """Raise, with what to do, where a note is of a log of another name: an id names a log by the city's first key."""
    if (found := peek_checkpoint(note).origin) != origin:
        raise ProofError(
            f"a checkpoint of {found}, not of {origin}: check --key; where the city changed its key, give the log's "
            "verifier key, which `datasov city show` prints"
        )


def _policy(options: argparse.Namespace) -> Policy | None:
    if options.policy is None:
        if options.within is not None:
            raise InvalidDataError("--within counts cosignatures: give a policy with --policy")
        return None
    _, policy = read_policy(_read(options.policy).decode("utf-8", "replace"))
    return policy


def _demanded(options: argparse.Namespace, log: Log | TileLog) -> tuple[Checkpoint, Policy | None]:
    """The checkpoint, with the cosignatures that the policy asks for."""
    policy, found = _policy(options), log.checkpoint()
    if policy is not None:
        now = int(time.time())
        open_cosigned(found.note, log.origin, log.public, policy, now=now, within=options.within)
    return found, policy


def _note(path: Place) -> bytes:
    """A checkpoint's note: of a file, a mirror, or the address of one."""
    if isinstance(path, str):
        with Remote(path) as remote:
            return remote.note()
    return _read(path / tiles.CHECKPOINT if path.is_dir() else path)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(4 * MAX_NOTE + 1)
    except OSError as fault:
        raise StoreError(f"{path} cannot be read: {fault.strerror or fault}") from None
    if len(data) > 4 * MAX_NOTE:
        raise ProofError(f"{path} is too long to be a checkpoint, a policy or evidence: check the path")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as fault:
        raise StoreError(f"{path} cannot be written: {fault.strerror or fault}") from None


def _checkpoint(options: argparse.Namespace) -> int:
    with _log(options.log, options.key, options.operator_key_file) as log:
        found, _ = _demanded(options, log)
    sys.stdout.write(found.note.decode())
    return 0


def _verify(options: argparse.Namespace) -> int:
    with _log(options.log, options.key, options.operator_key_file) as log:
        found, policy = _demanded(options, log)
        before = _remembered(options.remember, log, found)
        kinds = _every_leaf(log, found)
    signed = {} if policy is None else verify_cosigned(
        found.note, policy, now=int(time.time()), within=options.within
    )  # fmt: skip
    if options.remember is not None:
        _write(options.remember, found.note)
    if options.json:
        _say(json.dumps({
            "origin": found.origin, "size": found.size, "root": found.root.hex(), "leaves": kinds,
            "cosigned": len(signed), "since": before,
        }))  # fmt: skip
        return 0
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
    told = f"{_count(found.size)} {'is' if found.size == 1 else 'are'} what the checkpoint commits to"
    _say(f"{found.origin}: {told} ({listed}).")
    if policy is not None:
        _say(f"{len(signed)} {'witness' if len(signed) == 1 else 'witnesses'} of the policy cosigned it.")
    if before is not None:
        _say(f"It continues the checkpoint of {_count(before)} that you had.")
    return 0


def _remembered(file: Path | None, log: Log | TileLog, found: Checkpoint) -> int | None:
    """The size of the checkpoint in the file, which the log was shown to continue; None where there is no file yet."""
    if file is None or not file.exists():
        return None
    note = _read(file)
    try:
        old = open_checkpoint(note, log.origin, log.public)
    except ProofError as why:
        return _continued(note, log, found, why)
    if old.size > found.size:
        raise ProofError("the log is shorter than it was: keep the old checkpoint as evidence and ask the city")
    evidence = compare(note, found.note, log.public, log, origin=log.origin)
    if evidence is not None:
        _write(kept := file.with_name(file.name + ".fork"), evidence.to_bytes())
        raise ProofError(f"the log forked: {kept} is evidence that anybody can verify")
    return old.size


def _continued(note: bytes, log: Log | TileLog, found: Checkpoint, why: ProofError) -> int:
    """The size of a checkpoint that an earlier key of the log signed, as its statements tell; `why` where none did."""
    leaves = log.leaves(0, found.size)
    said = notices(leaves)
    if not any(leaf.subject == SUBJECT for _, leaf in said):
        raise why
    whole = Whole(found, leaves, Tree(map(leaf_hash, leaves)), follow(said, log.origin, ()))
    if whole.tree.root() != found.root or whole.operators.key != log.public:
        raise ProofError("the statements in the log do not lead to the key that was given: ask the city for its id")
    whole.continues(note)
    return peek_checkpoint(note).size


def _every_leaf(log: Log | TileLog, found: Checkpoint) -> dict[str, int]:
    tree, kinds = Tree(), Counter[str]()
    for start in range(0, found.size, _PAGE):
        leaves = log.leaves(start, min(start + _PAGE, found.size))
        kinds.update(type(decode_leaf(leaf)).__name__.removesuffix("Leaf").lower() for leaf in leaves)
        tree.extend(map(leaf_hash, leaves))
    if tree.size != found.size or tree.root() != found.root:
        raise ProofError("the leaves are not those that the checkpoint commits to: keep it, and ask the city")
    return dict(sorted(kinds.items()))


def _publish(options: argparse.Namespace) -> int:
    with _log(options.log, options.key, options.operator_key_file) as log:
        if isinstance(log, Log):
            found = log.publish(options.folder, cosigned=options.cosigned)
        elif options.cosigned:
            raise InvalidDataError("--cosigned is for a city's own log: a mirror has one checkpoint")
        else:
            found = publish(log, options.folder, log.checkpoint())
    _say(f"{options.folder} holds {_count(found.size)} of {found.origin}.")
    return 0


def _cosign(options: argparse.Namespace) -> int:
    with operator.open_city(options.log, options.operator_key_file) as city:
        found = city.log.cosign(_read(options.note), options.witness)
    _say(f"The checkpoint of {_count(found.size)} is cosigned.")
    return 0


def _create(options: argparse.Namespace) -> int:
    _say(str(Witness.create(options.folder, options.name).cosigner))
    return 0


def _trust(options: argparse.Namespace) -> int:
    origin, public = _key(options.key)
    origin = origin if options.origin is None else options.origin
    Witness(options.folder).trust(vkey(origin, public), replace=options.replace)
    _say(f"{options.folder} knows {origin}.")
    return 0


def _witness(options: argparse.Namespace) -> int:
    witness = Witness(options.folder)
    origin = peek_checkpoint(_note(options.log)).origin
    with _log(options.log, vkey(origin, witness.key_of(origin))) as log:
        sys.stdout.write(ask(log, witness.add_checkpoint).decode())
    return 0


def _compare(options: argparse.Namespace) -> int:
    origin, public = _key(options.key)
    a, b = (_note(p) for p in (options.first, options.second))
    for note in (a, b):
        _same(note, origin)
    larger = options.second if peek_checkpoint(b).size >= peek_checkpoint(a).size else options.first
    shown = larger if options.log is None else options.log
    if isinstance(shown, str) or shown.is_dir():
        with _log(shown, options.key, options.operator_key_file) as log:
            found = compare(a, b, public, log, origin=origin)
    else:
        found = compare(a, b, public, None, origin=origin)
    if found is None:
        _say("Both checkpoints belong to one tree.")
        return 0
    if options.evidence is not None:
        _write(options.evidence, found.to_bytes())
    _say("The log forked: no one tree has both checkpoints." + _kept(options.evidence))
    return 1


def _kept(file: Path | None) -> str:
    return " Keep both; --evidence FILE writes what proves it." if file is None else f" {file} proves it to anybody."


def _evidence(options: argparse.Namespace) -> int:
    evidence = Evidence.from_bytes(_read(options.file))
    if (evidence.origin, evidence.public) != _key(options.key):
        raise ProofError("evidence against another log: check --key")
    first, second = evidence.verify()
    _say(
        f"{evidence.origin} forked: no one tree has both of its checkpoints, of {first.size} and {second.size} leaves."
    )
    return 0
