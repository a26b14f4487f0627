"""Floor 4: the SMTP server: receives mail, writes content (M1 3.10)."""
