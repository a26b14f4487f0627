"""Floor 1: configuration text to frozen dataclasses; pure but for reading the file."""
