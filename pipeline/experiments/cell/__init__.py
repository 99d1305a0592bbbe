"""One training run and its exact ranks, in a process of its own. Its code is part of each cell's cache key."""
