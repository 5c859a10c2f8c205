"""Request bodies and the rules that they must keep."""
