"""The use cases that need torch, run by workers only."""
