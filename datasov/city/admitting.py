"""What residents and a city have to do with each other: consents come, and end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from datasov.authority import messages, signers
from datasov.authority.admission import Admission, admit
from datasov.authority.ending import endings
from datasov.city.state import State
from datasov.crypto.certificate import certified
from datasov.errors import ConflictError, ConsentError, DatasovError
from datasov.model.consent import Consent
from datasov.pool.draft import Draft, admit_all
from datasov.pool.mixing import mixed
from datasov.tlog.ticks import REVOCATION, waiting

_ADMIT_AT_ONCE = 512


class Admitting(State):
    """The part of :class:`datasov.City` that residents meet."""

    def admit(self, consent: Consent | bytes, contribution: bytes) -> None:
        """Verify a consent and what was contributed under it, and pool the covered columns, durably.

        A consent that was signed for somebody else brings its delegations, in `Consent.chain` or in the bytes that
        `datasov.authority.delegation.bundle` gives.

        Raises:
            ConsentError: for another city or purpose, expired, revoked, superseded, replayed, not covering what came.
            VerificationError, InvalidDataError: bytes or values that are not acceptable.
        """
        (refused,) = self.admit_many([(consent, contribution)])
        if refused is not None:
            raise refused

    def admit_many(
        self,
        pairs: Iterable[tuple[Consent | bytes, bytes]],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[DatasovError | None]:
        """Admit many; the result has, for each pair in order, None or why it was refused.

        They are admitted in a drawn order, 512 at a time, so that who came beside whom is not kept. Collect what
        arrives, and admit it together: one by one, the order of arrival stands in the registry (docs/identity.md).

        Args:
            progress: called with the number of pairs done so far.
        """
        results: list[DatasovError | None] = []
        batch: list[tuple[Consent | bytes, bytes]] = []
        with ThreadPoolExecutor() as executor:
            for pair in pairs:
                batch.append(pair)
                if len(batch) == _ADMIT_AT_ONCE:
                    results += self._admit_batch(batch, executor)
                    batch = []
                    if progress:
                        progress(len(results))
            results += self._admit_batch(batch, executor)
        if progress:
            progress(len(results))
        return results

    def _verified(self, pair: tuple[Consent | bytes, bytes]) -> Admission | DatasovError:
        consent, contribution = pair
        if (pooled := self.trust.part("central")) is None:
            return ConsentError("this city takes no rows: residents answer its tasks on their devices")
        try:
            return self._who.take(
                lambda city, key: admit(
                    consent, contribution,
                    city=city, key=key, purposes=self.purposes, trusts=(pooled.text,), now=int(self._clock()),
                    place=self.processing, directory=self._signers.at(int(self._clock())),
                ),
                int(self._clock()),
            )  # fmt: skip
        except DatasovError as refused:
            return refused

    def _admit_batch(
        self, batch: Sequence[tuple[Consent | bytes, bytes]], executor: ThreadPoolExecutor
    ) -> list[DatasovError | None]:
        self._signers.refresh()
        verified = list(executor.map(self._verified, batch))
        order = mixed(verified)
        with self._guard:
            done = admit_all(
                [verified[i] for i in order], lambda: Draft(self._registry, self._store, self._pool, self._tick_began)
            )
        if batch:
            self._anchor()
        results = dict(zip(order, done, strict=True))
        return [results[i] for i in range(len(batch))]

    def revoke(self, revocation: bytes) -> None:
        """End a consent, as its resident or its delegate signed, or a delegation with every consent under it.

        The rows are in no question from now on. No loss is given back.

        Raises:
            ConsentError: for another city, or of a consent that was revoked or superseded already.
            VerificationError: (or its subclasses) bytes that do not decrypt, verify or parse.
        """
        self._signers.refresh()
        directory = self._signers.at(None)
        ended, sent = self._who.take(lambda city, key: messages.open_revocation(revocation, key, city, directory))
        while True:
            with self._guard, self._registry.lock:
                now = self._tick_began
                ending = endings(self._registry, ended, now)
                entries, blobs = waiting(REVOCATION, now, [sent.commitment])
                batch = {**ending.streams, "commitments": (self._store.length("commitments"), entries)}
                try:
                    self._store.append(batch, {**blobs, **ending.blobs})
                except ConflictError:
                    continue
                break
        self._anchor()

    def enrol_certificate(self, certificate: bytes, chain: Sequence[bytes] = ()) -> bytes:
        """Let the key of a certificate sign consents, while it is valid. Returns the key's name, 32 bytes.

        Of the certificate only the key and its validity are kept. Enrolling a renewed one prolongs it.

        Args:
            certificate: X.509 in DER, for signing, with a key of P-256. `chain`: those between it and an authority.

        Raises:
            SignatureError: it is not valid under the authorities that the city was opened with, or its key may not
                sign so.
        """
        entry = certified(certificate, chain, self._authorities, int(self._clock()))
        while True:
            try:
                self._store.append({signers.STREAM: (self._signers.refresh(), [signers.pack(entry)])})
            except ConflictError:
                continue
            self._anchor()
            return entry.key.name

    def status(self) -> bytes:
        """The set of status lists in force, whose SHA-256 stands in the leaf of each answer that applied it.

        Its form is in docs/spec/status.md; it is empty until the first tick is over.
        """
        return self._lists.document()

    def status_list(self, number: int) -> bytes:
        """A signed Token Status List: who has the city's id alone can check it, with :mod:`datasov.authority.status`.

        Raises:
            StoreError: no list of this number (0 to 4095) was published yet.
        """
        return self._lists.signed(number)
