"""The resident's page in a real browser: every flow, in both languages, with the keyboard alone, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

import datasov as ds
from datasov.authority.parcel import unparcel
from datasov.authority.qr import consent_to_text
from datasov.home import logs
from datasov.home.views.delegation import chain_from_text, chain_text
from datasov.home.words import say
from datasov.tlog.bundle import verify_bundle
from datasov.tlog.export import HeldLog
from datasov.wire import base45
from tests.browser import Visit, Window
from tests.home import BUSES, PASSPHRASE, TRIPS, VISITS, World, until, world

PLACES = ("/", "/data", "/data/mobility", "/data/health", "/consents", "/questions", "/delegation", "/leaving")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that tests only look at."""
    with world(tmp_path_factory.mktemp("shown")) as found:
        yield found


@pytest.fixture(scope="module")
def inside(shown: World) -> list[dict[str, str]]:
    """The cookies of the first window that was let in: the address works once."""
    return []


@pytest.fixture
def looking(shown: World, inside: list[dict[str, str]], visit: Visit):
    """Opens further windows of the one session."""

    def open_(**given: object) -> Window:
        window = visit(shown.door.origin, **given)
        if inside:
            window.context.add_cookies(inside)
        else:
            shown.enter(window)
            inside.extend(window.context.cookies())
        return window

    return open_


def _accessible(shown: World, window: Window, place: str, language: str) -> None:
    shown.open(window, place, language)
    window.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert window.axe() == [], place
    assert window.overflow() == 0, place
    assert window.page.locator("html").get_attribute("lang") == language
    assert window.page.locator("h1").count() == 1


@pytest.mark.parametrize(("language", "phone"), [("ja", True), ("en", False)])
def test_every_page_is_accessible_and_fits(shown: World, looking, language: str, phone: bool) -> None:
    window = looking(language=language, phone=phone)
    for place in PLACES:
        _accessible(shown, window, place, language)


@pytest.mark.campaign
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("language", "phone"), [("ja", False), ("en", True), ("ja", True), ("en", False)])
def test_every_page_is_accessible_in_every_form(shown: World, looking, language: str, phone: bool, scheme) -> None:
    window = looking(language=language, phone=phone, color_scheme=scheme)
    for place in PLACES:
        _accessible(shown, window, place, language)


def test_the_vault_is_shown_by_domain_with_charts(shown: World, looking) -> None:
    window = looking()
    shown.open(window, "/data")
    page = window.page
    assert page.locator(".domains > li").count() == 10
    page.get_by_role("link", name="Mobility").click()
    assert page.locator("svg.time rect.fill").count() == 2  # March and April
    assert page.locator("figure.share tbody tr").count() == 3
    numbers = [int(t) for t in page.locator("figure.share td.n").all_inner_texts()]
    assert sum(numbers) == 50
    page.get_by_text("The last 10 rows").click()
    assert page.locator(".scroll tbody tr").count() == 10


def test_receipts_are_shown_verified_with_what_they_cost(shown: World, looking) -> None:
    page = shown.open(looking(), "/questions").page
    assert page.locator(".question .seal.good").count() == 2
    assert page.locator(".seal.bad").count() == 0
    texts = page.locator(".question h3").all_inner_texts()
    assert texts == ["The total of Distance, by district", "How many rows, by district"]
    costs = [int(re.search(r"at most (\d+) in", t)[1]) for t in page.locator(".question .guesses").all_inner_texts()]
    assert costs == [58, 60]
    assert "at most 63 in 100" in page.get_by_text("With all answers").inner_text()
    assert "Planning bus routes" in page.locator(".question").first.inner_text()
    account = shown.open(looking(), "/").page.locator(".account").inner_text()
    assert "14 %" in account  # 0.07 of 0.5
    assert "86 %" in account


def test_the_language_follows_the_browser_and_the_switch(shown: World, looking) -> None:
    window = looking(language="ja")
    window.page.goto(f"{shown.door.origin}/")
    assert window.page.locator("h1").inner_text() == say("ja", "enter.title")
    shown.open(window, "/", "ja")
    assert window.page.locator("h1").inner_text() == "あらまし"
    window.page.get_by_role("link", name="English").click()
    assert window.page.locator("h1").inner_text() == "Overview"
    window.page.get_by_role("link", name="My data").click()
    assert window.page.locator("html").get_attribute("lang") == "en"


def test_the_keyboard_alone_reaches_everything(shown: World, looking) -> None:
    window = looking()
    page = shown.open(window, "/consents").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == say("en", "consents.revoke_do")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_whole_text_of_a_consent_is_there(shown: World, looking) -> None:
    page = shown.open(looking(), "/consents").page
    page.get_by_role("link", name=re.compile("whole text.*bus routes")).click()
    record = shown.desk.resident.record(shown.desk.resident.consents[0])
    assert page.locator("pre").inner_text().strip() == record.text("en").strip()


def test_a_consent_is_ended_with_one_touch_and_a_confirmation(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        page = w.open(w.enter(visit(w.door.origin, phone=True)), "/").page
        page.get_by_text("End it: Planning bus routes").click()
        assert "cannot" in page.locator("details[open] .warn").inner_text() or "nobody" in page.content()
        assert len(w.desk.resident.consents) == 2
        page.get_by_role("button", name="Yes, end it now").click()
        assert page.locator(".flash.done").inner_text() == say("en", "consents.revoked_done")
        assert say("en", "outbox.sent") in page.content()
        assert [c.claims.purpose for c in w.desk.resident.consents] == ["clinics"]
        assert page.locator(".ended li").count() == 1
        assert list((tmp_path / "out").iterdir()) == []
        question = ds.query(TRIPS).keys("district").bound(rows=9, keys=2).count().sum("km")
        asked = w.city.release(question, loss=ds.zcdp(rho="0.01"), purpose=BUSES.name)
        assert asked.time > w.desk.resident.revoked[0].claims.issued
        w.desk.stale()
        assert w.desk.resident.receipts(w.city.log)


def test_without_javascript_and_without_a_way_to_the_city(tmp_path, visit: Visit) -> None:
    """All of it works by forms alone; what was signed is kept as files, which the city takes by hand."""
    with world(tmp_path, reaches=False) as w:
        window = visit(w.door.origin, javascript=False)
        window.go("/")
        page = window.page
        page.get_by_label("Code").fill(w.door.code)
        page.get_by_role("button", name="Open").click()
        assert page.locator("h1").inner_text() == "Overview"
        w.open(window, "/consents")
        page.get_by_text("End it: Planning bus routes").click()
        page.get_by_role("button", name="Yes, end it now").click()
        (file,) = (tmp_path / "out").iterdir()
        assert (file.stat().st_mode & 0o777, (tmp_path / "out").stat().st_mode & 0o777) == (0o600, 0o700)
        assert base45.decode(page.locator("textarea.code").input_value()) == file.read_bytes()
        assert str(file) in page.content()
        page.get_by_text("Renew: clinics").click()
        page.get_by_label("Until (last day)").last.fill(until(500))
        page.get_by_role("button", name="Sign and send").click()
        assert len(list((tmp_path / "out").iterdir())) == 2
        w.city.revoke(file.read_bytes())
        w.city.admit(*unparcel(next((tmp_path / "out").glob("*.admission")).read_bytes()))


def test_a_consent_is_renewed_and_promises_nothing_more(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        before, old = w.desk.resident.granted, w.desk.resident.consents[0]
        page = w.open(w.enter(visit(w.door.origin)), "/consents").page
        page.get_by_text("Renew: Planning bus routes").click()
        page.get_by_label("Until (last day)").last.fill("2020-01-01")
        page.get_by_role("button", name="Sign and send").last.click()
        assert page.locator(".flash.fault").inner_text() == say("en", "consents.bad_day")
        page.get_by_text("Renew: Planning bus routes").click()
        page.get_by_label("Until (last day)").last.fill(until(600))
        page.get_by_role("button", name="Sign and send").last.click()
        assert until(600) in page.locator(".flash.done").inner_text()
        new = w.desk.resident.consents[-1]
        assert (new.claims.coverage, new.claims.loss) == (old.claims.coverage, old.claims.loss)
        assert new.claims.expires > old.claims.expires
        assert w.desk.resident.granted == before
        assert say("en", "outbox.sent") in page.content()


def test_a_forged_log_is_shown_as_not_verified(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        honest = HeldLog(w.city.log.checkpoint().note, w.city.log.leaves())
        place = next(i for i, leaf in enumerate(honest.leaves()) if b"datasov release" in leaf)
        leaves = honest.leaves()
        leaves[place] = leaves[place].replace(b"bus-planning", b"spy-planning")
        forged = HeldLog(honest.checkpoint().note, leaves)

        def source(log: HeldLog) -> list[logs.Source]:
            return [logs.Source("somewhere", lambda _: nullcontext(log))]

        w.desk.sources = source(forged)
        page = w.open(w.enter(visit(w.door.origin)), "/questions").page
        assert say("en", "questions.not_verified") in page.locator(".flash.fault").inner_text()
        assert page.locator(".seal.good").count() == 0
        assert page.locator(".question").count() == 0
        assert "spy" not in page.content()
        w.open(Window(page, page.context, w.door.origin), "/")
        assert page.locator(".seal.bad").count() == 1
        w.desk.sources = source(honest)
        w.open(Window(page, page.context, w.door.origin), "/questions")
        page.get_by_role("button", name="Read the log again").click()
        assert page.locator(".question .seal.good").count() == 2


def test_receipts_are_saved_and_verify_elsewhere(shown: World, looking) -> None:
    page = shown.open(looking(), "/questions").page
    with page.expect_download() as got:
        page.get_by_role("button", name="Save the receipts").click()
    found = verify_bundle(got.value.path().read_bytes(), shown.city.id)
    assert len(found.receipts) == 2


def test_delegation_is_given_received_and_ended(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w, ds.Resident.create(tmp_path / "other.vault", device_key=bytes(32)) as other:
        page = w.open(w.enter(visit(w.door.origin)), "/delegation").page
        page.get_by_text("Let somebody sign for me").click()
        page.get_by_label("Their key").fill(other.delegate_key(w.city.id, "mobility", whom="me").hex())
        page.get_by_label("trips").check()
        page.locator("select[name=kind]").select_option("guardian")
        page.get_by_role("button", name="Sign the delegation").click()
        text = page.locator(".flash textarea").input_value()
        chain = chain_from_text(text)
        other.receive(chain, whom="me")
        signed = other.grant_for(chain, TRIPS, purpose="clinics", loss=ds.zcdp(rho="0.01"))
        for text, fault in (("DSC1:AAAA", 1), (consent_to_text(signed), 0)):
            w.open(Window(page, page.context, w.door.origin), "/delegation")
            page.get_by_text("Take in a consent that was signed for me").click()
            page.get_by_label("The text of the consent").fill(text)
            page.get_by_role("button", name="Check it and take it in").click()
            assert page.locator(".flash.fault").count() == fault
        assert say("en", "consents.signed_by") in page.content()
        assert say("en", "outbox.sent") in page.content()
        w.open(Window(page, page.context, w.door.origin), "/delegation")
        page.get_by_text("End it: guardian of an adult").click()
        page.get_by_role("button", name="Yes, end it now").click()
        assert page.locator(".flash.done").inner_text() == say("en", "delegation.revoked_done")
        assert w.desk.resident.delegations[0].revoked

        w.open(Window(page, page.context, w.door.origin), "/delegation")
        page.get_by_role("heading", name="My key for somebody").click()
        page.get_by_label("A name of your own").fill("Sora")
        page.get_by_role("button", name="Show the key").click()
        key = bytes.fromhex(page.locator(".flash textarea").input_value())
        assert key == w.desk.resident.delegate_key(w.city.id, "mobility", whom="Sora")
        other.put(TRIPS, [])
        given = other.delegate(
            w.city.id, TRIPS, to=key, kind="guardian", purposes=["clinics"], loss=ds.zcdp(rho="0.01"), until=until()
        )
        page.get_by_text("Take in a delegation").click()
        page.get_by_label("The text that you were given").fill(chain_text([given]))
        page.get_by_label("The name under which").fill("Sora")
        page.get_by_role("button", name="Take it in").first.click()
        assert page.locator(".flash.done").inner_text() == say("en", "delegation.received_done")
        assert "Sora" in page.locator("section").last.inner_text()


def test_an_export_is_written_encrypted_or_plain_only_where_it_was_said(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        page = w.open(w.enter(visit(w.door.origin)), "/leaving").page
        page.get_by_label("New passphrase for the export").fill("one")
        page.get_by_label("The same again").first.fill("two")
        page.get_by_role("button", name="Write the export").click()
        assert page.locator(".flash.fault").inner_text() == say("en", "leaving.differ")
        page.get_by_label("Not encrypted").check()
        page.get_by_role("button", name="Write the export").click()
        assert page.locator(".flash.fault").inner_text() == say("en", "leaving.need_sure")
        assert not any((tmp_path / "out").glob("export*"))
        page.get_by_label("New passphrase for the export").fill("for the way")
        page.get_by_label("The same again").first.fill("for the way")
        page.get_by_role("button", name="Write the export").click()
        (sealed,) = (tmp_path / "out").glob("export*")
        assert sealed.read_bytes().startswith(b"age-encryption.org/v1")
        assert str(sealed) in page.locator(".flash.done").inner_text()
        page.get_by_label("Not encrypted").check()
        page.get_by_label("I know that").check()
        page.get_by_label("Format").select_option("csv")
        page.get_by_role("button", name="Write the export").click()
        (folder,) = (p for p in (tmp_path / "out").glob("export*") if p.is_dir())
        with ds.Resident.create(tmp_path / "new.vault", device_key=bytes(32)) as new:
            assert new.import_(folder) == 51


def test_a_domain_and_then_the_vault_are_erased(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        window = w.enter(visit(w.door.origin))
        page = w.open(window, "/leaving").page
        page.locator("summary", has_text="Erase one domain").click()
        page.locator("select[name=domain]").select_option("mobility")
        page.get_by_label("New passphrase for the vault").fill("another one")
        page.get_by_label("The same again").nth(1).fill("another one")
        page.get_by_label("type the domain's name").fill("health")
        page.get_by_role("button", name="Erase the domain for good").click()
        assert page.locator(".flash.fault").inner_text() == say("en", "leaving.not_name")
        assert set(w.desk.resident.tables()) == {"trips", "visits"}
        page.locator("summary", has_text="Erase one domain").click()
        page.locator("select[name=domain]").select_option("mobility")
        page.get_by_label("New passphrase for the vault").fill("another one")
        page.get_by_label("The same again").nth(1).fill("another one")
        page.get_by_label("type the domain's name").fill("mobility")
        page.get_by_role("button", name="Erase the domain for good").click()
        assert page.locator(".flash.done").inner_text() == say("en", "leaving.domain_done")
        assert set(w.desk.resident.tables()) == {"visits"}
        page.get_by_role("button", name="Lock now").click()
        page.get_by_label("Passphrase of").fill(PASSPHRASE)
        page.get_by_role("button", name="Unlock").click()
        assert page.locator(".flash.fault").inner_text() == say("en", "locked.wrong")
        page.get_by_label("Passphrase of").fill("another one")
        page.get_by_role("button", name="Unlock").click()
        w.open(window, "/leaving")
        assert "2 consents are in force" in page.content()
        page.locator("summary", has_text="Erase the whole vault").click()
        page.get_by_label("type the vault's name").fill("mine")
        page.get_by_role("button", name="Erase the vault for good").click()
        assert (w.desk.path / "VAULT").exists()
        page.locator("summary", has_text="Erase the whole vault").click()
        page.get_by_label("type the vault's name").fill("mine.vault")
        page.get_by_role("button", name="Erase the vault for good").click()
        assert page.locator("h1").inner_text() == say("en", "locked.erased_title")
        assert not w.desk.path.exists()


def test_it_locks_by_itself_and_leaves_nothing_on_the_screen(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        w.desk.idle = 2
        window = w.enter(visit(w.door.origin))
        window.page.wait_for_selector("input[name=passphrase]", timeout=20_000)
        assert w.desk.locked
        assert "Planning" not in window.page.content()
        ds.Resident.open(w.desk.path, passphrase=PASSPHRASE).close()  # another writer may come in
        w.open(window, "/questions")
        assert window.page.locator("h1").inner_text() == say("en", "locked.title")


def test_a_limit_for_life_is_set(tmp_path, visit: Visit) -> None:
    with world(tmp_path) as w:
        page = w.open(w.enter(visit(w.door.origin)), "/questions").page
        page.locator("select[name=rho]").select_option("0.2")
        page.get_by_role("button", name="Set the limit").click()
        assert w.desk.resident.lifetime == ds.zcdp(rho="0.2")
        with pytest.raises(ds.ConsentError):
            w.desk.resident.grant(w.city.id, VISITS, purpose="clinics", loss=ds.zcdp(rho=1), until=until())
