"""Sendmail's milter protocol, the mail server's side; versions 2 to 6, sans-I/O (libmilter's mfdef.h)."""
