"""Which column of which file becomes which feature, as the config declares it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from components.ingestion.config import FileConfig, IngestionConfig
from models.config import Feature, Kind, Side


class Source(str, Enum):
    """The three kinds of files, called as in the config: data.<value>."""

    INTERACTIONS = "interactions"
    ITEMS = "items"
    QUERIES = "queries"


class Role(Enum):
    """How a field's values are read."""

    ID = "id"
    TEXT = "text"
    CATEGORY = "category"
    CATEGORIES = "categories"
    NUMBER = "number"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Field:
    """One value of a row.

    name: the key in the tf.Example; column: the file's; key: the config's key, for messages.
    separator: between several categories.
    """

    name: str
    column: str
    role: Role
    key: str
    separator: str = "|"


@dataclass(frozen=True)
class Layout:
    """What is read from one kind of file. The first field is the id that a row stands under."""

    source: Source
    files: FileConfig
    fields: tuple[Field, ...]


_ROLES = {
    Kind.ID: Role.ID,
    Kind.CATEGORICAL: Role.CATEGORY,
    Kind.TEXT: Role.TEXT,
    Kind.MULTI_CATEGORICAL: Role.CATEGORIES,
    Kind.NUMBER: Role.NUMBER,
    Kind.TIMESTAMP: Role.TIMESTAMP,
}


def _field(feature: Feature) -> Field:
    key = f"features.{feature.name}"
    return Field(feature.name, feature.source_column, _ROLES[feature.kind], key, feature.separator)


def layouts(config: IngestionConfig) -> tuple[Layout, ...]:
    """The fields to read, per kind of file.

    Interactions begin with query id, item id and timestamp, items with id and category, queries with
    the id. A declared feature called like one of these is the same value and is not read again, nor
    is a shown column that is a declared item feature.
    """
    data, spec = config.data, config.features
    interaction_keys = (
        Field(spec.query_id, data.interactions.query_id, Role.ID, "data.interactions.query_id"),
        Field(spec.item_id, data.interactions.item_id, Role.ID, "data.interactions.item_id"),
        Field(spec.timestamp, data.interactions.timestamp, Role.TIMESTAMP, "data.interactions.timestamp"),
    )
    item_keys = (
        Field(spec.item_id, data.items.id, Role.ID, "data.items.id"),
        Field(spec.category, data.items.category, Role.CATEGORY, "data.items.category"),
    )

    def declared(side: Side, keys: tuple[Field, ...]) -> tuple[Field, ...]:
        names = {key.name for key in keys}
        return tuple(
            _field(f) for f in spec.features if f.side is side and f.kind is not Kind.HISTORY and f.name not in names
        )

    item_fields = item_keys + declared(Side.ITEM, item_keys)
    item_names = {field.name for field in item_fields}
    shown = tuple(Field(c, c, Role.TEXT, "data.items.show") for c in data.items.show if c not in item_names)
    result = [
        Layout(
            Source.INTERACTIONS,
            data.interactions,
            interaction_keys + declared(Side.INTERACTION, interaction_keys),
        ),
        Layout(Source.ITEMS, data.items, item_fields + shown),
    ]
    if data.queries is not None:
        query_keys = (Field(spec.query_id, data.queries.id, Role.ID, "data.queries.id"),)
        result.append(Layout(Source.QUERIES, data.queries, query_keys + declared(Side.QUERY, query_keys)))
    return tuple(result)


def name_problems(config: IngestionConfig) -> list[str]:
    """What the config alone tells to be wrong: two values that would stand under one key of a tf.Example."""
    data, spec = config.data, config.features
    query_columns = {data.interactions.query_id} | ({data.queries.id} if data.queries else set())
    item_columns = {data.interactions.item_id, data.items.id}
    keys: dict[str, tuple[str, Side | None, tuple[Kind, ...], set[str]]] = {
        spec.query_id: ("the query id", Side.QUERY, (Kind.ID,), query_columns),
        spec.item_id: ("the item id", Side.ITEM, (Kind.ID,), item_columns),
        spec.timestamp: ("the timestamp", Side.INTERACTION, (Kind.TIMESTAMP,), {data.interactions.timestamp}),
        spec.category: ("the category", Side.ITEM, (Kind.CATEGORICAL, Kind.TEXT), {data.items.category}),
        "seen_items": ("the query store's seen items", None, (), set()),
    }
    problems = []
    if len(keys) < 5:
        names = f"{spec.query_id}, {spec.item_id}, {spec.timestamp}, {spec.category}"
        problems.append(
            f"features: query_id, item_id, timestamp and category need four names other than seen_items, got {names}"
        )
    for feature in spec.features:
        if feature.name not in keys:
            continue
        what, side, kinds, columns = keys[feature.name]
        fits = feature.side is side and feature.kind in kinds and feature.column in {None, *columns}
        if not fits:
            problems.append(f"features.{feature.name}: the name is taken by {what}; give the feature another name")
    features = {f.name: f for f in spec.features}
    reserved = {spec.query_id, spec.timestamp, "seen_items"}
    for shown in data.items.show:
        clash = features.get(shown)
        if shown in reserved or (clash is not None and clash.side is not Side.ITEM):
            problems.append(f"data.items.show: {shown!r} is the name of a value of another file; rename the column")
        elif clash is not None and clash.kind is not Kind.ID and clash.source_column != shown:
            problems.append(
                f"data.items.show: {shown!r} is also the feature read from column {clash.source_column!r}; "
                "give the feature another name"
            )
    if data.queries is None:
        for f in spec.features:
            if f.side is Side.QUERY and f.kind not in (Kind.ID, Kind.HISTORY):
                problems.append(f"features.{f.name}: side query needs a query catalogue, but data.queries is not given")
    return problems
