"""The current state in a cluster, for `kubectl` to show: a mirror that nobody reads."""
