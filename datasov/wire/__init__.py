"""Canonical CBOR and COSE_Sign1: bytes in, values out, or VerificationError."""
