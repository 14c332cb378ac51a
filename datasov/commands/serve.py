"""`datasov serve`: a city over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasov.errors import InvalidDataError, MissingExtraError

_ABOUT = """Serve a city over HTTP: questions as JSON and SQL, previews, releases, series, the catalogue and the budget.

With nothing but CITY it listens on this machine alone, and writes a token, new at each start, to CITY.token, which only
its owner can read. Everybody else comes with a token of an OAuth 2 / OpenID Connect issuer: --issuer and --audience.
It needs the extra `gateway`: pip install 'datasov[gateway]'. See docs/gateway.md."""


def add(commands: Any) -> None:
    """Add `serve` to the commands of `datasov`."""
    parser = commands.add_parser(
        "serve", help="serve a city over HTTP", description=_ABOUT, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    option = parser.add_argument
    option("city", type=Path, metavar="CITY", help="the city's folder")
    option("--operator-key-file", type=Path, metavar="FILE", help="where the key is (default: CITY.key)")
    option("--store", default="", metavar="URL", help="where the store is, if not in CITY: postgresql://HOST/DATABASE")
    option(
        "--table",
        action="append",
        default=[],
        metavar="FILE",
        help="a table that may be asked about, beside the catalogue's: JSON of Schema.document(); may be repeated",
    )
    option("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    option("--port", type=int, default=8400, help="its port; 0 for a free one (default: %(default)s)")
    option("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    option("--issuer", default="", metavar="URL", help="of bearer tokens, as their `iss` says")
    option("--audience", default="", metavar="TEXT", help="one of their `aud`")
    option("--jwks", default="", metavar="FILE", help="the issuer's keys (default: from its discovery document)")
    option("--algorithm", action="append", default=[], metavar="ALG", help="allowed of its signatures; may be repeated")
    option("--roles-claim", default="roles", metavar="CLAIM", help="where roles stand, like realm_access.roles")
    option(
        "--role",
        action="append",
        default=[],
        metavar="VALUE=ROLE",
        help="what a value there grants: analyst, operator or auditor (default: they are called so)",
    )
    option("--token-file", default="", metavar="FILE", help="of the local token (default: CITY.token)")
    option("--tls-certificate", default="", metavar="FILE", help="PEM, with its chain")
    option("--tls-key", default="", metavar="FILE", help="PEM")
    option(
        "--behind-proxy",
        default="",
        metavar="ADDRESSES",
        help="of proxies that end TLS, and whose X-Forwarded-For is believed, with commas between them",
    )
    option(
        "--tick-ms",
        type=int,
        default=1000,
        metavar="N",
        help="answers to questions leave after 1, 2, 4 ... times so many milliseconds (default: %(default)s)",
    )
    option(
        "--client-rate",
        type=float,
        default=20.0,
        metavar="N",
        help="requests a second of one client, in each process (default: %(default)s)",
    )
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    try:
        from datasov.gateway import serve
    except ModuleNotFoundError as fault:
        raise MissingExtraError(
            f"the gateway needs {fault.name}, which is not installed: pip install 'datasov[gateway]'"
        ) from None
    if options.tick_ms < 0 or not options.client_rate > 0:
        raise InvalidDataError("a tick has 0 or more milliseconds, and a rate is above zero")
    roles = dict(item.partition("=")[::2] for item in options.role)
    settings = serve.Settings(
        str(options.city), operator_key_file=str(options.operator_key_file or ""), store=options.store,
        tables=tuple(options.table), host=options.host, port=options.port, workers=options.workers,
        issuer=options.issuer, audience=options.audience, jwks=options.jwks, roles_claim=options.roles_claim,
        roles=roles, token_file=options.token_file, tls_certificate=options.tls_certificate, tls_key=options.tls_key,
        proxy=options.behind_proxy,
    )  # fmt: skip
    if options.algorithm:
        settings = replace(settings, algorithms=tuple(options.algorithm))
    burst = max(1, int(2 * options.client_rate))
    limits = replace(settings.limits, tick_ms=options.tick_ms, client_rate=options.client_rate, client_burst=burst)
    return serve.run(replace(settings, limits=limits))
