"""Watches: the newest events once for all, and each watcher's own place among them."""
