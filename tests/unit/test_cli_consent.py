"""`datasov consent` and `datasov city admit|revoke|ask`, as a resident's and an operator's script call them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import datasov as ds
from datasov.authority import parcel, qr
from datasov.cli import main
from datasov.errors import VerificationError
from tests.helpers import PURPOSE, TRIPS

Run = Callable[..., str]
KEY = bytes(range(32))
OPENED = ("--device-key-file", "key")
SQL = "SELECT district, COUNT(*) FROM trips GROUP BY district"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], few_status_lists) -> Run:
    """Run a command in a folder with a vault and a city; what it printed, once its exit code is the one expected."""
    monkeypatch.chdir(tmp_path)
    Path("key").write_text(KEY.hex() + "\n")
    with ds.Resident.create("ann", device_key=KEY) as ann:
        ann.put(TRIPS, [{"district": "N", "km": 7}, {"district": "N", "km": 9}])
    with ds.City.open("lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]) as city:
        Path("id").write_text(str(city.id))
    Path("trips.json").write_text(json.dumps(TRIPS.document()))

    def call(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    return call


def grant(run: Run, *more: str, code: int = 0, until: str = "2999-01-01") -> str:
    return run(
        "consent", "grant", "ann", "trips", "--city", Path("id").read_text(), "--purpose", PURPOSE,
        "--loss", "rho=0.5", "--until", until, *OPENED, *more, code=code,
    )  # fmt: skip


def ask(run: Run, *more: str, code: int = 0) -> str:
    asked = (
        "city",
        "ask",
        "lake.city",
        SQL,
        "--table",
        "trips.json",
        "--rows",
        "3",
        "--keys",
        "1",
        "--loss",
        "rho=0.2",
    )
    return run(*asked, *more, code=code)


def listed(run: Run) -> list[dict]:
    return json.loads(run("consent", "list", "ann", "--json", *OPENED))["consents"]


def test_from_a_grant_to_an_answer_and_to_the_end(run):
    assert "Nothing has left it" in grant(run, "--yes")
    (one,) = listed(run)
    assert (one["city"], one["table"], one["purpose"], one["loss"]) == ("lake", "trips", PURPOSE, "rho = 0.5")
    assert one["id"][:16] in run("consent", "list", "ann", *OPENED)
    begun = one["id"][:6]
    assert "only lake can open" in run("consent", "contribute", "ann", begun, "parcel", *OPENED)
    assert os.stat("parcel").st_mode & 0o777 == 0o600
    assert "1 admitted, 0 refused" in run("city", "admit", "lake.city", "parcel")
    answer = ask(run, "--purpose", PURPOSE, "--form", "csv")
    frame = pl.read_csv(answer.partition("rho")[0].encode())
    assert frame["district"].to_list() == ["N", "E", "S", "W"]
    assert abs(frame["count"][0] - 2) < 40
    assert "rho = 0.8 is left" in answer
    rows = json.loads(ask(run, "--purpose", PURPOSE, "--form", "json").splitlines()[0])
    assert [r["count"] for r in rows] == frame["count"].to_list(), "the stored answer, at no charge"
    assert "count_low" in ask(run, "--purpose", PURPOSE).splitlines()[0]
    assert "is revoked" in run("consent", "revoke", "ann", begun, "ended", *OPENED)
    assert listed(run) == []
    assert "revoked" in run("consent", "revoke", "ann", begun, "ended again", *OPENED), "its file was lost"
    assert "1 taken, 0 refused" in run("city", "revoke", "lake.city", "ended again")
    assert "1 refused" in run("city", "revoke", "lake.city", "ended", code=1)
    assert "1 refused" in run("city", "admit", "lake.city", "parcel", code=1)


def test_nothing_is_signed_unless_somebody_agrees(run, monkeypatch):
    assert "--yes" in grant(run, code=2)
    answers = iter(["n\n", "\n", "", "y\n"])

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return next(answers)

    monkeypatch.setattr("sys.stdin", Terminal())
    for _ in range(3):
        said = grant(run, code=1)
        assert "not signed" in said
        assert "let lake ask about trips (all ordinary columns)" in said
        assert "rho = 0.5 at most" in said
        assert listed(run) == []
    grant(run)
    assert len(listed(run)) == 1


def test_the_record_and_the_paper_are_those_of_the_consent(run):
    grant(run, "--yes", "--column", "district")
    (one,) = listed(run)
    assert one["columns"] == ["trips.district"]
    both = run("consent", "record", "ann", one["id"], *OPENED)
    assert "信頼モデル" in both
    assert "trust model" in both
    assert "信頼モデル" not in run("consent", "record", "ann", one["id"], "--language", "en", *OPENED)
    text = run("consent", "paper", "ann", one["id"], *OPENED).strip()
    assert qr.consent_from_text(text).digest.hex() == one["id"]


def test_a_preview_spends_nothing(run):
    assert "±" in ask(run, "--preview")
    assert "margin" in ask(run, "--preview", "--form", "csv")
    assert "rho = 1" in run("city", "show", "lake.city")


def test_what_cannot_be_done_says_what_to_do(run):
    assert "datasov vault create" in run("consent", "list", "nobody", *OPENED, code=1)
    assert "datasov vault show" in run(
        "consent", "grant", "ann", "rides", "--city", Path("id").read_text(), "--purpose", PURPOSE, "--loss", "rho=1",
        "--until", "2999-01-01", "--yes", *OPENED, code=1,
    )  # fmt: skip
    assert "that day is over" in grant(run, "--yes", until="2001-01-01", code=1)
    assert "datasov consent list" in run("consent", "contribute", "ann", "00", "file", *OPENED, code=1)
    assert not Path("file").exists()
    grant(run, "--yes")
    (one,) = listed(run)
    assert "exists already" in run("consent", "contribute", "ann", one["id"], "id", *OPENED, code=1)
    assert "exists already" in run("consent", "revoke", "ann", one["id"], "id", *OPENED, code=1)
    assert "another path" in run("consent", "revoke", "ann", one["id"], "no/where", *OPENED, code=1)
    run("consent", "revoke", "ann", one["id"], "somewhere", *OPENED)
    assert "2 refused" in run("city", "revoke", "lake.city", "id", "nothing", code=1)
    assert "2 refused" in run("city", "admit", "lake.city", "id", "nothing", code=1)
    assert "city.purposes" in ask(run, "--purpose", "other", code=1)
    assert "--purpose" in ask(run, code=1)
    assert "hexadecimal" in ask(run, "--purpose", PURPOSE, "--programme", "xyz", code=1)


def test_one_that_is_refused_keeps_nobody_else_out(run):
    grant(run, "--yes")
    (one,) = listed(run)
    run("consent", "contribute", "ann", one["id"], "good", *OPENED)
    Path("bad").write_bytes(Path("good").read_bytes()[:-1])
    said = run("city", "admit", "lake.city", "bad", "good", "absent", code=1)
    assert "1 admitted, 2 refused" in said
    assert "bad:" in said
    assert "absent:" in said


def test_a_parcel_holds_what_it_was_made_of_and_nothing_else(run):
    grant(run, "--yes")
    with ds.Resident.open("ann", device_key=KEY) as ann:
        (consent,) = ann.consents
        sent = ann.contribute(consent)
    data = parcel.parcel(consent, sent)
    assert parcel.unparcel(data) == (consent.token, sent)
    for bad in (b"", data[:-1], data + b"\x00", consent.token, b"\x83" + data[1:] + b"\x00", b"\x82\x01\x02", "text",
                bytes(parcel.MOST + 1)):  # fmt: skip
        with pytest.raises(VerificationError):
            parcel.unparcel(bad)
