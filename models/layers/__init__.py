"""Layers of the towers, one class a module."""

from models.layers.augmented_vectors import AugmentedVectors
from models.layers.feature_encoder import FeatureEncoder
from models.layers.field_vectors import FieldVectors
from models.layers.interest_capsules import InterestCapsules
from models.layers.recency_pooling import RecencyPooling
from models.layers.tower import Tower

__all__ = ["AugmentedVectors", "FeatureEncoder", "FieldVectors", "InterestCapsules", "RecencyPooling", "Tower"]
