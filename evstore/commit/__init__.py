"""The commit path: from what a caller gives to events that are in the log."""
