"""What docs/architecture.md says of the code's shape."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT


def test_the_kernel_can_be_read_in_one_sitting():
    lines = sum(len(f.read_text().splitlines()) for f in (ROOT / "datasov" / "kernel").glob("*.py"))
    assert lines <= 900


def test_every_room_of_the_picture_stands_and_every_room_is_in_the_picture():
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[3]
    drawn = set(re.findall(r"^  (\w+)/ ", picture, flags=re.MULTILINE)) | {"demo"}
    stand = {p.parent.name for p in (ROOT / "datasov").glob("*/__init__.py")}
    assert drawn == stand


def test_every_link_between_the_documents_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "proofs").glob("*.md")), ids=lambda page: page.stem)
def test_every_test_that_a_proof_names_exists(page):
    found = re.findall(r"`(tests/[\w/.]+)`", page.read_text())
    assert found
    for name in found:
        assert (ROOT / name).exists(), name
