"""Who is in a tenant host, and in which packs: one state of it, which never changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasov.errors import InvalidDataError
from datasov.vault import keys, layout, segment
from datasov.vault.manifest import Manifest, SegmentEntry
from datasov.vault.pack import SLIP, TENANT_FIELDS, Builder, Pack, Segment
from datasov.vault.session import Tables

BATCH = 2048
"""Segments that are opened together at most."""


@dataclass(frozen=True, slots=True)
class Tenants:
    """The tenants by their numbers, and the packs that hold their bytes, oldest first.

    Attributes:
        count: the next number; numbers are not used again.
        table: the tenants' entries by their numbers, with the place of the pack that holds their header. Where one is
            gone, `size` is 0.
    """

    count: int
    packs: tuple[Pack, ...]
    table: npt.NDArray[np.void]
    _numbers: dict[bytes, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, count: int, packs: Sequence[Pack]) -> Tenants:
        """The state that these packs make."""
        table = np.zeros(count, dtype=[*TENANT_FIELDS, ("pack", ">u4")])
        for place, found in enumerate(packs):
            for name, _ in TENANT_FIELDS:
                table[name][found.tenants["number"]] = found.tenants[name]
            table["pack"][found.tenants["number"]] = place
        return cls(count, tuple(packs), table)

    def __len__(self) -> int:
        return int((self.table["size"] > 0).sum())

    def numbers(self) -> dict[bytes, int]:
        """Vault ids to numbers, in the order of the numbers."""
        if not self._numbers:
            present = self.table[self.table["size"] > 0]
            ids = present["id"].tobytes()
            self._numbers.update((ids[16 * i : 16 * i + 16], n) for i, n in enumerate(present["number"].tolist()))
        return self._numbers

    def number(self, tenant: bytes) -> int:
        """A tenant's number; InvalidDataError where there is none of that id."""
        if tenant not in self.numbers():
            raise InvalidDataError("the host has no such tenant: `tenants` lists them")
        return self.numbers()[tenant]

    def device_key(self, number: int) -> bytes:
        return bytes(self.table["key"][number].tobytes())

    def header(self, number: int) -> bytes:
        """The bytes of a tenant's VAULT."""
        found = self.table[number]
        return self.packs[int(found["pack"])].header(int(found["at"]), int(found["size"]))

    def secrets(self, number: int) -> keys.Secrets:
        """What a tenant's header holds; DecryptionError where it is damaged, or another's."""
        return keys.open_header(self.header(number), keys.access(None, self.device_key(number), None))

    def held(self, number: int) -> Iterator[tuple[str, Segment, bytes]]:
        """Every segment of a tenant, in the order of their puts: its table, its entry and the bytes of its file."""
        for pack in self.packs:
            for table in pack.segments:
                for i in np.flatnonzero(pack.numbers(table) == number).tolist():
                    (entry,) = pack.entries(table, i, i + 1)
                    yield table, entry, pack.blob(entry.at + SLIP, entry.size)

    def batches(self, table: str, *, only_last: bool) -> Iterator[tuple[Pack, list[Segment]]]:
        """The segments of a table in the order of their puts, at most BATCH at a time: all, or each tenant's last."""
        numbers = [pack.numbers(table) for pack in self.packs]
        last = {int(n): at for at, n in enumerate(np.concatenate(numbers))} if only_last and numbers else {}
        before = 0
        for pack, found in zip(self.packs, numbers, strict=True):
            for start in range(0, len(found), BATCH):
                entries = enumerate(pack.entries(table, start, start + BATCH), before + start)
                kept = [entry for at, entry in entries if not only_last or last[entry.number] == at]
                if kept:
                    yield pack, kept
            before += len(found)

    def without(self, gone: frozenset[int], host_id: bytes) -> Iterator[tuple[Pack, Builder | None]]:
        """Each pack, and the same bytes without theirs, to take its place, where some of these tenants are in it."""
        for pack in self.packs:
            numbers = [pack.tenants["number"], *(pack.numbers(table) for table in pack.segments)]
            if gone.isdisjoint(np.concatenate(numbers).tolist()):
                yield pack, None
                continue
            left = Builder(host_id)
            for number, vault_id, key, at, size in pack.tenants.tolist():
                if number not in gone:
                    left.tenant(number, vault_id, key, pack.header(at, size))
            for table in pack.segments:
                for entry in pack.entries(table):
                    if entry.number not in gone:
                        left.moved(table, entry, pack.blob(entry.at, SLIP + entry.size))
            yield pack, left

    def export(self, number: int, directory: Path, tables: Tables) -> None:
        """Write a tenant's vault: header and segments as they are, and a new manifest, for an index stood for it.

        Args:
            tables: what a manifest says of the tables that the host knows.

        Raises:
            StoreError: the path exists.
            DecryptionError: bytes of the tenant's are damaged, or another's. OSError: they cannot be written.
        """
        secrets, moved, sealed = self.secrets(number), list[SegmentEntry](), list[tuple[bytes, bytes]]()
        for turn, (table, e, data) in enumerate(self.held(number)):
            segment.unseal(secrets.vault_id, e.id, secrets.domain_at(e.domain_id, e.epoch), data)
            sealed.append((e.id, data))
            moved.append(SegmentEntry(
                e.id, table, e.domain_id, e.epoch, secrets.device_id, turn, turn, e.rows, e.codec, e.payload,
                e.size, segment.digest(data),
            ))  # fmt: skip
        known = {entry.table: tables[entry.table] for entry in moved}
        first = Manifest(1, sequence=len(moved), tables=known, segments=tuple(moved))
        layout.create(directory, self.header(number), secrets, first, segments=sealed)[1].release()
