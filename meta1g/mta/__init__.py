"""Floor 0: value types of mail; pure."""
