"""What consents under each delegation reserve together, and which were revoked: a fold over an append-only stream.

Every admitted consent that was signed for somebody else stands there with its chain, which is also the operator's
evidence of who signed for whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from datasov.errors import ConsentError, StoreError
from datasov.model.consent import Consent
from datasov.model.delegation import Delegated, check_losses, larger
from datasov.model.privacy import Loss
from datasov.wire import cbor, fields

STREAM = "delegated"


class Reader(Protocol):
    """Streams to read."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...


class Reserved:
    """The accounts that consents under each delegation draw on, and the newest consent on each."""

    def __init__(self, store: Reader) -> None:
        self._store, self.version = store, 0
        self._losses: dict[bytes, dict[str, Loss]] = {}
        self._newest: dict[bytes, dict[str, bytes]] = {}
        self._majority: dict[bytes, int] = {}
        self._ended: set[bytes] = set()

    def refresh(self) -> None:
        """Read what came since."""
        for event in self._store.read(STREAM, self.version):
            self._apply(cbor.decode(event))
            self.version += 1

    def _apply(self, event: Any) -> None:
        match event:
            case ["admit", account, consent, loss, subject, majority, links, _]:
                for link in links:
                    losses = self._losses.setdefault(link, {})
                    losses[account] = larger(losses.get(account), fields.read_loss(loss))
                    self._newest.setdefault(link, {})[account] = consent
                if majority:
                    self._majority[subject] = min(majority, self._majority.get(subject, majority))
            case ["end", delegation]:
                self._ended.add(delegation)
            case _:
                raise StoreError("an unknown event of a delegation: update datasov")

    def admit(self, chain: Sequence[Delegated], consent: Consent, account: str) -> list[bytes]:
        """The events of admitting a consent under a verified chain: none where it was admitted before.

        Args:
            account: one for each table and purpose of the city.

        Raises:
            ConsentError: a delegation was revoked, the sum under one would go beyond its loss, or what was delegated
                before majority would last longer.
        """
        root, claims = chain[0].claims, consent.claims
        if not self._ended.isdisjoint(link.digest for link in chain):
            raise ConsentError("a delegation that the consent needs was revoked: ask its delegator for a new one")
        if self._newest.get(chain[-1].digest, {}).get(account) == consent.digest:
            return []
        check_handover(root.issued, root.handover, self._majority.get(root.subject))
        check_losses(chain, account, claims.loss, self._losses)
        majority = root.handover if root.kind == "parental" else 0
        links = [link.digest for link in chain]
        event = ["admit", account, consent.digest, fields.loss_map(claims.loss), claims.subject, majority, links]
        return [cbor.encode([*event, [link.token for link in chain]])]

    def end(self, delegation: bytes) -> list[bytes]:
        """The events of revoking a delegation: from then on no consent under it is admitted.

        Raises:
            ConsentError: it was revoked already.
        """
        if delegation in self._ended:
            raise ConsentError("the delegation was revoked already")
        return [cbor.encode(["end", delegation])]

    def under(self, delegation: bytes) -> dict[str, bytes]:
        """The identity of the newest consent on each account under a delegation."""
        return self._newest.get(delegation, {})


def check_handover(issued: int, handover: int, majority: int | None) -> None:
    """Raise ConsentError where a person's delegation from before their majority would reach beyond it."""
    if majority is not None and issued < majority < handover:
        raise ConsentError(
            "a parental delegation of this person ends earlier, at the hand-over: delegate until then at most"
        )
