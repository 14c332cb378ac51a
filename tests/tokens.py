"""Residents who ask for enrolment tokens, an issuer's key and a task, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from datasov.crypto import oprf
from datasov.crypto.kdf import hkdf

KEY = oprf.PrivateKey.derive(bytes(range(32)), b"tests")
OTHER_KEY = oprf.PrivateKey.derive(bytes(range(1, 33)), b"tests")
TASK = hashlib.sha256(b"a task").digest()


def vault(name: str) -> Callable[[bytes], bytes]:
    """What the vault of a resident of this name derives from its identity seed."""
    seed = hashlib.sha256(b"seed of " + name.encode()).digest()
    return lambda info: hkdf(seed, salt=b"tests", info=info)


def person(name: str) -> bytes:
    """What an operator knows a person by."""
    return hashlib.sha256(b"person " + name.encode()).digest()
