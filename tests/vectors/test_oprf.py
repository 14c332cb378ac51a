"""Published vectors of RFC 9497 for P256-SHA256: POPRF as used, and what the other two modes share with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from datasov.crypto import oprf, p256
from datasov.errors import DatasovError, ProofError, VerificationError
from tests.paths import vectors

MODES = {"OPRF": 0, "VOPRF": 1, "POPRF": 2}


def of_mode(mode: int) -> dict[str, Any]:
    found = json.loads(vectors("oprf", "allVectors.json").read_text())
    (suite,) = [s for s in found if s["identifier"] == "P256-SHA256" and s["mode"] == mode]
    assert suite["vectors"]
    return dict(suite)


def parts(text: str) -> list[bytes]:
    return [bytes.fromhex(part) for part in text.split(",")]


def scalar(data: bytes) -> int:
    return int.from_bytes(data, "big")


def test_the_key_of_a_seed() -> None:
    suite = of_mode(2)
    key = oprf.PrivateKey.derive(bytes.fromhex(suite["seed"]), bytes.fromhex(suite["keyInfo"]))
    assert key.public.hex() == suite["pkSm"]
    assert p256.Scalar(scalar(bytes.fromhex(suite["skSm"]))).base.encoded() == key.public


@pytest.mark.parametrize("number", range(3))
def test_poprf(number: int) -> None:
    suite = of_mode(2)
    vector, public = suite["vectors"][number], bytes.fromhex(suite["pkSm"])
    key, info = oprf.PrivateKey(int(suite["skSm"], 16)), bytes.fromhex(vector["Info"])
    inputs, blinds = parts(vector["Input"]), [scalar(b) for b in parts(vector["Blind"])]
    assert len(inputs) == vector["Batch"]
    blinded = [oprf.blind(i, b) for i, b in zip(inputs, blinds, strict=True)]
    assert blinded == parts(vector["BlindedElement"])
    found = key.under(info).evaluate(blinded, int(vector["Proof"]["r"], 16))
    assert list(found.elements) == parts(vector["EvaluationElement"])
    assert found.proof.hex() == vector["Proof"]["proof"]
    outputs = parts(vector["Output"])
    for at, (data, blind) in enumerate(zip(inputs, blinds, strict=True)):
        assert oprf.finalize(data, blind, info, public, blinded, found, at) == outputs[at]
    assert key.under(info).check(inputs, outputs) == [True] * len(inputs)
    assert not any(key.under(info + b"!").check(inputs, outputs))


@pytest.mark.parametrize("number", range(3))
def test_bad_answers_are_refused(number: int) -> None:
    suite = of_mode(2)
    vector, public = suite["vectors"][number], bytes.fromhex(suite["pkSm"])
    info, blinded = bytes.fromhex(vector["Info"]), parts(vector["BlindedElement"])
    elements, proof = tuple(parts(vector["EvaluationElement"])), bytes.fromhex(vector["Proof"]["proof"])
    good = oprf.Evaluation(elements, proof)
    oprf.verify(info, public, blinded, good)
    for bit in range(0, 8 * len(proof), 7):
        with pytest.raises(ProofError):
            oprf.verify(info, public, blinded, good._replace(proof=flipped(proof, bit)))
    for bit in range(0, 8 * 33, 11):
        for at in range(len(blinded)):
            changed = [flipped(e, bit) if i == at else e for i, e in enumerate(elements)]
            with pytest.raises(VerificationError):
                oprf.verify(info, public, blinded, good._replace(elements=tuple(changed)))
            with pytest.raises(VerificationError):
                oprf.verify(info, public, [flipped(b, bit) if i == at else b for i, b in enumerate(blinded)], good)
        with pytest.raises(VerificationError):
            oprf.verify(info, flipped(public, bit), blinded, good)
    for other in (b"", info[:-1], info + b"\0"):
        with pytest.raises(ProofError):
            oprf.verify(other, public, blinded, good)
    for wrong in (proof[:-1], proof + b"\0", b""):
        with pytest.raises(ProofError):
            oprf.verify(info, public, blinded, good._replace(proof=wrong))
    order = p256.ORDER.to_bytes(32, "big")
    for wrong in (bytes(32) + proof[32:], proof[:32] + bytes(32), order + proof[32:], proof[:32] + order):
        with pytest.raises(ProofError):
            oprf.verify(info, public, blinded, good._replace(proof=wrong))
    other_numbers = [good._replace(elements=elements + elements), good._replace(elements=())]
    for wrong_number in other_numbers:
        with pytest.raises(ProofError):
            oprf.verify(info, public, blinded, wrong_number)


def test_a_batch_is_in_order() -> None:
    suite = of_mode(2)
    vector, public = suite["vectors"][2], bytes.fromhex(suite["pkSm"])
    info, (one, two) = bytes.fromhex(vector["Info"]), parts(vector["BlindedElement"])
    first, second = parts(vector["EvaluationElement"])
    proof = bytes.fromhex(vector["Proof"]["proof"])
    for blinded, elements in (([one, two], (second, first)), ([two, one], (second, first)), ([one, one], (first,) * 2)):
        with pytest.raises(ProofError):
            oprf.verify(info, public, blinded, oprf.Evaluation(elements, proof))


@pytest.mark.parametrize("mode", [0, 1])
def test_blinding_and_evaluation_of_the_other_modes(mode: int) -> None:
    suite = of_mode(mode)
    context = f"OPRFV1-{chr(mode)}-P256-SHA256".encode()
    key = p256.Scalar(int(suite["skSm"], 16))
    for vector in suite["vectors"]:
        each = zip(*(parts(vector[n]) for n in ("Input", "Blind", "BlindedElement", "EvaluationElement")), strict=True)
        for data, blind, blinded, evaluated in each:
            (point,) = p256.hash_to_group([data], b"HashToGroup-" + context)
            assert point is not None
            assert p256.Scalar(scalar(blind)).times(point).encoded() == blinded
            assert key.times(p256.decoded(blinded)).encoded() == evaluated


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_is_no_point_is_refused() -> None:
    public = bytes.fromhex(of_mode(2)["pkSm"])
    x = public[1:]
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    root_at_zero = p256.decoded(b"\x02" + bytes(32))
    for wrong in (
        b"", b"\0", bytes(33), public + b"\0", public[:-1], b"\x04" + x, b"\x00" + x, b"\x06" + x,
        b"\x04" + x + p256.decoded(public).y.to_bytes(32, "big"), b"\x02" + prime.to_bytes(32, "big"),
        b"\x02" + b"\xff" * 32, b"\x03" + (prime + root_at_zero.x).to_bytes(32, "big"), bytearray(public),
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            p256.decoded(wrong)  # type: ignore[arg-type]
        with pytest.raises(DatasovError):
            oprf.PrivateKey(5).under(b"info").evaluate([wrong])  # type: ignore[list-item]
