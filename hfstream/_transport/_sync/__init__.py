"""The transport for plain code; This package is generated from `_transport/_async` by scripts/generate_sync.py."""
