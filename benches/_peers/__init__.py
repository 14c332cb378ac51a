"""The systems that the bench `peers` asks: one module each, run in a process and an environment of its own.

Only `datasov_release` imports anything of datasov: the others' environments have the peer, NumPy and Polars alone.
"""
