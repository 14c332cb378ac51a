"""Run a bench: ``python -m benches kernel --json``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import benches


def names() -> list[str]:
    """The benches there are."""
    return sorted(
        m.name
        for m in pkgutil.iter_modules(benches.__path__)
        if not m.name.startswith("_") and not m.name.endswith("_part")
    )


def machine() -> str:
    """The kind of machine: processors, model, memory."""
    model, memory = platform.processor() or platform.machine(), ""
    cpu, info = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpu.exists():
        lines = (line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if "model name" in line)
        model = next(lines, model)
    if info.exists():
        memory = f", {int(info.read_text().split()[1]) / 2**20:.0f} GiB"
    return f"{benches.processors()} x {model}{memory}, Python {platform.python_version()}"


def table(figures: Mapping[str, object]) -> str:
    """The figures as aligned lines; of a list of objects, a line each."""
    width = max(map(len, figures))
    lines = []
    for name, value in figures.items():
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            lines += [name, *("  " + ", ".join(f"{k}: {_text(v)}" for k, v in each.items()) for each in value)]
        else:
            lines.append(f"{name:<{width}}  {_text(value):>16}")
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bench and print its figures; 2 where it cannot be run as asked."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which: " + ", ".join(names()))
    parser.add_argument("--list", action="store_true", help="print the names, one a line")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--size", choices=("small", "full"), default="small", help="default: %(default)s")
    parser.add_argument("--rows", type=int, metavar="N", help="so many rows instead, where the bench takes that")
    parser.add_argument("--residents", type=int, metavar="N", help="so many residents, where the bench takes that")
    parser.add_argument("--tokens", type=int, metavar="N", help="so many tokens, where the bench takes that")
    parser.add_argument("--days", type=int, metavar="N", help="so many days, where the bench takes that")
    parser.add_argument(
        "--engine", choices=("local", "ray"), help="who maps over the shards, where the bench takes that"
    )
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names()))
        return 0
    if options.name not in names():
        parser.error(f"name one of: {', '.join(names())}")
    run = importlib.import_module(f"benches.{options.name}").run
    extra: dict[str, object] = {}
    for option in ("rows", "residents", "tokens", "days"):
        number = getattr(options, option)
        if number is not None:
            if option not in inspect.signature(run).parameters or number < 1:
                parser.error(f"{options.name} takes no such --{option}")
            extra[option] = number
    if options.engine is not None:
        if "engine" not in inspect.signature(run).parameters:
            parser.error(f"{options.name} takes no --engine")
        extra["engine"] = options.engine
    if sys.stderr.isatty():
        print(f"{options.name} ({options.size}) is running ...", file=sys.stderr)
    began = time.perf_counter()
    figures: dict[str, object] = {"bench": options.name, "size": options.size, **run(options.size, **extra)}
    figures |= {"bench_seconds": round(time.perf_counter() - began, 2), "machine": machine()}
    print(table(figures))
    if options.json:
        print(json.dumps(figures, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
