"""What the log comes to: current state and known request ids, by one pass over events."""
