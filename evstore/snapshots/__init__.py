"""Stored folds: a start from where one was taken, and never a source."""
