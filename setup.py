"""The distribution: what Beam workers install with --setup_file, and `pip install --editable .`."""

from setuptools import find_packages, setup

setup(
    name="dat-retrieval",
    version="0.1.0",
    description="A retrieval pipeline for recommendation on TFX around the Dual Augmented Two-tower model",
    python_requires="==3.10.*",
    packages=find_packages(include=["pipeline*", "components*", "models*", "serving*"]),
    package_data={"serving.proto": ["*.proto"]},
    entry_points={"console_scripts": ["retrieval=pipeline.cli:main"]},
)
