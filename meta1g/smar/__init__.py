"""Floor 4: the address resolver: maps and DNS (M1 3.9)."""
