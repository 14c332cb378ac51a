"""An issuer's public keys: from a file, or by its discovery document (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from datasov.errors import PeerError, StoreError

FRESH, AGAIN = 600.0, 30.0
"""Seconds after which keys are fetched anew, and between two fetches because of an unknown key."""
MAX_DOCUMENT, MAX_KEYS = 256 * 1024, 64
_TIMEOUT = httpx.Timeout(5.0)


class KeyFile:
    """A JWK set (RFC 7517) in a file, read again where it changed."""

    def __init__(self, path: Path) -> None:
        self._path, self._stamp, self._keys = path, (0, 0), list[Mapping[str, Any]]()
        self._load()

    async def keys(self, *, again: bool = False) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002
        """The keys of the file now; those of the last time where the file cannot be read now."""
        with suppress(StoreError):
            self._load()
        return self._keys

    def _load(self) -> None:
        try:
            status = self._path.stat()
            if (stamp := (status.st_mtime_ns, status.st_size)) != self._stamp:
                self._keys, self._stamp = key_set(self._path.read_bytes()), stamp
        except (OSError, PeerError) as fault:
            raise StoreError(
                f"{self._path} is no JWK set that can be read: name a file with {{'keys': [...]}}"
            ) from fault


class Discovery:
    """The keys that an issuer's discovery document names, fetched over HTTPS (or from this machine)."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        check_url(issuer)
        self._issuer, self._clock, self._lock = issuer, clock, asyncio.Lock()
        self._keys: list[Mapping[str, Any]] = []
        self._fetched = self._tried = -1e9

    async def keys(self, *, again: bool = False) -> Sequence[Mapping[str, Any]]:
        """The keys, fetched where they are old, or with `again` where the last fetch is not too new.

        Raises:
            PeerError: there are none yet, and the issuer does not answer as it should.
        """
        fresh = self._clock() - self._fetched <= FRESH
        if self._keys and not again and (fresh or self._lock.locked()):
            return self._keys  # who knows a key waits for no issuer that is slow
        async with self._lock:
            now = self._clock()
            old = now - self._fetched > FRESH
            if (old or again) and now - self._tried > AGAIN:
                self._tried = now
                try:
                    self._keys, self._fetched = await fetch(self._issuer), now
                except PeerError:
                    if not self._keys:
                        self._tried = now - AGAIN + 2
                        raise
            if not self._keys:
                raise PeerError("the issuer's keys could not be fetched")
            return self._keys


def check_url(url: str) -> None:
    """Raise PeerError unless it is https, or http to this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not loopback(parts.hostname or ""):
        raise PeerError("an issuer and its keys are fetched over https: give an https URL")


def loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def fetch(issuer: str) -> list[Mapping[str, Any]]:
    """The keys of an issuer, found by its discovery document; PeerError where anything is not as it should be."""
    async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client:
        found = _object(await _get(client, issuer.rstrip("/") + "/.well-known/openid-configuration"))
        place = found.get("jwks_uri")
        if found.get("issuer") != issuer or not isinstance(place, str):
            raise PeerError("the issuer's discovery document is of another issuer, or names no jwks_uri")
        check_url(place)
        return key_set(await _get(client, place))


async def _get(client: httpx.AsyncClient, url: str) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(10), client.stream("GET", url, headers={"accept": "application/json"}) as response:
            if response.status_code != 200:
                raise PeerError("the issuer does not answer with 200")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT:
                    raise PeerError("the issuer's document is too long")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as fault:
        raise PeerError("the issuer does not answer") from fault
    return bytes(body)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise PeerError("the issuer's document is no JSON") from None
    if not isinstance(found, dict):
        raise PeerError("the issuer's document is no object")
    return found


def key_set(data: bytes) -> list[Mapping[str, Any]]:
    """The keys of a JWK set, at most 64; PeerError where it is none."""
    keys = _object(data).get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(k, dict) for k in keys):
        raise PeerError("a JWK set has `keys`, a list of at most 64 objects")
    return keys
