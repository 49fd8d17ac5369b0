"""The use cases without torch. Each takes a session first, and never commits or sends."""
