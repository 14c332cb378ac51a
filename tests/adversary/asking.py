"""A process that asks a city, to be killed or raced by tests: python -m tests.adversary.asking MODE PATH ARGUMENT.

loop     ask one new question after another, and print each answer's identifier.
threads  the same from eight threads at once.
crash    ask one question, and end at once at the point "WHAT:N:before" or "WHAT:N:after".
each     ask the questions below ARGUMENT, in an order of this process's own, and print "NUMBER ANSWER" for each; go on
         where the city's database cannot be used for a while, and print "down".
once     wait for the file PATH.go, then ask the question numbered ARGUMENT, and print the answer or "refused".
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov.store.sqlite import SQLiteStore
from tests.helpers import NOW, PURPOSE, TRIPS, few_lists

LOSS = ds.zcdp(rho="0.01")


def question(number: int) -> ds.Query:
    """One question of many."""
    base = ds.query(TRIPS).keys("district").bound(rows=5, keys=2).count().sum("km")
    return base.where(ds.col("km") > -number)


def ask(city: ds.City, number: int) -> str:
    found = city.release(question(number), loss=LOSS, purpose=PURPOSE)
    return found.identifier.hex() + ":" + b"".join(v.tobytes() for v in found.values).hex()


def die_at(point: str) -> None:
    """End the process at the Nth call of `append` (of the store), `fsync` or `replace` from now on."""
    what, number, when = point.split(":")
    owner: Any = SQLiteStore if what == "append" else os
    real: Callable[..., Any] = getattr(owner, what)
    left = int(number)

    def dying(*given: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and when == "before":
            os._exit(9)
        result = real(*given)
        if left < 0:
            os._exit(9)
        return result

    setattr(owner, what, dying)


def main(mode: str, path: str, argument: str) -> None:
    city = ds.City.open(path, clock=lambda: NOW)
    if mode == "loop":
        number = int(argument)
        print("ready", flush=True)
        while True:
            print(ask(city, number), flush=True)
            number += 1
    if mode == "threads":

        def asking(place: int) -> None:
            for number in itertools.count(int(argument) + place, 8):
                answer = ask(city, number)
                os.write(1, f"{answer}\n".encode())  # one call, so that lines of threads do not mix

        print("ready", flush=True)
        threads = [threading.Thread(target=asking, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if mode == "each":
        print("ready", flush=True)
        for number in random.sample(range(int(argument)), int(argument)):
            while True:
                try:
                    print(number, ask(city, number), flush=True)
                    break
                except ds.BudgetExceededError:
                    print(number, "refused", flush=True)
                    break
                except ds.StoreError:
                    print("down", flush=True)
                    time.sleep(0.2)
        return
    if mode == "crash":
        die_at(argument)
        print(ask(city, 1), flush=True)
        os._exit(0)
    print("ready", flush=True)
    while not Path(path + ".go").exists():
        time.sleep(0.001)
    try:
        print(ask(city, int(argument)), flush=True)
    except ds.BudgetExceededError:
        print("refused", flush=True)


if __name__ == "__main__":
    few_lists(pytest.MonkeyPatch())
    main(*sys.argv[1:])
