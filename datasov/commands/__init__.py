"""What `datasov` does, command by command; the entry point is datasov.cli."""
