"""Warm start against cold, span by span, through the real pipeline: `python -m benchmarks.retraining --help`."""
