from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from serving.query_inputs import QueryInputs, read_signatures, read_stored
from tests.unit.serving.tiny import SPEC, example


def test_arrays(model: Path) -> None:
    inputs = QueryInputs(read_signatures(model), SPEC)
    arrays = inputs.arrays(
        [inputs.values("ü\x00", None, {"w": [], "tags": ["a", b"\xff"], "history": ["1", "2", "3"], "time": [5]})]
    )
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "user_id": (np.object_, (1,)),
        "w": (np.float32, (1,)),
        "tags": (np.object_, (1, 2)),
        "history": (np.object_, (1, 2)),
        "time": (np.int64, (1,)),
    }
    assert np.isnan(arrays.pop("w")[0])
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "user_id": ["ü\x00".encode()],
        "tags": [[b"a", b"\xff"]],
        "history": [[b"2", b"3"]],
        "time": [5],
    }


def test_arrays_of_several_queries_are_as_wide_as_the_widest(model: Path) -> None:
    inputs = QueryInputs(read_signatures(model), SPEC)
    arrays = inputs.arrays(
        [
            inputs.values("", None, {"w": [2], "tags": ["a"], "time": [5]}),
            inputs.values("u", None, {"w": [], "tags": ["b", "c", "d"], "history": [], "time": []}),
        ]
    )
    w = arrays.pop("w")
    assert (w[0], np.isnan(w[1])) == (2, True)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "user_id": [b"", b"u"],
        "tags": [[b"a", b"", b""], [b"b", b"c", b"d"]],
        "history": [[b""], [b""]],
        "time": [5, -1],
    }


def test_stored_features_are_those_with_a_value() -> None:
    row = example(w=[1.5], tags=[b"a", b""], history=[], time=[3, 4])
    row.features.feature["none"].SetInParent()
    found = {name: list(values) for name, values in read_stored(row.SerializeToString()).items()}
    assert found == {"w": [1.5], "tags": [b"a", b""], "time": [3, 4]}


def test_model_without_a_serving_graph_is_refused(tmp_path: Path) -> None:
    saved_model = saved_model_pb2.SavedModel()
    saved_model.meta_graphs.add().meta_info_def.tags.append("train")
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(ValueError, match="the model has no graph with the tag 'serve'"):
        read_signatures(tmp_path)
