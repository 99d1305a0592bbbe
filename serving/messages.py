"""What is asked of the retrieval server and what it answers, as Python values. Imports the protocol only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.proto import retrieval_pb2

FeatureInput = str | int | float | Sequence[str] | Sequence[int] | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for one query. retrieval.proto says what each field does.

    Attributes:
      query_id: a known id brings its stored features; "" if there is none.
      features: by name a value or several; they override the stored ones.
      k: 0 for the server's default.
      exclude_ids: items that must not be in the answer.
      exclude_seen: leave out the items the query has an interaction with.
      allow: only items that have, of each attribute, one of the values.
      deny: no item that has, of any attribute, one of the values.
      min_score: only items with this score or a higher one.
      search_effort: 0.1 to 10, times what the index was built for.
      item_features: attributes of the items to return.
      model: "" for whichever the server has.
      version: 0 for the server's choice.
      label: in place of a version.
    """

    query_id: str = ""
    features: Mapping[str, FeatureInput] = field(default_factory=dict)
    k: int = 0
    exclude_ids: Sequence[str] = ()
    exclude_seen: bool = False
    allow: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deny: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_score: float | None = None
    search_effort: float | None = None
    item_features: Sequence[str] = ()
    model: str = ""
    version: int = 0
    label: str = ""

    def message(self) -> retrieval_pb2.RecommendRequest:
        """The request in the protocol.

        Raises:
          TypeError: a value is of a type that its field does not take.
        """
        return retrieval_pb2.RecommendRequest(
            query_id=self.query_id,
            features={name: feature_value(name, value) for name, value in self.features.items()},
            k=self.k,
            exclude_ids=self.exclude_ids,
            exclude_seen=self.exclude_seen,
            allow=_filters("allow", self.allow),
            deny=_filters("deny", self.deny),
            min_score=self.min_score,
            search_effort=self.search_effort,
            item_features=self.item_features,
            model=self.model,
            version=self.version,
            label=self.label,
        )


@dataclass(frozen=True)
class Item:
    """One recommended item."""

    item_id: str
    score: float
    features: dict[str, str]


@dataclass(frozen=True)
class Recommendations:
    """The answer to one request; retrieval.proto explains the names in `truncated_by` and `fallbacks`.

    Attributes:
      items: best first.
      tower_version, index_version, fingerprint: of the release that answered.
      label: by which the release was chosen; "" for none.
      known_query: whether the release has stored features of the query.
      truncated: there are fewer than k items.
      truncated_by: what left so few: catalogue, filters, exclusions, min_score.
      fallbacks: what was put in the place of something missing, such as unknown_query_id.
      missing_features: neither given nor stored.
      tower_us, search_us, rest_us: microseconds that the server took.
    """

    items: tuple[Item, ...]
    tower_version: int
    index_version: int
    fingerprint: str
    label: str
    known_query: bool
    truncated: bool
    truncated_by: tuple[str, ...]
    fallbacks: tuple[str, ...]
    missing_features: tuple[str, ...]
    tower_us: int
    search_us: int
    rest_us: int


def recommendations(response: retrieval_pb2.RecommendResponse) -> Recommendations:
    """An answer of the protocol as Recommendations."""
    return Recommendations(
        items=tuple(Item(item.item_id, item.score, dict(item.features)) for item in response.items),
        tower_version=response.tower_version,
        index_version=response.index_version,
        fingerprint=response.fingerprint,
        label=response.label,
        known_query=response.known_query,
        truncated=response.truncated,
        truncated_by=_names(retrieval_pb2.Truncation, response.truncated_by),
        fallbacks=_names(retrieval_pb2.Fallback, response.fallbacks),
        missing_features=tuple(response.missing_features),
        tower_us=response.microseconds.tower,
        search_us=response.microseconds.search,
        rest_us=response.microseconds.rest,
    )


def _names(enum: Any, values: Sequence[int]) -> tuple[str, ...]:
    """The names of an enum's values without its prefix; of one that a newer server made up the number."""
    known = {number: name.split("_", 1)[1].lower() for name, number in enum.items()}
    return tuple(known.get(value, str(value)) for value in values)


def _filters(key: str, filters: Mapping[str, Sequence[str]]) -> list[retrieval_pb2.AttributeFilter]:
    for attribute, values in filters.items():
        if isinstance(values, str):
            raise TypeError(f"{key}: the values of {attribute!r} must be a sequence of strings, got {values!r}")
    return [retrieval_pb2.AttributeFilter(attribute=name, values=values) for name, values in filters.items()]


def feature_value(name: str, value: FeatureInput) -> retrieval_pb2.FeatureValue:
    """A Python value as the protocol's FeatureValue; an empty sequence says that the value is missing.

    Raises:
      TypeError: it is no string, integer or float, nor a sequence of one of them.
    """
    values = [value] if isinstance(value, str | int | float) else list(value)
    kinds = {type(v) for v in values}
    if kinds <= {str}:
        return retrieval_pb2.FeatureValue(strings=retrieval_pb2.StringList(values=values))
    if kinds == {int}:
        return retrieval_pb2.FeatureValue(int64s=retrieval_pb2.Int64List(values=values))
    if kinds <= {int, float}:
        return retrieval_pb2.FeatureValue(floats=retrieval_pb2.FloatList(values=values))
    raise TypeError(
        f"feature {name!r}: expected strings, integers or floats, got {sorted(kind.__name__ for kind in kinds)}"
    )
