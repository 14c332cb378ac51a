"""docs/gateway-public.md: its block runs, and its paths are those of the gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasov.authority.letters import LEAST, MAX_LETTER, padded_size
from datasov.gateway import public
from tests.helpers import few_lists
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "gateway-public.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    few_lists(monkeypatch)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(block, {})  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    told = re.search(r"It prints `(.*?)`, `(.*?)` and `(.*?)`\.", TEXT)
    assert told is not None
    assert printed == list(told.groups())


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
