"""What a model needs of the declared features, checked before anything runs. Imports no TensorFlow."""

from __future__ import annotations

from models.config import Feature, FeatureSpec, Kind, ModelConfig


def check_features(spec: FeatureSpec, config: ModelConfig) -> None:
    """Checks that a model can be built on the features.

    Raises:
      ValueError: it cannot, or a key would have no effect; the text names the feature and the key.
    """
    for feature in spec.features:
        _check_effect(feature)
    histories = [f for f in spec.query_features if f.kind is Kind.HISTORY]
    if config.share_item_embedding:
        _check_sharing(spec, config, histories)
    if config.kind == "factorization_machine":
        _check_one_width(spec, config)


def _check_effect(feature: Feature) -> None:
    # Not a matter of Feature itself: a release that was made with such a key is whole.
    def refuse(key: str, why: str) -> None:
        raise ValueError(f"feature {feature.name!r}: {key} {why}")

    kind, defaults = feature.kind, Feature.model_fields
    for key in ("vocabulary_size", "min_count"):
        if getattr(feature, key) == defaults[key].default:
            continue
        if kind in (Kind.NUMBER, Kind.TIMESTAMP, Kind.HISTORY):
            refuse(key, f"does not apply to kind {kind.value}")
        if feature.hash_buckets is not None:
            refuse(key, "has no effect beside hash_buckets, which takes the place of a vocabulary")
    if feature.embedding_dim is not None and kind is Kind.NUMBER and feature.buckets is None:
        refuse("embedding_dim", "is for numbers with buckets: without them a number is not embedded")
    if feature.separator != defaults["separator"].default and kind is not Kind.MULTI_CATEGORICAL:
        refuse("separator", f"is for kind multi_categorical, not for kind {kind.value}")
    if feature.max_values != defaults["max_values"].default and not feature.multi_valued:
        refuse("max_values", f"is for kinds multi_categorical, text and history, not for kind {kind.value}")


def _width(feature: Feature, config: ModelConfig) -> int:
    return feature.embedding_dim or config.embedding_dim


def _check_sharing(spec: FeatureSpec, config: ModelConfig, histories: list[Feature]) -> None:
    if not histories:
        raise ValueError(
            "model.share_item_embedding: no feature of kind history is declared; declare one, or set it to false"
        )
    item = next((f for f in spec.item_features if f.kind is Kind.ID), None)
    if item is None:
        raise ValueError("model.share_item_embedding: the item's id is not declared as a feature of kind id")
    if item.hash_buckets is not None or item.vocabulary_size is not None or item.min_count > 1:
        raise ValueError(
            f"model.share_item_embedding: feature {item.name!r} must keep every item, "
            "without vocabulary_size, min_count or hash_buckets"
        )
    for history in histories:
        width = _width(history, config)
        if width != _width(item, config):
            raise ValueError(
                f"model.share_item_embedding: embedding_dim of {history.name!r} is {width}, of {item.name!r} "
                f"{_width(item, config)}; they must be equal"
            )
        if config.kind == "youtube_dnn" and history.embedding_dim not in (None, config.output_dim):
            raise ValueError(
                f"model.share_item_embedding: embedding_dim of {history.name!r} is {width}, but youtube_dnn's history "
                f"reads the output vectors, of output_dim {config.output_dim}: leave it out"
            )


def _check_one_width(spec: FeatureSpec, config: ModelConfig) -> None:
    for f in spec.features:
        if _width(f, config) != config.embedding_dim:
            raise ValueError(
                f"feature {f.name!r}: embedding_dim is {f.embedding_dim}, but a factorization machine has factors of "
                f"one width, output_dim - 1 = {config.output_dim - 1}: leave it out"
            )
