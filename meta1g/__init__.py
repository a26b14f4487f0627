"""meta1g: the MeTA1 mail transfer agent in Python."""

__version__ = "0.1.0"
