"""Two servers: what verifying and making a report of Prio3Histogram costs, end to end too, and the error.

- `reports_per_s_16`, `reports_per_s_256`: reports that a helper verifies in a second of processor time, at 16 cells
  (chunks of 6) and at 256 (chunks of 18): `verify_init` of seeds, the leader's verifier shares combined with its own,
  `verify_next` and the sum. The median of `RUNS` runs over one batch; HTTP, sealing and storage are not in it.
- `leader_reports_per_s_16`, `leader_reports_per_s_256`: the leader's part: `verify_init` of elements, `verify_next`,
  and the sum.
- `client_ms`: to make one report of 256 cells; `client_ms_16` of 16. Medians.
- `report_bytes`, `report_bytes_16`: of the public share and both input shares, without sealing.
- `end_to_end_s`, with `reports`: from the first report's upload to the release, 16 cells: a leader and a helper as
  processes of their own over HTTP, with their stores, and this one, which uploads 256 reports a request. Reports are
  made before (`devices_ms_each`). `end_to_end_cpu_s` is the processor time of all three, which a busy machine does not
  change much; `leader_peak_bytes` and `helper_peak_bytes` the most memory that each held. Enrolment
  tokens are not in it.
- `enrolled_reports`, with `enrolled_end_to_end_cpu_s`, `enrolled_leader_cpu_s`, `enrolled_helper_cpu_s`: the same with
  two enrolment tokens in every report. Before, each resident is put on both rolls and fetches both over HTTP:
  `enrolled_fetching_ms_each` of the device, `enrolled_issuing_ms_each` of either aggregator, in processor time.
- `error_vs_central`: the mean L1 error of 256 cells at pure epsilon 1, for 10^4, 10^5 and 10^6 residents: one adder,
  two, and under local trust (`python -m benches.error_part FILE` draws it).
- `pycryptodome`: whether TurboSHAKE128 is PyCryptodome's where that is faster (extra `two-server`), or NumPy's alone.
"""

from __future__ import annotations

import json
import secrets
import statistics
import time

from benches import two_servers_part
from datasov.crypto.turboshake import turboshake128
from datasov.mpc.prio3 import Prio3, prio3_histogram

RUNS = 5
KEY, CTX = bytes(32), b"bench"


def _rates(vdaf: Prio3, reports: int) -> tuple[float, float]:
    """Reports a second: the helper's, the leader's."""
    cells = vdaf.circuit.outputs
    made = vdaf.shard(CTX, [i % cells for i in range(reports)], [secrets.token_bytes(16) for _ in range(reports)])
    nonces, public = [r.nonce for r in made], [r.public_share for r in made]
    leaders, helpers = [r.input_shares[0] for r in made], [r.input_shares[1] for r in made]
    helper, leader = [], []
    for _ in range(RUNS):
        began = time.process_time()
        state, shares = vdaf.verify_init(KEY, CTX, 0, nonces, public, leaders)
        first = time.process_time()
        other, theirs = vdaf.verify_init(KEY, CTX, 1, nonces, public, helpers)
        messages = vdaf.verifier_shares_to_message(CTX, [shares, theirs])
        mine = vdaf.aggregate([vdaf.verify_next(other, messages)])
        second = time.process_time()
        own = vdaf.aggregate([vdaf.verify_next(state, messages)])
        helper.append(second - first)
        leader.append(first - began + time.process_time() - second)
        total = vdaf.unshard([own, mine])
        if not isinstance(total, list) or sum(total) != reports:
            raise RuntimeError("the bench's own reports were not accepted: that is a fault")
    return reports / statistics.median(helper), reports / statistics.median(leader)


def _client(vdaf: Prio3, times: int) -> tuple[float, int]:
    """Milliseconds to make a report, and its bytes."""
    spent, size = [], 0
    for i in range(times):
        began = time.process_time()
        [report] = vdaf.shard(CTX, [i % vdaf.circuit.outputs], [secrets.token_bytes(16)])
        spent.append(time.process_time() - began)
        size = len(report.public_share) + sum(map(len, report.input_shares))
    return statistics.median(spent) * 1000, size


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The figures; `size` is "small" (2,048 reports of 16 cells, 512 of 256) or "full" (8 times as many), or `rows`.

    End to end it is as many as `rows`, or 2,048, or at full size a million.
    """
    reports = rows or (2048 if size == "small" else 16_384)
    narrow, wide = prio3_histogram(16, 6), prio3_histogram(256, 18)
    helper_16, leader_16 = _rates(narrow, reports)
    helper_256, leader_256 = _rates(wide, max(reports // 4, 1))
    (client_16, bytes_16), (client_256, bytes_256) = _client(narrow, 20), _client(wide, 20)
    return {
        **two_servers_part.end_to_end(rows or (2048 if size == "small" else 1_000_000)),
        **two_servers_part.with_tokens(min(rows or 2048, 512 if size == "small" else 4096)),
        "error_vs_central": two_servers_part.error_vs_central([10**4, 10**5, 10**6]),
        "verified": reports,
        "reports_per_s_16": round(helper_16),
        "reports_per_s_256": round(helper_256),
        "leader_reports_per_s_16": round(leader_16),
        "leader_reports_per_s_256": round(leader_256),
        "client_ms": round(client_256, 2),
        "client_ms_16": round(client_16, 2),
        "report_bytes": bytes_256,
        "report_bytes_16": bytes_16,
        "pycryptodome": turboshake128() is not None,
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
