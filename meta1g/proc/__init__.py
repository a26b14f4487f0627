"""Floor 3: the skeleton that every daemon shares, and the links between processes."""
