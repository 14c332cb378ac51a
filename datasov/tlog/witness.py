"""A witness: it cosigns the checkpoints of the logs that it knows while they only grow (C2SP tlog-witness)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datasov.crypto.kdf import random, sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import ProofError, StoreError, WitnessError
from datasov.store import durable
from datasov.tlog.cosignature import AHEAD, Cosigner, cosign, cosignatures
from datasov.tlog.evidence import Evidence
from datasov.tlog.log import LogReader
from datasov.tlog.note import (
    Checkpoint,
    key_id,
    number,
    open_checkpoint,
    parse_vkey,
    path_lines,
    peek_checkpoint,
    read_path,
    signature_line,
    split_note,
    vkey,
)
from datasov.tlog.tree import EMPTY, verify_consistency

_HEAD = "datasov/witness@v1"
_KEY, _NAME, _LOGS, _FORKS = "key", "name", "logs", "forks"


class Witness:
    """A witness's folder: its key, and for each log that it knows the last checkpoint that it cosigned.

    Each state is read and replaced under a lock on the folder, and is on the disk before a cosignature leaves. The key
    in the folder is the witness: a copy of an older folder must never be put back, since a witness that forgot a
    checkpoint can be shown another one.
    """

    __slots__ = ("_clock", "_folder", "_key", "cosigner")

    def __init__(self, folder: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the folder that :meth:`create` made; StoreError where it is none."""
        self._folder, self._clock = Path(folder), clock
        try:
            name, seed = (self._folder / _NAME).read_text().removesuffix("\n"), (self._folder / _KEY).read_bytes()
        except (OSError, UnicodeDecodeError):
            raise StoreError(f"{self._folder.name} is no witness: create one there first") from None
        if len(seed) != 32:
            raise StoreError("the witness's key is not 32 bytes: bring the right one back")
        self._key = SigningKey(seed)
        self.cosigner = Cosigner(name, self._key.public)

    @classmethod
    def create(cls, folder: str | Path, name: str, *, clock: Callable[[], float] = time.time) -> Witness:
        """Make a new witness in a new folder, with a key of its own; StoreError where something is there."""
        path, seed = Path(folder), random(32)
        Cosigner(name, SigningKey(seed).public)
        try:
            path.mkdir(mode=0o700, parents=True)
            for part in (_LOGS, _FORKS):
                (path / part).mkdir()
            _replace(path / _KEY, seed, 0o600)
            _replace(path / _NAME, f"{name}\n".encode())
        except FileExistsError:
            raise StoreError(f"{path.name} is there already: name a new folder") from None
        except OSError as fault:
            raise StoreError(f"{path.name} cannot be made: check the folder and its free space") from fault
        return cls(path, clock=clock)

    def trust(self, log: str, *, replace: bool = False) -> None:
        """Know a log, by its verifier key; nothing changes where it is known.

        Args:
            replace: take this key for a log that is known by another, as the log itself tells. What was cosigned stays.

        Raises:
            ProofError: not a verifier key, or another key for an origin that is known.
        """
        origin, public = parse_vkey(log)
        with self._locked():
            record = self._record(origin) if self._file(origin).exists() else _Record(origin, (), b"")
            if record.keys and public != record.keys[-1] and not replace:
                raise ProofError("another key for a log that is known: a log keeps its key, or tells of the new one")
            if public not in record.keys:
                _replace(self._file(origin), bytes(_Record(origin, (*record.keys, public), record.note)))

    def key_of(self, origin: str) -> bytes:
        """The present key of a log, 32 bytes; WitnessError (404) for one that is not known."""
        with self._locked():
            return self._record(origin).keys[-1]

    def last(self, origin: str) -> Checkpoint | None:
        """The checkpoint of a log that was cosigned last, None before the first; WitnessError (404) for another log."""
        with self._locked():
            return self._record(origin).checkpoint()

    def add_checkpoint(self, request: bytes) -> bytes:
        """The body of an `add-checkpoint` request: the body that answers it, a cosignature line.

        Raises:
            WitnessError: the checkpoint is not cosigned; its status says why.
            StoreError: the disk, or the witness's clock went back behind its last cosignature.
        """
        old, proof, note = read_request(request)
        with self._locked():
            origin = _reading(lambda: peek_checkpoint(note).origin)
            record = self._record(origin)
            public, last = record.keys[-1], record.checkpoint()
            try:
                new = open_checkpoint(note, origin, public)
            except ProofError:
                raise WitnessError("the checkpoint is not signed by the log's key: ask the log for it", 403) from None
            self._check(old, proof, new, last, public)
            line = cosign(split_note(note)[0], self.cosigner.name, self._key, self._now(record.note)).encode()
            kept = _own(note, origin, public) + line
            _replace(self._file(origin), bytes(_Record(origin, record.keys, kept)))
            return line

    def _check(self, old: int, proof: Sequence[bytes], new: Checkpoint, last: Checkpoint | None, public: bytes) -> None:
        if old > new.size:
            raise WitnessError("the old size is above the checkpoint's: give the size that was cosigned last", 400)
        held = 0 if last is None else last.size
        if last is not None and new.size == held and new.root != last.root:
            raise self._forked(Evidence(new.origin, public, last.note, new.note), held)
        if old != held:
            raise WitnessError("another size was cosigned last: give the proof from that one", 409, size=held)
        try:
            if last is None or held == 0:
                if proof or (new.size == 0 and new.root != EMPTY):
                    raise ProofError("no proof leads from the empty tree")
            else:
                verify_consistency(held, new.size, last.root, new.root, proof)
        except ProofError as fault:
            raise WitnessError(f"the checkpoint is not shown to continue the last one: {fault}", 422) from None

    def _forked(self, evidence: Evidence, held: int) -> WitnessError:
        try:
            evidence.verify()
        except ProofError:  # signed by two keys of the log: for this witness a fork, but not for whoever knows one key
            return WitnessError("the log signed two trees of one size, under two keys", 409, size=held)
        data = evidence.to_bytes()
        _replace(self._folder / _FORKS / sha256(data).hex()[:32], data)
        return WitnessError(
            "the log signed two trees of one size: keep the evidence and show it", 409, size=held, evidence=data
        )

    def _now(self, before: bytes) -> int:
        """The time to sign: never before the last one, so that a later cosignature is of a later tree."""
        now = int(self._clock())
        last = cosignatures(before, [self.cosigner]).get(self.cosigner.public, 0) if before else 0
        if now < last - AHEAD:
            raise StoreError(
                "the witness's clock is behind its last cosignature: set it right; or if it was wrong then, wait, or"
                " begin a new witness"
            )
        return max(now, last)

    def _record(self, origin: str) -> _Record:
        """What is kept of a log, checked: the log's signature and the witness's own."""
        try:
            data = self._file(origin).read_bytes()
        except FileNotFoundError:
            raise WitnessError("not a log that this witness knows: let it trust the log first", 404) from None
        try:
            record = _Record.read(data)
            if record.origin != origin or (record.checkpoint() and not cosignatures(record.note, [self.cosigner])):
                raise ProofError("not what this witness cosigned")
        except (ProofError, ValueError):
            raise StoreError("the witness's record of a log is damaged: it cannot cosign that log any more") from None
        return record

    def _file(self, origin: str) -> Path:
        return self._folder / _LOGS / sha256(origin.encode()).hex()[:32]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            handle = os.open(self._folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as fault:
            raise StoreError("the witness's folder cannot be used: check the disk and its free space") from fault


@dataclass(frozen=True, slots=True)
class _Record:
    """A log's keys, the present one last, and the note that was cosigned last, or nothing."""

    origin: str
    keys: tuple[bytes, ...]
    note: bytes

    def checkpoint(self) -> Checkpoint | None:
        """The one that was cosigned last; ProofError where none of the log's keys has signed it."""
        if not self.note:
            return None
        for public in reversed(self.keys):
            try:
                return open_checkpoint(self.note, self.origin, public)
            except ProofError:
                continue
        raise ProofError("not signed by the log")

    def __bytes__(self) -> bytes:
        lines = [_HEAD, *(vkey(self.origin, public) for public in self.keys), "", ""]
        return "\n".join(lines).encode() + self.note

    @staticmethod
    def read(data: bytes) -> _Record:
        head, _, note = data.partition(b"\n\n")
        first, *keys = head.decode().split("\n")
        found = [parse_vkey(key) for key in keys]
        if first != _HEAD or len({origin for origin, _ in found}) != 1:
            raise ProofError("not a witness's record")
        return _Record(found[0][0], tuple(public for _, public in found), note)


def _own(note: bytes, origin: str, public: bytes) -> bytes:
    """The note with the log's own line alone: what a witness keeps does not grow with what strangers add."""
    text, lines = split_note(note)
    id_ = key_id(origin, public)
    raw = next(raw for name, raw in lines if name == origin and raw[:4] == id_)
    return f"{text}\n{signature_line(origin, id_, raw[4:])}".encode()


def _replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    part = path.with_name(f".{path.name}.part")
    durable.replace(part, path, data, mode)


def write_request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The body of an `add-checkpoint` request."""
    return "\n".join([f"old {old}", *path_lines(proof), "", ""]).encode() + note


def read_request(data: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """Old size, proof and note of an `add-checkpoint` request; WitnessError (400) where it is none."""
    head, blank, note = data.partition(b"\n\n")
    lines = _reading(lambda: head.decode("ascii").split("\n"))
    if not blank or not lines[0].startswith("old "):
        raise WitnessError("not an add-checkpoint request: see c2sp.org/tlog-witness for its form", 400)
    return _reading(lambda: (number(lines[0].removeprefix("old ")), read_path(lines[1:]), note))


_T = TypeVar("_T")


def _reading(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (ProofError, UnicodeDecodeError):
        raise WitnessError("not an add-checkpoint request: see c2sp.org/tlog-witness for its form", 400) from None


def ask(log: LogReader, add_checkpoint: Callable[[bytes], bytes]) -> bytes:
    """The present checkpoint's note with the cosignature of a witness, for :meth:`datasov.tlog.log.Log.cosign`.

    Args:
        add_checkpoint: of a :class:`Witness`, or what sends the body to one and raises WitnessError as it answers.

    Raises:
        WitnessError: the witness does not cosign it.
    """
    note = log.checkpoint().note
    size = peek_checkpoint(note).size
    try:
        return note + add_checkpoint(write_request(0, (), note))
    except WitnessError as refused:
        if refused.evidence or refused.size is None or not 1 <= refused.size <= size:
            raise
        return note + add_checkpoint(write_request(refused.size, log.consistency(refused.size, size), note))
