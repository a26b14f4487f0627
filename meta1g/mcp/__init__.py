"""Floor 4: the main control program: starts, watches and restarts the others (M1 3.7, 4.1)."""
