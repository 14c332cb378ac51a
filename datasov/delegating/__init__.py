"""What residents do for each other: delegate, sign for somebody else, and take in what was signed for them."""

from datasov.delegating.accounts import account_key, follow, key_of
from datasov.delegating.keeping import end, ending, find
from datasov.delegating.resident import Delegating

__all__ = ["Delegating", "account_key", "end", "ending", "find", "follow", "key_of"]
