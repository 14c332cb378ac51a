"""`datasov receipts`: what was asked of a resident's data, checked at home and offline."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasov import receipts
from datasov.admitted import Sent
from datasov.commands import operator, secret, show
from datasov.erased import Erasure
from datasov.errors import InvalidDataError, InvalidQueryError, StoreError
from datasov.home import logs
from datasov.model.consent import CityId
from datasov.model.privacy import Loss
from datasov.notices import Notice
from datasov.resident import Resident
from datasov.tlog.bundle import MAX_BUNDLE, verify_bundle
from datasov.tlog.operators import Operators
from datasov.tlog.receipt import Receipt

_ABOUT = """List every released question that your data could have entered, because a consent of yours covered it.

`datasov receipts VAULT --log LOG` reads the whole log and verifies it here, so that nobody learns what concerns you:
every leaf is under the signed checkpoint, the log continues what you saw last, and each change of the operator's key is
signed by the key before. LOG is a file that `datasov city export-log` wrote, a mirror that `datasov log publish` wrote,
the address of one or of a gateway's log (https://city.example/log), or a city's own folder. The losses are those of
whoever took part, at most; whether you did stays yours to know.

`datasov receipts verify FILE --city ID` checks a file that --export wrote, offline. ID is the city's id, as a consent
names it.

Exit codes: 0 done; 1 something does not verify, or failed; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add `receipts` to the commands of `datasov`."""
    parser = commands.add_parser(
        "receipts", help="list what was asked of your data, and check it against a city's log",
        usage="datasov receipts VAULT --log LOG [options]\n       datasov receipts verify FILE --city ID [--json]",
        description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("what", nargs="+", metavar="VAULT", help="the vault's folder; or: verify FILE")
    parser.add_argument("--log", metavar="LOG", help="the city's log: a file, a mirror, its address or a city")
    parser.add_argument("--city", metavar="ID", help="the city's present id, where a mirror's operator changed its key")
    parser.add_argument("--export", type=Path, metavar="FILE", help="also write them to a new file, to be shown around")
    parser.add_argument(
        "--with-consents", action="store_true", help="name in that file the consents that covered them, by their hashes"
    )
    parser.add_argument(
        "--notices", action="store_true",
        help="also list the city's charters, programmes and emergencies, each checked, and the erasures of your rows",
    )  # fmt: skip
    parser.add_argument(
        "--sent", action="store_true",
        help="also tell of each contribution of this vault whether the city's log says that it was admitted",
    )  # fmt: skip
    operator.add_option(parser, "where a city's own folder has its key (default: LOG.key)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    secret.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.what[0] == "verify" and len(options.what) == 2:
        return _verify(Path(options.what[1]), options)
    if len(options.what) != 1 or options.log is None:
        raise InvalidDataError("name one vault, and the city's log with --log")
    return _list(Path(options.what[0]), options)


def _list(path: Path, options: argparse.Namespace) -> int:
    if not (path / "VAULT").is_file():
        raise StoreError(f"no vault is at {path}: check the path")
    if options.export is not None and options.export.exists():
        raise StoreError(f"{options.export} exists already: choose another path")
    with Resident.open(path, **secret.opening(options, f"Passphrase of {path}")) as resident:
        held = [CityId.parse(c.claims.audience) for c in resident.consents]
        named = _city(options.city) if options.city else None
        key = operator.key_of(options.operator_key_file)
        with logs.source(str(options.log), city=named, operator_key=key).open(held) as log:
            found, bundle, governed = resident.receipts(log), None, None
            operators = resident.operators(log) if resident.checkpoints() else None
            if options.notices:
                governed = resident.notices(log), resident.erasures(log)
            sent = resident.sent(log) if options.sent else None
            if options.export is not None:
                bundle = resident.bundle(log, consents=options.with_consents)
    if bundle is not None:
        _write(options.export, bundle)
    _show(found, operators, options.json, governed, sent)
    return 0


def _city(text: str) -> CityId:
    try:
        return CityId.parse(text)
    except InvalidQueryError as why:
        raise InvalidDataError(f"--city: {why}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as fault:
        raise StoreError(f"{path} cannot be written: {fault.strerror or fault}") from None


def _verify(path: Path, options: argparse.Namespace) -> int:
    if options.city is None:
        raise InvalidDataError("give the city's id with --city: a file cannot vouch for its own key")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE + 1)
    except OSError as fault:
        raise StoreError(f"{path} cannot be read: {fault.strerror or fault}") from None
    found = verify_bundle(data, _city(options.city))
    _show(found.receipts, found.operators, options.json)
    return 0


def _notices(told: tuple[list[Notice], list[Erasure]] | None) -> dict[str, object]:
    if told is None:
        return {}
    notices = [
        {"subject": n.subject, "index": n.index, "time": n.time, "identity": n.identity.hex(), "says": str(n)}
        for n in told[0]
    ]
    gone = [{"purpose": e.consent.claims.purpose, "time": e.time, "index": e.index} for e in told[1]]
    return {"notices": notices, "erasures": gone}


def _sent(sent: Sequence[Sent] | None) -> dict[str, object]:
    if sent is None:
        return {}
    listed = [
        {"consent": s.consent.digest.hex(), "purpose": s.consent.claims.purpose, "number": s.number,
         "admitted": s.admitted}
        for s in sent
    ]  # fmt: skip
    return {"sent": listed}


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _told(operators: Operators | None) -> list[tuple[str, int, str]]:
    """What the city's operators said in the log, in its order: of what kind, when, and in words."""
    if operators is None:
        return []
    said = {}
    for index, change in operators.successions:
        text = f"The city has another key since {_date(change.time)}; its id is from then on {change.new}"
        said[index] = "key", change.time, text
    for index, copy in operators.restorations:
        text = (
            f"The city was restored on {_date(copy.time)} to an older copy, of {copy.size} leaves: what it answered "
            "after that copy is lost, and could be paid for once more."
        )
        said[index] = "restored", copy.time, text
    return [said[index] for index in sorted(said)]


def _show(
    found: Sequence[Receipt], operators: Operators | None, as_json: bool,
    governed: tuple[list[Notice], list[Erasure]] | None = None, sent: Sequence[Sent] | None = None,
) -> None:  # fmt: skip
    told = _told(operators)
    totals = receipts.totals(found)
    if as_json:
        listed = [
            {"index": r.index, "time": r.time, "purpose": r.purpose, "loss": r.loss.document(), "tables": r.tables,
             "question": json.loads(r.question), "programme": r.release.programme.hex() or None,
             "approval": r.approved, "log": r.origin, "status": r.release.status.hex() or None}
            for r in found
        ]  # fmt: skip
        sums = [{"log": o, "purpose": p, "loss": loss.document()} for (o, p, _), loss in totals.items()]
        said = [{"kind": kind, "time": at, "text": text} for kind, at, text in told]
        whole = {"receipts": listed, "totals": sums, "operators": said, **_notices(governed), **_sent(sent)}
        print(json.dumps(whole, ensure_ascii=False), flush=True)
        return
    for _, _, text in told:
        print(text, flush=True)
    if governed is not None:
        notices, gone = governed
        print(show.table(["day", "notice"], [[_date(n.time), str(n)] for n in notices]) if notices else "No charter.")
        for erasure in gone:
            purpose = erasure.consent.claims.purpose
            print(f"{_date(erasure.time)}: your rows for {purpose} left the city's pool (leaf {erasure.index}).")
    for each in sent or ():
        what = "was admitted" if each.admitted else "is not in the log: it waits for its tick, was replaced or refused"
        print(f"Contribution {each.number} for {each.consent.claims.purpose} {what}.")
    if not found:
        print("Verified: no question was asked that a consent of yours covered.", flush=True)
        return
    running: dict[tuple[str, str, str], Loss] = {}
    lines = []
    for r in found:
        account = receipts.account(r)
        running[account] = running[account] + r.loss if account in running else r.loss
        lines.append(
            [_date(r.time), r.purpose, r.tables, str(r.loss), str(running[account]), r.approved or "left open"]
        )
    print(show.table(["day", "purpose", "about", "loss at most", "in all so far", "approved by"], lines))
    for (origin, purpose, _), loss in totals.items():
        print(f"For {purpose}, in {origin}: at most {loss} in all.")
    many = "1 question," if len(found) == 1 else f"{len(found)} questions, each"
    print(f"{many} verified against the log's signed checkpoint.", flush=True)
