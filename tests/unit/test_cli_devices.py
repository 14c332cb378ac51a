"""Questions to devices at the command line: `city found --trust`, `trust`, `collect`, `take`, `consent answer`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import datasov as ds
from datasov.aggregator import place
from datasov.authority.signed_trust import read_trust
from datasov.city import city as city_module
from datasov.commands import answering, trusts
from datasov.errors import ConsentError, InvalidQueryError, VerificationError
from datasov.mpc.task import read_task
from tests.adversary.test_aggregator_kill import LOUD, Process, free
from tests.devices_cli import (
    KEY,
    OPENED,
    PURE,
    QUESTION,
    RHO,
    TWO,
    Run,
    answer,
    asked,
    collect,
    counts,
    found,
    grant,
    person,
    runner,
)  # fmt: skip
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.locals import certain
from tests.servers import IDS, TRUST, Servers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: Clock) -> Run:
    return runner(tmp_path, monkeypatch, capsys, clock)


@pytest.fixture
def aggregators(tmp_path: Path) -> Iterator[list[Process]]:
    """Two processes that a test begins; they end with it."""
    made: list[Process] = []
    yield made
    for each in made:
        each.kill()


def test_two_servers_three_residents_one_of_whom_refuses_all_by_commands(run, tmp_path, clock, aggregators):
    now = tmp_path / "clock"
    now.write_text(str(clock.now))
    ids, urls = [], [f"http://127.0.0.1:{free()}" for _ in "ab"]
    for name, url in zip("ab", urls, strict=True):
        ids.append(run("aggregator", "init", name, "--name", name, "--url", url, "--budget", "rho=20000").strip())
    city = found(run, f"two-server={ids[0]},{ids[1]}", budget="rho=50000")
    aggregators += [Process(tmp_path / n, u, city, now) for n, u in zip("ab", urls, strict=True)]
    for each in aggregators:
        each.begin()
    for name, district in (("ann", "N"), ("bob", "E"), ("eve", "N")):
        person(name, clock, district)
        said = grant(run, name, city, "--trust", "two-server", "--trust-file", "lake.trust", loss="rho=10000")
        assert f"leader: a, at {urls[0]}" in said
        assert "shows its shares to nobody" in said
        key = run("vault", "enrolment-key", name, "--city", city, *OPENED).strip()
        with Path("people").open("a") as people:
            people.write(f"{name},{key}\n")
    for folder in "ab":
        assert "3 are on the roll" in run("aggregator", "enrol", folder, "people", "--city", city)
    for each in aggregators:
        each.wait()
    loss = ("--loss", f"rho={LOUD.rho:.0f}")
    said = collect(run, *loss, "--for", "1h")
    assert "task holds the task" in said
    assert "rho = 40000 is left" in said
    printed = {answer(run, "ann"), answer(run, "bob", "--city", city), answer(run, "eve", "--refuse"),
               answer(run, "ann", "--refuse")}  # fmt: skip
    assert len(printed) == 1, "also of one who refuses, or who answers again"
    assert "still open" in asked(run, *loss, code=1)
    collect(run, *loss, "--until", "2999-01-01T00:00Z", task="again", code=1)
    collect(run, *loss, "--for", "2d", task="again")
    assert Path("again").read_bytes() == Path("task").read_bytes()
    clock.now += 3600
    part = tmp_path / "clock.part"
    part.write_text(str(clock.now))
    part.replace(now)
    told = asked(run, *loss)
    assert counts(told) == [1, 1, 0, 0]
    assert f"helper: b, at {urls[1]}" in told
    assert asked(run, *loss) == told, "the stored answer"
    assert "over" in answer(run, "bob", code=1) or "no reports now" in answer(run, "bob", code=1)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[bytes]:
    """Two aggregators in this process that ask for no tokens; what devices sent to them."""
    bodies: list[bytes] = []
    made: list[Servers] = []

    def post(to: ds.AggregatorId, path: str, body: bytes) -> bytes:
        if not made:
            with ds.City.open("lake.city") as city:
                made.append(Servers(clock, str(city.id), budgets=(ds.pure(epsilon=50),) * 2))
        if path == "reports":
            bodies.append(body)
        return made[0].post(to, path, body)

    monkeypatch.setattr(city_module, "over_http", post)
    monkeypatch.setattr(answering, "over_http", post)
    return bodies


EVERYBODY = ("granted", "refuses", "nothing", "revoked", "spent", "late", "norows")


def people(run: Run, clock: Clock, city: str, trust: str) -> None:
    """A vault for each reason to say nothing, and one that answers."""
    named = ("--trust", trust, "--trust-file", "lake.trust")
    for name in EVERYBODY:
        person(name, clock, *([] if name == "norows" else ["N", "E"]))
    for name in ("granted", "refuses", "norows"):
        grant(run, name, city, *named, loss="epsilon=9")
    grant(run, "spent", city, *named, loss="epsilon=1")
    with ds.Resident.open("late", device_key=KEY) as late, ds.City.open("lake.city") as lake:
        part = lake.trust.part(trust.replace("-", "_"))
        late.grant(city, TRIPS, purpose=PURPOSE, loss=ds.pure(epsilon=9), until="2027-01-16", trust=part)
    grant(run, "revoked", city, *named, loss="epsilon=9")
    (one,) = json.loads(run("consent", "list", "revoked", "--json", *OPENED))["consents"]
    assert one["trust"] == trust
    assert "Nobody is to be told" in run("consent", "revoke", "revoked", one["id"][:8], "file", *OPENED)
    assert not Path("file").exists()


def kept(name: str) -> list[tuple[int, int]]:
    """How long is what a vault keeps beside its rows."""
    with ds.Resident.open(name, device_key=KEY) as who:
        return sorted((len(note), len(value)) for note, value in who._vault.states().items())


def test_what_a_device_sends_and_prints_under_two_servers_is_the_same_whatever_it_says(run, clock, sent):
    city = found(run, TWO, budget="epsilon=100")
    people(run, clock, city, "two-server")
    clock.now += 3 * 86_400
    collect(run, *PURE, "--for", "1h")
    assert len({answer(run, name, "--later") for name in ("granted", "nothing")}) == 1
    assert "is kept in the vault" in answer(run, "refuses", "--later", "--refuse")
    assert sent == []
    printed = set()
    for name in EVERYBODY:
        printed.add(answer(run, name, *(["--refuse"] if name == "refuses" else [])))
    assert len(printed) == 1
    assert len({len(body) for body in sent}) == 1
    assert len({bytes(body) for body in sent}) == len(EVERYBODY) == len(sent)
    assert kept("granted") == kept("refuses"), "who holds a vault's files cannot tell either"
    assert "leave --to away" in answer(run, "granted", "--to", "x", code=1)


def test_what_a_device_writes_and_prints_under_local_trust_is_the_same_whatever_it_says(run, clock, monkeypatch):
    city = found(run, "local", budget="epsilon=100")
    people(run, clock, city, "local")
    clock.now += 3 * 86_400
    collect(run, *PURE, "--for", "1h", "--every", "7")
    task = read_task(Path("task").read_bytes())
    assert task.renewal == task.epoch // 7
    assert "--to FILE" in answer(run, "granted", code=1)
    assert "exists already" in answer(run, "granted", "--to", "task", code=1)
    certain(monkeypatch)
    assert answer(run, "granted", "--later") == answer(run, "nothing", "--later")
    printed, long = set(), set()
    for name in EVERYBODY:
        said = answer(run, name, "--to", f"{name}.rep", *(["--refuse"] if name == "refuses" else []))
        printed.add(said.replace(name, "X"))
        long.add(os.path.getsize(f"{name}.rep"))
        assert os.stat(f"{name}.rep").st_mode & 0o777 == 0o600
    assert len(printed) == 1
    assert "X.rep is for the city: hand it over." in printed.pop()
    assert len(long) == 1
    assert kept("granted") == kept("refuses"), "who holds a vault's files cannot tell either"
    reports = [f"{name}.rep" for name in EVERYBODY]
    assert "7 taken, 0 refused" in run("city", "take", "lake.city", *reports)
    Path("bad").write_bytes(Path("granted.rep").read_bytes()[:-1])
    said = run("city", "take", "lake.city", "bad", "granted.rep", "absent", code=1)
    assert "1 taken, 2 refused" in said
    assert "bad:" in said
    assert "absent:" in said
    clock.now += 3600
    assert "1 refused" in run("city", "take", "lake.city", "granted.rep", code=1)
    told = asked(run, *PURE)
    assert "trusted, local: nobody for privacy" in told
    with ds.City.open("lake.city") as lake:
        (release,) = lake.releases()
    assert (release.responses.tally.reports, sum(release.responses.tally.supports)) == (7, 1)
    assert "no such question" in asked(run, "--loss", "epsilon=1", code=1)


def test_a_city_of_three_trusts_is_founded_shown_and_answered(run, clock, sent):
    city = found(run, "local", TWO, "central", budget="epsilon=100")
    shown = run("city", "show", "lake.city")
    assert re.search(r"^trust +central, two-server, local$", shown, re.M)
    assert str(IDS[1]) in shown
    known = json.loads(run("city", "show", "lake.city", "--json"))
    assert (known["trust"], known["trusts"]) == ("mixed", ["central", "two_server", "local"])
    assert known["aggregators"] == [str(i) for i in IDS]
    assert set(known["trusted"]) == {"central", TRUST.text, "local"}
    for name, trust in (("ann", "central"), ("bob", "two-server"), ("eve", "local"), ("joe", "local")):
        person(name, clock, "S")
        said = grant(run, name, city, "--trust", trust, "--trust-file", "lake.trust", loss="epsilon=9")
        assert f"trusted, {trust}:" in said
        assert ("consent contribute" if trust == "central" else "consent answer") in said
    (one,) = json.loads(run("consent", "list", "ann", "--json", *OPENED))["consents"]
    assert "name the FILE" in run("consent", "revoke", "ann", one["id"], *OPENED, code=1)
    run("consent", "contribute", "ann", one["id"], "parcel", *OPENED)
    run("city", "admit", "lake.city", "parcel")
    assert "two_server" not in run("consent", "list", "bob", *OPENED)
    clock.now += 3 * 86_400
    collect(run, *PURE, "--for", "1h")
    said = {answer(run, n, "--to", f"{n}.rep").replace(n, "X") for n in ("ann", "bob", "eve", "joe")}
    assert len(said) == 1
    assert "what is there, if anything" in said.pop()
    assert (len(sent), [Path(f"{n}.rep").exists() for n in ("ann", "bob", "eve", "joe")]) == (
        1, [False, False, True, True],
    )  # fmt: skip
    with ds.Resident.open("bob", device_key=KEY) as bob:  # what stands goes where it was made for
        bob.grant(city, TRIPS, purpose=PURPOSE, loss=ds.pure(epsilon=9), until="2999-01-01", trust=ds.local())
    answer(run, "bob", "--to", "bob.rep")
    assert not Path("bob.rep").exists()
    assert sent[0] == sent[1]
    assert "2 taken" in run("city", "take", "lake.city", "eve.rep", "joe.rep")
    clock.now += 3600
    told = asked(run, *PURE)
    assert told.count("trusted, ") == 3
    with ds.City.open("lake.city") as lake:
        (release,) = lake.releases()
    assert release.responses.tally.reports == 2


def test_a_consent_commits_to_the_trust_that_its_owner_named_and_to_no_other(run, clock):
    city = found(run, TWO, "local")
    person("ann", clock, "N")
    file = ("--trust-file", "lake.trust")
    other = ds.two_server(city=IDS[1], council=IDS[0])
    for more, why in (
        (file, "lake does not offer that trust: it offers two-server, local"),
        ((*file, "--trust", f"two-server={IDS[1]},{IDS[0]}"), "it offers two-server, local"),
        (("--trust", "two-server"), "--trust-file"),
        (("--trust", "local"), "--loss epsilon=1"),
        (("--trust", "mixed"), "central, local, or two-server="),
        (("--trust", "two-server", "--trust-file", "key"), "not a signed document"),
        (("--trust", "two-server", "--trust-file", "absent"), "cannot be read"),
    ):
        assert why in grant(run, "ann", city, *more, code=1)
    assert json.loads(run("consent", "list", "ann", "--json", *OPENED))["consents"] == []
    for more, expected in (
        ((), "central"),
        (("--trust", f"two_server={IDS[1]},{IDS[0]}"), other.text),
        (("--trust", TWO, *file), TRUST.text),
        (("--trust", "two-server", *file), TRUST.text),
    ):
        grant(run, "ann", city, *more)
        listed = json.loads(run("consent", "list", "ann", "--json", *OPENED))["consents"]
        assert listed[-1]["commits_to"] == expected
        assert "two-server" in run("consent", "list", "ann", *OPENED) or expected == "central"


def test_a_signed_trust_is_its_citys_and_whole(run):
    city = ds.CityId.parse(found(run, TWO, "central"))
    data = Path("lake.trust").read_bytes()
    assert read_trust(data, city).text == ds.City.open("lake.city").trust.text
    assert read_trust(data, city).aggregators == IDS
    for at in range(0, len(data), 7):
        with pytest.raises(VerificationError):
            read_trust(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], city)
    for name, key in (("other", city.verify_key), (city.name, bytes(31) + b"\x01")):
        with pytest.raises(VerificationError):
            read_trust(data, ds.CityId(name, key, city.seal_key))
    with pytest.raises(VerificationError):
        read_trust(bytes(10**6), city)
    assert "exists already" in run("city", "trust", "lake.city", "lake.trust", code=1)


def test_a_task_that_cannot_be_answered_says_why_before_the_vault_is_open(run, clock, sent):
    city = found(run, TWO, budget="rho=1")
    assert "give a later `until`" in collect(run, *RHO, "--until", "2001-01-01", code=1)
    assert "a duration is" in collect(run, *RHO, "--for", "soon", code=1)
    assert "--purpose" in run("city", "collect", "lake.city", "t", *QUESTION[:-2], *RHO, "--for", "1h", code=1)
    assert "exists already" in collect(run, *RHO, "--for", "1h", task="key", code=1)
    assert "is no folder" in collect(run, *RHO, "--for", "1h", task="nowhere/task", code=1)
    Path("link").symlink_to("nowhere/task")
    assert "exists already" in collect(run, *RHO, "--for", "1h", task="link", code=1)
    assert "rho = 1" in run("city", "show", "lake.city"), "nothing was spent"
    collect(run, "--loss", "epsilon=0.5", "--for", "1h")
    strange = str(ds.CityId("lake", bytes(31) + b"\x01", ds.CityId.parse(city).seal_key))
    assert "another city's" in answer(run, "nobody", "--city", strange, code=1)
    for name in ("lake\x1b[2J", "la\rke", "lake\u202e", "l" * 65):
        with pytest.raises(InvalidQueryError, match="not a city's id"):
            ds.CityId.parse(strange.replace("lake", name))
    assert "does not verify" in answer(run, "nobody", task="lake.trust", code=1)
    assert "datasov vault create" in answer(run, "nobody", code=1)
    Path("long").write_bytes(bytes(2**21))
    assert "never so long" in answer(run, "nobody", task="long", code=1)
    assert sent == []


def test_trusts_are_named_in_one_way(tmp_path):
    odd = place.make(tmp_path / "a", name="a b", url="http://127.0.0.1:1/x", budget=ds.zcdp(rho=1), tokens=False)
    found = trusts.parse(f"two-server={odd}, {IDS[1]}")
    assert found.aggregators == (odd, IDS[1])
    for text in ("", "both", "two-server", "two-server=", f"two-server={odd}", f"two-server={odd};{IDS[1]}",
                 f"two-server={odd},{IDS[0]},{IDS[1]}", f"central={TWO}", f"two-server={odd},{odd}"):  # fmt: skip
        with pytest.raises(InvalidQueryError):
            trusts.parse(text)
    assert trusts.several(None) == trusts.several([]) == ds.central()
    with pytest.raises(InvalidQueryError):
        trusts.several([ds.local(), ds.local()])


def test_a_report_leaves_at_a_moment_that_was_fixed_before_it_was_made(monkeypatch):
    slept: list[float] = []
    for spent, expected in ((0.2, 0.8), (0.99, 0.01), (1.5, 0.5), (5.0, 3.0)):
        monkeypatch.setattr(answering, "time", SimpleNamespace(monotonic=lambda s=spent: 10 + s, sleep=slept.append))
        answering._hold(10, 1.0)
        assert slept.pop() == pytest.approx(expected)
    answering._hold(10, 0.0)
    assert slept == [0.0]


def test_consent_error_is_the_kind_of_a_trust_that_is_not_offered(run, clock):
    city = ds.CityId.parse(found(run, "local"))
    options = SimpleNamespace(trust="central", trust_file=Path("lake.trust"))
    with pytest.raises(ConsentError):
        trusts.chosen(options, city, ds.pure(epsilon=1))
