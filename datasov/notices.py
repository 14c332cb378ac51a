"""Notices: the charters, programmes and emergencies in a city's log, checked by whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasov.authority.approval import Signed, fingerprint
from datasov.authority.governance import NOTICES, Governance
from datasov.authority.programme import Approved
from datasov.errors import DatasovError, ProofError
from datasov.model.charter import DAY, Charter
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.model.privacy import Loss
from datasov.model.programme import fits
from datasov.tlog.leaves import BatchLeaf, NoticeLeaf, ReleaseLeaf, StepLeaf, decode_leaf
from datasov.tlog.note import Checkpoint
from datasov.tlog.operators import follow, notices
from datasov.tlog.tree import Tree, leaf_hash


@dataclass(frozen=True, slots=True)
class Notice:
    """A public document of the city's governance, as its log has it.

    Attributes:
        subject: "charter", "programme" or "emergency".
        index: of its leaf, from 0. time: Unix seconds at which it was taken up, as the city says.
        identity: 32 bytes: what releases refer to it by.
        document: the charter or the programme.
        signers: the public keys that signed it.
    """

    subject: str
    index: int
    time: int
    identity: bytes
    document: Mapping[str, Any]
    signers: frozenset[bytes]

    @property
    def fingerprint(self) -> str:
        """What people compare: the first 100 bits of the identity."""
        return fingerprint(self.identity)

    def __str__(self) -> str:
        name = self.document.get("name", "the city's charter")
        return f"{self.subject} {self.fingerprint}: {name}, version {self.document['version']}"


def read_notices(leaves: Sequence[bytes], checkpoint: Checkpoint, city: CityId) -> list[Notice]:
    """The notices among all leaves of a log, once each is what the charters before it demand.

    Every release after the first charter is checked too, as far as its leaf tells: that its programme was approved and
    ran, its purpose, tables, columns, mechanism, trust and loss, and that all of them stay within its total and its
    periods; or that the charter left it open. So is every step of a series, at its own time. A time that lies more
    than a day before that of a leaf that stands before it does not bring back what was in force then.

    Args:
        leaves: those of the checkpoint's tree, all of them.
        city: the present id. That each key before it named the next one is for :func:`datasov.tlog.whole.read_whole`;
            here each of them must be among the operators of the charter that was the present one then.

    Raises:
        ProofError: the leaves are not the checkpoint's, a notice was not signed as it must be, or a release was covered
            by nothing.
    """
    tree = Tree()
    for data in leaves:
        tree.append(leaf_hash(data))
    if tree.size != checkpoint.size or tree.root() != checkpoint.root:
        raise ProofError("the leaves are not those of the checkpoint: keep it, and ask the log again")
    state, spent, found = Governance(), dict[str, Loss](), list[Notice]()
    latest, opened = 0, dict[bytes, ReleaseLeaf]()
    operators = follow(notices(leaves), checkpoint.origin, [city], appointed=lambda _: True)
    followed = {index: CityId.parse(change.new).verify_key for index, change in operators.successions}
    for index, data in enumerate(leaves):
        leaf = decode_leaf(data)
        if isinstance(leaf, NoticeLeaf) and leaf.subject in NOTICES:
            try:
                state = state.noticed(leaf.subject, leaf.time, leaf.identity, leaf.body)
            except ProofError:
                raise
            except DatasovError as why:
                raise _fault(index, f"a notice that should not be there: {why}") from None
            signed = Signed.from_bytes(leaf.body)
            if state.charter is not None and not operators.known(CityId.parse(state.charter.city)):
                raise _fault(index, "a charter of another city")
            found.append(
                Notice(leaf.subject, index, leaf.time, leaf.identity, signed.document, frozenset(signed.signatures))
            )
        elif isinstance(leaf, ReleaseLeaf):
            approved = _check_covered(index, leaf, state, latest)
            _check_losses(index, leaf, approved, spent)
            opened[leaf.release_id] = leaf
        elif isinstance(leaf, StepLeaf):
            if leaf.release_id not in opened:
                raise _fault(index, "a step of a series that was never opened")
            _check_covered(index, replace(opened[leaf.release_id], time=leaf.time), state, latest)
        elif index in followed and state.charter is not None:
            _check_operator(index, followed[index], state.charter)
        latest = max(latest, 0 if isinstance(leaf, BatchLeaf) else leaf.time)
    if state.charter is not None:
        _check_operator(len(leaves), city.verify_key, state.charter)
    return found


def _fault(index: int, what: str) -> ProofError:
    return ProofError(f"leaf {index}: {what}; keep the log's checkpoint and ask the city")


def _check_operator(index: int, key: bytes, charter: Charter) -> None:
    if key not in {m.key for m in charter.operators}:
        raise _fault(index, "the charter does not name this city's key among its operators")


def _check_covered(index: int, leaf: ReleaseLeaf, state: Governance, latest: int) -> Approved | None:
    """The programme that a release, or a step of a series, was made under; None where none is needed.

    Args:
        latest: of the times of all leaves before it.
    """
    # A question that was on its way when a notice came is less than a day behind; more is a time that was put back.
    when = leaf.time if leaf.time > latest - DAY else latest
    charter = state.at(when)
    if charter is None and not leaf.programme:
        return None
    if charter is None or leaf.time >= charter.expires:
        raise _fault(index, "a release without a charter in force")
    if not leaf.programme:
        if not any(leaf.purpose == p and fits(leaf.loss, limit) for p, limit in charter.open):
            raise _fault(index, "a release that no programme covers, and that the charter does not leave open")
        return None
    try:
        approved = state.programme(leaf.programme)
    except DatasovError:
        raise _fault(index, "a release under a programme that nobody approved") from None
    end = state.end(approved)
    ended = end < approved.programme.expires and end <= when
    if ended or not _covers(approved, leaf) or not approved.starts <= leaf.time < end:
        raise _fault(index, "a release that its programme does not cover")
    return approved


def _check_losses(index: int, leaf: ReleaseLeaf, approved: Approved | None, spent: dict[str, Loss]) -> None:
    """Add a release to the purses of its programme, and raise ProofError where one of them does not hold it."""
    if approved is None:
        return
    for name, cap in approved.programme.purses(approved.identity, leaf.time):
        cost = leaf.loss.concentrated if cap.measure == "zcdp" else leaf.loss
        spent[name] = spent.get(name, Loss(0, cap.measure)) + cost
        if not spent[name] <= cap:
            raise _fault(index, "releases under a programme that lose more than its total, or than one of its periods")


def _covers(approved: Approved, leaf: ReleaseLeaf) -> bool:
    programme = approved.programme
    allowed = {t.table: (t.schema_digest, set(t.columns)) for t in programme.tables}
    name = leaf.trust.partition("+")[0]
    trusts = {"mixed" if "+" in t else t for t in programme.trust}  # of several a leaf tells their hash alone
    tables = all(n in allowed and allowed[n][0] == s and set(columns) <= allowed[n][1] for n, s, columns in leaf.tables)
    return (
        leaf.purpose == programme.purpose and name in trusts
        and fits(leaf.loss, programme.largest)
        and leaf.mechanism in programme.mechanisms and tables and leaf.tables[0][0] == programme.tables[0].table
        and (programme.question is None or canonical(programme.question) == leaf.question)
    )  # fmt: skip
