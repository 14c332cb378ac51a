"""Which releases were delivered to which broker: a file beside the city that survives a crash.

An entry is written after the broker took all entities of a release. A crash between the two delivers it once more, as
the same bytes under the same ids: the broker then holds what it held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datasov.errors import ConflictError, StoreError
from datasov.model.document import canonical
from datasov.store.sqlite import SQLiteStore


@dataclass(frozen=True, slots=True)
class Delivered:
    """An entry.

    Attributes:
        release, step: as in a DPStatistic's source. by: the kind of ids under which it went out.
        standing: names the question. order: of the question's answers, (time, step).
        entities: how many. form: hash of the entities, hexadecimal.
        sent: False where a newer answer of the question had gone out under the same ids before: it never goes out then.
    """

    release: str
    step: int | None
    by: str
    standing: str
    order: tuple[int, int]
    entities: int
    form: str
    sent: bool = True

    @property
    def key(self) -> tuple[str, int | None, str]:
        return self.release, self.step, self.by


class Outbox:
    """The file; made where nothing is. A context manager. Any number of threads and processes may use one.

    Raises:
        StoreError: the file is something else, or the disk refuses.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._store = SQLiteStore(path, create=not path.exists())
        self._read: dict[str, list[Delivered]] = {}

    def entries(self, broker: str) -> list[Delivered]:
        """What was delivered to a broker, by its name, in order."""
        try:
            found = self._read.setdefault(broker, [])
            found += [_read(json.loads(body)) for body in self._store.read(broker, len(found))]
            return list(found)
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                "the outbox holds entries that are none: move it away, and all is delivered anew"
            ) from None

    def note(self, broker: str, delivered: Delivered) -> None:
        """Write down one delivery, durably; one that stands there already is left alone."""
        while True:
            before = self.entries(broker)
            if any(d.key == delivered.key for d in before):
                return
            try:
                self._store.append({broker: (len(before), [canonical(_document(delivered))])})
                return
            except ConflictError:
                continue

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _document(d: Delivered) -> Mapping[str, object]:
    return {
        "release": d.release, "step": d.step, "by": d.by, "standing": d.standing, "order": list(d.order),
        "entities": d.entities, "form": d.form, "sent": d.sent,
    }  # fmt: skip


def _read(doc: Mapping[str, Any]) -> Delivered:
    time, step = doc["order"]
    return Delivered(**{**doc, "order": (time, step)})
