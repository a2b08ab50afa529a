"""Stores beside each other: following, heartbeats, health, leadership."""
