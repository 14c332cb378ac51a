"""Published vectors of VDAF: every operation of every file, with the outcome that the file gives."""

from __future__ import annotations

import json

import pytest

from datasov.mpc import prio3
from datasov.mpc.field import FIELD128
from datasov.mpc.xof import derive_seed, expand
from tests.paths import vectors

FILES = [
    "Prio3Count_0", "Prio3Count_1", "Prio3Count_bad_gadget_poly", "Prio3Count_bad_wire_seed",
    "Prio3Histogram_0", "Prio3Histogram_1", "Prio3Histogram_bad_public_share", "Prio3MultihotCountVec_0",
    "Prio3SumVec_0", "Prio3Sum_0", "Prio3Sum_1",
]  # fmt: skip

MAKERS = {
    "Prio3Count": (prio3.prio3_count, []),
    "Prio3Sum": (prio3.prio3_sum, ["max_measurement"]),
    "Prio3SumVec": (prio3.prio3_sum_vec, ["length", "max_measurement", "chunk_length"]),
    "Prio3Histogram": (prio3.prio3_histogram, ["length", "chunk_length"]),
    "Prio3MultihotCountVec": (prio3.prio3_multihot_count_vec, ["length", "max_weight", "chunk_length"]),
}


def _load(name):
    vector = json.loads(vectors("vdaf", f"{name}.json").read_text())
    make, names = MAKERS[name.split("_")[0]]
    return vector, make(*(vector[each] for each in names), shares=vector["shares"])


def test_the_list_of_files_is_the_folders():
    assert sorted(path.stem for path in vectors("vdaf").glob("*.json")) == sorted([*FILES, "XofTurboShake128"])


@pytest.mark.parametrize("name", FILES)
def test_every_operation_of_the_file(name):
    vector, vdaf = _load(name)
    key, ctx = bytes.fromhex(vector["verify_key"]), bytes.fromhex(vector["ctx"])
    states, messages, outs, done = {}, {}, {}, []
    for step in vector["operations"]:
        number, aggregator = step.get("report_index"), step.get("aggregator_id")
        report = vector["reports"][number] if number is not None else {}
        if step["operation"] == "shard":
            assert len(report["rand"]) == 2 * vdaf.rand_size
            nonce, rand = bytes.fromhex(report["nonce"]), bytes.fromhex(report["rand"])
            [made] = vdaf.shard(ctx, [report["measurement"]], [nonce], [rand])
            assert made.public_share.hex() == report["public_share"]
            assert [share.hex() for share in made.input_shares] == report["input_shares"]
        elif step["operation"] == "verify_init":
            state, [share] = vdaf.verify_init(
                key, ctx, aggregator, [bytes.fromhex(report["nonce"])], [bytes.fromhex(report["public_share"])],
                [bytes.fromhex(report["input_shares"][aggregator])],
            )  # fmt: skip
            assert (share is not None) == step["success"]
            assert share.hex() == report["verifier_shares"][0][aggregator]
            states[number, aggregator] = state
        elif step["operation"] == "verifier_shares_to_message":
            shares = [[bytes.fromhex(share)] for share in report["verifier_shares"][0]]
            [message] = vdaf.verifier_shares_to_message(ctx, shares)
            assert (message is not None) == step["success"]
            if step["success"]:
                assert message.hex() == report["verifier_messages"][0]
            messages[number] = message
        elif step["operation"] == "verify_next":
            out = vdaf.verify_next(states[number, aggregator], [messages[number]])
            assert out.valid.all() == step["success"]
            assert out.encode()[0].hex() == report["out_shares"][aggregator]
            outs.setdefault(aggregator, []).append(out)
        elif step["operation"] == "aggregate":
            share = vdaf.aggregate(outs[aggregator])
            assert share.hex() == vector["agg_shares"][aggregator]
        else:
            assert step["operation"] == "unshard"
            assert vdaf.unshard([bytes.fromhex(s) for s in vector["agg_shares"]]) == vector["agg_result"]
        done.append(step["operation"])
    expected = ["verify_init", "verify_init", "verifier_shares_to_message"] if "bad" in name else ["unshard"]
    assert done[-len(expected) :] == expected


@pytest.mark.parametrize("name", [name for name in FILES if "bad" in name])
def test_a_bad_report_is_refused_in_a_batch_and_the_good_ones_stand(name):
    vector, vdaf = _load(name)
    key, ctx = bytes.fromhex(vector["verify_key"]), bytes.fromhex(vector["ctx"])
    [bad] = vector["reports"]
    nonce = bytes.fromhex(bad["nonce"])
    good = vdaf.shard(ctx, [1, 1], [bytes(16), bytes([7] * 16)])
    rows = [
        (good[0].nonce, good[0].public_share, good[0].input_shares),
        (nonce, bytes.fromhex(bad["public_share"]), [bytes.fromhex(s) for s in bad["input_shares"]]),
        (good[1].nonce, good[1].public_share, good[1].input_shares),
    ]
    nonces, public, shares = zip(*rows, strict=True)
    begun = [vdaf.verify_init(key, ctx, i, nonces, public, [s[i] for s in shares]) for i in range(2)]
    messages = vdaf.verifier_shares_to_message(ctx, [share for _, share in begun])
    outs = [vdaf.verify_next(state, messages) for state, _ in begun]
    assert [out.valid.tolist() for out in outs] == [[True, False, True]] * 2
    total = vdaf.unshard([vdaf.aggregate([out]) for out in outs])
    assert total == (2 if vdaf.circuit.scalar else [0, 2, 0, 0, 0])


def test_the_extendable_output_function():
    vector = json.loads(vectors("vdaf", "XofTurboShake128.json").read_text())
    seed, dst, binder = (bytes.fromhex(vector[each]) for each in ("seed", "dst", "binder"))
    assert derive_seed(1, seed, dst, [binder])[0].tobytes().hex() == vector["derived_seed"]
    words = expand(FIELD128, 1, seed, dst, [binder], vector["length"])
    assert words[:, :, 0].astype("<u8").tobytes().hex() == vector["expanded_vec_field128"]
