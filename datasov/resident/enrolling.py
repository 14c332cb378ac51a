"""A resident's enrolment with two aggregators: the key that they are known by, and a token of each for a task."""

from __future__ import annotations

from datasov.aggregator.messages import Post
from datasov.authority import credential
from datasov.authority.credential import Derive, Wanted
from datasov.errors import ConsentError
from datasov.model.consent import CityId
from datasov.mpc.task import Task
from datasov.resident.state import State
from datasov.wire import cbor, fields

MOST_TEXT = 1000
"""Characters of a refusal."""


class Enrolling(State):
    """The part of :class:`datasov.Resident` that is enrolled."""

    def enrolment_key(self, city: CityId) -> bytes:
        """The public key, 32 bytes, by which both aggregators of a city enrol this resident.

        All devices of a resident have the same one, and each city another one. Show it where your identity is checked.
        """
        return credential.enrolment_key(self._vault.derive, city).public


def tokens(derive: Derive, task: Task, post: Post) -> tuple[bytes, bytes]:
    """A token of each aggregator for a task, or nothing where it asks for none. Nothing of the vault's rows is in it.

    Asked again, by any device of the resident, the requests and the tokens are the same bytes.

    Args:
        derive: a PRF under the vault's identity seed.

    Raises:
        ConsentError: an aggregator issues none to this resident.
        ProofError: it answers under another key than the task names, which would mark its holder.
        PeerError: it does not answer.
    """
    if not task.token:
        return b"", b""
    key = credential.enrolment_key(derive, CityId.parse(task.city))
    found = []
    for party in task.trust.aggregators:
        wanted = Wanted(party.issuer_key, task.id, task.epoch)
        body = cbor.encode([task.id, [credential.request(derive, key, wanted)]])
        (told,) = fields.items(cbor.decode(post(party, "tokens", body)), 1, 1)
        if type(told) is str:
            raise ConsentError(f"{party.name}: {fields.text(told, MOST_TEXT)}")
        found.append(credential.accept(derive, wanted, told).data)
    return found[0], found[1]
