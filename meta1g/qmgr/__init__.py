"""Floor 4: the queue manager: owns every envelope (M1 3.8, 7.1)."""
