"""The server: uvicorn over the application of one city, in one process or several."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from datasov import catalogue
from datasov.city import City
from datasov.errors import InvalidQueryError, StoreError
from datasov.gateway.app import app
from datasov.gateway.auth import ALGORITHMS, Issuer, JwtVerifier, LocalToken, Verifier
from datasov.gateway.keys import Discovery, KeyFile, check_url, loopback
from datasov.gateway.operation import ANYBODY
from datasov.gateway.protocol import GuardedProtocol
from datasov.gateway.shared import Limits
from datasov.model.schema import Schema
from datasov.store import place
from datasov.vault import files

_VARIABLE = "DATASOV_GATEWAY"
_BACKLOG = 2048
_HEALTHY = 60
"""Seconds within which a process answers, or is replaced; on a busy machine the start alone takes more than 5."""
_WAIT, _AGAIN = 20.0, 0.25
"""Seconds for which a process that starts waits for a store that is away, and after which it looks again."""
_SWITCH = 0.0005
"""Seconds after which a thread that computes lets another one in. A question takes the interpreter up again after each
of its reads and writes; with CPython's 5 ms it would wait so long each time beside a busy event loop."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is started with; paths are texts, so that processes can hand it on.

    Attributes:
        tables: files with a schema each (JSON, `Schema.document()`); the built-in catalogue is served besides.
        issuer, audience: of bearer tokens; without an issuer there is one local token, and only this machine is served.
        jwks: a file with the issuer's keys; "" where its discovery document names them.
        roles: a value of the claim to the role that it grants; empty: analyst, operator and auditor are called so.
        tls_certificate, tls_key: files in PEM. proxy: addresses whose X-Forwarded-For is believed.
        store: where the city's store is, as City.open takes it; "" for the file in the city's folder.
    """

    city: str
    operator_key_file: str = ""
    store: str = ""
    tables: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8400
    workers: int = 1
    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    algorithms: tuple[str, ...] = Issuer("", "").algorithms  # type: ignore[assignment]
    roles_claim: str = "roles"
    roles: Mapping[str, str] = field(default_factory=dict)
    token_file: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    proxy: str = ""
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raise InvalidQueryError where the door would be open, or a token would travel in clear."""
        if not self.issuer and not loopback(self.host):
            raise InvalidQueryError(
                "without an issuer only this machine is served: leave --host out, or give --issuer and --audience"
            )
        if not loopback(self.host) and not self.tls_certificate and not self.proxy:
            raise InvalidQueryError(
                "tokens would travel in clear: give --tls-certificate and --tls-key, or --behind-proxy ADDRESS of the "
                "proxy that ends TLS"
            )
        if self.issuer and not self.audience:
            raise InvalidQueryError("tokens are made for an audience: give --audience, as the issuer knows the gateway")
        if not set(self.algorithms) <= set(ALGORITHMS) or not self.algorithms:
            raise InvalidQueryError(f"signature algorithms are {', '.join(ALGORITHMS)}: name some of them")
        if not set(self.roles.values()) <= ANYBODY:
            raise InvalidQueryError("roles are analyst, operator and auditor: write --role VALUE=analyst")
        if not 1 <= self.workers <= 64 or not 0 <= self.port <= 65_535:
            raise InvalidQueryError("workers are 1 to 64, and a port is a number from 0 to 65535")
        if self.issuer and not self.jwks:
            check_url(self.issuer)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        doc: dict[str, Any] = json.loads(text)
        doc |= {n: tuple(doc[n]) for n in ("tables", "algorithms")}
        return Settings(**{**doc, "limits": Limits(**doc["limits"])})

    @property
    def token_path(self) -> Path:
        """Where the local token lies: beside the city."""
        city = Path(self.city)
        return Path(self.token_file) if self.token_file else city.with_name(city.name + ".token")


def tables(paths: tuple[str, ...]) -> dict[str, Schema]:
    """The catalogue's tables and those of the files, which go before tables of the same name.

    Raises:
        InvalidQueryError, StoreError: a file holds no schema, or cannot be read.
    """
    found = {e.schema.name: e.schema for e in catalogue.entries()}
    for path in paths:
        try:
            schema = Schema.from_document(json.loads(Path(path).read_bytes()))
        except OSError as fault:
            raise StoreError(f"the table's file {path} cannot be read: {fault.strerror or fault}") from None
        except InvalidQueryError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            raise InvalidQueryError(
                f"{path} is no table: it is JSON, as json.dumps(schema.document()) gives it"
            ) from None
        found[schema.name] = schema
    return found


def mint(path: Path) -> None:
    """Write a new token of 32 random bytes to a file that its owner alone can read, in the place of an older one."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        files.create_new(part, (secrets.token_urlsafe(32) + "\n").encode())
        os.replace(part, path)
    except OSError as fault:
        raise StoreError(f"{path} cannot be written: {fault.strerror or fault}") from None


def verifier(settings: Settings) -> Verifier:
    """What tokens are checked with."""
    if not settings.issuer:
        try:
            return LocalToken(settings.token_path.read_text().strip())
        except OSError as fault:
            raise StoreError(f"{settings.token_path} cannot be read: {fault.strerror or fault}") from None
    more: dict[str, Any] = {"roles": dict(settings.roles)} if settings.roles else {}
    issuer = Issuer(settings.issuer, settings.audience, settings.algorithms, settings.roles_claim, **more)
    return JwtVerifier(issuer, KeyFile(Path(settings.jwks)) if settings.jwks else Discovery(settings.issuer))


def built() -> Starlette:
    """The application of a process that the server started."""
    logging.getLogger("datasov.gateway").setLevel(logging.INFO)
    logging._srcfile, logging.logThreads = None, False  # a line a request names neither
    sys.setswitchinterval(_SWITCH)
    settings = Settings.from_json(os.environ[_VARIABLE])
    limits = settings.limits
    GuardedProtocol.header_seconds, GuardedProtocol.most = limits.header_seconds, limits.connections
    GuardedProtocol.write_seconds = limits.write_seconds
    GuardedProtocol.per_address = limits.connections if settings.proxy else limits.connections_each
    city = _waited(settings)
    return app(city, verifier=verifier(settings), tables=tables(settings.tables), limits=limits, close=city.close)


def _waited(settings: Settings) -> City:
    """The city. It was there when the server started: its store may be away for as long as that one restarts.

    A process that waited in vain ends, and the server starts another one.
    """
    until = time.monotonic() + _WAIT
    while True:
        try:
            return opened(settings)
        except StoreError as fault:
            if time.monotonic() >= until:
                logging.getLogger("datasov.gateway").error("a process cannot open the city: %s", fault)
                raise SystemExit(1) from None
        time.sleep(_AGAIN)


def opened(settings: Settings) -> City:
    """The city; StoreError where there is none."""
    path, given = Path(settings.city), dict[str, Any]()
    if not place.is_city(path):
        raise StoreError(f"no city is at {path}: check the path, or found one with `datasov city found`")
    if settings.operator_key_file:
        try:
            given["operator_key"] = Path(settings.operator_key_file).read_bytes()
        except OSError as fault:
            raise StoreError(f"the key file cannot be read: {fault.strerror or fault}") from None
    if settings.store:
        given["store"] = settings.store
    return City.open(path, **given)


def run(settings: Settings) -> int:
    """Serve until a signal ends it. The first line on standard output is the URL.

    Raises:
        InvalidQueryError, StoreError, PeerError: it cannot be served so; nothing is open then.
        OSError: the address is taken.
    """
    settings.check()
    tables(settings.tables)
    opened(settings).close()
    if not settings.issuer:
        mint(settings.token_path)
    verifier(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
        listening.set_inheritable(True)
        _say(settings, listening.getsockname()[1])
        os.environ[_VARIABLE] = settings.to_json()
        try:
            return _served(settings, listening)
        finally:
            del os.environ[_VARIABLE]


def _say(settings: Settings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}", flush=True)
    if not settings.issuer:
        print(f"The token is in {settings.token_path}: Authorization: Bearer TOKEN", file=sys.stderr, flush=True)


def _served(settings: Settings, listening: socket.socket) -> int:
    config = uvicorn.Config(
        "datasov.gateway.serve:built", factory=True, workers=settings.workers, backlog=_BACKLOG,
        http="datasov.gateway.protocol:GuardedProtocol", ws="none", loop="uvloop", lifespan="on",
        access_log=False, log_config=_LOGGING, server_header=False, timeout_keep_alive=15,
        timeout_graceful_shutdown=60, timeout_worker_healthcheck=_HEALTHY,
        proxy_headers=bool(settings.proxy), forwarded_allow_ips=settings.proxy or None,
        ssl_certfile=settings.tls_certificate or None, ssl_keyfile=settings.tls_key or None,
    )  # fmt: skip
    server = uvicorn.Server(config)
    if settings.workers == 1:
        server.run(sockets=[listening])
        return 0 if server.started else 1
    Multiprocess(config, sockets=[listening]).run()
    return 0


_LOGGING: dict[str, Any] = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "datasov.gateway": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}  # fmt: skip
