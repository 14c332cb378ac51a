"""Keeping a city for years: backups, other keys, other formats, and what tells that all is whole. docs/operating.md."""
