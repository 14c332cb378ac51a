"""Who asks: bearer tokens (RFC 6750) that are JWTs of one issuer (RFC 7519), or one local token."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from datasov.crypto.kdf import sha256
from datasov.gateway.operation import ANYBODY, Caller, Role
from datasov.gateway.problems import ProblemError

ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "RS256": ("RSA", ""), "PS256": ("RSA", ""),
    "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519"),
}  # fmt: skip
"""Signature algorithms that may be allowed, with the type and the curve of the keys that they take."""
MAX_TOKEN, MIN_RSA, LEEWAY = 8192, 2048, 30
_REMEMBERED, _TRUSTED_FOR = 8192, 60
_REFUSED_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc")

Key = ECKey | RSAKey | OKPKey


class KeySource(Protocol):
    """Where an issuer's public keys are: JWKs as objects. It keeps them, and looks again where `again` is set."""

    async def keys(self, *, again: bool = False) -> Sequence[Mapping[str, Any]]: ...


class Verifier(Protocol):
    async def __call__(self, token: str) -> Caller:
        """Who the token is of; ProblemError (401) where it is not valid."""


def unauthorized(detail: str = "the token is not valid here, or over: ask the issuer for a new one") -> ProblemError:
    """The one answer to whatever is wrong with a token."""
    return ProblemError("unauthorized", detail, {"www-authenticate": 'Bearer realm="datasov"'})


@dataclass(frozen=True, slots=True)
class Issuer:
    """What tokens have to be.

    Attributes:
        url, audience: `iss` and one of `aud`, exactly.
        algorithms: those allowed, of :data:`ALGORITHMS`.
        roles_claim: where the roles stand, with dots between members: "roles", "realm_access.roles".
        roles: a value there to the role that it grants.
    """

    url: str
    audience: str
    algorithms: Sequence[str] = ("ES256", "RS256", "PS256", "EdDSA", "Ed25519")
    roles_claim: str = "roles"
    roles: Mapping[str, Role] = field(default_factory=lambda: {r: r for r in ANYBODY})


class JwtVerifier:
    """Verifies tokens of an issuer. What was verified is taken as valid for a minute, and never beyond its `exp`."""

    def __init__(self, issuer: Issuer, source: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._issuer, self._source, self._clock = issuer, source, clock
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    async def __call__(self, token: str) -> Caller:
        if len(token) > MAX_TOKEN or not token.isascii():
            raise unauthorized()
        name, now = sha256(token.encode()), self._clock()
        known = self._known.get(name)
        if known is not None and now < known[1]:
            return known[0]
        alg, kid = _header(token, self._issuer.algorithms)
        candidates = _fitting(await self._source.keys(), alg, kid)
        if not candidates:
            candidates = _fitting(await self._source.keys(again=True), alg, kid)
        if len(candidates) != 1:
            raise unauthorized()
        caller, expires = self._read(token, candidates[0], alg, now)
        self._known[name] = (caller, min(expires, now + _TRUSTED_FOR))
        self._known.move_to_end(name)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def _read(self, token: str, key: Key, alg: str, now: float) -> tuple[Caller, float]:
        try:
            claims = jwt.decode(token, key, algorithms=[alg]).claims
        except (JoseError, ValueError, TypeError):
            raise unauthorized() from None
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        subject: Any = claims.get("sub")
        expires: Any = claims.get("exp")
        since: Any = claims.get("nbf", 0)
        if not isinstance(subject, str) or not 0 < len(subject) <= 256 or not _instants(expires, since):
            raise unauthorized()
        listed = audiences if isinstance(audiences, list) else []
        if claims.get("iss") != self._issuer.url or self._issuer.audience not in listed:
            raise unauthorized()
        if not since - LEEWAY <= now < expires + LEEWAY:
            raise unauthorized()
        found: Any = claims
        for member in self._issuer.roles_claim.split("."):
            found = found.get(member) if isinstance(found, dict) else None
        named = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        roles = frozenset(self._issuer.roles[r] for r in named if isinstance(r, str) and r in self._issuer.roles)
        return Caller(subject, roles), float(expires)


def _header(token: str, allowed: Sequence[str]) -> tuple[str, str | None]:
    """Algorithm and key id of a compact JWS; neither is trusted beyond choosing a key of the issuer's own."""
    first, *rest = token.split(".")
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        raise unauthorized() from None
    if not isinstance(header, dict) or len(rest) != 2 or any(name in header for name in _REFUSED_HEADERS):
        raise unauthorized()
    alg, kid = header.get("alg"), header.get("kid")
    if (
        not isinstance(alg, str)
        or alg not in allowed
        or alg not in ALGORITHMS
        or not (kid is None or isinstance(kid, str))
    ):
        raise unauthorized()
    return alg, kid


def _fitting(keys: Sequence[Mapping[str, Any]], alg: str, kid: str | None) -> list[Key]:
    """The issuer's keys that may have signed: of the algorithm's type, and of the id where one is named."""
    kty, curve = ALGORITHMS[alg]
    made: list[Key] = []
    for doc in keys:
        fits = (
            doc.get("kty") == kty
            and (not curve or doc.get("crv") == curve)
            and doc.get("use", "sig") == "sig"
            and doc.get("alg", alg) == alg
            and (kid is None or doc.get("kid") == kid)
        )
        if not fits:
            continue
        public = {n: doc[n] for n in ("kty", "crv", "x", "y", "n", "e") if n in doc}
        try:
            key = _import(kty, public)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA:
            continue
        made.append(key)
    return made


def _import(kty: str, public: Mapping[str, Any]) -> Key:
    if kty == "EC":
        return ECKey.import_key(dict(public))
    return RSAKey.import_key(dict(public)) if kty == "RSA" else OKPKey.import_key(dict(public))


def _instants(*values: object) -> bool:
    return all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < 2**53 for n in values)


class LocalToken:
    """One token of 32 random bytes, which lies in a file that its owner alone can read, and grants every role."""

    def __init__(self, token: str) -> None:
        self._hash = sha256(token.encode())

    async def __call__(self, token: str) -> Caller:
        if not hmac.compare_digest(sha256(token.encode()), self._hash):
            raise unauthorized("the token is not the one in the token file: read it again, a new start makes a new one")
        return Caller("local", ANYBODY)
