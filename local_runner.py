"""Entry for the `tfx` command: the pipeline of $RETRIEVAL_CONFIG on this machine, for the span $RETRIEVAL_SPAN."""

import os
import sys

from absl import logging
from tfx import v1 as tfx

from pipeline.config import load_config
from pipeline.pipeline import create_pipeline
from pipeline.run import RunError, only_one

if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    config = load_config(os.environ.get("RETRIEVAL_CONFIG", "configs/movielens.yaml"))
    try:
        with only_one(config.home):
            pipeline = create_pipeline(config, span=int(os.environ.get("RETRIEVAL_SPAN", "0")))
            tfx.orchestration.LocalDagRunner().run(pipeline)
    except RunError as error:
        sys.exit(str(error))
