"""A process that opens collections, to be killed by tests: python -m tests.adversary.collecting MODE PATH ARGUMENT.

crash  open one, and end at once at the point "WHAT:N:before" or "WHAT:N:after".
loop   open one after another from two threads, and print what is told of each.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

import pytest

import datasov as ds
from datasov.mpc.task import read_task
from tests.adversary.asking import die_at
from tests.helpers import NOW, PURPOSE, few_lists, instant
from tests.locals import COUNT
from tests.servers import LONG

LOSS = ds.pure(epsilon="0.5")


def question(number: int) -> ds.Query:
    """One question of many, of everybody's one row."""
    return COUNT.where(ds.col("km") > -number)


def collect(city: ds.City, number: int) -> bytes:
    return city.collect(question(number), loss=LOSS, purpose=PURPOSE, until=instant(NOW + LONG))


def main(mode: str, path: str, argument: str) -> None:
    city = ds.City.open(path, clock=lambda: NOW, post=lambda to, path, body: read_task(body).id)
    if mode == "crash":
        die_at(argument)
        print(collect(city, 1).hex(), flush=True)
        os._exit(0)

    def opening(place: int) -> None:
        for number in itertools.count(int(argument) + place, 2):
            os.write(1, f"{collect(city, number).hex()}\n".encode())

    print("ready", flush=True)
    threads = [threading.Thread(target=opening, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    few_lists(pytest.MonkeyPatch())
    main(*sys.argv[1:])
