"""SMTP and LMTP machines, both sides; pure."""
