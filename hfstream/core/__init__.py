"""Everything that does not wait: no I/O, no ``async``, no clock but the one that is handed in."""
