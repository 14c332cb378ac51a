"""A process that is killed with letters in its hands: python -m tests.adversary.sending MODE PATH ARGUMENT....

receive  receive the letters of a file, one after the other, and print the number of each once it is received.
points   for every call of these kinds in a collection, die before and after it in a copy of the city; print the copies.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import datasov as ds
from tests.adversary.asking import die_at
from tests.helpers import NOW, few_lists
from tests.helpers import Clock as At

SIZE = 16 * 1024 + 48
HOUR = 3_600


def receive(path: str, file: str) -> None:
    data, city = Path(file).read_bytes(), ds.City.open(path, clock=At())
    print("ready", flush=True)
    for number in range(len(data) // SIZE):
        city.receive(data[number * SIZE : (number + 1) * SIZE])
        print(number, flush=True)


def points(path: str, *kinds: str) -> None:
    place = Path(path)
    for what in kinds:
        for number in range(40):
            for when in ("before", "after"):
                folder = place.parent / f"{what}-{number}-{when}"
                folder.mkdir()
                for name in ("", ".key", ".anchor", ".inbox"):
                    one = place.with_name(place.name + name)
                    (shutil.copytree if one.is_dir() else shutil.copy)(one, folder / one.name)
                if (child := os.fork()) == 0:
                    die(folder / place.name, f"{what}:{number}:{when}")
                ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                print(folder.name, ended, flush=True)
            if ended == 0:
                break


def die(path: Path, point: str) -> None:
    try:
        city = ds.City.open(path, clock=At(NOW + HOUR))
        die_at(point)
        city.take_up()
        os._exit(0)
    finally:
        os._exit(1)


if __name__ == "__main__":
    few_lists(pytest.MonkeyPatch())
    globals()[sys.argv[1]](*sys.argv[2:])
