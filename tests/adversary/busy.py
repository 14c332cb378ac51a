"""A process that admits and asks without a pause: python -m tests.adversary.busy PATH NUMBER."""

from __future__ import annotations

import itertools
import secrets
import sys

import datasov as ds
from tests.adversary.asking import ask
from tests.helpers import NOW, enrol


def main(path: str, number: int) -> None:
    city = ds.City.open(path, clock=lambda: NOW)
    print("ready", flush=True)
    for turn in itertools.count():
        for i in range(3):
            status = secrets.randbits(32)
            enrol(city, [f"{number}-{turn}-{i}"], lambda n: [{"district": "N", "km": len(n)}], status=status)
        print(ask(city, number * 100_000 + turn).split(":")[0], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
