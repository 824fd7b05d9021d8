"""The configuration: precedence, clear errors, and every file in conf/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dlmine_spark.config import Config, TrainingConfig, load_config
from dlmine_spark.errors import ConfigError

CONF = Path(__file__).parents[1] / "conf"
PANEL = "sources.panel={kind: panel, path: p.csv, columns: {ds: date, y: sales}}"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing is set\n", encoding="utf-8")
    assert load_config([file]) == load_config()
    file.write_text(" \n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"empty\.yaml: is empty"):
        load_config([file])


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "evaluation: {horizon: 7, cutoffs: 2}\nmining: {min_support: 0.1}")
    overlay = write(tmp_path, "overlay.yaml", "evaluation: {horizon: 14}\nmining: {min_support: 0.2}")
    environment = {"DLMINE__MINING__MIN_SUPPORT": "0.3", "DLMINE__SEGMENTATION__K": "5", "HOME": "x"}

    config = load_config([base, overlay], ["segmentation.k=6"], environment)

    assert config.evaluation.horizon == 14
    assert config.evaluation.cutoffs == 2
    assert config.mining.min_support == 0.3
    assert config.segmentation.k == 6


def test_a_column_can_be_renamed_without_losing_its_declaration(tmp_path: Path) -> None:
    base = write(
        tmp_path,
        "base.yaml",
        "sources: {s: {kind: panel, path: p, columns: {ds: date, y: {from: sales, fill: linear}}}}",
    )
    config = load_config([base], ["sources.s.columns.y=Umsatz"])

    assert config.sources["s"].columns["y"].source == "Umsatz"
    assert config.sources["s"].columns["y"].fill == "linear"


def test_environment_variables_are_filled_in_and_missing_ones_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, "c.yaml", "lakehouse: {root: '${BASE}/tables'}")

    assert load_config([file], (), {"BASE": "here"}).lakehouse.root == "here/tables"
    with pytest.raises(ConfigError, match=r"c\.yaml: lakehouse: root: environment variable BASE is not set"):
        load_config([file])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.horizn=3", r"evaluation\.horizn: unknown key, did you mean horizon\?.*--set"),
        ("evaluation.horizon=0", r"evaluation\.horizon: .*greater than or equal to 1, got 0 \(--set"),
        ("mining.min_support=1.5", r"mining\.min_support: .*less than or equal to 1, got 1\.5"),
        ("segmentation.k=1", r"segmentation\.k: must be at least 2, or auto, got 1"),
        ("nonsense=1", r"nonsense: unknown key; known keys: lakehouse"),
        ("evaluation.horizon", r"expected section\.key=value"),
        ("training.batch_size=1", r"batch_size 1 is below workers 2"),
        ("sources.x={kind: lines, path: f}", r"kind lines has to map basket_id, item"),
        ("sources.X={kind: table, path: f}", r"source name 'X'"),
        ("sources.x={kind: table, path: f, colour: red}", r"sources\.x\.colour: unknown key"),
        ("mining=[1", "not valid YAML"),
        ("mining.antecedent={require: a, forbid: [a]}", r"mining\.antecedent: item 'a' is required and forbidden"),
        ("mining.antecedent={require: a, only: [b]}", r"item 'a' is required and not among the only ones"),
        ("mining.consequent={only: a, forbid: [a]}", r"all items of only are forbidden"),
        ("mining.consequent.require=[a, b]", r"lists 2 items, max_consequent is 1: set max_consequent=2"),
        ("mining={antecedent: {require: a}, consequent: {require: a}}", r"item 'a' is required on both sides"),
        ("mining.consequent.requires=a", r"mining\.consequent\.requires: unknown key, did you mean require\?"),
        ("mining.sequences.min_support=0", r"mining\.sequences\.min_support: .*greater than 0, got 0"),
        ("mining.sequences.min_support=1.5", r"mining\.sequences\.min_support: .*less than or equal to 1, got 1\.5"),
        ("mining.sequences.max_gap=0", r"mining\.sequences\.max_gap: .*greater than or equal to 1, got 0"),
        ("mining.sequences.max_gap_days=-1", r"mining\.sequences\.max_gap_days: .*equal to 1, got -1"),
        ("mining.sequences.max_len=0", r"mining\.sequences\.max_len: .*greater than or equal to 1, got 0"),
        ("mining.sequences.enabled=maybe", r"sequences\.enabled: Input should be 'auto', True or False, got 'maybe'"),
        ("mining.sequences.max_gaps=3", r"mining\.sequences\.max_gaps: unknown key, did you mean max_gap\?"),
        ("arima.levels=[50, 100]", r"arima\.levels: 100 is no share of an interval: between 0 and 100 percent"),
        ("arima.season_length=0", r"arima\.season_length: 0 is no number of steps: at least 1"),
        ("arima.season_lengths=[168, 0]", r"arima\.season_lengths: a season of 0 steps: at least 2"),
        ("arima.order=[1, -1, 0]", r"arima\.order: \[1, -1, 0\] is no \(p, d, q\)"),
        ("arima.order=[50, 0, 1]", r"arima\.order: \[50, 0, 1\] is no \(p, d, q\)"),
        ("arima.order=[1, 3, 1]", r"arima\.order: \[1, 3, 1\] is no .*d from 0 to 2"),
        ("arima.max_p=99", r"arima\.max_p: .*less than or equal to 24, got 99"),
        ("mining.max_q=0", r"mining\.max_q: .*greater than 0, got 0"),
    ],
)
def test_every_mistake_is_named_with_its_key_and_origin(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config((), [override])


def test_of_several_settings_of_a_section_the_wrong_one_is_named() -> None:
    with pytest.raises(ConfigError, match=r"arima\.max_p: .*, got 99 \(--set arima\.max_p=99\)$"):
        load_config((), ["arima.max_q=2", "arima.max_p=99", "arima.fourier=2"])


def test_items_of_templates_may_be_numbers_and_one_stands_for_a_list() -> None:
    config = load_config((), ["mining.antecedent.forbid=[39, milk]", "mining.consequent.only=48"]).mining
    assert config.antecedent.forbid == ("39", "milk")
    assert config.consequent.only == ("48",)


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ("{min: 3, max: 1, type: double}", ["min 3.0 is above max 1.0"]),
        # All of a column's contradictions at once.
        (
            "{min_length: 3, max_length: 2, allowed: [ok], required: true, not_allowed: null, not_matching: null}",
            ["min_length 3 is above max_length 2", "'ok' is shorter", "not_allowed: null", "not_matching: null"],
        ),
        ("{allowed: [a], fill: constant, fill_value: b}", ["fill_value 'b' is no allowed value"]),
        ("{type: double, min: 1, fill: constant, fill_value: 0}", ["fill_value 0 is below min"]),
        ("{max_length: 1, fill: constant, fill_value: ab}", ["fill_value 'ab' is shorter than min_length or longer"]),
        ("{type: double, pattern: a, time_zone: UTC}", ["pattern needs type string", "time_zone needs type timestamp"]),
        # What is written in a file of text is the day.
        ("{type: date, time_zone: UTC}", ["time_zone needs type timestamp, the column is of type date"]),
    ],
)
def test_rules_of_a_column_that_contradict_each_other_are_refused(spec: str, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config((), [f"sources.x={{kind: table, path: f, columns: {{a: {spec}}}}}"])

    for message in messages:
        assert message in str(caught.value)
    assert "sources.x" in str(caught.value)


NUMBERS = "columns: {item: null, quantity: {type: double}, price: {type: double}, amount: {type: double}}"


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ("rules: [{name: a, expr: x, action: repair}]", ["rules.0: action: repair and set go together"]),
        ("rules: [{name: a, expr: x, set: {item: y}}]", ["action: repair and set go together"]),
        (
            "rules: [{name: a, expr: x, action: repair, set: {itm: y}}], sum_columns: [price, item]",
            ["rules.a.set: no column itm is mapped, did you mean item?", "sum_columns: needs keep: sum", "item has to"],
        ),
        ("equations: [{name: e, product: [quantity], equals: amount}]", ["need two columns"]),
        ("equations: [{name: e, equals: amount}]", ["either product or sum"]),
        ("equations: [{name: e, product: [price, amount], equals: amount}]", ["amount is there twice"]),
        (
            "equations: [{name: e, sum: [qantity, item], equals: amount}]",
            [
                "equations.e: no column qantity is mapped, did you mean quantity?",
                "equations.e: item has to be a number",
            ],
        ),
        ("keep: sum", ["keep: sum needs a key"]),
        ("keep: most_complete", ["keep: most_complete needs a key"]),
        ("keep: sum, key: [item, price], sum_columns: [price]", ["price is part of the key"]),
        (
            "cancellations: {marker: x, match: [quantity]}",
            ["cancellations: are of kind lines", "cancellations.match: quantity is opposite"],
        ),
    ],
)
def test_rules_about_rows_that_cannot_be_are_refused(settings: str, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config((), [f"sources.x={{kind: table, path: f, {NUMBERS}, {settings}}}"])

    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{type: double, fill: latest}", "fill: latest needs fill_by"),
        ("{type: double, fill: backward}", "fill: backward goes along time"),
        ("{type: double, outliers: {method: hampel}}", "outliers: hampel goes along time"),
        ("{type: double, outliers: {method: hampel, window: 6}}", "window 6 has no middle: use 7"),
    ],
)
def test_fills_and_outlier_rules_that_lack_something_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config((), [f"sources.x={{kind: table, path: f, columns: {{a: {spec}}}}}"])


def test_hampel_on_lines_needs_a_series() -> None:
    columns = "{basket_id: b, item: i, ts: t, quantity: {outliers: {method: hampel%s}}}"
    source = "sources.x={kind: lines, path: f, columns: " + columns + "}"

    assert load_config((), [source % ", by: item"]).sources["x"].time == "ts"
    with pytest.raises(ConfigError, match="hampel on lines needs by"):
        load_config((), [source % ""])


def test_actions_may_be_spelt_as_yaml_and_people_do() -> None:
    a = "{type: double, min: 0, out_of_range: null, outliers: {action: null}}"
    b = "{pattern: a, not_matching: error}"
    rules = "[{name: r, expr: a > 0, action: error}, {name: s, expr: a > 0, action: repair, set: {a: 0}}]"
    config = load_config((), [f"sources.x={{kind: table, path: f, columns: {{a: {a}, b: {b}}}, rules: {rules}}}"])
    columns = config.sources["x"].columns

    assert columns["a"].out_of_range == "null"
    assert columns["a"].outliers is not None
    assert columns["a"].outliers.action == "null"
    assert columns["b"].not_matching == "quarantine"
    assert config.sources["x"].rules[0].action == "quarantine"
    assert config.sources["x"].rules[1].set == {"a": "0"}
    assert Config.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_two_sources_of_one_kind_are_refused() -> None:
    second = PANEL.replace("sources.panel", "sources.other")
    with pytest.raises(ConfigError, match="panel and other are both of kind panel"):
        load_config((), [PANEL, second])


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n- b", "expected sections"), ("a: [", "not valid YAML"), ("\0", "not valid YAML")],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"odd\.yaml: .*{message}"):
        load_config([write(tmp_path, "odd.yaml", text)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such configuration file"):
        load_config([tmp_path / "none.yaml"])


def test_the_saved_configuration_loads_to_an_equal_one() -> None:
    config = load_config((), [PANEL, "evaluation.horizon=3"])

    assert Config.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_the_digest_changes_with_its_sections_only() -> None:
    one, other = load_config(), load_config((), ["evaluation.horizon=3"])

    assert one.digest("mining") == other.digest("mining")
    assert one.digest("evaluation") != other.digest("evaluation")


def test_settings_of_execution_leave_the_digest_as_it_is() -> None:
    other = {
        "backend": "torch", "workers": 4, "fallback": False, "history": 8, "hidden": 8, "layers": 2, "dropout": 0.2,
        "embedding": 3, "epochs": 3, "samples_per_epoch": 64, "batch_size": 32, "learning_rate": 0.1,
        "weight_decay": 0.1, "clip": 2.0, "patience": 2, "validation_origins": 3, "final_epochs": 1, "seed": 8,
        "keep_checkpoints": 3, "launch_timeout": 9.0, "mined": ["rules"], "members": 4, "max_restarts": 0,
        "in_memory_mb": 64.0, "scratch": "/scratch", "checkpoint_minutes": 1.0, "accumulate": 2, "compression": "fp16",
        "device": "auto", "precision": "bfloat16", "preset": "textbook",
    }  # fmt: skip
    assert set(other) == set(TrainingConfig.model_fields)
    digest = Config().digest("training")
    same = {key for key, value in other.items() if Config(training={key: value}).digest("training") == digest}

    where = {"in_memory_mb", "scratch"}
    when = {"keep_checkpoints", "checkpoint_minutes", "launch_timeout", "max_restarts"}
    assert same == {"backend", "workers", "device", "fallback"} | where | when


def test_one_text_stands_for_a_list_of_one() -> None:
    config = load_config(
        (), [PANEL, "sources.panel.columns.ds={from: date, formats: dd.MM.yyyy}", "training.mined=arima"]
    )

    assert config.sources["panel"].columns["ds"].formats == ("dd.MM.yyyy",)
    assert config.training.mined == ("arima",)


def test_a_digest_may_be_of_a_single_setting() -> None:
    """Sequences are mined for the network only where they are asked for; how it is trained changes no panel."""
    asked = Config(training={"mined": ["arima", "sequences"]})

    assert Config().digest("mining", "training.mined") == Config(training={"epochs": 3}).digest(
        "mining", "training.mined"
    )
    assert Config().digest("mining", "training.mined") != asked.digest("mining", "training.mined")
    assert Config().digest("mining") == asked.digest("mining")


def test_base_yaml_says_what_the_defaults_are() -> None:
    assert load_config([CONF / "base.yaml"]) == Config()


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_every_configuration_of_the_project_loads(file: Path) -> None:
    load_config([file], (), {"DLMINE_DATA": "data"})


def test_every_whole_example_of_the_page_on_cleaning_loads(tmp_path: Path) -> None:
    page = (CONF.parent / "docs" / "cleaning.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    # The others show a part of a source only.
    examples = [block for block in blocks if block.startswith(("sources:", "cleaning:"))]

    assert len(examples) >= 6
    for example in examples:
        load_config([write(tmp_path, "example.yaml", example)])


def test_every_setting_says_what_it_means() -> None:
    for name, section in Config.model_fields.items():
        model = section.annotation
        if isinstance(model, type) and hasattr(model, "model_fields"):
            for key, field in model.model_fields.items():
                assert field.description, f"{name}.{key} has no description"


def test_an_address_of_tables_holds_no_password_and_is_not_repeated() -> None:
    for setting in ("lakehouse.root", "lakehouse.files"):
        with pytest.raises(ConfigError, match=f"{setting}.*holds a user and a password") as caught:
            load_config(overrides=[f"{setting}=s3a://AKIA:hush@bucket/lake"])
        assert "hush" not in str(caught.value)
    # Whose container it is, no password.
    load_config(overrides=["lakehouse.root=abfss://container@account.dfs.core.windows.net/lake"])


def test_secret_settings_of_spark_are_not_printed() -> None:
    config = load_config(
        overrides=["spark.conf.spark.hadoop.fs.s3a.secret.key=hush", "spark.conf.spark.ui.enabled=false"]
    )
    assert yaml.safe_load(config.to_yaml())["spark"]["conf"] == {
        "spark.hadoop.fs.s3a.secret.key": "***",
        "spark.ui.enabled": False,
    }
