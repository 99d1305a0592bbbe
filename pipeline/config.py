"""The whole pipeline's configuration: one frozen tree, read from one YAML file. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from components.ingestion.config import DataConfig, IngestionConfig, SplitBySpan
from components.item_indexer.config import IndexConfig
from components.negative_sampler.config import NegativesConfig
from components.retrieval_evaluator.config import EvaluationConfig
from components.span_gate.config import GatesConfig, distances
from models.config import (
    FEATURE_NAME,
    RESERVED_NAMES,
    Feature,
    FeatureSpec,
    Frozen,
    Kind,
    ModelConfig,
    Side,
    TrainConfig,
)
from models.feature_checks import check_features
from pipeline.airflow.config import ScheduleConfig
from serving.config import ServingConfig


class ConfigError(ValueError):
    """A configuration that cannot be used. Its text has one line for each fault, naming file and key."""


class PipelineConfig(Frozen):
    """All that a user decides. Relative paths start at the working directory."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]  # of the pipeline and of the served model
    root: Annotated[str, Field(min_length=1)] = "runs"  # artifacts, metadata, logs and releases go to <root>/<name>
    data: DataConfig
    features: tuple[Feature, ...] = Field(strict=False)
    gates: GatesConfig = GatesConfig()
    negatives: NegativesConfig = NegativesConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    index: IndexConfig = IndexConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    schedule: ScheduleConfig | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> PipelineConfig:
        self._check_ids()
        _ = self.feature_spec
        for f in self.features:
            catalogue_feature = f.side is Side.QUERY and f.kind not in (Kind.ID, Kind.HISTORY)
            if catalogue_feature and self.data.queries is None:
                raise ValueError(f"feature {f.name!r} is of side query, but data.queries names no file")
        plain = (Kind.CATEGORICAL, Kind.TEXT)
        for f in self.features:
            if f.name in self.data.items.show and (f.side is not Side.ITEM or f.kind not in plain or f.column):
                raise ValueError(
                    f"feature {f.name!r} has the name of a column of data.items.show but not its content: "
                    f"give the feature another name and set its column"
                )
        filterable = {
            self.data.items.category,
            *self.data.items.show,
            *(f.name for f in self.feature_spec.item_features),
        }
        for column in self.index.filter:
            if column not in filterable:
                raise ValueError(
                    f"index.filter: {column!r} is neither a feature of side item nor a column of data.items.show"
                )
        if self.model.needs_negatives and self.negatives.per_positive == 0:
            raise ValueError(f"model.objective {self.model.objective.value} needs negatives.per_positive of at least 1")
        check_features(self.feature_spec, self.model)
        if not any(f.kind is Kind.HISTORY for f in self.features):
            if self.model.kind == "mind":
                raise ValueError("model.kind mind needs a feature of kind history, which its interests are made of")
            if self.model.kind == "dat" and self.model.augmented.query == "history":
                raise ValueError("model.augmented.query history needs a feature of kind history")
        for key in ("volume", "drift", "skew"):
            if getattr(self.gates, key) is not None and not isinstance(self.data.split, SplitBySpan):
                raise ValueError(f"gates.{key} needs data.split by span: it compares a span with those before it")
        for key in ("drift", "skew"):
            try:
                distances(getattr(self.gates, key), self.feature_spec)
            except ValueError as e:
                raise ValueError(f"gates.{key}.features: {e}") from e
        if self.train.warm_start is not None:
            if not isinstance(self.data.split, SplitBySpan):
                raise ValueError("train.warm_start needs data.split by span: it goes on from an earlier span's model")
            if self.model.kind == "matrix_factorization":
                raise ValueError("train.warm_start is for models with epochs; matrix_factorization is solved anew")
        self._check_schedule()
        for key in ("thresholds", "slices"):
            for threshold in getattr(self.evaluation, key):
                _, _, k = threshold.metric.partition("@")
                if k and int(k) not in self.evaluation.ks:
                    raise ValueError(f"evaluation.{key}: {threshold.metric} needs {k} in evaluation.ks")
        return self

    def _check_schedule(self) -> None:
        schedule, split = self.schedule, self.data.split
        if schedule is None or not isinstance(split, SplitBySpan):
            return
        if schedule.first_span <= split.first_span:
            raise ValueError(
                f"schedule.first_span must be {split.first_span + 1} or more: span {split.first_span} is the first "
                "there is (data.split.first_span), and the first run needs one before its own to train on"
            )
        if split.first_day is None:
            return
        if schedule.every_hours != 24:
            raise ValueError("schedule.every_hours must be 24, for data.split.first_day says that spans are days")
        span = split.first_span + (schedule.start - split.first_day).days
        if schedule.first_span != span:
            raise ValueError(f"schedule.first_span must be {span}: by data.split that is the span of {schedule.start}")

    @property
    def feature_spec(self) -> FeatureSpec:
        """The ids are called like their features, so that a column with any name can be one."""

        def name(side: Side, column: str, otherwise: str) -> str:
            declared = next((f.name for f in self.features if f.kind is Kind.ID and f.side is side), None)
            # TensorFlow's signatures have no inputs called "Item No".
            fits = re.match(FEATURE_NAME, column) and column not in RESERVED_NAMES
            return declared or (column if fits else otherwise)

        return FeatureSpec(
            query_id=name(Side.QUERY, self.data.interactions.query_id, "query_id"),
            item_id=name(Side.ITEM, self.data.interactions.item_id, "item_id"),
            timestamp=self.data.interactions.timestamp,
            category=self.data.items.category,
            features=self.features,
        )

    def _check_ids(self) -> None:
        data = self.data
        columns = {
            Side.QUERY: (data.interactions.query_id, *([data.queries.id] if data.queries else [])),
            Side.ITEM: (data.interactions.item_id, data.items.id),
        }
        for f in self.features:
            if f.kind is Kind.ID and f.source_column not in columns[f.side]:
                raise ValueError(
                    f"feature {f.name!r}: kind id on side {f.side.value} must be the id column {columns[f.side][0]!r} "
                    "(by its name, or by column); other ids are categorical"
                )

    def ingestion(self, span: int) -> IngestionConfig:
        return IngestionConfig(data=self.data, features=self.feature_spec, span=span).skipping(())

    @property
    def home(self) -> Path:
        return Path(self.root) / self.name

    @property
    def releases(self) -> Path:
        """Base path of the served model, as TF Serving polls it."""
        return self.home / "releases"


_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")  # merge: <<


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, where YAML would silently take the last, and keys that are no text; says
    in which line a value stands that cannot be made."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.composer.ComposerError(
                    None, None, "a key must be a word, not a list or mapping", key.start_mark
                )
            if key.tag not in _KEY_TAGS:
                raise yaml.composer.ComposerError(
                    None, None, f"key {key.value!r} is not text to YAML: quote it", key.start_mark
                )
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as e:  # of what looks like a date and is none, 2026-02-30
            raise yaml.constructor.ConstructorError(None, None, f"{node.value}: {e}", node.start_mark) from e
        except (AttributeError, KeyError, TypeError) as e:  # of a tag that the value does not suit, !!bool maybe
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no {kind}", node.start_mark) from e


# Pydantic puts the chosen member of a tagged union into an error's place; users don't write it.
_UNION_TAGS = {("data", "split", kind) for kind in ("time", "last", "span")}


def _key(place: Iterable[int | str]) -> str:
    parts = tuple(place)
    if parts[:3] in _UNION_TAGS:
        parts = parts[:2] + parts[3:]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


# What pydantic says of what YAML calls a mapping and a list.
_SECTIONS = {
    "model_type": "input should be a mapping of keys",
    "model_attributes_type": "input should be a mapping of keys",
    "dict_type": "input should be a mapping of keys",
    "tuple_type": "input should be a list, as [a, b]",
}
_EXPONENT = re.compile(r"([+-]?\d+)(\.\d*)?[eE]([+-]?)(\d{1,2})")  # what is longer is no number to write out


def _hint(kind: str, given: object) -> str:
    """What YAML made of a value, where that is not what it looks like."""
    if kind == "string_type" and isinstance(given, bool):
        return "; YAML reads yes, no, on and off as true and false: quote it"
    if kind == "string_type" and isinstance(given, int | float | date):
        return "; quote it"
    if kind == "float_type" and isinstance(given, str) and (number := _EXPONENT.fullmatch(given)):
        digits, point, sign, exponent = number.groups()
        return (
            f"; write {Decimal(given):f} or {digits}{point or '.0'}e{sign or '+'}{exponent}, for to YAML this is text"
        )
    return ""


def _line(source: str, error: Any) -> str:
    key = _key(error["loc"])
    where = f"{source}: {key}" if key else source
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == "missing":
        return f"{where}: missing, but required"
    given = error["input"]
    if given is None and error["type"] in _SECTIONS:
        return f"{where}: nothing stands below it; give it a value, or leave it out"
    message = error["msg"].removeprefix("Value error, ")
    if message == error["msg"]:  # pydantic's own
        message = (message[0].lower() + message[1:]).replace("tuple", "list")
        message = _SECTIONS.get(error["type"], message) + _hint(error["type"], given)
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{where}: {message}{shown}"


def read_tree(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
      ConfigError: the file cannot be read, is not YAML, is nested too deeply, has a key twice or no mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 at byte {e.start}") from e
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} not valid YAML: {getattr(e, 'problem', str(e).splitlines()[0])}") from e
    except RecursionError as e:
        raise ConfigError(f"{path}: nested too deeply") from e
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    return tree


Config = TypeVar("Config", bound=Frozen)


def validate(kind: type[Config], tree: dict[str, Any], source: str) -> Config:
    """Makes a config node of a tree.

    Args:
      kind: the class to make.
      tree: as YAML gives it.
      source: where the tree comes from; begins each line of the error.

    Raises:
      ConfigError: unknown keys, wrong types or values that don't fit together; one line for each fault.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as e:
        raise ConfigError("\n".join(_line(source, error) for error in e.errors())) from e


def load_config(path: str | Path) -> PipelineConfig:
    """Reads and validates a YAML configuration.

    Args:
      path: the YAML file.

    Returns:
      The validated, immutable configuration.

    Raises:
      ConfigError: the file cannot be read, is not YAML, or has unknown keys, wrong types or values
        that don't fit together; one line for each fault.
    """
    path = Path(path)
    return validate(PipelineConfig, read_tree(path), str(path))
