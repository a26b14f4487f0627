"""Floor 4: smtpp, the proxy between MeTA1 and the world (M1 4.6)."""
