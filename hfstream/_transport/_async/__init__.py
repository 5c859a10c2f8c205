"""The transport for async code; `_transport/_sync` is generated from this package by scripts/generate_sync.py."""
