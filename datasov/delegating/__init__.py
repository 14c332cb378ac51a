"""What residents do for each other: delegate, sign for somebody else, and take in what was signed for them."""

from datasov.delegating.keeping import account_key, end, ending, find, followed
from datasov.delegating.resident import Delegating

__all__ = ["Delegating", "account_key", "end", "ending", "find", "followed"]
