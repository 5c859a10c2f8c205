"""HTTP routes: what each one accepts, and how it responds."""
