"""DKIM signing of content that comes in pieces (RFC 6376, 8301, 8463, 8616); pure."""
