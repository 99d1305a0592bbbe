"""What is put in the place of something that a request does not have. retrieval.proto documents each case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from models.config import FeatureSpec, Kind, Side

if TYPE_CHECKING:
    from serving.query_inputs import Stored, Values


class Fallback(Enum):
    """One kind of replacement."""

    NO_QUERY_ID = "no_query_id"
    UNKNOWN_QUERY_ID = "unknown_query_id"
    MISSING_FEATURE = "missing_feature"
    EMPTY_STRING = "empty_string"
    CURRENT_TIME = "current_time"


@dataclass(frozen=True)
class Filled:
    """A request's features, and what was done about those it lacks.

    Attributes:
      features: the given ones without empty strings.
      fallbacks: each once.
      missing: features that are neither given nor stored, but for timestamps of the interaction.
    """

    features: Mapping[str, Values]
    fallbacks: tuple[Fallback, ...]
    missing: tuple[str, ...]


def fill(spec: FeatureSpec, query_id: str, stored: Stored | None, given: Mapping[str, Values]) -> Filled:
    """Finds what a request lacks.

    Args:
      spec: the declared features.
      query_id: "" if there is none.
      stored: what the release's query store has of the query, or None.
      given: the request's values by feature name; an unknown name is left for the tower to refuse.
    """
    fallbacks = []
    if stored is None:
        fallbacks.append(Fallback.UNKNOWN_QUERY_ID if query_id else Fallback.NO_QUERY_ID)
    missing, now = [], False
    features = dict(given)
    for feature in spec.query_features:
        name = feature.name
        if name in given:
            if feature.kind not in (Kind.NUMBER, Kind.TIMESTAMP) and "" in given[name]:
                features[name] = [value for value in given[name] if value != ""]  # type: ignore[assignment]
                fallbacks.append(Fallback.EMPTY_STRING)
        elif name == spec.query_id or (stored is not None and name in stored):
            continue
        elif feature.kind is Kind.TIMESTAMP and feature.side is Side.INTERACTION:
            now = True
        else:
            missing.append(name)
    if missing:
        fallbacks.append(Fallback.MISSING_FEATURE)
    if now:
        fallbacks.append(Fallback.CURRENT_TIME)
    return Filled(features, tuple(dict.fromkeys(fallbacks)), tuple(missing))
