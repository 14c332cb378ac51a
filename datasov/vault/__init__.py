"""A vault on disk, format v1: keys, manifests, logs and segments (docs/spec/vault.md)."""

from datasov.vault.check import Checked
from datasov.vault.layout import erase
from datasov.vault.vault import Vault

__all__ = ["Checked", "Vault", "erase"]
