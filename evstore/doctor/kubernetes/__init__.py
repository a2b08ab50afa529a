"""A Kubernetes cluster: facts about it, and what they mean."""
