"""Request bodies: their fields, serde's way of reading them, and TGI's rules for their values."""
