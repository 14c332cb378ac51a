"""docs/gateway-public.md: its block runs, and its paths are those of the gateway."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from datasov.aggregator import client
from datasov.authority.letters import LEAST, MAX_LETTER, padded_size
from datasov.gateway import public
from tests.gateway_ports import serving
from tests.gateways import short
from tests.helpers import PURPOSE, TRIPS, Clock, few_lists, instant
from tests.locals import ALL, COUNT, LARGE, certain, city_of, person
from tests.paths import ROOT
from tests.servers import LONG, silent

TEXT = (ROOT / "docs" / "gateway-public.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    few_lists(monkeypatch)
    block, _ = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(block, {})  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    told = re.search(r"It prints `(.*?)`, `(.*?)` and `(.*?)`\.", TEXT)
    assert told is not None
    assert printed == list(told.groups())


def test_devices_answer_all_by_the_page(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    certain(monkeypatch)
    silent(monkeypatch)
    city, servers = city_of(tmp_path, clock, ALL)
    monkeypatch.setattr(client, "over_http", servers.post)
    made: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", TEXT, re.S)[1], made)  # noqa: S102
    people = [person(tmp_path, clock, t.name, city, "N", t) for t in city.trust.each]
    with city, serving(city, {"trips": TRIPS}, clock, short()) as url:
        city.collect(COUNT, loss=LARGE, purpose=PURPOSE, until=instant(clock.now + LONG))
        for who in people:
            made["answer_all"](who, city.id, url)
        clock.now += LONG
        release = city.release(COUNT, loss=LARGE, purpose=PURPOSE)
        assert [round(count) for count in release.frame()["count"]] == [4, 0, 0, 0], "1 + 1 + one said for sure, so 2"
    for who in people:
        who.close()


def test_every_operation_is_on_the_page() -> None:
    table = TEXT[: TEXT.index("Tiles and bundles")]
    for operation in public.operations():
        path = re.sub(r"\{number\}", "N", re.sub(r"\{(id|identity)\}", "ID", operation.path))
        path = re.sub(r"/(tile|datasov/entries)/.*", r"/\1/...", path)
        assert f"`{path}`" in table or path.startswith("/page."), path


def test_the_number_of_sizes_is_the_one_told() -> None:
    sizes = set()
    size = LEAST
    while size <= MAX_LETTER:
        sizes.add(size)
        size = padded_size(size + 1)
    assert f"in {len(sizes)} sizes" in TEXT


def test_every_picture_is_there() -> None:
    for name in re.findall(r"images/([\w-]+\.png)", TEXT):
        assert (ROOT / "docs" / "images" / name).is_file()
