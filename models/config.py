"""Configuration of the features, the model and its training. Imports no TensorFlow."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

FEATURE_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
RESERVED_NAMES = frozenset(
    {
        "candidate_index",
        "query_index",
        "category_index",
        "query_key",
        "item_key",
        "negative_indices",
        "negative_log_q",
        "hard_negative_indices",
        "item_count",
        "seen_items",
        "self",  # tf.function takes no input of this name
        "query_vectors",
    }
)


class Frozen(BaseModel):
    """A config node: immutable, unknown keys refused, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Kind(str, Enum):
    """What a feature is. Decides how it is read, transformed and embedded."""

    ID = "id"  # one string, the query's or the item's identity
    CATEGORICAL = "categorical"  # one string
    MULTI_CATEGORICAL = "multi_categorical"  # several strings
    NUMBER = "number"  # one float
    TEXT = "text"  # one string, split into a bag of lower-case tokens
    TIMESTAMP = "timestamp"  # one moment; becomes hour of day and day of week, UTC, or one of `buckets` of time
    HISTORY = "history"  # the query's earlier items, made by ingestion


class Side(str, Enum):
    """Which file a feature comes from, and with it which tower sees it."""

    QUERY = "query"  # the query catalogue; query tower
    ITEM = "item"  # the item catalogue; item tower
    INTERACTION = "interaction"  # the interaction's own row; query tower (context of the request)


# JSON and YAML carry enums as strings, which strict mode would refuse.
KindField = Annotated[Kind, Field(strict=False)]
SideField = Annotated[Side, Field(strict=False)]

PositiveInt = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0, le=16_384)]  # a larger one is a slip: tables and layers would fit no machine
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def hour_key(name: str) -> str:
    return f"{name}_hour"


def weekday_key(name: str) -> str:
    return f"{name}_weekday"


def moment_key(name: str) -> str:
    return f"{name}_moment"


class Feature(Frozen):
    """One declared feature.

    In a raw tf.Example it stands under `name`: ids, categoricals and text as bytes, numbers as
    float, timestamps as int64 unix seconds, histories as bytes (item ids, oldest first). A missing
    value is an empty list.
    """

    name: Annotated[str, Field(pattern=FEATURE_NAME)]
    kind: KindField
    side: SideField
    column: str | None = None  # the file's column, where it is not called like the feature
    embedding_dim: Width | None = None  # default: model.embedding_dim
    vocabulary_size: PositiveInt | None = None  # keep the most frequent values only; default: all
    min_count: PositiveInt = 1  # values seen less often than this are out of vocabulary
    hash_buckets: Annotated[int, Field(gt=0, le=2**30)] | None = None  # into so many rows, instead of a vocabulary
    separator: Annotated[str, Field(min_length=1)] = "|"  # between the values of a multi_categorical in CSV
    max_values: PositiveInt = 50  # multi_categorical and text: the first so many; history: the last so many
    # Embed so many quantile buckets: of a number instead of a z-score, of a timestamp instead of hour and weekday.
    buckets: Annotated[int, Field(ge=2, le=16_384)] | None = None
    required: bool = False  # check: every row must have a value
    min: float | None = None  # check, number only
    max: float | None = None  # check, number only
    values: tuple[str, ...] | None = Field(default=None, strict=False)  # check, categoricals only: the allowed values

    @property
    def source_column(self) -> str:
        return self.column or self.name

    @property
    def transformed(self) -> tuple[str, ...]:
        """Names of the columns that Transform makes of it."""
        if self.kind is not Kind.TIMESTAMP:
            return (self.name,)
        return (hour_key(self.name), weekday_key(self.name)) if self.buckets is None else (moment_key(self.name),)

    @property
    def multi_valued(self) -> bool:
        return self.kind in (Kind.MULTI_CATEGORICAL, Kind.TEXT, Kind.HISTORY)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Feature:
        def refuse(key: str, why: str) -> None:
            raise ValueError(f"feature {self.name!r}: {key} {why}")

        if self.name in RESERVED_NAMES:
            refuse("name", "is reserved for the pipeline's own columns")
        if self.kind is Kind.HISTORY and self.side is not Side.QUERY:
            refuse("side", "must be query, for a history belongs to the query")
        if self.kind is Kind.HISTORY and self.column:
            refuse("column", "cannot be set: ingestion makes the history from the interactions")
        if self.kind is Kind.ID and self.side is Side.INTERACTION:
            refuse("side", "must be query or item for kind id")
        if self.buckets is not None and self.kind not in (Kind.NUMBER, Kind.TIMESTAMP):
            refuse("buckets", f"is for numbers and timestamps, not for kind {self.kind.value}")
        if (self.min is not None or self.max is not None) and self.kind is not Kind.NUMBER:
            refuse("min and max", f"are for numbers, not for kind {self.kind.value}")
        if self.min is not None and self.max is not None and self.min > self.max:
            refuse("min", "is larger than max")
        if self.values is not None and self.kind not in (Kind.CATEGORICAL, Kind.MULTI_CATEGORICAL):
            refuse("values", f"is for categoricals, not for kind {self.kind.value}")
        if self.hash_buckets is not None and self.kind in (Kind.NUMBER, Kind.TIMESTAMP, Kind.HISTORY):
            refuse("hash_buckets", f"does not apply to kind {self.kind.value}")
        return self


class FeatureSpec(Frozen):
    """All that training, indexing and serving need to know of the columns.

    query_id, item_id, timestamp and category name the raw columns of every tf.Example that ingestion
    writes, whether or not they are features too.
    """

    query_id: str
    item_id: str
    timestamp: str
    category: str
    features: tuple[Feature, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSpec:
        names = [f.name for f in self.features]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"feature {twice[0]!r} is declared twice")
        made: dict[str, str] = {}
        for f in self.features:
            for column in f.transformed:
                if column in made:
                    raise ValueError(
                        f"features {made[column]!r} and {f.name!r} would both become a column {column!r}: "
                        "give one another name"
                    )
                made[column] = f.name
        for f in self.features:
            if f.kind is Kind.ID:
                expected = self.query_id if f.side is Side.QUERY else self.item_id
                if f.name != expected:
                    raise ValueError(
                        f"feature {f.name!r}: of kind id on side {f.side.value} there is {expected!r} already; "
                        "other ids are categorical"
                    )
        for side in (Side.QUERY, Side.ITEM):
            if not any(f.side is side or (side is Side.QUERY and f.side is Side.INTERACTION) for f in self.features):
                raise ValueError(f"no feature of side {side.value} is declared: its tower would have no input")
        return self

    @property
    def query_features(self) -> tuple[Feature, ...]:
        """Features of the query tower, the interaction's own included."""
        return tuple(f for f in self.features if f.side is not Side.ITEM)

    @property
    def item_features(self) -> tuple[Feature, ...]:
        return tuple(f for f in self.features if f.side is Side.ITEM)


class MimicConfig(Frozen):
    """Adaptive-mimic mechanism (AMM): a_u learns p_v, a_v learns p_u."""

    query_weight: NonNegativeFloat = 0.5  # lambda_1 of the paper
    item_weight: NonNegativeFloat = 0.5  # lambda_2 of the paper
    normalise: bool = False  # L2-normalise the augmented vectors; the paper does not
    centre: bool = False  # mimic what sets an output apart from the batch's mean output; the paper does not
    # Share of a cold training's steps after which the mimic losses begin to count; the paper's from the first step on.
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0


class AugmentedConfig(Frozen):
    """Where the query's augmented vector comes from, and where both go. The defaults are the paper's."""

    query: Literal["table", "history"] = "table"  # a row of its own; or pooled from the a_v of the query's history
    to_output: bool = False  # add them to the towers' outputs too, not to their inputs only


class AlignmentConfig(Frozen):
    """Category alignment loss (CAL)."""

    weight: NonNegativeFloat = 1.0  # lambda_3 of the paper


class MindConfig(Frozen):
    """Multi-interest network (kind mind)."""

    interests: Annotated[int, Field(gt=0, le=256)] = 4  # K, vectors of a query
    routing_iterations: PositiveInt = 3


class AlsConfig(Frozen):
    """Alternating least squares (kind matrix_factorization)."""

    regularization: PositiveFloat = 0.01  # of the squared length of each factor
    alpha: PositiveFloat = 1.0  # confidence in one interaction; that a query does not want an item has confidence 1
    iterations: PositiveInt = 15


class Objective(str, Enum):
    SAMPLED_BCE = "sampled_bce"  # sigmoid cross-entropy over one positive and its S negatives; the paper
    SAMPLED_SOFTMAX = "sampled_softmax"  # softmax over one positive and its S negatives, log-q corrected
    IN_BATCH_SOFTMAX = "in_batch_softmax"  # softmax over the batch's positives and all its negatives, log-q corrected

    @property
    def needs_negatives(self) -> bool:
        """Whether S = 0 leaves nothing to tell the positive from."""
        return self is not Objective.IN_BATCH_SOFTMAX


# A learned temperature has no smaller value: the scores are multiplied by 100 at most, as in CLIP (Radford et al.,
# "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021). Once the training data is fitted
# a softmax always gains by a smaller temperature, until its gradients are all of a few rows or overflow.
MIN_LEARNED_TEMPERATURE = 0.01


# model.kind -> the model's class, by name: this module imports no TensorFlow. A new model is its file and a line here.
MODELS = {
    "dat": "models.dat.DAT",
    "two_tower": "models.two_tower.TwoTower",
    "youtube_dnn": "models.youtube_dnn.YoutubeDNN",
    "mind": "models.mind.MIND",
    "factorization_machine": "models.factorization_machine.FactorizationMachine",
    "matrix_factorization": "models.matrix_factorization.MatrixFactorization",
}


def _known_model(kind: str) -> str:
    if kind not in MODELS:
        raise ValueError(f"no model is called {kind!r}; there is: {', '.join(MODELS)}")
    return kind


class ModelConfig(Frozen):
    """Architecture and loss. The defaults are the paper's."""

    kind: Annotated[str, AfterValidator(_known_model)] = "dat"
    embedding_dim: Width = 32
    augmented_dim: Width = 32
    hidden_units: tuple[Width, ...] = Field(default=(256, 128), strict=False)
    output_dim: Width = 32
    last_activation: Literal["relu", "linear"] = "relu"
    share_item_embedding: bool = False  # the history reads the item id's table instead of one of its own
    unknown_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of training rows whose ids are replaced by OOV
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # on the towers' input, training only
    objective: Annotated[Objective, Field(strict=False)] = Objective.SAMPLED_BCE
    temperature: PositiveFloat = 1.0  # scores are divided by it in the loss
    learn_temperature: bool = False  # temperature is the start of a trained value
    # A row counts in the objective by the train rows of its item's category, to the power of minus this. With 0 all
    # rows count alike (the paper), with 1 all categories.
    category_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    mask_same_query: bool = False  # in_batch_softmax: the query's other positives of the batch are no negatives
    augmented: AugmentedConfig = AugmentedConfig()
    mimic: MimicConfig = MimicConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    mind: MindConfig = MindConfig()
    als: AlsConfig = AlsConfig()

    @model_validator(mode="after")
    def _mimic_dimensions(self) -> ModelConfig:
        if self.kind == "dat" and self.augmented_dim != self.output_dim:
            raise ValueError(
                f"augmented_dim is {self.augmented_dim}, output_dim {self.output_dim}: they must be equal, "
                "for each augmented vector mimics the other tower's output"
            )
        return self

    @property
    def needs_negatives(self) -> bool:
        """Whether training takes sampled negatives of each row."""
        return self.kind != "matrix_factorization" and self.objective.needs_negatives

    @model_validator(mode="after")
    def _room_for_the_item_bias(self) -> ModelConfig:
        if self.kind == "factorization_machine" and self.output_dim == 1:
            raise ValueError(
                "output_dim is 1: factorization_machine needs 2 at least, one number being the item's bias"
            )
        return self

    @model_validator(mode="after")
    def _objective_settings(self) -> ModelConfig:
        if self.mask_same_query and self.objective is not Objective.IN_BATCH_SOFTMAX:
            raise ValueError(
                f"mask_same_query is for objective in_batch_softmax: with {self.objective.value} "
                "no row's positive is a negative of another"
            )
        if self.learn_temperature and self.temperature < MIN_LEARNED_TEMPERATURE:
            raise ValueError(
                f"temperature is {self.temperature:g}: a learned one must start at {MIN_LEARNED_TEMPERATURE:g} or above"
            )
        return self


class WarmStartConfig(Frozen):
    """Going on from the last blessed model instead of training anew."""

    epochs: PositiveInt = 2  # of a warm run; a cold one has train.epochs
    optimizer: Literal["keep", "reset"] = "keep"  # its momentum, velocity and number of steps
    cold_every: PositiveInt | None = None  # so many spans after another one is trained cold


class TrainConfig(Frozen):
    """Training run."""

    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None  # fewer epochs where so many steps are done in fewer
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7  # NumPy takes 32 bits, and a run that goes on adds its epochs
    warm_start: WarmStartConfig | None = None
