"""JSON values: how two differ, and how three are merged. Nothing here knows of a log."""
