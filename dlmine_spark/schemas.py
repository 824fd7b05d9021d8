"""The vocabulary: names and types of the columns of every table, as plain data that needs no Spark.

A table's columns are Spark DDL types by name. An *open* table (the panel, say) holds further columns that depend on the
user's data, after the declared ones. Naming follows the forecasting libraries that users know: ``unique_id`` is the
series, ``ds`` the date (or hour, or step) a row is about, ``y`` the value, ``cutoff`` the last one a forecast was
allowed to see, ``h`` the number of steps after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A series and its values.
UNIQUE_ID = "unique_id"
DS = "ds"
Y = "y"
CUTOFF = "cutoff"
SHARD = "shard"
H = "h"
MODEL = "model"
Y_HAT = "y_hat"
LO_80, HI_80, LO_95, HI_95 = "lo_80", "hi_80", "lo_95", "hi_95"
RUN_ID = "run_id"

# The panel's own covariates; every other covariate comes from the user's data.
OPEN = "open"
"""1 where the series could have a value, 0 where it was closed (a closed day is not a missing day)."""
IMPUTED_SUFFIX = "_imputed"
Y_IMPUTED = Y + IMPUTED_SUFFIX
"""True where ``y`` was filled by cleaning: masked out of the training loss and of every metric."""

# A basket line.
BASKET_ID = "basket_id"
TS = "ts"
ITEM = "item"
QUANTITY = "quantity"
PRICE = "price"
CUSTOMER_ID = "customer_id"
STORE_ID = "store_id"
ITEMS = "items"

# What bronze adds to every row as it came.
SOURCE_FILE = "_source_file"
SOURCE_BLOCK = "_source_block"
SOURCE_ROW = "_source_row"
"""With the file and the block of the file that a task read, the order of lines as they came."""
BATCH = "_batch"
"""Number of the delivery that a row came with, where new files are added to earlier ones (``load: merge``); else 0."""
INGESTED_AT = "_ingested_at"
BRONZE_RUN_ID = "_run_id"
RAW_LINE = "_raw"
"""The whole text of a line that cannot be split into the header's cells or decoded, else null."""
PLAIN = "_plain"
"""Whether every cell is written as its column declares; only where a source is large enough to be read in two lanes."""
IDENTITY = "_identity"
"""Of a plain row: a hash of its key, or of its cells; else null."""
BRONZE_METADATA = (BATCH, SOURCE_FILE, SOURCE_BLOCK, SOURCE_ROW, INGESTED_AT, BRONZE_RUN_ID, RAW_LINE, PLAIN, IDENTITY)

STATUSES = ("ok", "fallback", "too_short", "failed", "timeout")
"""What became of one series in the ARIMA stage."""


MOMENT_TYPES = ("date", "timestamp_ntz", "int")
"""Types of the columns about time, by the step of the panel: days and longer, shorter than a day, counted steps."""


@dataclass(frozen=True, slots=True)
class Table:
    """The contract of one table: its columns with Spark DDL types, and whether it may hold more.

    ``moments`` are columns that may have another one of ``MOMENT_TYPES``, all of them the same.
    """

    name: str
    columns: dict[str, str]
    is_open: bool = False
    partition_by: tuple[str, ...] = field(default=())
    moments: tuple[str, ...] = field(default=())

    @property
    def ddl(self) -> str:
        """The declared columns as a Spark DDL schema string."""
        return ", ".join(f"`{column}` {type_}" for column, type_ in self.columns.items())

    def typed(self, moment_type: str) -> dict[str, str]:
        """The declared columns, those about time of one of ``MOMENT_TYPES``."""
        return self.columns | dict.fromkeys(self.moments, moment_type)

    @property
    def names(self) -> list[str]:
        """The declared columns, in order."""
        return list(self.columns)


_FORECAST_BOUNDS = dict.fromkeys((LO_80, HI_80, LO_95, HI_95), "double")

LINES = Table(
    "silver.lines",
    {
        BASKET_ID: "string",
        TS: "timestamp",
        ITEM: "string",
        QUANTITY: "double",
        PRICE: "double",
        CUSTOMER_ID: "string",
        STORE_ID: "string",
    },
    is_open=True,
)
BASKETS = Table("silver.baskets", {BASKET_ID: "string", ITEMS: "array<string>"})
"""Sources of one basket a line; baskets of a lines source are grouped from silver.lines when mined."""
PANEL = Table(
    "silver.panel",
    {UNIQUE_ID: "string", DS: "date", Y: "double", OPEN: "int", Y_IMPUTED: "boolean"},
    is_open=True,
    moments=(DS,),
)
SET_ASIDE = Table(
    "silver.set_aside",
    {UNIQUE_ID: "string", "rows": "bigint", "start": "date", "end": "date", "reason": "string"},
    moments=("start", "end"),
)
"""One row per series of the panel's source whose steps are others than the panel's, which does not have it."""
CALENDAR = Table("silver.calendar", {UNIQUE_ID: "string", DS: "date"}, is_open=True, moments=(DS,))
"""Known-future covariates, past and future: one row per series and date (every series has its own rows)."""
STATICS = Table("silver.statics", {UNIQUE_ID: "string"}, is_open=True)
QUARANTINE = Table(
    "silver.quarantine",
    {
        "source": "string",
        "row": "string",
        "reasons": "array<struct<rule: string, column: string, message: string>>",
        RUN_ID: "string",
        "corrected": "string",
    },
)
"""``row`` is the whole row as it came, as JSON; into ``corrected`` goes, by hand, what it should have been."""
CORRECTIONS = Table(
    "ops.corrections",
    {"source": "string", "row": "string", "corrected": "string", "corrected_at": "timestamp", RUN_ID: "string"},
)
"""One row per row of a source that was corrected by hand; ``row`` is that row as it came."""
REPAIRS = Table(
    "silver.repairs",
    {
        "source": "string",
        "key": "string",
        "column": "string",
        "old_value": "string",
        "new_value": "string",
        "rule": "string",
        RUN_ID: "string",
    },
)
FATES = ("rows_in", "accepted", "quarantined", "duplicates", "superseded")
"""What the rows of a source become; the first is the sum of the others."""
QUALITY = Table(
    "ops.quality",
    {
        RUN_ID: "string",
        "cleaned_at": "timestamp",
        "source": "string",
        "outcome": "string",
        "rule": "string",
        "column": "string",
        "count": "bigint",
    },
)
"""What cleaning did, run after run: of each source its ``rows_in`` = ``accepted`` + ``quarantined`` + ``duplicates`` +
``superseded``, and the ``warned`` ones among the accepted; and how often each rule spoke, by ``outcome``
(``quarantine``, ``repair``, ``warning``; a row can have several reasons). A ``warning`` about a whole source
(``freshness``, ``drift_rows``, ``drift_blanks``, ``drift_shares``) counts once."""
FILES = Table(
    "ops.files",
    {
        "source": "string",
        "path": "string",
        "size": "bigint",
        "modified": "bigint",
        "batch": "bigint",
        "rows": "bigint",
        "digest": "string",
        "copy_of": "string",
        RUN_ID: "string",
    },
)
"""One row per file of a source with ``load: merge`` and batch it came with: bytes, milliseconds since 1970, and, once
it was read, its rows, a digest of them, and the earlier file that had the same ones."""
BATCHES = Table(
    "ops.batches",
    {
        "source": "string",
        "batch": "bigint",
        "status": "string",
        "base_version": "bigint",
        "plan": "string",
        "rows_in": "bigint",
        "accepted": "bigint",
        "inserted": "bigint",
        RUN_ID: "string",
        "noted_at": "timestamp",
    },
)
"""What became of each batch of such a source. Rows are added and never changed; ``status``: ``begun`` (``base_version``
is the version of the silver table before it), ``done``, or ``void`` (the source was loaded as a whole meanwhile)."""
PROFILES = Table(
    "ops.profiles",
    {
        RUN_ID: "string",
        "profiled_at": "timestamp",
        "source": "string",
        "column": "string",
        "statistic": "string",
        "bucket": "string",
        "value": "double",
    },
)
"""What the sources with ``drift`` or ``freshness`` were like, run after run: ``rows`` of the source; of each column the
share of ``blanks``, the ``quantile`` at the level ``bucket`` of numbers, the ``share`` of the frequent text ``bucket``,
and the ``newest`` time (seconds since 1970; ``bucket``: in words). Only runs that ended well have rows here."""
SUSPICIONS = Table(
    "silver.suspicions",
    {
        "source": "string",
        "key": "string",
        "column": "string",
        "value": "string",
        "proposed": "string",
        "rule": "string",
        "confidence": "double",
        "suspicion": "double",
        "applied": "boolean",
        RUN_ID: "string",
    },
)
"""Cells that break rules mined from the data; ``confidence`` is that of ``proposed``, null where nothing is."""
DEPENDENCIES = Table(
    "silver.dependencies",
    {
        "source": "string",
        "determinant": "array<string>",
        "value": "string",
        "dependent": "string",
        "usual": "array<string>",
        "error": "double",
        "support_groups": "bigint",
        "rows": "bigint",
        RUN_ID: "string",
    },
)
"""Dependencies in use; ``error`` is the share of ``rows`` to remove for it to hold (g3), in groups of two or more.

With a ``value``, it holds where the determinant has it; ``usual`` are the dependent's values then, if several."""
SEGMENTS = Table(
    "gold.segments",
    {
        "entity": "string",
        "entity_id": "string",
        "segment": "int",
        "distance": "double",
        "membership": "array<double>",
        "is_outlier": "boolean",
    },
)
"""``distance`` is that to the segment's centre in scaled units; an outlier is far from every centre."""
SEGMENT_PROFILES = Table(
    "gold.segment_profiles",
    {
        "entity": "string",
        "segment": "int",
        "size": "bigint",
        "feature": "string",
        "mean": "double",
        "z": "double",
        "description": "string",
    },
)
"""``description`` says in a few words what sets the segment apart, the same in all of its rows."""
SEGMENT_MODELS = Table(
    "gold.segment_models",
    {
        "entity": "string",
        "features": "array<string>",
        "axes": (
            "array<struct<position: int, skewed: boolean, median: double, lower: double, upper: double, "
            "centre: double, weight: double>>"
        ),
        "centres": "array<array<double>>",
        "limits": "array<double>",
        RUN_ID: "string",
        "fitted_at": "timestamp",
    },
)
"""What assigns stores and customers to the segments, one row each: the axes of the scaling (see
``segmentation.scaling.Axis``; ``position`` is a feature's place in ``features``), the centres in scaled units by the
segments' numbers, and the distances from them beyond which an entity is an outlier."""
ITEMSETS = Table(
    "gold.itemsets",
    {
        ITEMS: "array<string>",
        "size": "int",
        "count": "bigint",
        "support": "double",
        "is_closed": "boolean",
        "is_maximal": "boolean",
    },
)
"""Closed: no larger itemset has the same count; maximal: no larger one is frequent; among those in the table."""
RULES = Table(
    "gold.rules",
    {
        "antecedent": "array<string>",
        "consequent": "array<string>",
        "antecedent_support": "double",
        "consequent_support": "double",
        "support": "double",
        "confidence": "double",
        "lift": "double",
        "leverage": "double",
        "conviction": "double",
        "zhangs_metric": "double",
        "jaccard": "double",
        "certainty": "double",
        "kulczynski": "double",
        "cosine": "double",
        "imbalance_ratio": "double",
        "chi_squared": "double",
        "weighted_support": "double",
        "weighted_confidence": "double",
        "weighted_lift": "double",
        "improvement": "double",
        "p_value": "double",
        "p_improvement": "double",
        "q_value": "double",
        "is_redundant": "boolean",
        "is_significant": "boolean",
        "is_kept": "boolean",
    },
)
"""All rules above the thresholds; those that are not worth acting on are marked, and readers take ``is_kept`` ones.
Weighted measures are those of kept rules where ``mining.weight`` is set, else null."""
SEQUENCES = Table(
    "gold.sequences",
    {
        "sequence": "array<array<string>>",
        "length": "int",
        "elements": "int",
        "count": "bigint",
        "support": "double",
        "confidence": "double",
        "lift": "double",
        "is_closed": "boolean",
        "is_maximal": "boolean",
    },
)
"""One row per frequent sequence of baskets: ``elements`` is their number, ``length`` that of the items in them.

``confidence`` and ``lift`` are those of the last basket after all the others, null where there is but one."""
RECOMMENDATIONS = Table(
    "gold.recommendations",
    {
        "source": "string",
        "entity": "string",
        "entity_id": "string",
        "rank": "int",
        ITEM: "string",
        "score": "double",
        "basis": "string",
        "antecedent": "array<string>",
        "lift": "double",
    },
)
"""What each basket or customer (``entity``) does not have yet. ``basis``: ``rule``, by ``antecedent => item``, whose
confidence is the ``score``; or ``popularity``, by the share of the baskets that hold the item."""
RECOMMENDATION_SCORES = Table(
    "gold.recommendation_scores",
    {
        RUN_ID: "string",
        "entity": "string",
        MODEL: "string",
        "metric": "string",
        "top": "int",
        "value": "double",
        "lo_95": "double",
        "hi_95": "double",
        "cases": "bigint",
        "split": "string",
        CUTOFF: "date",
    },
)
"""How well one hidden item of each held-out basket or customer was found: by ``rules``, by ``popularity``, and their
``difference``. ``split``: ``time`` (held out is what came on ``cutoff`` or later) or ``hash``."""
RULE_DRIFT = Table(
    "gold.rule_drift",
    {
        "antecedent": "array<string>",
        "consequent": "array<string>",
        "status": "string",
        "kept_before": "boolean",
        "kept_after": "boolean",
        "support_before": "double",
        "support_after": "double",
        "confidence_before": "double",
        "confidence_after": "double",
        "lift_before": "double",
        "lift_after": "double",
        "p_confidence": "double",
        "p_support": "double",
        "q_value": "double",
        "version_before": "bigint",
        "version_after": "bigint",
    },
)
"""What became of the rules between two versions of ``gold.rules``: ``appeared``, ``vanished``, ``changed`` (in both,
and beyond chance) or ``same``. Measures are null where the rule's items are not frequent together."""
GROUP_RULES = Table(
    "gold.group_rules",
    {
        "by": "string",
        "group": "string",
        "antecedent": "array<string>",
        "consequent": "array<string>",
        "baskets": "bigint",
        "count": "bigint",
        "support": "double",
        "confidence": "double",
        "lift": "double",
        "support_elsewhere": "double",
        "confidence_elsewhere": "double",
        "lift_elsewhere": "double",
        "p_value": "double",
        "q_value": "double",
        "differs": "boolean",
        "is_kept": "boolean",
    },
)
"""Every rule that is kept in any group of baskets, in each group; ``elsewhere`` are the other groups together.
``differs``: chance does not explain that the confidence is another there; ``is_kept``: in the group mined alone."""
ARIMA_MODELS = Table(
    "gold.arima_models",
    {
        UNIQUE_ID: "string",
        CUTOFF: "date",
        "p": "int",
        "d": "int",
        "q": "int",
        "seasonal_p": "int",
        "seasonal_d": "int",
        "seasonal_q": "int",
        "m": "int",
        "aicc": "double",
        "sigma2": "double",
        "params": "map<string, double>",
        "status": "string",
        "error": "string",
        "seconds": "double",
        "diagnostics": "map<string, double>",
    },
    moments=(CUTOFF,),
)
FORECASTS = Table(
    "gold.forecasts",
    {
        RUN_ID: "string",
        MODEL: "string",
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        H: "int",
        Y_HAT: "double",
        **_FORECAST_BOUNDS,
    },
    partition_by=(MODEL,),
    moments=(CUTOFF, DS),
)
ARIMA_ORIGINS = Table(
    "gold.arima_origins",
    {
        UNIQUE_ID: "string",
        "origin": "date",
        "fit_cutoff": "date",
        "path": "array<double>",
        "sigma": "double",
    },
    moments=("origin", "fit_cutoff"),
)
"""Out-of-sample ARIMA forecasts as an input of the network: one row per series and origin, ``path[h-1]`` is the
forecast ``h`` steps after the origin, by parameters fitted on data up to ``fit_cutoff`` <= origin. Both are moments
that the series has."""
ARIMA_INTERVALS = Table(
    "gold.arima_intervals",
    {
        MODEL: "string",
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        H: "int",
        "level": "double",
        "lo": "double",
        "hi": "double",
    },
    moments=(CUTOFF, DS),
)
"""Intervals of ``arima.levels``, in percent, of the forecasts of the same key in ``gold.forecasts``."""
ARIMA_FITTED = Table(
    "gold.arima_fitted",
    {
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        Y: "double",
        "fitted": "double",
        "level": "double",
        "season": "double",
        "covariates": "double",
        "memory": "double",
        "remainder": "double",
    },
    moments=(CUTOFF, DS),
)
"""Known values of the series with an ARIMA at the final cutoff: one row per series and step up to it.

``fitted`` is what the model expects one step before, on the scale of ``y``. The last five columns are parts on the
model's scale (``power`` in the diagnostics of ``gold.arima_models``) and add up to the value there; see
``arima.decompose``."""
TRAINING_PANEL = Table(
    "gold.training_panel",
    {
        CUTOFF: "date",
        SHARD: "int",
        UNIQUE_ID: "string",
        DS: "date",
        Y: "double",
        "mask": "int",
        OPEN: "int",
        "arima_path": "array<double>",
    },
    is_open=True,
    partition_by=(CUTOFF, SHARD),
    moments=(CUTOFF, DS),
)
"""One row per cutoff, series and date, gap-free from the series' start to ``horizon`` steps after the cutoff.

``y`` is null after the cutoff; ``mask`` is 1 where ``y`` counts in the loss (known, open, not imputed, at or before the
cutoff). ``arima_path`` holds ARIMA's forecasts made at this row's date (null where none were made). The further columns
are doubles without nulls and say their role by prefix: see ``KNOWN_FUTURE_PREFIX`` and its neighbours.
"""
LINEAGE = Table(
    "ops.lineage",
    {
        RUN_ID: "string",
        CUTOFF: "date",
        "column": "string",
        "source": "string",
        "source_version": "bigint",
        "newest": "date",
    },
    moments=(CUTOFF, "newest"),
)
"""Where the columns of ``gold.training_panel`` come from: one row per cutoff and group of columns (``*``: all that
begin so), with the table and version that were read, and the newest moment there of what was really used. What is
known in advance has none. The honest ones are not newer than the cutoff: ``dlmine backtest --audit`` sees to it."""
KNOWN_FUTURE_PREFIX = "kf_"
"""Covariates known in advance: encoder and decoder inputs."""
PAST_ONLY_PREFIX = "po_"
"""Covariates known afterwards only: encoder inputs; 0 after the cutoff."""
MINED = "mined_"
"""Follows the role's prefix in the name of a mined signal, then the signal's own name: ``kf_mined_rules_pull``."""
STATIC_PREFIX = "sn_"
"""Numeric attributes of the series, standardised."""
CATEGORY_PREFIX = "sc_"
"""Categorical attributes of the series as whole-numbered codes; 0 is unknown."""
FEATURE_PREFIXES = (KNOWN_FUTURE_PREFIX, PAST_ONLY_PREFIX, STATIC_PREFIX, CATEGORY_PREFIX)
EMBEDDINGS = Table(
    "gold.embeddings",
    {UNIQUE_ID: "string", CUTOFF: "date", "embedding": "array<double>", "cluster": "int"},
    moments=(CUTOFF,),
)
"""What the networks remember of a series: one row per cutoff (the end of the data, and the newest one of the backtest)
and series. Networks of two cutoffs do not share their numbers; ``cluster`` groups those of one."""
EMBEDDING_SCORES = Table("gold.embedding_scores", {RUN_ID: "string", "measure": "string", "value": "double"})
"""How clusters of embeddings compare with segments by hand-made features; null where one cannot be told."""
SURROGATES = Table(
    "gold.surrogates",
    {
        RUN_ID: "string",
        MODEL: "string",
        "rule": "int",
        "conditions": "array<string>",
        "ratio": "double",
        "held_out": "bigint",
        "coverage": "double",
        "held_out_ratio": "double",
        "error": "double",
    },
)
"""Short rules that imitate a model: one row per rule, the one about most forecasts first. ``ratio`` is what it says of
the forecasts that meet its conditions, as a multiple of what was usual for their series at that place of the season.
The rest is of forecasts that the rules were not made from: how many meet it, their share, what the model forecast, and
the mean absolute difference."""
SURROGATE_SCORES = Table("gold.surrogate_scores", {RUN_ID: "string", "measure": "string", "value": "double"})
"""How well these rules imitate the model, on forecasts that they were not made from; null if it cannot be told."""
CALIBRATION = Table(
    "gold.calibration",
    {
        RUN_ID: "string",
        CUTOFF: "date",
        "segment": "int",
        "first_h": "int",
        "last_h": "int",
        "factor_80": "double",
        "factor_95": "double",
        "scores": "bigint",
    },
    moments=(CUTOFF,),
)
"""How many times as wide the network's intervals are made: one row per cutoff, segment as of it (null: series of none)
and part of the horizon, from ``scores`` forecasts of the last horizon before the cutoff. Null: they are left as they
are."""
VALIDATION_FORECASTS = Table(
    "gold.validation_forecasts",
    {
        CUTOFF: "date",
        UNIQUE_ID: "string",
        "origin": "date",
        DS: "date",
        H: "int",
        Y: "double",
        Y_HAT: "double",
        **_FORECAST_BOUNDS,
    },
    moments=(CUTOFF, "origin", DS),
)
"""What the networks of a backtest cutoff, tuned up to a horizon before it, forecast for that horizon, with the values
that came: one row per cutoff, series and step ahead whose value counts. Intervals are not corrected."""
BLEND_WEIGHTS = Table(
    "gold.blend_weights",
    {
        RUN_ID: "string",
        CUTOFF: "date",
        UNIQUE_ID: "string",
        MODEL: "string",
        "weight": "double",
        "width": "double",
        "errors": "bigint",
    },
    moments=(CUTOFF,),
)
"""How much of each model the blend takes, and how wide it makes the model's intervals (``width`` times): one row per
backtest cutoff, series and model, from ``errors`` forecasts before the cutoff; and one per cutoff and model of no
series (null), which holds for those without any of their own."""
ERROR_SCALES = Table(
    "gold.error_scales",
    {UNIQUE_ID: "string", CUTOFF: "date", "scale": "double", "squared_scale": "double"},
    moments=(CUTOFF,),
)
"""Mean absolute and mean squared error of the seasonal naive forecast in sample: what MASE and RMSSE divide by. Null
where no two values can be compared, or all are the same."""
METRICS = Table(
    "gold.metrics",
    {
        RUN_ID: "string",
        MODEL: "string",
        "scope": "string",
        "scope_id": "string",
        "metric": "string",
        "value": "double",
    },
)
COMPARISONS = Table(
    "gold.comparisons",
    {
        RUN_ID: "string",
        MODEL: "string",
        "other": "string",
        "difference": "double",
        "standard_error": "double",
        "p_value": "double",
        "forecasts": "bigint",
        "clusters": "bigint",
    },
)
"""Each pair of models on the same forecasts: mean absolute error of ``model`` less that of ``other``, in units of y.
``clusters``: series or dates, whichever are fewer. Standard error and p-value are null where that is one."""
ABLATION = Table(
    "gold.ablation",
    {
        RUN_ID: "string",
        "signal": "string",
        "wape_with": "double",
        "wape_without": "double",
        "difference": "double",
        "standard_error": "double",
        "lo_95": "double",
        "hi_95": "double",
        "p_value": "double",
        "seed_spread": "double",
        "seeds": "int",
        "origins": "int",
        "forecasts": "bigint",
    },
)
"""What the network's held-out error would be without a mined signal (``all``: without any): one row per signal, errors
as shares (WAPE). ``difference`` is without less with, so above 0 the signal helps; its standard error covers series,
dates and seeds, ``seed_spread`` is the standard deviation of the difference from seed to seed. Null where there is a
single series or date, the spread where there is a single seed."""
TRIALS = Table(
    "gold.trials",
    {
        RUN_ID: "string",
        "number": "int",
        "state": "string",
        "params": "map<string, double>",
        "value": "double",
        "rung_values": "array<double>",
        "epochs": "int",
        "seconds": "double",
        "error": "string",
    },
)
"""A row per network that ``dlmine tune`` tried; number 0 has the configured settings. ``state``: ``complete``,
``pruned`` (stopped after a rung, being worse than others there) or ``failed`` (for the reason in ``error``, ``value``
is null). ``value`` is the WAPE, a share, on the selection windows: of a pruned trial that after its last rung, which
is no measure beside that of a complete one. ``rung_values`` are those after each rung."""
TUNED = Table(
    "gold.tuned",
    {
        RUN_ID: "string",
        "parameter": "string",
        "default_value": "double",
        "best_value": "double",
        "importance": "double",
    },
)
"""A row per setting of ``training`` that was searched: its configured value, that of the best trial, and its share in
what set the best quarter of the trials apart (PED-ANOVA; null where there were too few trials to tell)."""
TUNING_EFFECT = Table(
    "gold.tuning_effect",
    {
        RUN_ID: "string",
        "wape_default": "double",
        "wape_best": "double",
        "difference": "double",
        "standard_error": "double",
        "lo_95": "double",
        "hi_95": "double",
        "p_value": "double",
        "seed_spread": "double",
        "seeds": "int",
        "origins": "int",
        "forecasts": "bigint",
    },
)
"""One row, or none where the configured settings were the best, or ``tuning.seeds`` is 0: the error on held-out dates
with the configured settings and with the best trial's, of single networks; ``difference`` is the former less the
latter, so above 0 tuning helps. Otherwise as in ``gold.ablation``."""
EXPLANATIONS = Table(
    "gold.explanations",
    {RUN_ID: "string", "method": "string", "feature": "string", "role": "string", "importance": "double"},
)
ATTRIBUTIONS = Table(
    "gold.attributions",
    {
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        H: "int",
        "feature": "string",
        "role": "string",
        "contribution": "double",
        "of_step": "double",
        "forecast": "double",
        "baseline": "double",
        "gap": "double",
    },
    moments=(CUTOFF, DS),
)
"""Where the network's forecast of the series last asked about comes from: one row per open step of the horizon and
input. Contributions of a step sum to ``forecast - baseline - gap``; ``of_step`` is the part that the input's value at
the step itself adds. The baseline has everything as on average."""
SCENARIOS = Table(
    "gold.scenarios",
    {
        "scenario": "string",
        MODEL: "string",
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        H: "int",
        Y_HAT: "double",
        **_FORECAST_BOUNDS,
        "as_planned": "double",
        "is_changed": "boolean",
    },
    partition_by=("scenario",),
    moments=(CUTOFF, DS),
)
"""What would be forecast after the end of the data if covariates were others: one row per scenario, model, series and
step. ``as_planned`` is the forecast of the same model without the change (null where there is none); ``is_changed``
says whether the scenario changes this series' covariates at this step."""
COLD_START = Table(
    "gold.cold_start",
    {
        UNIQUE_ID: "string",
        CUTOFF: "date",
        DS: "date",
        H: "int",
        Y_HAT: "double",
        **_FORECAST_BOUNDS,
        "segment": "int",
    },
    moments=(CUTOFF, DS),
)
"""Forecasts of series that have attributes and no history: one row per series and step; ``segment`` is the one whose
shape they have, -1 for none."""
COLD_START_SCORES = Table(
    "gold.cold_start_scores",
    {
        CUTOFF: "date",
        MODEL: "string",
        "series": "bigint",
        "wape": "double",
        "coverage_80": "double",
        "coverage_95": "double",
    },
    moments=(CUTOFF,),
)
"""How series that were left out in turn were forecast at a backtest cutoff: by attributes and segments
(``cold_start``), and by the mean of the others (``overall_mean``)."""
ERROR_PATTERNS = Table(
    "gold.error_patterns",
    {
        RUN_ID: "string",
        MODEL: "string",
        "conditions": "array<string>",
        "failure": "string",
        "forecasts": "bigint",
        "share": "double",
        "lift": "double",
        "q_value": "double",
    },
)
"""When held-out forecasts are far off: of ``forecasts`` that meet all conditions (``promo = 1``, ``size_m2 is high``)
the ``share`` whose error is among the largest tenth in the direction of ``failure``, and how many times the share of
all forecasts that is. Only patterns beyond chance, each more telling than any with fewer of its conditions."""
LEAST_IMPORTANCE = 0.0005
"""What is less would be shown as 0.0 percentage points, and is not named where the strongest inputs are."""

RUNS = Table(
    "ops.runs",
    {
        RUN_ID: "string",
        "stage": "string",
        "status": "string",
        "started_at": "timestamp",
        "ended_at": "timestamp",
        "rows_in": "bigint",
        "rows_out": "bigint",
        "rows_rejected": "bigint",
        "input_versions": "map<string, string>",
        "output_versions": "map<string, bigint>",
        "config_hash": "string",
        "message": "string",
        "error": "string",
    },
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        LINES,
        BASKETS,
        PANEL,
        SET_ASIDE,
        CALENDAR,
        STATICS,
        QUARANTINE,
        CORRECTIONS,
        REPAIRS,
        QUALITY,
        FILES,
        BATCHES,
        PROFILES,
        SUSPICIONS,
        DEPENDENCIES,
        SEGMENTS,
        SEGMENT_PROFILES,
        SEGMENT_MODELS,
        ITEMSETS,
        RULES,
        RECOMMENDATIONS,
        RECOMMENDATION_SCORES,
        RULE_DRIFT,
        GROUP_RULES,
        SEQUENCES,
        ARIMA_MODELS,
        FORECASTS,
        ARIMA_ORIGINS,
        ARIMA_INTERVALS,
        ARIMA_FITTED,
        TRAINING_PANEL,
        LINEAGE,
        EMBEDDINGS,
        EMBEDDING_SCORES,
        SURROGATES,
        SURROGATE_SCORES,
        COLD_START,
        COLD_START_SCORES,
        CALIBRATION,
        VALIDATION_FORECASTS,
        BLEND_WEIGHTS,
        ERROR_SCALES,
        METRICS,
        COMPARISONS,
        ABLATION,
        TRIALS,
        TUNED,
        TUNING_EFFECT,
        EXPLANATIONS,
        ATTRIBUTIONS,
        SCENARIOS,
        ERROR_PATTERNS,
        RUNS,
    )
}
"""Every table with a fixed contract, by name; ``bronze.<source>`` and ``silver.<source>`` follow the sources."""
