"""The pool: consenting residents' minimised rows, sealed at rest, columnar, clustered by resident."""
