"""Models of other libraries on the experiments' split, each in an environment of its own: see README.md."""
