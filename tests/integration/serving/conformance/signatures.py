"""A release's model with signatures of every form beside the pipeline's: y = x / 2 + 2, and forms that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.predict import CLASSIFY, REGRESS
from tests.unit.serving import tiny

ECHOED = {
    dtype.name: dtype
    for dtype in (
        *(tf.float32, tf.float64, tf.half, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64),
        *(tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64, tf.complex128),
    )
}
EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


def half_plus_two(x: tf.Tensor) -> tf.Tensor:
    return x / 2 + 2


def y_of(examples: tf.Tensor) -> tf.Tensor:
    """float32 [n] of n serialised examples with a feature x; x2, where it is given, is added."""
    features = {"x": tf.io.FixedLenFeature([], tf.float32), "x2": tf.io.FixedLenFeature([], tf.float32, 0.0)}
    parsed = tf.io.parse_example(examples, features)
    return half_plus_two(parsed["x"]) + parsed["x2"]


def column(y: tf.Tensor) -> tf.Tensor:
    return y[:, tf.newaxis]


def low_and_high(y: tf.Tensor) -> tf.Tensor:
    return tf.tile(tf.constant([["low", "high"]]), [tf.size(y), 1])


def both_scores(y: tf.Tensor) -> tf.Tensor:
    return tf.stack([y, y + 1], axis=1)


# The outputs of each signature of serialised examples, from y.
CLASSIFIERS: dict[str, Callable[[tf.Tensor], dict[str, tf.Tensor]]] = {
    "classify": lambda y: {"classes": low_and_high(y), "scores": both_scores(y)},
    "classify_scores": lambda y: {"scores": column(y)},
    "classify_classes": lambda y: {"classes": low_and_high(y)},
    "scores_of_rank_1": lambda y: {"scores": y},
    "scores_of_integers": lambda y: {"scores": tf.cast(column(y), tf.int64)},
    "scores_of_one_row": lambda y: {"scores": column(y)[:1]},
    "classes_of_rank_3": lambda y: {"classes": low_and_high(y)[tf.newaxis]},
    "classes_of_floats": lambda y: {"classes": column(y)},
    "classes_of_one_row": lambda y: {"classes": low_and_high(y)[:1]},
    "more_classes_than_scores": lambda y: {"classes": low_and_high(y), "scores": column(y)},
    "three_outputs": lambda y: {"classes": low_and_high(y), "scores": column(y), "y": y},
    "neither_classes_nor_scores": lambda y: {"y": y},
}
REGRESSORS: dict[str, Callable[[tf.Tensor], dict[str, tf.Tensor]]] = {
    "regress": lambda y: {"outputs": column(y)},
    "regress_flat": lambda y: {"outputs": y},
    "regress_alone": lambda y: {"outputs": y},
    "regress_two_columns": lambda y: {"outputs": both_scores(y)},
    "regress_doubles": lambda y: {"outputs": tf.cast(y, tf.float64)},
    "regress_one_row": lambda y: {"outputs": y[:1]},
    "regress_two_outputs": lambda y: {"outputs": y, "y": y},
    "regress_other_output": lambda y: {"y": y},
}
SHARED_INPUT = ("classify", "classify_scores", "regress", "regress_flat")


def of_examples(outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> tf.types.experimental.GenericFunction:
    return tf.function(lambda inputs: outputs(y_of(inputs)), input_signature=[EXAMPLES])


def with_inputs(function: Callable[..., dict[str, tf.Tensor]], **specs: tf.TensorSpec) -> object:
    named = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()]
    return tf.function(function, input_signature=named)


def save(folder: Path) -> Path:
    any_float, row = tf.TensorSpec(None, tf.float32), tf.TensorSpec([None], tf.float32)
    strings = tf.TensorSpec([None], tf.string)
    model = tiny.TinyModel()
    signatures = {name: getattr(model, name) for name in ("serving_default", "serialized_examples", "item_examples")}
    signatures |= {name: of_examples(outputs) for name, outputs in (CLASSIFIERS | REGRESSORS).items()}
    signatures |= {
        f"echo_{name}": with_inputs(lambda x: {"y": tf.identity(x)}, x=tf.TensorSpec(None, dtype))
        for name, dtype in ECHOED.items()
    }
    signatures |= {
        "half_plus_two": with_inputs(lambda x: {"y": half_plus_two(x)}, x=any_float),
        "sum": with_inputs(lambda a, b: {"sum": a + b, "difference": a - b}, a=row, b=row),
        "sum_with_default": with_inputs(lambda a, b: {"sum": a + b}, a=row, b=row),
        "mean": with_inputs(lambda x: {"mean": tf.reduce_mean(x)}, x=row),
        "head": with_inputs(lambda x: {"all": tf.identity(x), "first": x[:1]}, x=row),
        "text": with_inputs(lambda x: {"text": tf.identity(x), "text_bytes": tf.identity(x)}, x=strings),
        "number": with_inputs(lambda x: {"y": tf.strings.to_number(x)}, x=strings),
        "nothing_fits": with_inputs(lambda x: {"y": tf.identity(x)}, x=row),
        "classify_two_inputs": with_inputs(
            lambda inputs, b: {"scores": column(y_of(inputs)) + b}, inputs=strings, b=row
        ),
        "regress_two_inputs": with_inputs(lambda inputs, b: {"outputs": y_of(inputs) + b}, inputs=strings, b=row),
        "classify_other_input": with_inputs(lambda x: {"scores": column(y_of(x))}, x=strings),
        "regress_other_input": with_inputs(lambda x: {"outputs": y_of(x)}, x=strings),
        "classify_floats": with_inputs(lambda inputs: {"scores": column(inputs)}, inputs=row),
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)
    edit(folder / "saved_model.pb")
    return folder


def edit(path: Path) -> None:
    """What Keras' and TensorFlow 1's exporters write, and tf.saved_model.save cannot be told."""
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (graph,) = saved_model.meta_graphs
    signatures: dict[str, meta_graph_pb2.SignatureDef] = graph.signature_def
    for name in list(signatures):
        if name in CLASSIFIERS or name.startswith("classify_"):
            signatures[name].method_name = CLASSIFY
        elif name in REGRESSORS or name.startswith("regress_"):
            signatures[name].method_name = REGRESS
    signatures["nothing_fits"].method_name = "tensorflow/serving/other"
    signatures["sum_with_default"].defaults["b"].CopyFrom(tf.make_tensor_proto([10.0]))
    for name in SHARED_INPUT:
        signatures[name].inputs["inputs"].name = "examples:0"
    path.write_bytes(saved_model.SerializeToString())
