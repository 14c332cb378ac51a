"""Who is let in: tokens of an issuer, a local token, roles, and keys that rotate at a real issuer."""

import asyncio
import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

import datasov as ds
from datasov.errors import PeerError, StoreError
from datasov.gateway import keys
from datasov.gateway.auth import Issuer, JwtVerifier, LocalToken
from datasov.gateway.problems import ProblemError
from datasov.gateway.serve import mint
from tests.gateways import (
    AUDIENCE,
    KEY,
    QUESTION,
    URL,
    Client,
    Keys,
    bearer,
    city_of,
    client_of,
    issuer_of,
    token,
    write_keys,
)
from tests.helpers import NOW, Clock

OTHER = ECKey.generate_key("P-256", {"kid": "one"}, private=True)
PUBLIC = KEY.as_dict(private=False)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ds.City]:
    with city_of(tmp_path_factory.mktemp("auth") / "c", Clock(), 0) as city:
        yield city


@pytest.fixture(scope="module")
def ask(city: ds.City) -> Iterator[Client]:
    with client_of(city, Clock()) as client:
        yield client


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    return {"iss": URL, "aud": AUDIENCE, "sub": "eve", "exp": NOW + 60, "roles": ["analyst"], **changed}


def unsigned(alg: str) -> str:
    return f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims())}."


def confused() -> str:
    """HMAC, keyed with the public key that everybody has."""
    signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims())}"
    tag = hmac.digest(KEY.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(tag).rstrip(b'=').decode()}"


def doctored() -> str:
    head, _, signature = token("auditor").split(".")
    return f"{head}.{part(claims(roles=['operator']))}.{signature}"


FORGED = {
    "none": unsigned("none"), "None": unsigned("None"), "empty alg": unsigned(""), "key confusion": confused(),
    "another key": token("analyst", key=OTHER), "doctored claims": doctored(),
    "unknown kid": token("analyst", header={"kid": "../../keys/one"}),
    "kid of SQL": token("analyst", header={"kid": "one' OR '1'='1"}),
    "jku": token("analyst", key=OTHER, header={"jku": "https://evil.example/keys"}),
    "jwk": token("analyst", key=OTHER, header={"jwk": OTHER.as_dict(private=False)}),
    "jku beside a good signature": token("analyst", header={"jku": "https://evil.example/keys"}),
    "x5u beside a good signature": token("analyst", header={"x5u": "https://evil.example/keys"}),
    "another issuer": token("analyst", iss=URL + "/"), "no issuer": token("analyst", iss=None),
    "another audience": token("analyst", aud="https://other.example"),
    "no audience": token("analyst", aud=None), "audiences without it": token("analyst", aud=["a", "b"]),
    "over": token("analyst", exp=NOW - 31), "no end": token("analyst", exp=None),
    "text as end": token("analyst", exp="9"),
    "endless": token("analyst", exp=1e300), "not yet": token("analyst", nbf=NOW + 31),
    "no subject": token("analyst", sub=None), "empty subject": token("analyst", sub=""),
    "two dots missing": "abc", "five parts": "a.b.c.d.e", "too long": "a" * 9000, "not ASCII": "tökén",
    "header is no object": f"{part([])}.{part(claims())}.x", "deep header": "W1tb" * 2000 + ".a.b",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused_alike(ask: Client, name: str) -> None:
    found = ask("GET", "/v1/budget", headers={"authorization": f"Bearer {FORGED[name]}".encode()})
    assert found.status_code == 401
    assert found.json()["detail"].startswith("the token is not valid here")
    assert found.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Bearer ", "bearer"])
def test_no_token_is_no_entry(ask: Client, header: str | None) -> None:
    assert ask("GET", "/v1/budget", headers={} if header is None else {"authorization": header}).status_code == 401


def test_a_token_in_the_query_does_not_count(ask: Client) -> None:
    assert ask("GET", f"/v1/budget?access_token={token('analyst')}").status_code == 401


def test_valid_tokens_are_let_in(ask: Client) -> None:
    for given in ({}, {"aud": ["x", AUDIENCE]}, {"exp": NOW + 1}, {"exp": NOW - 29}, {"nbf": NOW + 29}):
        assert ask("GET", "/v1/budget", headers=bearer("auditor", **given)).status_code == 200


def test_roles_allow_what_they_allow(ask: Client) -> None:
    for roles, status in (
        (("auditor",), 403), (("operator",), 403), ((), 403), (("admin", "Analyst"), 403), (("analyst",), 200),
        (("auditor", "analyst"), 200),
    ):  # fmt: skip
        found = ask("POST", "/v1/releases", json=QUESTION, headers=bearer(*roles))
        assert found.status_code == status
    assert ask("GET", "/v1/budget", headers=bearer(roles="analyst operator")).status_code == 200
    for odd in ({"analyst": True}, 7, [["analyst"]], None):
        assert ask("GET", "/v1/budget", headers=bearer(roles=odd)).status_code == 403


def verify(verifier: Any, text: str) -> Any:
    return asyncio.run(verifier(text))


def test_roles_of_another_claim_and_other_names() -> None:
    issuer = Issuer(URL, AUDIENCE, roles_claim="realm_access.roles", roles={"city-analysts": "analyst"})
    text = token(realm_access={"roles": ["city-analysts", "operator"]})
    assert verify(JwtVerifier(issuer, Keys(KEY), Clock()), text).roles == {"analyst"}


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", KEY), ("ES384", ECKey.generate_key("P-384")), ("RS256", RSAKey.generate_key(2048)),
        ("PS256", RSAKey.generate_key(2048)), ("EdDSA", OKPKey.generate_key("Ed25519")),
    ],
)  # fmt: skip
def test_algorithms_that_are_allowed(alg: str, key: Any) -> None:
    source = Keys()
    source.held = [{**key.as_dict(private=False), "kid": "k"}]
    text = jwt.encode({"alg": alg, "kid": "k"}, claims(), key, algorithms=[alg])
    assert verify(JwtVerifier(Issuer(URL, AUDIENCE, [alg]), source, Clock()), text).subject == "eve"
    with pytest.raises(ProblemError):
        verify(JwtVerifier(Issuer(URL, AUDIENCE, ["RS384"]), source, Clock()), text)


def test_keys_that_do_not_fit_verify_nothing() -> None:
    weak = RSAKey.generate_key(1024)
    text = jwt.encode({"alg": "RS256", "kid": "k"}, claims(), weak)
    source = Keys()
    for doc in (
        {**weak.as_dict(private=False), "kid": "k"}, {**PUBLIC, "kid": "k", "use": "enc"}, {"kty": "RSA", "kid": "k"},
        {"kty": "oct", "k": "AAAA", "kid": "k"},
    ):  # fmt: skip
        source.held = [doc]
        with pytest.raises(ProblemError):
            verify(JwtVerifier(Issuer(URL, AUDIENCE), source, Clock()), text)
    source.held = [{**PUBLIC, "alg": "ES384"}]
    with pytest.raises(ProblemError):
        verify(JwtVerifier(Issuer(URL, AUDIENCE), source, Clock()), token("analyst"))
    source.held = [PUBLIC, {**PUBLIC, "kid": "two"}]
    with pytest.raises(ProblemError):  # without an id it is not guessed which
        verify(JwtVerifier(Issuer(URL, AUDIENCE), source, Clock()), jwt.encode({"alg": "ES256"}, claims(), KEY))


def test_what_was_verified_is_not_trusted_beyond_its_end() -> None:
    clock = Clock()
    verifier = JwtVerifier(Issuer(URL, AUDIENCE), Keys(KEY), clock)
    text = token("analyst", exp=NOW + 10)
    assert verify(verifier, text).subject == "ana"
    clock.now += 41
    with pytest.raises(ProblemError):
        verify(verifier, text)


def test_local_token_is_new_at_each_start_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "c.token"
    mint(file)
    first = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert verify(LocalToken(first), first).subject == "local"
    mint(file)
    assert file.read_text().strip() != first
    with pytest.raises(ProblemError):
        verify(LocalToken(file.read_text().strip()), first)
    assert list(tmp_path.iterdir()) == [file]


def test_keys_of_a_real_issuer_rotate(tmp_path: Path) -> None:
    new = ECKey.generate_key("P-256", {"kid": "two"}, private=True)
    now = 1000.0
    with issuer_of(tmp_path, KEY) as (url, file):
        source = keys.Discovery(url, lambda: now)
        clock = Clock()
        verifier = JwtVerifier(Issuer(url, AUDIENCE), source, clock)

        async def flow() -> None:
            nonlocal now
            seen = file.with_suffix(".seen")
            assert (await verifier(token("analyst", iss=url))).roles == {"analyst"}
            for n in range(20):
                await verifier(token("analyst", iss=url, subject=f"s{n}"))
            assert seen.read_text() == "1"
            write_keys(file, new)
            later = token("analyst", iss=url, key=new, header={"kid": "two"})
            for _ in range(5):  # a flood of unknown ids is no flood of fetches
                with pytest.raises(ProblemError):
                    await verifier(later)
            assert seen.read_text() == "1"
            now += keys.AGAIN + 1
            assert (await verifier(later)).subject == "ana"
            assert seen.read_text() == "2"
            clock.now += 61
            with pytest.raises(ProblemError):
                await verifier(token("analyst", iss=url))

        asyncio.run(flow())


def test_issuers_that_do_not_answer_as_they_should(tmp_path: Path) -> None:
    with issuer_of(tmp_path, KEY) as (url, _):
        for path in ("/mismatched", "/moved", "/long", "/insecure", "/nothing"):
            with pytest.raises(PeerError):
                asyncio.run(keys.fetch(url + path))
    with pytest.raises(PeerError):
        asyncio.run(keys.fetch(url))
    for bad in ("http://issuer.example", "ftp://localhost", "file:///etc/passwd", "https://", "//x"):
        with pytest.raises(PeerError):
            keys.check_url(bad)


def test_an_issuer_that_is_gone_is_503_and_no_entry(city: ds.City) -> None:
    verifier = JwtVerifier(Issuer("http://127.0.0.1:9", AUDIENCE), keys.Discovery("http://127.0.0.1:9"), Clock())
    with client_of(city, Clock(), verifier=verifier) as ask:
        assert ask("GET", "/v1/budget", "analyst").status_code == 503


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for bad in ("", "[]", '{"keys": 1}', '{"keys": [1]}', "[" * 5000):
        file.write_text(bad)
        with pytest.raises(StoreError):
            keys.KeyFile(file)
    write_keys(file, KEY)
    source = keys.KeyFile(file)
    new = ECKey.generate_key("P-256", {"kid": "two"}, private=True)
    write_keys(file, KEY, new)
    assert len(asyncio.run(source.keys())) == 2
    write_keys(file, new)
    (left,) = asyncio.run(source.keys())
    assert left["kid"] == "two", "a key that was withdrawn counts no more"
    file.unlink()
    assert asyncio.run(source.keys(again=True)) == [left]
