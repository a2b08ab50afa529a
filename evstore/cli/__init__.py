"""The `evstore` command."""
