"""Floor 4: the embedded local delivery agent: LMTP in, Maildir out."""
