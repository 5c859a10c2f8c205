"""What answers share: the backend, its limits, its streams."""
