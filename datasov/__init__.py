"""Data sovereignty in one library."""
