"""One file a resource. A route parses, calls, commits, sends and returns."""
