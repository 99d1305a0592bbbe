"""The warm-up requests that a model brings along, run before it answers its first caller.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving import examples
from serving.predict import predict
from serving.tower import SERVING_DEFAULT, Tower

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def run_warm_up_requests(folder: Path, tower: Tower) -> int:
    """Runs the requests of a release's `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLogs.

    Returns:
      How many there were; 0 without the file.

    Raises:
      ValueError: there are more than 1000, or one is of a kind that cannot be run.
      RequestError: the model refuses one.
      tf.errors.OpError, DecodeError: the file is damaged.
    """
    count = 0
    if (folder / REQUESTS).is_file():
        for record in tf.data.TFRecordDataset(str(folder / REQUESTS)).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise ValueError(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {REQUESTS}")
            _run(tower, prediction_log_pb2.PredictionLog.FromString(record))
    return count


def _run(tower: Tower, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    if kind not in ("predict_log", "classify_log", "regress_log", "multi_inference_log"):
        raise ValueError(f"Unsupported log_type for warmup: {kind}")
    request = getattr(log, kind).request
    if kind == "multi_inference_log":
        examples.multi_inference(tower, request.tasks, request.input)
        return
    signature = request.model_spec.signature_name or SERVING_DEFAULT
    if kind == "predict_log":
        predict(tower, signature, request.inputs, request.output_filter)
    elif kind == "classify_log":
        examples.classify(tower, signature, request.input)
    else:
        examples.regress(tower, signature, request.input)
