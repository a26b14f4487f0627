"""Floor 3: lookups: what to ask, in which order, from which kind of map."""
