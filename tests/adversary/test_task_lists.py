"""Claim: a device answers only what its city asks everybody in public. The attacker is the city, or who stands between.

It may sign tasks for one person, and leave them out of the log; show a log that forks from the one that was seen; give
a list from another time, of another city, or changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import ProofError, VerificationError
from datasov.gateway.tasks import made
from datasov.mpc import listed
from datasov.mpc.listed import Entry, Listed
from datasov.mpc.task import read_task
from datasov.tlog.log import LogReader
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import sign_checkpoint
from datasov.wire import cbor
from tests.helpers import PURPOSE, TRIPS, Clock, instant, key_of
from tests.servers import LONG, LOSS, grant, opened, resident, two_server_city

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
OTHER = CELL.where(ds.col("km") > 3)


@dataclass
class World:
    """A city with an open task, a copy of it that goes its own way, and somebody who saw the log."""

    city: ds.City
    fork: ds.City
    ann: ds.Resident
    clock: Clock

    def list_of(self, city: ds.City | None = None) -> Listed:
        return Listed.from_bytes(made(city or self.city).body)


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[World]:
    (tmp_path / "a").mkdir()
    city, servers = two_server_city(tmp_path / "a", clock)
    opened(city, CELL, clock)
    ann = resident(tmp_path, clock, "ann", {TRIPS: [{"district": "N", "km": 7}]})
    grant(ann, city)
    assert ann.receipts(city.log) == []
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with city, ds.City.open(tmp_path / "b" / "two.city", clock=clock, post=servers.post) as fork, ann:
        yield World(city, fork, ann, clock)


def refused(world: World, listed_: Listed | bytes, log: LogReader | None, match: str) -> None:
    seen = world.ann.checkpoints()
    data = listed_ if isinstance(listed_, bytes) else listed_.to_bytes()
    with pytest.raises(ProofError, match=match):
        world.ann.tasks(data, log)
    assert world.ann.checkpoints() == seen, "what was seen stays"


def grown(city: ds.City, clock: Clock, query: ds.Query = OTHER) -> bytes:
    return city.collect(query, loss=LOSS, purpose=PURPOSE, until=instant(clock.now + LONG))


def test_the_honest_list_is_taken_and_what_it_stands_under_is_remembered(world: World) -> None:
    assert world.ann.tasks(world.list_of().to_bytes()) == world.city.tasks()
    grown(world.city, world.clock)
    assert world.ann.tasks(world.list_of().to_bytes(), world.city.log) == world.city.tasks()
    assert world.ann.checkpoints() == {str(world.city.id): world.city.checkpoint().note}
    assert world.ann.receipts(world.city.log) == []


def test_a_task_that_is_not_in_the_log_is_refused(world: World) -> None:
    for low in (1, 2):
        grown(world.city, world.clock, CELL.where(ds.col("km") > low))
    assert len(world.ann.tasks(world.list_of().to_bytes(), world.city.log)) == 3
    honest = world.list_of()
    mine = honest.entries[0]
    task = read_task(mine.task)
    own = replace(task, salt=bytes(16)).signed(world.city._key)
    for entry in (
        replace(mine, task=own),
        Entry(own, 0, ()),
        replace(mine, proof=()),
        replace(mine, index=mine.index + 1),
    ):
        with pytest.raises(ProofError):
            world.ann.tasks(replace(honest, entries=(entry,)).to_bytes())
        refused(world, replace(honest, entries=(*honest.entries, entry)), None, ".")


def test_a_log_of_its_own_with_a_task_of_its_own_is_refused(world: World) -> None:
    grown(world.city, world.clock)
    world.ann.receipts(world.city.log)
    mine = grown(world.fork, world.clock, CELL.where(ds.col("km") > 1))
    forked = world.list_of(world.fork)
    assert mine in [entry.task for entry in forked.entries]
    refused(world, forked, world.fork.log, ".")
    refused(world, forked, world.city.log, ".")
    refused(world, forked, None, ".")
    grown(world.fork, world.clock, CELL.where(ds.col("km") > 2))
    longer = world.list_of(world.fork)
    refused(world, longer, world.fork.log, "only grown")
    refused(world, longer, None, "give the log")


def test_a_list_from_before_is_taken_and_what_was_seen_stays(world: World, tmp_path: Path) -> None:
    before = world.list_of()
    grown(world.city, world.clock)
    world.ann.receipts(world.city.log)
    seen = world.ann.checkpoints()
    refused(world, before, None, "give the log")
    world.city.log.publish(tmp_path / "mirror")
    for log in (world.city.log, TileLog(tmp_path / "mirror", world.city.id.verify_key)):
        assert world.ann.tasks(before.to_bytes(), log) == [before.entries[0].task]
    assert world.ann.checkpoints() == seen


def test_a_log_that_proves_nothing_is_of_no_help(world: World) -> None:
    grown(world.city, world.clock)

    class Liar:
        def __getattr__(self, name: str) -> object:
            return {"consistency": lambda *_: [bytes(32)]}[name]

    refused(world, world.list_of(), Liar(), ".")  # type: ignore[arg-type]


def test_a_list_of_another_city_or_key_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    far, _ = two_server_city(tmp_path / "c", world.clock)
    with far:
        opened(far, CELL, world.clock)
        theirs = world.list_of(far)
        refused(world, theirs, far.log, "whose id you hold")
        with pytest.raises(ProofError, match="another city"):
            world.ann.tasks(world.list_of().to_bytes(), city=far.id)
        mixed = replace(world.list_of(), entries=theirs.entries)
        refused(world, mixed, None, ".")
        grafted = _signed_by_the_city(world, theirs)
        refused(world, grafted, world.city.log, ".")
    checkpoint = world.city.checkpoint()
    other = sign_checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, key_of("mallory"))
    refused(world, replace(world.list_of(), note=other.note), None, ".")


def _signed_by_the_city(world: World, theirs: Listed) -> Listed:
    """Another city's task in a log of one leaf that this city signed."""
    (entry,) = theirs.entries
    root = listed.leaf_hash(listed.leaf(read_task(entry.task), entry.task))
    note = sign_checkpoint(world.city.log.origin, 1, root, world.city._key).note
    return Listed(note, (Entry(entry.task, 0, ()),))


def test_a_task_of_another_city_in_this_citys_log_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    far, _ = two_server_city(tmp_path / "c", world.clock)
    with far, resident(tmp_path, world.clock, "ben", {TRIPS: []}) as ben:
        opened(far, CELL, world.clock)
        grafted = _signed_by_the_city(world, world.list_of(far))
        with pytest.raises(ProofError, match="another city than the log's"):
            ben.tasks(grafted.to_bytes(), city=world.city.id)
        assert ben.tasks(world.list_of().to_bytes(), city=world.city.id) == world.city.tasks(), "nothing was remembered"


def test_bytes_that_are_no_list_are_refused(world: World) -> None:
    data = world.list_of().to_bytes()
    for at in range(0, len(data), 97):
        changed = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        with pytest.raises(VerificationError):
            world.ann.tasks(changed)
    refused(world, data[:-1], None, "not a list")
    refused(world, data + b"\0", None, "not a list")
    refused(world, cbor.encode(["datasov tasks v2", *cbor.decode(data)[1:]]), None, "not a list")
    refused(world, b"", None, "not a list")
    refused(world, bytes(listed.MOST + 1), None, "not a list")


def test_who_never_saw_the_log_trusts_the_first_list_and_no_other(world: World, tmp_path: Path) -> None:
    with resident(tmp_path, world.clock, "ben", {TRIPS: []}) as ben:
        with pytest.raises(ProofError, match="whose id you hold"):
            ben.tasks(world.list_of().to_bytes())
        assert ben.tasks(world.list_of().to_bytes(), city=world.city.id) == world.city.tasks()
        grown(world.city, world.clock)
        assert len(ben.tasks(world.list_of().to_bytes(), world.city.log, city=world.city.id)) == 2
        grown(world.fork, world.clock, CELL.where(ds.col("km") > 1))
        with pytest.raises(ProofError):
            ben.tasks(world.list_of(world.fork).to_bytes(), world.fork.log, city=world.city.id)


def test_a_vault_knows_the_city_by_its_next_key_once_it_has_read_the_log(world: World) -> None:
    key = bytes(range(32))
    new = world.city.rotate(key)
    path = world.city._path
    with ds.City.open(path, operator_key=key, clock=world.clock, post=lambda *_: b"") as city:
        task = city.collect(OTHER, loss=LOSS, purpose=PURPOSE, until=instant(world.clock.now + LONG), announce=False)
        now = world.list_of(city)
        refused(world, now, city.log, ".")
        world.ann.receipts(city.log)
        assert world.ann.tasks(now.to_bytes(), city.log) == city.tasks()
        assert read_task(task).city == str(new)
        assert task in city.tasks()
