"""Append-only streams with compare-and-append: the ledger, the registry, the releases and the log live in them."""
