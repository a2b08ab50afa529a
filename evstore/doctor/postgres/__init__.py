"""A PostgreSQL server: facts about it, and what they mean."""
