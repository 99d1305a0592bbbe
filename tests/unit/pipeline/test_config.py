"""The configuration tree: what is accepted, and the one line that each fault gets."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from models.config import Feature, FeatureSpec, ModelConfig, TrainConfig
from pipeline.config import ConfigError, PipelineConfig, load_config, read_tree

CONFIGS = Path("configs")

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {
        "interactions": {"files": "i.csv", "query_id": "user", "item_id": "item", "timestamp": "at"},
        "items": {"files": "items.csv", "id": "item", "category": "category"},
        "split": {"by": "last"},
    },
    "features": [
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "item", "kind": "id", "side": "item"},
    ],
}


def _load(tmp_path: Path, tree: object) -> PipelineConfig:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(tree))
    return load_config(file)


def _with(place: tuple[Any, ...], value: object) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    node: Any = tree
    for key in place[:-1]:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    if isinstance(node, list) and place[-1] == len(node):
        node.append(value)
    else:
        node[place[-1]] = value
    return tree


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_configs_are_valid_and_survive_json(file: Path) -> None:
    config = load_config(file)
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config


def test_defaults_are_the_papers() -> None:
    model = ModelConfig()
    assert (model.hidden_units, model.output_dim, model.last_activation) == ((256, 128), 32, "relu")
    assert (model.mimic.query_weight, model.mimic.item_weight, model.alignment.weight) == (0.5, 0.5, 1.0)
    assert (model.objective, model.temperature, model.mimic.normalise) == ("sampled_bce", 1.0, False)
    assert TrainConfig().batch_size == 256


def test_the_three_data_sets_have_one_model_and_one_training() -> None:
    first, *others = (load_config(CONFIGS / f"{name}.yaml") for name in ("movielens", "ta_feng", "amazon_beauty"))
    for other in others:
        assert (other.model, other.train, other.negatives) == (first.model, first.train, first.negatives)


def test_filters_need_an_attribute_of_the_items(tmp_path: Path) -> None:
    tree = {**TREE, "index": {"filter": ["nothing"]}}
    with pytest.raises(ConfigError, match=r"index\.filter: 'nothing' is neither a feature of side item nor a column"):
        _load(tmp_path, tree)


def test_who_needs_negatives(tmp_path: Path) -> None:
    tree = {**TREE, "negatives": {"per_positive": 0}}
    with pytest.raises(ConfigError, match=r"sampled_bce needs negatives\.per_positive of at least 1"):
        _load(tmp_path, tree)
    for model in ({"kind": "matrix_factorization"}, {"kind": "youtube_dnn", "objective": "in_batch_softmax"}):
        assert _load(tmp_path, {**tree, "model": model}).negatives.per_positive == 0


def test_the_tree_is_frozen(tmp_path: Path) -> None:
    config = _load(tmp_path, TREE)
    with pytest.raises(ValidationError):
        config.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("nmae",), "x", "nmae: unknown key"),
        (("data", "items", "colour"), "x", "data.items.colour: unknown key"),
        (("data", "split", "evall"), 1, "data.split.evall: unknown key"),
        (("data", "split", "eval"), "1", "data.split.eval: input should be a valid integer (given: '1')"),
        (("data", "split", "by"), "luck", "data.split: input tag 'luck' found using 'by' does not match"),
        (("train", "epochs"), 1.5, "train.epochs: input should be a valid integer (given: 1.5)"),
        (("train", "epochs"), True, "train.epochs: input should be a valid integer (given: True)"),
        (("train", "epochs"), 0, "train.epochs: input should be greater than 0 (given: 0)"),
        (("train", "seed"), 202611241945, "train.seed: input should be less than 2147483648 (given: 202611241945)"),
        (("train", "learning_rate"), float("nan"), "train.learning_rate: input should be"),
        (
            ("model", "objective"),
            "guess",
            "model.objective: input should be 'sampled_bce', 'sampled_softmax' or 'in_batch",
        ),
        (("model", "kind"), "dta", "model.kind: no model is called 'dta'; there is: dat, two_tower, "),
        (("model", "kind"), ["dat"], "model.kind: input should be a valid string"),
        (("model", "kind"), None, "model.kind: input should be a valid string (given: None)"),
        (("model",), {"kind": "mind"}, "model.kind mind needs a feature of kind history"),
        (
            ("model",),
            {"augmented": {"query": "history"}},
            "model.augmented.query history needs a feature of kind history",
        ),
        (
            ("model",),
            {"kind": "factorization_machine", "output_dim": 1},
            "model: output_dim is 1: factorization_machine needs 2 at least",
        ),
        (("model",), {"als": {"alpha": 0}}, "model.als.alpha: input should be greater than 0 (given: 0)"),
        (("features", 0, "kind"), "idd", "features[0].kind: input should be"),
        (("features", 0, "side"), "interaction", "features[0]: feature 'user': side must be query or item for kind id"),
        (("name",), "Shop 1", "name: string should match pattern"),
        (("data", "max_bad_share"), 1.5, "data.max_bad_share: input should be less than or equal to 1 (given: 1.5)"),
        (("features", 2), {"name": "user", "kind": "categorical", "side": "item"}, "feature 'user' is declared twice"),
        (("features", 2), {"name": "age", "kind": "number", "side": "query"}, "data.queries names no file"),
        (("features", 2), {"name": "other", "kind": "id", "side": "item"}, "must be the id column 'item'"),
        (("features", 2), {"name": "query_key", "kind": "text", "side": "item"}, "name is reserved"),
        (("features", 2), {"name": "self", "kind": "number", "side": "query"}, "name is reserved"),
        (("features", 2), {"name": "h", "kind": "history", "side": "item"}, "side must be query"),
        (
            ("features", 2),
            {"name": "p", "kind": "text", "side": "item", "buckets": 3},
            "buckets is for numbers and timestamps",
        ),
        (("features", 2), {"name": "p", "kind": "number", "side": "item", "min": 2.0, "max": 1.0}, "min is larger"),
        (("model", "share_item_embedding"), True, "model.share_item_embedding: no feature of kind history is declared"),
        (
            ("model", "mask_same_query"),
            True,
            "model: mask_same_query is for objective in_batch_softmax: with sampled_bce",
        ),
        (
            ("model",),
            {"temperature": 0.005, "learn_temperature": True},
            "model: temperature is 0.005: a learned one must start at 0.01 or above",
        ),
        (("negatives", "per_positive"), 0, "sampled_bce needs negatives.per_positive of at least 1"),
        (("model", "augmented_dim"), 16, "augmented_dim is 16, output_dim 32: they must be equal"),
        (("evaluation", "thresholds"), [{"metric": "HR@7", "min_value": 0.1}], "HR@7 needs 7 in evaluation.ks"),
        (("evaluation", "thresholds"), [{"metric": "HR@10"}], "HR@10: one of min_value"),
        (("evaluation", "thresholds"), [{"metric": "AUC"}], "evaluation.thresholds[0].metric: string should match"),
        (("data", "split"), {"by": "last", "eval": 0}, "eval and test are both 0"),
        (
            ("features", 2),
            {"name": "p", "kind": "number", "side": "item", "min_count": 2},
            "'p': min_count does not apply",
        ),
        (("features", 2), {"name": "at", "kind": "timestamp", "side": "item", "vocabulary_size": 2}, "vocabulary_size"),
        (("features", 2), {"name": "p", "kind": "number", "side": "item", "embedding_dim": 2}, "numbers with buckets"),
        (
            ("features", 2),
            {"name": "p", "kind": "categorical", "side": "item", "separator": ";"},
            "'p': separator is for",
        ),
        (
            ("features", 2),
            {"name": "p", "kind": "categorical", "side": "item", "max_values": 2},
            "'p': max_values is for",
        ),
        (
            ("features", 2),
            {"name": "p", "kind": "text", "side": "item", "hash_buckets": 9, "vocabulary_size": 9},
            "feature 'p': vocabulary_size has no effect beside hash_buckets",
        ),
        (
            ("features", 2),
            {"name": "p", "kind": "text", "side": "item", "hash_buckets": 9, "min_count": 2},
            "min_count",
        ),
        (("features", 0, "column"), "e-mail", "feature 'user': kind id on side query must be the id column 'user'"),
        (("train", "learning_rate"), "2e-3", "write 0.002 or 2.0e-3, for to YAML this is text (given: '2e-3')"),
        (("train", "learning_rate"), "1e999999999999", "input should be a valid number (given: '1e999999999999')"),
        (("train", "learning_rate"), "25E1", "write 250 or 25.0e+1, for to YAML this is text"),
        (("data", "items", "show"), "title", "data.items.show: input should be a list, as [a, b] (given: 'title')"),
        (("evaluation", "ks"), [], "evaluation.ks: list should have at least 1 item"),
        (("model", "mind"), {"interests": 10**6}, "model.mind.interests: input should be less than or equal to 256"),
        (("features", 0, "hash_buckets"), 10**12, "hash_buckets: input should be less than or equal to 1073741824"),
        (("features", 0, "buckets"), 10**9, "buckets: input should be less than or equal to 16384"),
        (("model", "embedding_dim"), 10**12, "model.embedding_dim: input should be less than or equal to 16384"),
        (
            ("model", "hidden_units"),
            [128, 20_000],
            "model.hidden_units[1]: input should be less than or equal to 16384",
        ),
        (("model", "hidden_units"), 128, "model.hidden_units: input should be a list"),
        (("model", "mimic"), 1.0, "model.mimic: input should be a mapping of keys (given: 1.0)"),
        (("data", "split"), "last", "data.split: input should be a mapping of keys (given: 'last')"),
        (("serving",), None, "serving: nothing stands below it; give it a value, or leave it out"),
        (("features",), None, "features: nothing stands below it"),
        (
            ("data", "items", "show"),
            [False],
            "data.items.show[0]: input should be a valid string; YAML reads yes, no, on",
        ),
        (("data", "items", "show"), [5], "data.items.show[0]: input should be a valid string; quote it (given: 5)"),
        (("data", "interactions", "timestamp_format"), "ISO8601", "timestamp_format: expected unix_seconds, unix_mill"),
        (("data", "interactions", "timestamp_format"), "yyyy-mm-dd", "timestamp_format: expected unix_seconds"),
        (("data", "interactions", "timestamp_format"), "%Q", "timestamp_format: expected unix_seconds"),
        (("data", "interactions", "timestamp_format"), "%H:%M", "a pattern as in strptime that gives the year"),
        (
            ("data", "split"),
            {"by": "time", "eval_from": "2020-02-01", "test_from": "2020-01-01"},
            "test_from must be later than eval_from",
        ),
    ],
)
def test_a_fault_gets_one_line_with_file_and_key(
    tmp_path: Path, place: tuple[Any, ...], value: object, line: str
) -> None:
    with pytest.raises(ConfigError) as error:
        _load(tmp_path, _with(place, value))
    assert str(error.value).startswith(f"{tmp_path / 'c.yaml'}: ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    tree = _with(("nmae",), 1)
    del tree["data"]["items"]["category"]
    with pytest.raises(ConfigError) as error:
        _load(tmp_path, tree)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert any("data.items.category: missing, but required" in line for line in lines)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\na: 2\n", "line 2 not valid YAML: key 'a' stands twice"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
        (b"a: 1\n? [a, b]\n: 2\n", "line 2 not valid YAML: a key must be a word, not a list or mapping"),
        (b"a: &a {b: 1}\n<<: 5\n", "line 2 not valid YAML: expected a mapping or list of mappings for merging"),
        (b"a: 1\n2: 1\n", "line 2 not valid YAML: key '2' is not text to YAML: quote it"),
        (b"a: 1\non: 1\n", "line 2 not valid YAML: key 'on' is not text to YAML: quote it"),
        (b"a: 1\nb: !!bool maybe\n", "line 2 not valid YAML: maybe is no bool"),
        (b"a: 1\nb: !!timestamp foo\n", "line 2 not valid YAML: foo is no timestamp"),
        (b"a: 1\nb: 2026-02-30\n", "line 2 not valid YAML: 2026-02-30: day is out of range for month"),
        (b"", "expected a mapping of keys, found NoneType"),
        (b"- 1\n", "expected a mapping of keys, found list"),
        (b"name: \xff\n", "not UTF-8 at byte 6"),
        (b"name: \x01\n", "not valid YAML: unacceptable character #x0001: special characters are not allowed"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(line)):
        load_config(file)


def test_mappings_merge(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n")
    assert read_tree(file) == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}


@pytest.mark.parametrize("pattern", ["%d.%m.%y", "%Y-%m-%dT%H:%M:%S%z", "%G-W%V-%u", "%Y%m%d %Z", "%j %Y", "iso8601"])
def test_formats_of_moments(tmp_path: Path, pattern: str) -> None:
    tree = _with(("data", "interactions", "timestamp_format"), pattern)
    assert _load(tmp_path, tree).data.interactions.timestamp_format == pattern


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        load_config(tmp_path / "none.yaml")


def test_show_must_not_clash_with_a_feature_of_other_content(tmp_path: Path) -> None:
    tree = _with(("features", 2), {"name": "year", "kind": "number", "side": "item"})
    tree["data"]["items"]["show"] = ["year"]
    with pytest.raises(ConfigError, match=r"'year' has the name of a column of data\.items\.show"):
        _load(tmp_path, tree)
    tree["features"][2] = {"name": "released", "column": "year", "kind": "number", "side": "item"}
    assert _load(tmp_path, tree).data.items.show == ("year",)


@pytest.mark.parametrize(("buckets", "name"), [(4, "at_moment"), (None, "at_hour"), (None, "at_weekday")])
def test_two_features_of_one_transformed_column(tmp_path: Path, buckets: int | None, name: str) -> None:
    tree = _with(("features", 2), {"name": "at", "kind": "timestamp", "side": "interaction", "buckets": buckets})
    tree["features"].append({"name": name, "kind": "categorical", "side": "interaction"})
    with pytest.raises(ConfigError, match=f"features 'at' and '{name}' would both become a column '{name}'"):
        _load(tmp_path, tree)
    tree["features"][3]["name"] = "at_month"
    assert len(_load(tmp_path, tree).features) == 4


def test_dates_are_utc(tmp_path: Path) -> None:
    split = _load(tmp_path, _with(("data", "split"), {"by": "time", "eval_from": "2020-01-01"})).data.split
    assert split.by == "time"
    assert split.eval_from.timestamp() == 1577836800  # 18,262 days since 1970, of 86,400 seconds


def test_sides_of_features() -> None:
    spec = FeatureSpec(
        query_id="u",
        item_id="i",
        timestamp="t",
        category="c",
        features=(
            Feature(name="u", kind="id", side="query"),
            Feature(name="device", kind="categorical", side="interaction"),
            Feature(name="c", kind="categorical", side="item"),
        ),
    )
    assert [f.name for f in spec.query_features] == ["u", "device"]
    assert [f.name for f in spec.item_features] == ["c"]
    assert FeatureSpec.model_validate_json(spec.model_dump_json()) == spec


BY_SPAN = {
    **TREE,
    "data": {
        **TREE["data"],
        "interactions": {**TREE["data"]["interactions"], "files": "{SPAN}/i.csv"},
        "split": {"by": "span", "window": 7},
    },
}


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({**TREE, "train": {"warm_start": {}}}, r"train\.warm_start needs data\.split by span"),
        (
            {**BY_SPAN, "model": {"kind": "matrix_factorization"}, "train": {"warm_start": {}}},
            r"train\.warm_start is for models with epochs; matrix_factorization is solved anew",
        ),
        ({**TREE, "gates": {"volume": {}}}, r"gates\.volume needs data\.split by span"),
        (
            {**BY_SPAN, "gates": {"drift": {"max": 0.1, "features": {"x": 0.2}}}},
            r"gates\.drift\.features: no feature 'x'",
        ),
        (
            {**TREE, "evaluation": {"slices": [{"by": "category", "metric": "HR@7", "min_ratio_to_blessed": 0.9}]}},
            r"evaluation\.slices: HR@7 needs 7 in evaluation\.ks",
        ),
    ],
)
def test_what_needs_spans_or_epochs_is_refused_without(tmp_path: Path, tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        _load(tmp_path, tree)


def test_spans_with_gates_and_warm_start(tmp_path: Path) -> None:
    tree = {**BY_SPAN, "gates": {"volume": {}, "skew": {"max": 0.2}}, "train": {"warm_start": {"optimizer": "reset"}}}
    config = _load(tmp_path, tree)
    assert config.train.warm_start is not None
    assert (config.train.warm_start.epochs, config.train.warm_start.optimizer) == (2, "reset")
