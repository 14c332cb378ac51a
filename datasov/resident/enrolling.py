"""A resident's enrolment with aggregators and city: the key that they are known by, and a token of each for a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from datasov.authority import credential
from datasov.authority.credential import Derive, Wanted
from datasov.errors import ConsentError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId
from datasov.mpc.task import Task
from datasov.resident.state import State
from datasov.wire import cbor, fields

MOST_TEXT = 1000
"""Characters of a refusal."""


Reach: TypeAlias = Callable[[AggregatorId | CityId, str, bytes], bytes]
"""Sends a body to a path of an aggregator or a city, and gives its answer; a DatasovError where it is refused."""


class Enrolling(State):
    """The part of :class:`datasov.Resident` that is enrolled."""

    def enrolment_key(self, city: CityId) -> bytes:
        """The public key, 32 bytes, by which a city, and both of its aggregators, enrol this resident.

        All devices of a resident have the same one, and each city another one. Show it where your identity is checked.
        """
        return credential.enrolment_key(self._vault.derive, city).public


@dataclass(frozen=True, slots=True)
class Issued:
    """The tokens for a task, 64 bytes each, or nothing where it asks for none. Its repr shows nothing.

    Attributes:
        servers: of the leader and of the helper. city: of the city itself, for a noised report.
    """

    servers: tuple[bytes, bytes] = field(repr=False)
    city: bytes = field(repr=False)


def tokens(derive: Derive, task: Task, post: Reach) -> Issued:
    """A token of each who issues them for a task. Nothing of the vault's rows or consents is in it.

    All are fetched, or none is given: who would go on without the one that their own answer needs not, would show which
    it is. Asked again, by any device of the resident, the requests and the tokens are the same bytes.

    Args:
        derive: a PRF under the vault's identity seed.

    Raises:
        ConsentError: an issuer has none for this resident.
        ProofError: it answers under another key than the task names, which would mark its holder.
        PeerError: it does not answer.
    """
    city = CityId.parse(task.city)
    key = credential.enrolment_key(derive, city)

    def token(party: AggregatorId | CityId, issuer_key: bytes) -> bytes:
        if not issuer_key:
            return b""
        wanted = Wanted(issuer_key, task.id, task.epoch)
        body = cbor.encode([task.id, [credential.request(derive, key, wanted)]])
        (told,) = fields.items(cbor.decode(post(party, "tokens", body)), 1, 1)
        if type(told) is str:
            raise ConsentError(f"{party.name}: {fields.text(told, MOST_TEXT)}")
        return credential.accept(derive, wanted, told).data

    leader, helper = [token(party, party.issuer_key) for party in task.trust.aggregators] or [b"", b""]
    return Issued((leader, helper), token(city, task.issuer_key))
