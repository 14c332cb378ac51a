"""The resident's page and a city that is served: what is pressed in a browser reaches it, and its log tells so."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import datasov as ds
from datasov.authority.parcel import parcel
from datasov.errors import PeerError
from datasov.home import logs, sending
from datasov.home.outbox import Message, Outbox
from datasov.home.seen import look
from datasov.home.words import say
from tests.browser import Visit
from tests.gateway_ports import serving
from tests.gateways import served
from tests.helpers import PURPOSE, TRIPS, Clock

UNTIL = "2099-12-31"


@contextmanager
def _home(*arguments: str) -> Iterator[str]:
    """`datasov home` as a process of its own; the address that it prints."""
    command = [sys.executable, "-m", "datasov.cli", "home", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = (re.search(r"http://127\.0\.0\.1:\d+/#\S+", line) for line in process.stdout)
            yield next(found[0] for found in lines if found)
        finally:
            process.terminate()


@pytest.fixture
def founded(tmp_path: Path) -> tuple[Path, ds.CityId]:
    place = tmp_path / "lakeside.city"
    with ds.City.open(place, budget=ds.zcdp(rho=1), purposes=[PURPOSE, "other"], tick=2, erase_within=600) as found:
        return place, found.id


def _vault(folder: Path, identity: ds.CityId) -> tuple[Path, Path]:
    key, path = folder / "key", folder / "mine.vault"
    key.write_text("00" * 32)
    key.chmod(0o600)
    with ds.Resident.create(path, device_key=bytes(32)) as resident:
        resident.put(TRIPS, [{"district": "N", "km": 3}])
        for purpose in (PURPOSE, "other"):
            resident.grant(identity, TRIPS, purpose=purpose, loss=ds.zcdp(rho="0.1"), until=UNTIL)
    return path, key


@pytest.mark.campaign
def test_what_is_ended_and_renewed_on_the_page_reaches_a_city_that_is_served(tmp_path, founded, visit: Visit) -> None:
    place, identity = founded
    path, key = _vault(tmp_path, identity)
    with served(place) as url, _home(str(path), "--device-key-file", str(key), "--city-url", url + "/") as address:
        window = visit(address.partition("/#")[0])
        page = window.page
        page.goto(address)
        page.wait_for_url(re.compile(r"/[^/]{20,}/$"))
        base = page.url.partition("?")[0]
        assert say("en", "site.made_here_online") in page.content()

        def until(text: str) -> None:
            """Read the log again until the page says so."""
            end = time.monotonic() + 60
            while time.monotonic() < end:
                page.goto(base + "questions?lang=en")
                page.get_by_role("button", name="Read the log again").click()
                page.goto(base + "consents?lang=en")
                if text in page.locator("main").inner_text():
                    return
            raise AssertionError(page.locator("main").inner_text())

        page.goto(base + "consents?lang=en")
        assert page.locator(".told").count() == 0  # nothing was sent yet
        page.get_by_text(f"Renew: {PURPOSE}").click()
        page.get_by_role("button", name="Sign and send").last.click()
        assert say("en", "outbox.posted") in page.content()
        until(say("en", "consents.told_admitted"))
        page.locator("summary", has_text=f"End it: {PURPOSE}").last.click()
        page.get_by_role("button", name="Yes, end it now").last.click()
        assert page.locator(".flash.done").inner_text() == say("en", "consents.revoked_done")
        assert say("en", "consents.told_ended") not in page.content()
        until(say("en", "consents.told_ended"))
        assert list((tmp_path / "mine.vault-out").iterdir()) == []


def test_a_letter_goes_to_the_gateway_of_its_own_city_alone(city: ds.City, clock: Clock) -> None:
    with serving(city, {}, clock) as url:
        send = sending.gateways([url])
        assert send is not None
        message = Message("revocation", city.id, b"signed")
        assert send(message) is False
        with pytest.raises(PeerError, match="hand it the file"):
            send(Message("revocation", ds.CityId("lakeside", bytes(32), city.id.seal_key), b"signed"))
        other = sending.gateways(["http://127.0.0.1:9", url])
        assert other is not None
        assert other(message) is False
        assert sending.first(None, None) is None
        tried = sending.first(sending.gateways(["http://127.0.0.1:9"]), send)
        assert tried is not None
        assert tried(message) is False
    with pytest.raises(PeerError, match="cannot be reached"):
        send(message)
    assert sending.gateways([]) is None


def test_a_consent_and_its_end_reach_a_gateway_as_letters(
    city: ds.City, people, clock: Clock, tmp_path, few_status_lists
) -> None:
    """What the page keeps for a city, as letters: taken up when the tick is over, and the log tells."""
    resident = people("g")
    resident.put(TRIPS, [{"district": "N", "km": 3}])
    consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho="0.1"), until="2027-12-31")
    with serving(city, {}, clock) as url:
        box = Outbox(tmp_path / "out", sending.gateways([url]))
        item = box.put(Message("admission", city.id, parcel(consent, resident.contribute(consent))))
        assert (item.sent, item.done, list((tmp_path / "out").iterdir())) == (True, False, [])
        assert [s.admitted for s in resident.sent(city.log)] == [False]
        _tick(city, clock)
        assert [s.admitted for s in resident.sent(city.log)] == [True]
        box.put(Message("revocation", city.id, resident.revoke(consent)))
        assert resident.ended(city.log) == []
        _tick(city, clock)
        source = logs.source(f"{url}/log")
        seen = look(resident, source)
        assert seen.fault == ""
        assert [c.digest for c in seen.ended] == [consent.digest]


def _tick(city: ds.City, clock: Clock) -> None:
    """A tick passes: letters are taken up, and when the next is over the log tells."""
    for _ in range(2):
        clock.now += 3_600
        city.take_up()
        city.tick()
