"""The command `datasov`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from datasov.commands import aggregator, charter, city, consent, home, key, log, ngsi, programme, receipts, serve, vault
from datasov.commands.secret import NoTerminalError
from datasov.errors import DatasovError, MissingExtraError

DEMO = """Run the main job on real data, from end to end: one year of purchases of up to 2,469 households.

Every household becomes a resident with a vault of its own, signs consents, and contributes. A city asks five questions
under differential privacy. Each release is printed with its 95 % intervals beside two exact answers that only this demo
may show: of the question as bounded, which the interval should cover, and of all rows. Then one resident's receipts are
checked against the log, and two questions are refused."""

JSON = """print all else to standard error, and one JSON object as the last line of standard output: households,
releases (a flat list, one entry a cell and statistic: question, key, statistic, value, low, high, sigma, exact,
exact_unbounded; sigma of a mean is that of its sum; exact is null for the mean of no rows), covered_share (of
[low, high] that contain exact), seconds, peak_bytes"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(
        prog="datasov",
        description="Data sovereignty: vaults only their owners can open, consent that is signed, and aggregates only "
        "through differential privacy.",
    )
    main.add_argument("--version", action="version", version=f"datasov {version('datasov')}")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run the main job on real purchases and write a report",
        description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--households", type=_households, metavar="N", help="only the first N households by id")
    demo.add_argument("--json", action="store_true", help=JSON)
    demo.add_argument(
        "--report", type=Path, metavar="PATH", default=Path("datasov-report.html"),
        help="where the HTML report goes (default: %(default)s)",
    )  # fmt: skip
    demo.add_argument("--image", type=Path, metavar="PATH", help="also write a picture of two releases, as SVG")
    demo.add_argument(
        "--keep", type=Path, metavar="FOLDER",
        help="keep the vaults, their device keys and the city in a new folder (default: a temporary one)",
    )  # fmt: skip
    demo.set_defaults(run=_demo)
    vault.add(commands)
    consent.add(commands)
    key.add(commands)
    charter.add(commands)
    programme.add(commands)
    log.add(commands)
    city.add(commands)
    receipts.add(commands)
    home.add(commands)
    aggregator.add(commands)
    serve.add(commands)
    ngsi.add(commands)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 where it was refused or failed, 2 where it cannot be run as asked."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        with _ended_cleanly():
            return run(options)
    except (NoTerminalError, MissingExtraError) as fault:
        print(f"datasov: {fault}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DatasovError as fault:
        print(f"datasov: {fault}", file=sys.stderr)
        return 1
    except OSError as fault:
        print(f"datasov: {fault.strerror or fault}: check the path, and who may read and write there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


@contextlib.contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Where the terminal goes or somebody ends the process, it takes back first what it has half written."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    mine = [s for s in (signal.SIGTERM, signal.SIGHUP) if _ours() and signal.getsignal(s) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _ours() -> bool:
    return threading.current_thread() is threading.main_thread()


def _demo(options: argparse.Namespace) -> int:
    from datasov import demo

    if demo.missing():
        print("datasov: the demo needs its extra: pip install 'datasov[demo]'", file=sys.stderr)
        return 2
    from datasov.demo.run import Options, run

    run(Options(options.households, options.json, options.report, options.image, options.keep))
    return 0


def _households(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one household")
    return number


if __name__ == "__main__":
    sys.exit(main())
