"""Frozen values without I/O: schemas, questions, losses, consents and releases."""
