"""The whole error tree.

::

    DatasovError
    ├ InvalidQueryError(ValueError)   the question cannot be asked as written            400
    │  └ CollectionError              devices were not asked yet, or may still answer    409
    ├ InvalidDataError(ValueError)    rows that do not fit their schema                  422
    │  └ MissingExtraError            a package that what was asked for needs is not installed
    ├ DeniedError                     the question or the contribution is refused        403
    │  ├ ConsentError                 expired, revoked, wrong purpose, not covered
    │  │  └ IndexTakenError           its random place in the status lists is taken: grant again
    │  ├ ProgrammeError               not approved, expired
    │  └ BudgetExceededError          the city's own budget does not cover the loss      429
    ├ VerificationError               bytes that are not what they claim to be
    │  ├ SignatureError
    │  ├ ProofError
    │  │  └ WitnessError              a witness does not cosign a checkpoint                its status
    │  └ DecryptionError              opaque: it never says which check failed
    ├ StoreError                      a file, a database or a lock
    │  └ ConflictError                another writer was first; internal, always retried
    ├ PeerError                       another server did not answer as agreed            503
    └ InternalError                   a fault of this library

A message names what to do next. It never holds a private value or a total, and never tells whether a resident exists.
The one exception is :class:`InvalidDataError`, which only the holder of the data sees.
"""

from __future__ import annotations


class DatasovError(Exception):
    """Base of every error that datasov raises on purpose."""


class InvalidQueryError(DatasovError, ValueError):
    """The question, or a loss, a schema or a bound in it, is malformed. Depends on public input only."""


class CollectionError(InvalidQueryError):
    """No collection of the question was opened, or it still runs. Depends on public input only.

    Attributes:
        until: Unix seconds from which its release can be asked for; 0 where none was opened.
    """

    def __init__(self, message: str, *, until: int = 0) -> None:
        self.until = until
        super().__init__(message)


class InvalidDataError(DatasovError, ValueError):
    """Rows do not fit their schema. Shown to the holder of the data alone.

    Attributes:
        row: index of the first offending row (0-based), or None where the fault is the column's.
        column: name of the offending column, or None.
        reason: what is wrong, and what to do.
    """

    def __init__(self, reason: str, *, row: int | None = None, column: str | None = None) -> None:
        self.row, self.column, self.reason = row, column, reason
        where = ", ".join(
            part
            for part in (
                f"row {row}" if row is not None else "",
                f"column {column!r}" if column is not None else "",
            )
            if part
        )
        super().__init__(f"{where}: {reason}" if where else reason)


class MissingExtraError(InvalidDataError):
    """What was asked for needs an extra of datasov that is not installed. The message names it."""


class DeniedError(DatasovError):
    """Refused by policy: consent, programme or budget."""


class ConsentError(DeniedError):
    """A consent or a contribution is not acceptable: expired, revoked, for another purpose or city, replayed."""


class IndexTakenError(ConsentError):
    """The consent's random index in the status lists is another one's: grant again, which draws another index."""


class ProgrammeError(DeniedError):
    """No approved, unexpired programme covers the question."""


class BudgetExceededError(DeniedError):
    """The city's own budget does not cover the loss asked for. A resident's own budget never raises."""


class VerificationError(DatasovError):
    """Bytes are not what they claim to be."""


class SignatureError(VerificationError):
    """A signature does not verify, or what was signed is not in its canonical form."""


class ProofError(VerificationError):
    """A transparency-log proof, checkpoint or receipt does not verify."""


class WitnessError(ProofError):
    """A witness does not cosign a checkpoint.

    Attributes:
        status: as C2SP tlog-witness answers: 400 malformed, 403 not signed by the log, 404 unknown log, 409 not the
            checkpoint that follows the one it cosigned last, 422 the proof does not hold.
        size: with 409, the size that it cosigned last; None otherwise.
        evidence: where the two checkpoints show that the log forked, the text that proves it
            (datasov.tlog.evidence); empty otherwise.
    """

    def __init__(self, message: str, status: int, *, size: int | None = None, evidence: bytes = b"") -> None:
        self.status, self.size, self.evidence = status, size, evidence
        super().__init__(message)


class DecryptionError(VerificationError):
    """Opaque: a wrong key, a damaged, truncated, swapped or stale file all look the same."""


class StoreError(DatasovError):
    """A file, a lock or a database cannot be used as asked."""


class ConflictError(StoreError):
    """Compare-and-append lost a race. Callers inside the library read again and retry."""


class PeerError(DatasovError):
    """Another server did not answer as agreed."""


class InternalError(DatasovError):
    """A fault of this library: please report it."""
