"""The models by the name the config gives them."""

from __future__ import annotations

from models.config import ModelConfig
from models.dat import DAT
from models.factorization_machine import FactorizationMachine
from models.features import Encodings
from models.matrix_factorization import MatrixFactorization
from models.mind import MIND
from models.retrieval_model import Catalogue, RetrievalModel
from models.two_tower import TwoTower
from models.youtube_dnn import YoutubeDNN

MODELS: dict[str, type[RetrievalModel]] = {
    "two_tower": TwoTower,
    "dat": DAT,
    "youtube_dnn": YoutubeDNN,
    "mind": MIND,
    "factorization_machine": FactorizationMachine,
    "matrix_factorization": MatrixFactorization,
}


def build_model(config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> RetrievalModel:
    """The model that `config.kind` names."""
    return MODELS[config.kind](config, encodings, catalogue)
