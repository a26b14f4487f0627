"""Floor 1: bytes to messages and back, sans-I/O."""
