"""Generates retrieval_pb2.py and retrieval_pb2_grpc.py: `python -m serving.proto.generate`."""

from __future__ import annotations

from pathlib import Path

# `python -m grpc_tools.protoc` imports pkg_resources, which setuptools no longer has; the compiler below it does not.
from grpc_tools._protoc_compiler import run_main

ROOT = Path(__file__).resolve().parent.parent.parent
PROTO = "serving/proto/retrieval.proto"


def generate(output: Path = ROOT) -> None:
    """Writes both modules to serving/proto/ below `output`.

    Raises:
      RuntimeError: protoc refuses the .proto file; it says why on stderr.
    """
    arguments = ["protoc", f"-I{ROOT}", f"--python_out={output}", f"--grpc_python_out={output}", PROTO]
    if run_main([argument.encode() for argument in arguments]) != 0:
        raise RuntimeError(f"protoc failed on {PROTO}")


if __name__ == "__main__":
    generate()
