"""TLS on both sides of SMTP: contexts, handshakes, what a peer has proved (M1 3.10 item 24, 11, 3.13)."""
