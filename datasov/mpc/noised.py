"""Reports under local trust as they travel: to the city itself, in the clear, since each is noised already.

CBOR `[task (32), tag (16), noised answer]`, and a fourth part where the city issues enrolment tokens: one of them,
sealed to the city for these three. The tag is the same whenever one vault answers the task, and tells nothing of any
other task. The city counts a tag once, or a token.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasov.crypto.kdf import sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.errors import VerificationError
from datasov.model.consent import CityId
from datasov.mpc.local import check
from datasov.mpc.task import TOKEN, Task
from datasov.wire import cbor, fields

TAG = 16
MOST = 16 * 1024
"""Bytes in a report."""
SEALED = 32 + TOKEN + 16
"""Bytes of a sealed token."""
_INFO = b"datasov noised report v1"


@dataclass(frozen=True, slots=True)
class NoisedReport:
    """What a device sends to the city.

    Attributes:
        task: identity of the task, 32 bytes.
        tag: 16 bytes, of this vault and this task.
        answer: the noised answer.
        sealed: an enrolment token of the city, sealed; empty where the task asks for none.
    """

    task: bytes
    tag: bytes
    answer: bytes
    sealed: bytes = b""

    def with_token(self, city: CityId, token: bytes) -> NoisedReport:
        """This report with a token that nobody on the way can read, or move to another report; without one, as it is.

        Args:
            token: 64 bytes, or nothing.
        """
        sealed = seal(city.seal_key, token, self._info) if token else b""
        return NoisedReport(self.task, self.tag, self.answer, sealed)

    def token(self, key: OpeningKey) -> bytes:
        """The token; DecryptionError where none was sealed to this key for this very report."""
        return key.open(self.sealed, self._info)

    @property
    def _info(self) -> bytes:
        return _INFO + self.task + self.tag + sha256(self.answer)

    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode([self.task, self.tag, self.answer, *([self.sealed] if self.sealed else [])])

    @staticmethod
    def from_bytes(data: bytes) -> NoisedReport:
        """The report of these bytes; VerificationError where they are none."""
        if not isinstance(data, bytes) or len(data) > MOST:
            raise VerificationError("not a report to this city: make it with resident.answer(task)")
        task, tag, answer, *sealed = fields.items(cbor.decode(data), 3, 4)
        token = fields.octets(sealed[0], SEALED) if sealed else b""
        return NoisedReport(fields.octets(task, 32), fields.octets(tag, TAG), fields.blob(answer, MOST), token)

    @staticmethod
    def is_one(data: bytes, task: Task) -> bool:
        """Whether these bytes are a report of this form for the task, and not one to its aggregators."""
        try:
            NoisedReport.from_bytes(data).check(task)
        except VerificationError:
            return False
        return True

    def check(self, task: Task) -> None:
        """Raise VerificationError unless it is of this task's form, with a sealed token just where it asks for one."""
        if task.asked is None or self.task != task.id:
            raise VerificationError("a report of another task: make it with resident.answer(task)")
        if bool(self.sealed) != bool(task.issuer_key):
            raise VerificationError("a report with a token for a task that asks for none, or without: answer anew")
        check(task.asked.fit.how, self.answer)
