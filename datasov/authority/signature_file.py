"""A signature as a small text: by e-mail, on paper, or read aloud. docs/spec/charter.md."""

from __future__ import annotations

from datasov.authority import paper
from datasov.authority.approval import ABOUT, Signature
from datasov.errors import InvalidDataError

HEAD = "datasov signature v1"
_LENGTH = 32 + ABOUT + 64
MAX_TEXT = 1024 * 1024


def write(signature: Signature, *, of: str = "") -> str:
    """The text of a signature; `of` says what it is over, for people."""
    body = signature.key + signature.about + signature.signature
    return "\n".join([HEAD, *([f"over {of}"] if of else []), *paper.lines(body), ""])


def read(text: str) -> list[Signature]:
    """The signatures of a text, one after each head; what stands around them is passed over.

    Raises:
        InvalidDataError: there is none, or a line is mistyped or missing.
    """
    _, *parts = text.split(HEAD) if len(text) <= MAX_TEXT else [""]
    if not parts:
        raise InvalidDataError(f"no signature is in the file: its text begins with {HEAD!r}")
    found = [paper.read(part.splitlines()[1:], _LENGTH) for part in parts]
    return [Signature(b[:32], b[32 : 32 + ABOUT], b[32 + ABOUT :]) for b in found]
