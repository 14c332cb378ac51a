"""Where the page reads logs from, what it keeps for a city that is not there, and how it is started."""

from __future__ import annotations

import functools
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import datasov as ds
from datasov.authority.parcel import parcel
from datasov.cli import main
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import InvalidDataError, PeerError, ProofError, StoreError
from datasov.home import logs, sending
from datasov.home.desk import Desk, LockedError
from datasov.home.outbox import Message, Outbox
from datasov.home.seen import look
from datasov.home.words import LANGUAGES, day
from datasov.model.document import canonical
from datasov.remote import Remote
from datasov.tlog.export import HeldLog, write_log
from datasov.tlog.leaves import ReleaseLeaf, encode_leaf
from datasov.tlog.note import origin_of, sign_checkpoint
from datasov.tlog.tree import Tree, leaf_hash
from datasov.wire.fields import MAX_TIME
from tests.helpers import NOW, PURPOSE, TRIPS, Clock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def asked(city: ds.City, people, few_status_lists) -> ds.Resident:
    """A resident of whom the city asked one question."""
    resident = people("a")
    resident.put(TRIPS, [{"district": "N", "km": 3}])
    consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.1"), until="2027-12-31")
    city.admit(consent, resident.contribute(consent))
    question = ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count()
    city.release(question, loss=ds.zcdp(rho="0.02"), purpose=PURPOSE)
    return resident


@pytest.fixture
def mirror(city: ds.City, tmp_path: Path) -> Path:
    city.log.publish(tmp_path / "mirror")
    return tmp_path / "mirror"


def test_a_log_is_read_from_wherever_it_is(asked, city, tmp_path, mirror) -> None:
    write_log(city.log, tmp_path / "log.bin")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(mirror))
    with _serving(handler) as address:
        places = [tmp_path / "log.bin", mirror, address]
        for place in places:
            seen = look(asked, logs.source(str(place)))
            assert (seen.fault, len(seen.verified())) == ("", 1), place
            assert seen.city == "lake"
    seen = look(asked, logs.source(str(places[-1])))
    assert (seen.forged, seen.verified()) == (False, [])
    assert "network" in seen.fault


def test_a_citys_own_folder_is_read_and_takes_what_is_signed(tmp_path, clock, people, few_status_lists) -> None:
    with ds.City.open(tmp_path / "own.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city:
        identity = city.id
    resident = ds.Resident.create(tmp_path / "r.vault", device_key=bytes(32))
    resident.put(TRIPS, [{"district": "N", "km": 3}])
    consent = resident.grant(identity, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.1"), until="2099-12-31")
    send = sending.folders([tmp_path / "nothing", tmp_path / "own.city"])
    assert send is not None
    send(Message("admission", identity, parcel(consent, resident.contribute(consent))))
    send(Message("revocation", identity, resident.revoke(consent)))
    seen = look(resident, logs.source(str(tmp_path / "own.city")))
    assert seen.fault == ""
    with pytest.raises(PeerError):
        send(Message("revocation", ds.CityId("other", bytes(32), bytes(32)), b"x"))
    assert sending.folders([tmp_path / "nothing"]) is None
    resident.close()


def test_another_citys_mirror_and_an_odd_address_are_refused(asked, mirror) -> None:
    other = ds.CityId("other", bytes(32), bytes(32))
    with pytest.raises(ProofError), logs.source(str(mirror)).open([other]):
        pass
    with pytest.raises(ProofError), logs.source(str(mirror), city=other).open([]):
        pass
    for url in ("https://user:pass@city.example/log", "https://city.example/log?x=1", "https://city.example/#x"):
        with pytest.raises(InvalidDataError):
            logs.source(url)


def test_a_mirror_that_redirects_is_not_followed(asked) -> None:
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with _serving(Elsewhere) as address:
        seen = look(asked, logs.source(address))
    assert "302" in seen.fault


@contextmanager
def _serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_release_whose_approval_the_log_lacks_is_shown_as_not_verified(people) -> None:
    """The city's own key signs the log: all of it is whole, and this one receipt does not verify."""
    resident, key = people("c"), SigningKey(bytes(range(32)))
    identity = ds.CityId("lake", key.public, bytes(range(32)))
    resident.put(TRIPS, [])
    resident.grant(identity, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.1"), until="2027-12-31")
    question = canonical(ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count().document())
    plain = ReleaseLeaf(
        PURPOSE, (("trips", TRIPS.digest, ("district",)),), question, sha256(question), "discrete Gaussian",
        ds.zcdp(rho="0.02"), "central", 0, NOW, bytes(32), bytes(16),
    )  # fmt: skip
    leaves = [encode_leaf(plain), encode_leaf(replace(plain, programme=b"\x07" * 32, release_id=b"\x01" * 16))]
    tree, origin = Tree(map(leaf_hash, leaves)), origin_of(key.public)
    held = HeldLog(sign_checkpoint(origin, tree.size, tree.root(), key).note, leaves)
    seen = look(resident, logs.Source("log", lambda _: nullcontext(held)))
    assert seen.fault == ""
    assert [bool(s.fault) for s in seen.receipts] == [True, False]  # the newest first
    assert len(seen.verified()) == 1
    assert seen.unapproved
    assert seen.notices == ()


def test_what_a_city_does_not_take_stays_as_a_file_until_it_does(tmp_path) -> None:
    city, down = ds.CityId("lake", bytes(32), bytes(32)), [True]
    got: list[Message] = []

    def send(message: Message) -> bool:
        if down[0]:
            raise PeerError("the city is asleep")
        got.append(message)
        return True

    box = Outbox(tmp_path / "out", send)
    item = box.put(Message("revocation", city, b"signed"))
    assert (item.sent, item.why, item.path.read_bytes()) == (False, "the city is asleep", b"signed")
    assert box.put(Message("revocation", city, b"signed")).path == item.path
    down[0] = False
    again = box.again(item.message.name)
    assert again is not None
    assert again.sent
    assert got == [item.message]
    assert not item.path.exists()
    assert box.again("nothing") is None
    assert box.again(item.message.name) == again
    assert len(got) == 1
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        Outbox(tmp_path / "file").ready()


def test_a_desk_locks_itself_and_opens_by_the_passphrase_alone(tmp_path) -> None:
    path, now = tmp_path / "v", [0.0]
    ds.Resident.create(path, device_key=bytes(32)).close()

    def reopen(typed: str) -> ds.Resident:
        if typed != "right":
            raise ds.DecryptionError("no")
        return ds.Resident.open(path, device_key=bytes(32))

    desk = Desk(path, reopen, [], Outbox(tmp_path / "out"), idle=10, clock=lambda: now[0])
    assert desk.locked
    with pytest.raises(LockedError):
        desk.resident.consents
    with pytest.raises(ds.DecryptionError):
        desk.unlock("wrong")
    desk.unlock("right")
    for step in (9, 18, 27):
        now[0] = step
        assert desk.resident.consents == []
    now[0] = 37
    assert desk.locked
    ds.Resident.open(path, device_key=bytes(32)).close()
    desk.reopen = None
    with pytest.raises(StoreError, match="start"):
        desk.unlock("right")


def test_the_command_runs_the_page_of_a_vault_and_ends_cleanly(tmp_path) -> None:
    """The process itself: one address on its output, the vault locked to others while it runs, free after Ctrl-C."""
    vault, key = tmp_path / "mine.vault", tmp_path / "key"
    assert main(["vault", "create", str(vault), "--device-key-file", str(key)]) == 0
    command = [sys.executable, "-m", "datasov.cli", "home", str(vault), "--device-key-file", str(key)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "LANG": "C"}
    ) as process:
        assert process.stdout is not None
        found = None
        for line in process.stdout:
            found = found or re.search(r"(http://127\.0\.0\.1:\d+)/#(\S+)", line)
            if "Ctrl-C" in line:
                break
        assert found is not None
        origin, code = found[1], found[2]
        arguments = Path(f"/proc/{process.pid}/cmdline")
        assert not arguments.exists() or code.encode() not in arguments.read_bytes()
        with httpx.Client(headers={"origin": origin}, follow_redirects=True) as browser:
            shown = browser.post(f"{origin}/", data={"code": code})
            assert shown.status_code == 200
            assert "You allow nothing at the moment" in shown.text
        assert main(["vault", "compact", str(vault), "--device-key-file", str(key)]) == 1
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")
    assert main(["vault", "compact", str(vault), "--device-key-file", str(key)]) == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--demo"], ["nowhere"], ["nowhere", "--port", "0"]],
)
def test_the_command_says_what_is_missing(arguments, capsys) -> None:
    assert main(["home", *arguments]) == 1
    assert capsys.readouterr().err.startswith("datasov: ")


@pytest.mark.parametrize("option", [["--port", "70000"], ["--idle-minutes", "0"], ["--nonsense"]])
def test_odd_options_are_refused(option) -> None:
    with pytest.raises(SystemExit):
        main(["home", "v", *option])


def test_a_consent_is_renewed_word_for_word(city, people, clock: Clock) -> None:
    resident = people("b")
    visits = ds.Schema(
        "visits", domain="health",
        columns={"at": ds.Timestamp("2024-01-01T00:00:00+09:00", "2034-01-01T00:00:00+09:00"),
                 "why": ds.Category("ab", legal="special"),
                 "after": ds.Exists(RIDES, at="at", other="at", before="2h")},
    )  # fmt: skip
    for schema in (visits, RIDES, PEOPLE):
        resident.put(schema, [])
    purpose = ds.Purpose(PURPOSE, ja="バス", en="Buses")
    old = resident.grant(
        city.id, visits, purpose=purpose, loss=ds.zcdp(rho="0.1"), until="2027-12-31", columns=["at", "after"],
        join={PEOPLE: ["age"]}, reads=[RIDES], special=["why"], processing="JP-10",
    )  # fmt: skip
    before = resident.granted
    clock.now += 86_400
    new = resident.renew(old, until="2028-12-31")
    for name in ("issuer", "audience", "coverage", "purpose", "trust", "loss", "jurisdiction", "processing", "special"):
        assert getattr(new.claims, name) == getattr(old.claims, name), name
    assert new.claims.expires > old.claims.expires
    assert new.digest != old.digest
    assert "バス" in resident.record(new).text("ja")
    assert resident.granted == before
    resident.revoke(old)
    with pytest.raises(ds.ConsentError, match="revoked"):
        resident.renew(old, until="2029-12-31")
    with pytest.raises(ds.ConsentError, match="over"):
        resident.renew(new, until="2020-12-31")


RIDES = ds.Schema(
    "rides", domain="mobility", columns={"at": ds.Timestamp("2024-01-01T00:00:00+09:00", "2034-01-01T00:00:00+09:00")}
)
PEOPLE = ds.Schema("people", domain="administration", kind="attributes", columns={"age": ds.Integer(0, 120)})


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
def test_no_second_that_a_log_can_say_takes_the_page_away(zone: str, monkeypatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for language in LANGUAGES:
            assert day(language, MAX_TIME) in ("?", *(f"{d}" for d in ("9999年12月31日", "31 December 9999")))
            assert day(language, 2**60) == "?"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_log_that_makes_its_reading_fail_leaves_the_page_and_its_buttons(asked) -> None:
    def broken(_: object) -> HeldLog:
        raise RecursionError("of whatever kind")

    seen = look(asked, logs.Source("somewhere", broken))
    assert "RecursionError" in seen.fault
    assert seen.verified() == []


def test_a_host_that_never_ends_is_given_up(asked, monkeypatch) -> None:
    """One that sends its headers byte by byte, and one whose answer grows for good."""
    monkeypatch.setattr(logs, "LONGEST", 1.0)

    class Drip(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                for _ in range(400):
                    self.wfile.write(b"H")
                    time.sleep(0.01)

        def log_message(self, *_: object) -> None: ...

    class Flood(Drip):
        def do_GET(self) -> None:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
                while True:
                    self.wfile.write(bytes(1 << 16))

    with _serving(Drip) as address:
        assert "too long to answer" in look(asked, logs.source(address)).fault
    monkeypatch.setattr(logs, "MOST", 1 << 20)
    with _serving(Flood) as address:
        assert "without an end" in look(asked, logs.source(address)).fault


def test_an_odd_answer_of_a_host_is_a_peer_error() -> None:
    answers = [(429, b"", {"retry-after": "\xb2"}), (200, b"[" * 100_000, {})]

    def answer(_: httpx.Request) -> httpx.Response:
        status, body, headers = answers.pop(0)
        return httpx.Response(status, content=body, headers=[(k, v.encode("latin-1")) for k, v in headers.items()])

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with Remote("https://city.example", client=client, sleep=lambda _: None) as remote, pytest.raises(PeerError):
        remote.city()
    assert answers == []


def test_a_folder_that_others_may_write_to_keeps_nothing(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    with pytest.raises(StoreError, match="choose another folder"):
        Outbox(tmp_path / "out").put(Message("revocation", ds.CityId("lake", bytes(32), bytes(32)), b"signed"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_end_is_told_of_once_the_log_has_it(asked, city, clock) -> None:
    consent = asked.consents[0]
    revocation = asked.revoke(consent)
    assert asked.ended(city.log) == []
    city.revoke(revocation)
    clock.now += 2 * 3600
    city.tick()
    assert [c.digest for c in asked.ended(city.log)] == [consent.digest]
    assert [c.digest for c in look(asked, logs.Source("x", lambda _: nullcontext(city.log))).ended] == [consent.digest]
