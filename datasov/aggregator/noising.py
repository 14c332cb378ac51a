"""An aggregator's noise on its share: drawn once against its own budget, and persisted before it leaves."""

from __future__ import annotations

from typing import cast

from datasov.aggregator.held import Held, Store
from datasov.aggregator.messages import Share, pack_share
from datasov.aggregator.seen import Seen
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.kernel.contribute import add
from datasov.kernel.ledger import Ledger
from datasov.kernel.monitor import opaque
from datasov.kernel.noise import draw
from datasov.model.document import canonical


def share_key(task: bytes) -> bytes:
    """Under which the noised share of a task is stored."""
    return sha256(b"datasov noised share v1", task)


def noised(held: Held, ledger: Ledger, key: SigningKey) -> bytes:
    """The share with this aggregator's own full noise, signed and sealed: the stored one where there is one.

    The loss was reserved when the task was taken. The noise is that of a question without residents, which the kernel
    draws against that reservation; a second draw, after a crash before the commit, never meets the first one's reader.
    The share without noise is deleted then: who gets hold of both stores later finds no exact sum.
    """
    task, name = held.task, share_key(held.task.id)
    if (stored := ledger.stored(name)) is not None:
        _forget(held, ledger)
        return stored
    reservation = ledger.resume(task.id, task.loss)
    with opaque():
        noise = draw(add([], task.plan), task.plan, reservation)
        shares = []
        for found, own, drawn in zip(task.fits, held.sums, noise.values, strict=True):
            field = found.vdaf.circuit.field
            size, modulus = field.size, field.modulus
            words = [int.from_bytes(own[at : at + size], "little") for at in range(0, len(own), size)]
            # A histogram's last cell, for nothing, is dropped here: without noise it must not leave.
            moved = ((w + int(n)) % modulus for w, n in zip(words, drawn, strict=False))
            shares.append(b"".join(w.to_bytes(size, "little") for w in moved))
    body = pack_share(task, held.role, Share(held.reports, held.checksum, tuple(shares)), key)
    leaf = canonical({"task": task.id.hex(), "loss": task.loss.document(), "what": "noised share"})
    body = ledger.commit(reservation, name, body, leaf)
    _forget(held, ledger)
    return body


def _forget(held: Held, ledger: Ledger) -> None:
    if held.sums:
        held.sums, held.nonces, held.nullifiers = [], Seen(), Seen()
        cast(Store, ledger.store).append({}, {"sum/" + held.name: held.pack()})
