"""Floor 2: MeTA1's disk: layout, owners, modes, journals, Berkeley DB; blocking."""
