"""Published Merkle proofs (transparency-dev/merkle testdata), those that must fail included."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from datasov.errors import ProofError
from datasov.tlog.tree import verify_consistency, verify_inclusion
from tests.paths import vectors


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _inclusion(case: dict[str, Any]) -> None:
    proof = [_raw(h) for h in case["proof"] or ()]
    verify_inclusion(_raw(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, _raw(case["root"]))


def _consistency(case: dict[str, Any]) -> None:
    proof = [_raw(h) for h in case["proof"] or ()]
    verify_consistency(case["size1"], case["size2"], _raw(case["root1"]), _raw(case["root2"]), proof)


CHECKS = {"inclusion": _inclusion, "consistency": _consistency}


@pytest.mark.parametrize(("folder", "check"), CHECKS.items())
def test_every_published_case_ends_as_expected(folder, check):
    seen = {True: 0, False: 0}
    for path in sorted(vectors("merkle", folder).glob("*.json")):
        case = _read(path)
        seen[case["wantErr"]] += 1
        try:
            check(case)
            refused = False
        except ProofError:
            refused = True
        assert refused == case["wantErr"], path.name
    assert seen == {"inclusion": {True: 46, False: 3}, "consistency": {True: 45, False: 4}}[folder]


def test_no_published_file_is_left_out():
    base = vectors("merkle")
    assert {p.relative_to(base).parts for p in base.rglob("*") if p.is_file()} == {
        (folder, p.name) for folder in CHECKS for p in (base / folder).glob("*.json")
    }


@pytest.mark.parametrize("folder", ["inclusion", "consistency"])
def test_a_published_proof_that_holds_holds_in_no_other_form(folder):
    """Each bit of its first and last byte, each hash left out, twice or exchanged, and the index one off."""
    check = CHECKS[folder]
    for path in sorted(vectors("merkle", folder).glob("*.json")):
        case = _read(path)
        if case["wantErr"]:
            continue
        proof = [_raw(h) for h in case["proof"] or ()]
        wrong = [{**case, "leafIdx": case["leafIdx"] + step} for step in (-1, 1)] if folder == "inclusion" else []
        for at in range(len(proof)):
            flipped = [*proof[:at], bytes([proof[at][0] ^ 1, *proof[at][1:-1], proof[at][-1] ^ 128]), *proof[at + 1 :]]
            swapped = [*proof[:at], *reversed(proof[at : at + 2]), *proof[at + 2 :]]
            others = (flipped, proof[:at] + proof[at + 1 :], [*proof[: at + 1], *proof[at:]], swapped)
            wrong += [{**case, "proof": [_text(h) for h in other]} for other in others if other != proof]
        wrong += [{**case, "proof": [*(case["proof"] or ()), _text(bytes(32))]}]
        for changed in wrong:
            with pytest.raises(ProofError):
                check(changed)
