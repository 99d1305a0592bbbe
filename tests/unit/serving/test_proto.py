from pathlib import Path

import pytest

from serving.proto.generate import ROOT, generate


@pytest.mark.parametrize("name", ["retrieval_pb2.py", "retrieval_pb2_grpc.py"])
def test_committed_modules_are_what_protoc_makes(tmp_path: Path, name: str) -> None:
    generate(tmp_path)
    path = Path("serving") / "proto" / name
    assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes()
