"""A witness: what it answers, and that it never cosigns what does not continue what it cosigned."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from datasov.errors import ProofError, StoreError, WitnessError
from datasov.tlog import witness as witnessing
from datasov.tlog.cosignature import AHEAD, cosignatures
from datasov.tlog.evidence import Evidence
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import origin_of, sign_checkpoint, vkey
from datasov.tlog.tree import EMPTY, leaf_hash
from datasov.tlog.witness import Witness, ask, read_request, write_request
from tests.helpers import NOW, Clock
from tests.logs import KEY, ORIGIN, OTHER, forked, grow, leaf, log_of, served, tiles_of

LOG = vkey(ORIGIN, KEY.public)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(tmp_path: Path, clock: Clock) -> Witness:
    made = Witness.create(tmp_path / "w", "witness.example/w1", clock=clock)
    made.trust(LOG)
    return made


def refused(witness: Witness, old: int, proof, note: bytes) -> WitnessError:
    """The refusal of a request; nothing that was kept changed, and no signature stands in the message."""
    before = {p: p.read_bytes() for p in (witness._folder / "logs").iterdir()}
    with pytest.raises(WitnessError) as why:
        witness.add_checkpoint(write_request(old, proof, note))
    assert {p: p.read_bytes() for p in (witness._folder / "logs").iterdir()} == before
    assert "—" not in str(why.value)
    return why.value


def test_it_cosigns_a_log_that_grows(witness: Witness, clock: Clock):
    log = log_of(3)
    assert witness.last(ORIGIN) is None
    for leaves, time in ((0, NOW), (4, NOW + 60), (1, NOW + 60), (700, NOW + 61)):
        clock.now = time
        grow(log, *(leaf(log.size + n) for n in range(leaves)))
        note = ask(log, witness.add_checkpoint)
        assert cosignatures(note, [witness.cosigner]) == {witness.cosigner.public: time}
        assert witness.last(ORIGIN).size == log.size
    assert log.cosign(note, [witness.cosigner]).note == note
    assert log.checkpoint().note == note


def test_what_it_was_told_outlives_it(witness: Witness, tmp_path: Path):
    log = log_of(5)
    ask(log, witness.add_checkpoint)
    again = Witness(tmp_path / "w")
    assert again.cosigner == witness.cosigner
    assert again.last(ORIGIN).root == log.root(5)
    assert refused(again, 0, [], log.checkpoint().note).size == 5
    assert (tmp_path / "w" / "key").stat().st_mode & 0o777 == 0o600


def test_it_answers_as_the_protocol_says(witness: Witness):
    log = log_of(5)
    note = log.checkpoint().note
    assert refused(witness, 0, [], sign_checkpoint("unknown", 5, log.root(5), KEY).note).status == 404
    assert refused(witness, 0, [], sign_checkpoint(ORIGIN, 5, log.root(5), OTHER).note).status == 403
    assert refused(witness, 6, [], note).status == 400
    assert refused(witness, 0, [bytes(32)], note).status == 422
    assert (refused(witness, 3, log.consistency(3, 5), note).status, refused(witness, 3, [], note).size) == (409, 0)
    ask(log, witness.add_checkpoint)
    grow(log, leaf(5), leaf(6))
    new = log.checkpoint().note
    for old in (0, 4, 6, 7):
        wrong = refused(witness, old, log.consistency(old, 7) if old else [], new)
        assert (wrong.status, wrong.size, wrong.evidence) == (409, 5, b"")
    for proof in ([], log.consistency(4, 7), [*log.consistency(5, 7), bytes(32)], log.consistency(5, 7)[:-1]):
        assert refused(witness, 5, proof, new).status == 422
    for body in (
        b"", b"old 5\n\n", b"old 05\n\n" + new, b"old 5\n" + new, b"old -1\n\n" + new, b"5\n\n" + new,
        b"\xff\n\n" + new,
        b"old 5\nAAAA\n\n" + new, write_request(5, [bytes(32)] * 64, new), b"old 5\n\n\n" + new, b"old 5\n\nnonsense\n",
    ):  # fmt: skip
        with pytest.raises(WitnessError) as why:
            witness.add_checkpoint(body)
        assert why.value.status == 400, body
    assert witness.add_checkpoint(write_request(5, log.consistency(5, 7), new))


def test_a_request_has_the_form_of_the_protocol():
    log = log_of(5)
    body = write_request(3, log.consistency(3, 5), log.checkpoint().note)
    lines = body.decode().split("\n")
    assert (lines[0], lines[5], lines[6], lines[7]) == ("old 3", "", ORIGIN, "5")
    assert read_request(body) == (3, tuple(log.consistency(3, 5)), log.checkpoint().note)


def test_the_empty_log_and_the_first_checkpoint(witness: Witness):
    """Statuses of the reference witness for sizes of zero."""
    empty, one = (sign_checkpoint(ORIGIN, n, root, KEY).note for n, root in ((0, EMPTY), (1, leaf_hash(leaf(0)))))
    assert refused(witness, 0, [], sign_checkpoint(ORIGIN, 0, bytes(32), KEY).note).status == 422
    assert refused(witness, 0, [bytes(32)], empty).status == 422
    for _ in range(2):
        assert witness.add_checkpoint(write_request(0, [], empty))
    assert refused(witness, 0, [bytes(32)], one).status == 422
    assert witness.add_checkpoint(write_request(0, [], one))
    assert refused(witness, 1, [], empty).status == 400
    assert refused(witness, 0, [bytes(32)], one).status == 409


def test_a_rollback_is_refused(witness: Witness):
    log = log_of(9)
    short = log_of(5).checkpoint().note
    ask(log, witness.add_checkpoint)
    wrong = refused(witness, 0, [], short)
    assert (wrong.status, wrong.size) == (409, 9)
    assert refused(witness, 9, [], short).status == 400
    with pytest.raises(WitnessError):
        ask(log_of(5), witness.add_checkpoint)


@pytest.mark.parametrize("size", [5, 9])
def test_a_fork_is_refused(witness: Witness, size: int):
    ask(log_of(5), witness.add_checkpoint)
    other = forked(size, 2)
    with pytest.raises(WitnessError) as why:
        ask(other, witness.add_checkpoint)
    assert why.value.status == (409 if size == 5 else 422)
    kept = [p.read_bytes() for p in (witness._folder / "forks").iterdir()]
    assert kept == ([why.value.evidence] if size == 5 else [])
    for data in kept:
        first, second = Evidence.from_bytes(data).verify()
        assert {first.root, second.root} == {log_of(5).root(5), other.root(5)}
    assert witness.last(ORIGIN).root == log_of(5).root(5)


def test_it_reads_a_mirror(witness: Witness):
    log = log_of(300)
    for leaves in (0, 400):
        grow(log, *(leaf(log.size + n) for n in range(leaves)))
        mirror = TileLog(served(tiles_of(log)), witness.key_of(ORIGIN))
        assert log.cosign(ask(mirror, witness.add_checkpoint), [witness.cosigner]).size == log.size


def test_requests_at_once_never_take_it_back(witness: Witness):
    """The race of the specification: a slow request for a smaller tree after a quick one for a larger tree."""
    log = log_of(40)
    sizes = {n: sign_checkpoint(ORIGIN, n, log.root(n), KEY).note for n in range(1, 41)}
    signed: list[int] = []

    def submit(n: int) -> None:
        for _ in range(200):
            try:
                witness.add_checkpoint(write_request(held[0], log.consistency(held[0], n) if held[0] else [], sizes[n]))
            except WitnessError as why:
                if why.size is None or why.size >= n:
                    return
                held[0] = why.size
            else:
                signed.append(n)
                return

    held = [0]
    threads = [threading.Thread(target=submit, args=(n,)) for n in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert witness.last(ORIGIN).size == 40
    assert 40 in signed


def test_the_state_is_on_the_disk_before_the_cosignature_leaves(witness: Witness, monkeypatch):
    log = log_of(5)
    ask(log, witness.add_checkpoint)
    grow(log, leaf(5))

    def failing(source, target):
        raise OSError("no space")

    monkeypatch.setattr(witnessing.os, "replace", failing)
    with pytest.raises(StoreError):
        ask(log, witness.add_checkpoint)
    monkeypatch.undo()
    assert witness.last(ORIGIN).size == 5
    assert cosignatures(ask(log, witness.add_checkpoint), [witness.cosigner])


def test_it_does_not_cosign_what_it_lost_the_record_of(witness: Witness):
    ask(log_of(5), witness.add_checkpoint)
    (file,) = (witness._folder / "logs").iterdir()
    whole = file.read_bytes()
    head, _, note = whole.partition(b"\n\n")
    own = b"\n".join(note.split(b"\n")[:-2]) + b"\n"
    for wrong in (
        b"",
        whole[:-1],
        whole[1:],
        head + b"\n\n" + own,
        whole.replace(b"\n5\n", b"\n4\n"),
        head[:-3],
        b"\xff",
    ):
        file.write_bytes(wrong)
        with pytest.raises(StoreError, match="damaged"):
            ask(log_of(6), witness.add_checkpoint)
    file.unlink()
    with pytest.raises(WitnessError) as why:
        ask(log_of(6), witness.add_checkpoint)
    assert why.value.status == 404, "it knows the log no more: trusting it again is an act of its operator"


def test_a_clock_that_goes_back(witness: Witness, clock: Clock):
    log = log_of(5)
    ask(log, witness.add_checkpoint)
    clock.now -= AHEAD
    grow(log, leaf(5))
    assert cosignatures(ask(log, witness.add_checkpoint), [witness.cosigner]) == {witness.cosigner.public: NOW}
    clock.now = NOW - AHEAD - 1
    grow(log, leaf(6))
    with pytest.raises(StoreError, match="clock"):
        ask(log, witness.add_checkpoint)
    assert witness.last(ORIGIN).size == 6
    clock.now = NOW + 5
    assert cosignatures(ask(log, witness.add_checkpoint), [witness.cosigner]) == {witness.cosigner.public: NOW + 5}


def test_what_strangers_add_to_a_note_is_not_kept(witness: Witness):
    log = log_of(5)
    note = log.checkpoint().note + "— stranger.example AAAAAAAA\n".encode() * 60
    witness.add_checkpoint(write_request(0, [], note))
    (file,) = (witness._folder / "logs").iterdir()
    assert b"stranger" not in file.read_bytes()


def test_logs_by_their_keys(witness: Witness):
    (file,) = (witness._folder / "logs").iterdir()
    before = file.read_bytes()
    witness.trust(LOG)
    assert file.read_bytes() == before
    with pytest.raises(ProofError, match="another key"):
        witness.trust(vkey(ORIGIN, OTHER.public))
    with pytest.raises(ProofError):
        witness.trust(str(witness.cosigner))
    assert witness.key_of(ORIGIN) == KEY.public
    with pytest.raises(WitnessError):
        witness.key_of(origin_of(OTHER.public))


def test_a_log_that_replaced_its_key_stays_the_log_it_was(witness: Witness):
    ask(log_of(5), witness.add_checkpoint)
    witness.trust(vkey(ORIGIN, OTHER.public), replace=True)
    assert witness.last(ORIGIN).size == 5
    with pytest.raises(WitnessError) as why:
        ask(log_of(6), witness.add_checkpoint)
    assert why.value.status == 403, "the old key is given up"
    with pytest.raises(WitnessError) as why:
        ask(log_of([b"other"] * 6, OTHER, ORIGIN), witness.add_checkpoint)
    assert why.value.status == 422
    with pytest.raises(WitnessError) as why:
        ask(log_of([b"other"] * 5, OTHER, ORIGIN), witness.add_checkpoint)
    assert (why.value.status, why.value.evidence) == (409, b"")
    ask(log_of(6, OTHER, ORIGIN), witness.add_checkpoint)
    assert witness.last(ORIGIN).size == 6


def test_folders_that_are_no_witness(tmp_path: Path, witness: Witness):
    with pytest.raises(StoreError, match="there already"):
        Witness.create(tmp_path / "w", "again")
    with pytest.raises(StoreError, match="no witness"):
        Witness(tmp_path / "none")
    with pytest.raises(ProofError):
        Witness.create(tmp_path / "x", "a b")
    assert not (tmp_path / "x").exists()
    os.truncate(tmp_path / "w" / "key", 31)
    with pytest.raises(StoreError, match="32 bytes"):
        Witness(tmp_path / "w")
