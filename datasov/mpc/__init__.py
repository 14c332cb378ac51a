"""Aggregates from shares that no one server can read: Prio3, for batches of reports."""
