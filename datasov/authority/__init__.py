"""Consent tokens, contributions and revocations: what a resident signs, and how a city reads it."""
