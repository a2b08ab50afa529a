"""The past, read from the log: states, versions, differences, blame, what a revert takes."""
