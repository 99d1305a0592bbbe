"""The trained towers as a SavedModel with the Transform graph inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from models import features, lite
from models.config import FeatureSpec, ModelConfig, TrainConfig
from models.retrieval_model import RetrievalModel

SERVING_DEFAULT = "serving_default"
SERIALIZED_EXAMPLES = "serialized_examples"
ITEM_EXAMPLES = "item_examples"
INPUT = "examples"
OUTPUT = "embedding"

WARMUP_FILE = "tf_serving_warmup_requests"
WARMUP_BATCHES = (1, 8)


def _signatures(
    model: RetrievalModel,
    transform: Callable[[Mapping[str, tf.SparseTensor]], dict[str, tf.SparseTensor]],
    spec: FeatureSpec,
) -> dict[str, Any]:
    encodings = model.encodings

    def embed_queries(raw: Mapping[str, tf.SparseTensor]) -> dict[str, tf.Tensor]:
        return {OUTPUT: model.query_embeddings(features.query_columns(transform(raw), encodings))}

    @tf.function(autograph=False)
    def serving_default(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return embed_queries(features.from_serving(inputs))

    @tf.function(autograph=False)
    def serialized_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return embed_queries(tf.io.parse_example(examples, features.raw_query_spec(spec)))

    @tf.function(autograph=False)
    def item_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, features.raw_item_spec(spec))
        return {OUTPUT: model.item_embeddings(features.item_columns(transform(raw), encodings))}

    serialized = tf.TensorSpec([None], tf.string, name=INPUT)
    return {
        SERVING_DEFAULT: serving_default.get_concrete_function(**features.serving_signature(spec)),
        SERIALIZED_EXAMPLES: serialized_examples.get_concrete_function(serialized),
        ITEM_EXAMPLES: item_examples.get_concrete_function(serialized),
    }


def warmup_requests(spec: FeatureSpec) -> list[prediction_log_pb2.PredictionLog]:
    """Requests for `serving_default` with every value missing, one for each of a few batch sizes."""
    missing = {tf.string: features.MISSING_STRING, tf.float32: float("nan"), tf.int64: features.MISSING_TIMESTAMP}
    logs = []
    for rows in WARMUP_BATCHES:
        request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name=SERVING_DEFAULT))
        for key, tensor in features.serving_signature(spec).items():
            values = tf.fill([rows] * tensor.shape.rank, tf.constant(missing[tensor.dtype], tensor.dtype))
            request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
        logs.append(prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request)))
    return logs


def export_model(
    model: RetrievalModel,
    transform_output: tft.TFTransformOutput,
    spec: FeatureSpec,
    model_config: ModelConfig,
    train_config: TrainConfig,
    folder: str,
) -> None:
    """Writes the SavedModel that TF Serving, the indexer and the evaluator load.

    Signatures, all giving {"embedding": float32 [batch, output_dim]}, for the queries of a model with K vectors each
    [batch, K, output_dim]; of unit length, or zero, where the model normalises. `serving_default` takes raw query
    columns by name (see `features.serving_signature`), `serialized_examples` raw tf.Examples of interactions or
    queries, `item_examples` raw tf.Examples of items. Stock TensorFlow ops only.

    Beside it `assets.extra/tf_serving_warmup_requests`, `assets.extra/model.json`: {"features", "model", "train"}, and
    what `lite.export_lite` writes.

    Args:
      model: trained.
      transform_output: the Transform graph the model was trained behind.
      spec: the declared features.
      model_config: the model's config.
      train_config: the training run's config.
      folder: where to write; must not hold a SavedModel yet.
    """
    root = tf.Module()
    root.transform = transform_output.transform_features_layer()
    root.weights = model.trainable_variables
    # `call` itself: a Keras layer that was called traces itself once more when it is saved, with autograph through all
    # of Keras, which takes as long as the training of a small set.
    tf.saved_model.save(root, folder, signatures=_signatures(model, root.transform.call, spec))

    extra = PurePath(folder) / "assets.extra"
    tf.io.gfile.makedirs(str(extra))
    with tf.io.TFRecordWriter(str(extra / WARMUP_FILE)) as writer:
        for log in warmup_requests(spec):
            writer.write(log.SerializeToString())
    configs = {"features": spec, "model": model_config, "train": train_config}
    resolved = {key: config.model_dump(mode="json") for key, config in configs.items()}
    with tf.io.gfile.GFile(str(extra / "model.json"), "w") as file:
        file.write(json.dumps(resolved, indent=2) + "\n")
    lite.export_lite(model, root.transform.call, spec, folder)
