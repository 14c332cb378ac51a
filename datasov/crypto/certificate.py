"""X.509 certificates of accredited signers (RFC 5280), checked against the anchors that an operator names.

The path is built and checked by `cryptography.x509.verification`: signatures, validity, basic constraints, key usage
and path length of each authority. Of the holder's certificate it is checked here that it is no authority's, that its
key may sign, and that it is one of P-256. Revocation of certificates is not asked for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from datasov.crypto.es256 import P256Key, point_of
from datasov.errors import SignatureError

_MAX_CERTIFICATE, _MAX_CHAIN, _DEPTH = 16 * 1024, 8, 4


@dataclass(frozen=True, slots=True)
class Certified:
    """The key of a certificate, and when it may sign: Unix seconds, both ends included. Nothing of whose it is."""

    key: P256Key
    not_before: int
    not_after: int


def certified(certificate: bytes, chain: Sequence[bytes], anchors: Sequence[bytes], now: int) -> Certified:
    """The key that a certificate (DER) accredits at a time.

    Args:
        chain: certificates of the authorities between, DER, in any order.
        anchors: those that are trusted, DER.
        now: Unix seconds.

    Raises:
        SignatureError: no path to an anchor, one that is not valid at that time, or a key that may not sign so.
    """
    if not anchors:
        raise SignatureError("no anchors are trusted here: name the authorities' certificates")
    if len(chain) > _MAX_CHAIN:
        raise SignatureError("more certificates than a path may have: send those between the holder's and the anchor")
    leaf, between = _load(certificate), [_load(data) for data in chain]
    store = Store([_load(data) for data in anchors])
    policy = PolicyBuilder().store(store).time(dt.datetime.fromtimestamp(now, dt.UTC)).max_chain_depth(_DEPTH)
    policy = policy.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        policy.build_client_verifier().verify(leaf, between)
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        signs = usage.digital_signature or usage.content_commitment
        found = leaf.public_key()
    except (VerificationError, x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm):
        raise SignatureError(
            "the certificate is not valid under the trusted anchors now: bring a valid one, with its chain"
        ) from None
    if _is_authority(leaf) or not signs:
        raise SignatureError("the certificate is not one for signing: bring the holder's own signing certificate")
    not_before, not_after = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return Certified(point_of(found), int(not_before), int(not_after))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _load(data: bytes) -> x509.Certificate:
    try:
        if not isinstance(data, bytes) or len(data) > _MAX_CERTIFICATE:
            raise ValueError
        return x509.load_der_x509_certificate(data)
    except ValueError:
        raise SignatureError("not an X.509 certificate in DER: convert it, or bring it again") from None
