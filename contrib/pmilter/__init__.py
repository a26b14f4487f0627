"""Policy milters to learn from and to use: see docs/pmilter.md."""
