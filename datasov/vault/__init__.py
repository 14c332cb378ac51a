"""A vault on disk, format v1: keys, manifests, logs and segments (docs/spec/vault.md)."""

from datasov.vault.anchor import Anchor
from datasov.vault.check import Checked
from datasov.vault.device import KeyFile, Keyring
from datasov.vault.recovery import Asked, Guardian, new_recovery_key
from datasov.vault.vault import Vault

__all__ = ["Anchor", "Asked", "Checked", "Guardian", "KeyFile", "Keyring", "Vault", "new_recovery_key"]
