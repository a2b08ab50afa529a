"""What `evstore doctor` looks at: facts about a server, and what they mean."""
