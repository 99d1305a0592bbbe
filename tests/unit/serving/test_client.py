import subprocess
import sys

import grpc
import pytest

from serving.client import RetrievalClient, RetrievalError
from serving.messages import feature_value
from serving.proto.generate import ROOT


def test_values_by_type() -> None:
    assert list(feature_value("f", "a").strings.values) == ["a"]
    assert list(feature_value("f", ["a", "b"]).strings.values) == ["a", "b"]
    assert list(feature_value("f", 3).int64s.values) == [3]
    assert list(feature_value("f", [1, 0.5]).floats.values) == [1.0, 0.5]
    assert feature_value("f", []).WhichOneof("kind") == "strings"


@pytest.mark.parametrize("value", [True, [b"a"], ["a", 1], [None]])
def test_values_of_other_types(value: object) -> None:
    with pytest.raises(TypeError, match="feature 'f': expected strings, integers or floats"):
        feature_value("f", value)  # type: ignore[arg-type]


def test_no_server() -> None:
    with RetrievalClient("127.0.0.1:1", timeout=5) as client, pytest.raises(RetrievalError) as raised:
        client.recommend(query_id="u")
    assert raised.value.status == grpc.StatusCode.UNAVAILABLE.name


@pytest.mark.slow
def test_imports_no_tensorflow() -> None:
    code = "import sys, serving.client; print([m for m in ('tensorflow', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
