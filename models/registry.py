"""The models by the name the config gives them."""

from __future__ import annotations

import importlib

from models.config import MODELS, ModelConfig
from models.features import Encodings
from models.retrieval_model import Catalogue, RetrievalModel


def model_class(kind: str) -> type[RetrievalModel]:
    """The class that `model.kind` names, one of MODELS."""
    module, name = MODELS[kind].rsplit(".", maxsplit=1)
    made: type[RetrievalModel] = getattr(importlib.import_module(module), name)
    return made


def build_model(config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> RetrievalModel:
    """The model that `config.kind` names."""
    return model_class(config.kind)(config, encodings, catalogue)
