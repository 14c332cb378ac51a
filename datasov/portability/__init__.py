"""Leaving and arriving: a resident's tables in open formats, with their schemas and a manifest of hashes."""

from datasov.portability.bundle import FORMS, Form
from datasov.portability.moving import export, import_, merge

__all__ = ["FORMS", "Form", "export", "import_", "merge"]
