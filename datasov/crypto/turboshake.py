"""TurboSHAKE128 (RFC 9861) of one message at a time, by PyCryptodome, which comes with the extra `two-server`.

The only importer of Crypto. `datasov.mpc.xof` computes the same without it, for a batch; this one is faster for long or
for few messages.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache


@cache
def turboshake128() -> Callable[[bytes, int, int], bytes] | None:
    """A function of the message, the domain (0x01 to 0x7f) and how many octets to squeeze; None without the extra."""
    try:
        from Crypto.Hash import TurboSHAKE128
    except ImportError:
        return None
    make = TurboSHAKE128.new
    return lambda message, domain, size: make(domain=domain, data=message).read(size)
