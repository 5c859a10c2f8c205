"""Connections: how they are accepted, and their limits. Does not depend on the rest of the server."""
