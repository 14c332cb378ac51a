"""HTTP: an ASGI application over one city. It needs the extra `gateway`."""
