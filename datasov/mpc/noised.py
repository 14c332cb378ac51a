"""Reports under local trust as they travel: to the city itself, in the clear, since each is noised already.

CBOR `[task (32), tag (16), noised answer]`. The tag is the same whenever one vault answers the task, and tells nothing
of any other task: the city counts a tag once.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasov.errors import VerificationError
from datasov.mpc.local import check
from datasov.mpc.task import Task
from datasov.wire import cbor, fields

TAG = 16
MOST = 16 * 1024
"""Bytes in a report."""


@dataclass(frozen=True, slots=True)
class NoisedReport:
    """What a device sends to the city.

    Attributes:
        task: identity of the task, 32 bytes.
        tag: 16 bytes, of this vault and this task.
        answer: the noised answer.
    """

    task: bytes
    tag: bytes
    answer: bytes

    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode([self.task, self.tag, self.answer])

    @staticmethod
    def from_bytes(data: bytes) -> NoisedReport:
        """The report of these bytes; VerificationError where they are none."""
        if not isinstance(data, bytes) or len(data) > MOST:
            raise VerificationError("not a report to this city: make it with resident.answer(task)")
        task, tag, answer = fields.items(cbor.decode(data), 3, 3)
        return NoisedReport(fields.octets(task, 32), fields.octets(tag, TAG), fields.blob(answer, MOST))

    def check(self, task: Task) -> None:
        """Raise VerificationError unless it is of this task's form."""
        if task.asked is None or self.task != task.id:
            raise VerificationError("a report of another task: make it with resident.answer(task)")
        check(task.asked.fit.how, self.answer)
