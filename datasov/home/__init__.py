"""The resident's page: a vault seen and steered in a browser on the same machine. docs/home.md.

`datasov home` runs it. :mod:`datasov.home.app` and :mod:`datasov.home.serve` need the extra `gateway`; nothing else in
this room does.
"""
