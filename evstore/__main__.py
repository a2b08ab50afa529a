"""`python -m evstore` is the `evstore` command."""

from evstore.cli import app

app()
