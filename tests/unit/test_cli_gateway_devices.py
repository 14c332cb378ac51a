"""Devices at the command line and a city's gateway: its trust, its open tasks, tokens and noised reports; or files."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasov as ds
from datasov.remote import Remote
from tests.devices_cli import OPENED, PURE, Run, answer, asked, collect, found, grant, person, runner
from tests.gateway_ports import serving
from tests.gateways import short
from tests.helpers import TRIPS, Clock
from tests.locals import certain

ROLL = ("--enrol",)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: Clock) -> Run:
    return runner(tmp_path, monkeypatch, capsys, clock)


def enrolled(run: Run, clock: Clock, *names: str) -> str:
    """A city with a roll under local trust, on which are all of these people but the last."""
    city = found(run, "local", budget="epsilon=100", more=ROLL)
    for name in names:
        person(name, clock, "N")
        key = run("vault", "enrolment-key", name, "--city", city, *OPENED).strip()
        if name != names[-1]:
            with Path("people").open("a") as people:
                people.write(f"{name},{key}\n")
    assert "are on the roll now" in run("city", "enrol", "lake.city", "people")
    return city


def tallied() -> tuple[int, int]:
    with ds.City.open("lake.city") as lake:
        (release,) = lake.releases()
    assert release.responses is not None
    return release.responses.tally.reports, int(sum(release.responses.tally.supports))


def test_all_open_tasks_of_a_gateway_are_answered_and_who_refuses_prints_what_others_print(run, clock, monkeypatch):
    city = enrolled(run, clock, "ann", "ben", "eve")
    certain(monkeypatch)
    with (
        ds.City.open("lake.city") as lake,
        serving(lake, {"trips": TRIPS}, clock, short(tick_ms=1)) as at,
    ):
        for name in ("ann", "ben", "eve"):
            grant(run, name, city, "--trust", "local", "--trust-file", at, loss="epsilon=9")
        assert "it offers local" in grant(run, "ann", city, "--trust-file", at, code=1)
        collect(run, *PURE, "--for", "1h")
        collect(run, "--loss", "epsilon=3", "--for", "1h", task="other")
        all_of = ("--city", city)
        printed = {answer(run, "ann", *all_of, task=at), answer(run, "ben", *all_of, "--refuse", task=at)}
        assert len(printed) == 1
        assert "2 of 2 open tasks." in (told := printed.pop())
        assert told.count("is answered") == 2
        said = answer(run, "eve", *all_of, task=at, code=1)
        assert said.count("not on the roll") == 2, "one that fails keeps no other from being tried"
        assert "0 of 2 open tasks." in said
        assert "--city ID" in answer(run, "ann", task=at, code=1)
        assert "give it alone" in answer(run, "ann", *all_of, "--to", "x", task=at, code=1)
        said = answer(run, "ann", "--to", at)
        assert "is answered" in said
        assert "hand" not in said
    clock.now += 3600
    asked(run, *PURE)
    assert tallied() == (2, 1)


def test_a_token_travels_by_files_where_there_is_no_gateway(run, clock, monkeypatch):
    city = enrolled(run, clock, "ann", "ben", "eve")
    certain(monkeypatch)
    file = ("--trust", "local", "--trust-file", "lake.trust")
    grant(run, "ann", city, *file, loss="epsilon=9")
    collect(run, *PURE, "--for", "1h")
    assert "--token-request" in answer(run, "ann", "--to", "x", code=1)
    printed, sizes = set(), set()
    for name in ("ann", "ben"):
        said = answer(run, name, "--token-request", f"{name}.req")
        assert "exists already" in answer(run, name, "--token-request", f"{name}.req", code=1)
        assert "give it to who sent it" in run("city", "issue", "lake.city", f"{name}.req", f"{name}.tok")
        said += answer(run, name, "--tokens", f"{name}.tok", "--to", f"{name}.rep")
        printed.add(said.replace(name, "X"))
        sizes.add(tuple(Path(f"{name}.{end}").stat().st_size for end in ("req", "tok", "rep")))
    assert len(printed) == len(sizes) == 1, "ben granted nothing"
    answer(run, "eve", "--token-request", "eve.req")
    run("city", "issue", "lake.city", "eve.req", "eve.tok")
    assert "not on the roll" in answer(run, "eve", "--tokens", "eve.tok", "--to", "eve.rep", code=1)
    answer(run, "eve", "--tokens", "ann.tok", "--to", "eve.rep", code=1)
    assert not Path("eve.rep").exists()
    assert "2 taken, 0 refused" in run("city", "take", "lake.city", "ann.rep", "ben.rep")
    again = answer(run, "ann", "--token-request", "again", code=1)
    assert "keeps an answer" in again
    assert not Path("again").exists()
    Path("people").write_text("ben\n")
    assert "1 are off the roll now" in run("city", "enrol", "lake.city", "people", "--strike")
    clock.now += 3600
    asked(run, *PURE)
    assert tallied() == (2, 1)


def test_a_city_without_a_roll_issues_nothing(run, clock):
    city = found(run, "local", budget="epsilon=100")
    person("ann", clock, "N")
    collect(run, *PURE, "--for", "1h")
    for option in ("--tokens", "--token-request"):
        assert "issues no tokens itself" in answer(run, "ann", "--to", "x", option, "y", code=1)
    Path("people").write_text(f"ann,{'A' * 43}\n")
    assert "has no roll" in run("city", "enrol", "lake.city", "people", code=1)
    grant(run, "ann", city, "--trust", "local", "--trust-file", "lake.trust", loss="epsilon=9")


def test_a_gateway_that_tells_another_trust_is_not_believed(run, clock, monkeypatch):
    city = found(run, "local", budget="epsilon=100")
    person("ann", clock, "N")
    named = ("--trust", "local", "--trust-file", "https://city.example")
    for told in ({}, {"signed_trust": "AAAA"}, {"signed_trust": 7}, {"signed_trust": "ä"}):
        monkeypatch.setattr(Remote, "city", lambda _, found=told: found)
        assert "datasov: not" in grant(run, "ann", city, *named, loss="epsilon=9", code=1)
