"""SASL mechanisms, the server's side, sans-I/O (RFC 4422)."""
