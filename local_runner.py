"""Entry for the `tfx` command: the pipeline of $RETRIEVAL_CONFIG on this machine, for the span $RETRIEVAL_SPAN."""

import os
import sys

from absl import logging
from tfx import v1 as tfx

from components.ingestion.errors import IngestionError
from pipeline.config import ConfigError, load_config
from pipeline.pipeline import create_pipeline
from pipeline.run import RunError, only_one

if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    span = os.environ.get("RETRIEVAL_SPAN", "0")
    if not (span.isascii() and span.isdigit()):
        sys.exit(f"RETRIEVAL_SPAN: expected a number, 0 or more (given: {span!r})")
    try:
        config = load_config(os.environ.get("RETRIEVAL_CONFIG", "configs/movielens.yaml"))
        with only_one(config.home):
            pipeline = create_pipeline(config, span=int(span))
            tfx.orchestration.LocalDagRunner().run(pipeline)
    except (ConfigError, IngestionError, RunError) as error:
        sys.exit(str(error))
