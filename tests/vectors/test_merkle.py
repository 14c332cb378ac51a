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


def _inclusion(case: dict[str, Any]) -> None:
    proof = [_raw(h) for h in case["proof"] or ()]
    verify_inclusion(_raw(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, _raw(case["root"]))


def _consistency(case: dict[str, Any]) -> None:
    proof = [_raw(h) for h in case["proof"] or ()]
    verify_consistency(case["size1"], case["size2"], _raw(case["root1"]), _raw(case["root2"]), proof)


@pytest.mark.parametrize(("folder", "check"), [("inclusion", _inclusion), ("consistency", _consistency)])
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
    assert seen[True] >= 40
    assert seen[False] >= 3
