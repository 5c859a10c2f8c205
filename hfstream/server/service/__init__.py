"""What requests share: the backend, its limits, its streams and its counters."""
