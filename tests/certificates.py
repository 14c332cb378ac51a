"""Authorities and certificates that tests make."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.helpers import NOW

USAGE = {
    "digital_signature": False, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
    "key_agreement": False, "key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False,
}  # fmt: skip
DAY = 86_400


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    """An authority with a key of P-256: a root, or one under another."""

    def __init__(
        self, name: str = "root", parent: Authority | None = None, *, path: int | None = 2, **given: Any
    ) -> None:
        self.name, self.key = name, ec.generate_private_key(ec.SECP256R1())
        signer = parent or self
        built = _builder(name, self.key.public_key(), signer, **given)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=path), critical=True)
        built = built.add_extension(x509.KeyUsage(**{**USAGE, "key_cert_sign": True, "crl_sign": True}), critical=True)
        self.der = built.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def certificate(
        self, key: Any, *, usage: str | None = "digital_signature", ca: bool | None = False, **given: Any
    ) -> bytes:
        """A certificate (DER) for a private key."""
        built = _builder("山田花子", key.public_key(), self, **given)
        if ca is not None:
            constraints = x509.BasicConstraints(ca=ca, path_length=None)
            built = built.add_extension(constraints, critical=True)
        if usage is not None:
            built = built.add_extension(x509.KeyUsage(**{**USAGE, usage: True}), critical=True)
        return built.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _builder(
    name: str, key: Any, signer: Authority, *, begins: int = NOW - DAY, ends: int = NOW + 365 * DAY
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(signer.name)).public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(begins, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(ends, dt.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
    )  # fmt: skip
