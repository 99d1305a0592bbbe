"""`ab` against a known truth, behind the real server: `python -m benchmarks.online_simulator --help`."""
