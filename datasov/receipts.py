"""A resident's receipts: every released question that their consents covered, from a whole log, at home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from datasov.authority.held import AHEAD, Record, covers, sent
from datasov.model.consent import CityId
from datasov.model.privacy import Loss
from datasov.tlog import scan
from datasov.tlog.bundle import pack_bundle
from datasov.tlog.leaves import ReleaseLeaf
from datasov.tlog.log import LogReader
from datasov.tlog.operators import Appointed
from datasov.tlog.receipt import Approval, Receipt
from datasov.tlog.whole import Whole, read_whole


def whole_log(log: LogReader, records: Sequence[Record], appointed: Appointed | None = None) -> Whole:
    """The whole log of one of the cities that these consents are for; ProofError where it is of none of them."""
    return read_whole(log, cities(records), appointed=appointed)


def cities(records: Iterable[Record]) -> list[CityId]:
    """The ids that the consents are addressed to, each once."""
    return [CityId.parse(text) for text in dict.fromkeys(r.consent.claims.audience for r in records)]


def of_city(whole: Whole, records: Iterable[Record]) -> list[Record]:
    """The consents for the city of this log, under any of its ids."""
    return [r for r in records if whole.operators.known(CityId.parse(r.consent.claims.audience))]


def covered(whole: Whole, records: Sequence[Record]) -> list[Receipt]:
    """A receipt of every release that one of the consents covered when it was asked, in the log's order.

    A release that names an approval which the log does not hold has a receipt without one, which does not verify.
    """
    claims = [r.consent.claims for r in records]
    notices = scan.notices(whole.leaves)
    return [
        _receipt(whole, index, leaf, notices)
        for index, leaf in scan.releases(whole.leaves, {c.purpose for c in claims})
        if any(covers(c, leaf.purpose, leaf.time, leaf.tables, leaf.standing) for c in claims)
    ]


def _receipt(whole: Whole, index: int, leaf: ReleaseLeaf, notices: Mapping[bytes, tuple[int, object]]) -> Receipt:
    approval = None
    if leaf.programme and leaf.programme in notices:
        at = notices[leaf.programme][0]
        approval = Approval(whole.leaves[at], at, whole.inclusion(at))
    return Receipt(
        whole.leaves[index], index, whole.inclusion(index), whole.checkpoint.size, whole.operators.key,
        whole.checkpoint.origin, approval,
    )  # fmt: skip


def newest(whole: Whole, records: Iterable[tuple[Record, int]]) -> dict[bytes, int]:
    """For each consent, by its identity, of which the log holds a contribution beyond those known: its number."""
    numbered = {
        hash_: (record.consent.digest, number)
        for record, known in records
        for number, hash_ in sent(record, range(known + 1, known + AHEAD + 1))
    }
    found: dict[bytes, int] = {}
    for hash_ in scan.batched(whole.leaves, "admissions", numbered):
        digest, number = numbered[hash_]
        found[digest] = max(found.get(digest, 0), number)
    return found


def continues(whole: Whole, remembered: Iterable[bytes | None]) -> None:
    """Raise ProofError unless the log is one that the remembered checkpoints (notes) are prefixes of."""
    for note in remembered:
        if note is not None:
            whole.continues(note)


def account(receipt: Receipt) -> tuple[str, str, str]:
    """What its loss adds up with: the log, the purpose and the measure."""
    return receipt.origin, receipt.purpose, receipt.loss.measure


def totals(found: Iterable[Receipt]) -> dict[tuple[str, str, str], Loss]:
    """The losses of receipts, added for each account."""
    added: dict[tuple[str, str, str], Loss] = {}
    for receipt in found:
        name = account(receipt)
        added[name] = added[name] + receipt.loss if name in added else receipt.loss
    return added


def bundle(whole: Whole, records: Sequence[Record], *, consents: bool) -> bytes:
    """The receipts that the consents cover, in one file; with `consents` the identities of these too."""
    digests = [r.consent.digest for r in records] if consents else []
    return pack_bundle(whole, covered(whole, records), digests)
