"""Suspicious cells: those that break what the rest of the table says of them, with the value that should be there.

Evidence comes from dependencies, from spelling, from ways of writing and from blanks. Each gives a cell a suspicion
(0 to 1, not calibrated) and, where it can, a value with a confidence. Of a row that breaks ``X -> Y`` either ``X`` or
``Y`` is wrong: the cell is blamed that more of the dependencies it takes part in speak against, on either side.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark.cleaning.dependencies import Dependency, left_value
from dlmine_spark.cleaning.patterns import Format, deviations
from dlmine_spark.cleaning.texts import COLUMN, COPIES, ROW_ID, VALUE, ColumnFacts

PROPOSED, RULE, CONFIDENCE, SUSPICION = "proposed", "rule", "confidence", "suspicion"
CANDIDATE = (ROW_ID, COLUMN, PROPOSED, RULE, CONFIDENCE, SUSPICION)
"""One piece of evidence against one cell; ``COLUMN`` is the column's place."""

LEAST_DOUBT = 0.15
"""Suspicion below which a value is one of several that are usual in its group."""
FEWEST_LETTERS = 4
"""Shorter texts are near to everything."""
MOST_EDITS = 2
FREQUENT = 3
"""Copies of a value that others may be misspellings of."""
TIMES_RARER = 10
"""How much rarer than the right spelling a wrong one is that is there more than once."""
COVERED = 0.7
"""Share of a column's cells in frequent values, for the others to be looked at as misspellings."""
LONGEST_WORD = 60
LABEL, MOST_LABELS, LABELS_COVER = 0.005, 25, 0.95
"""A column whose cells are nearly all of few values, each with a share of it: there, short texts are compared, too."""
_NULL = "\0"
_DEP, _LEFT, _BEST = "dep", "left", "best"


def dependency_candidates(
    texts: DataFrame, columns: Sequence[ColumnFacts], dependencies: Sequence[Dependency], counts: DataFrame
) -> DataFrame:
    """Evidence from dependencies: at most one row per row and column.

    Args:
        texts: the columns as text, with ``ROW_ID``.
        columns: what is known of them.
        dependencies: at least one.
        counts: ``value_counts`` of the columns.

    Returns:
        ``CANDIDATE``; nothing proposed where the left side of dependencies is to blame.
    """
    place = {facts.name: facts.place for facts in columns}
    cells = [tuple(place[name] for name in (*one.determinant, one.dependent)) for one in dependencies]
    entries = _entries(texts, dependencies)
    judged = _judged_values(entries, dependencies)
    doubted = judged.where(F.col("doubt") >= LEAST_DOUBT).select(_DEP, _LEFT, VALUE)
    rows = entries.join(doubted, on=[_DEP, _LEFT, VALUE], how="left_semi").select(ROW_ID).distinct()
    outcomes = (
        entries.join(rows, on=ROW_ID, how="left_semi")
        .join(judged, on=[_DEP, _LEFT, VALUE], how="inner")
        .withColumn("cells", _literal_of(_DEP, cells))
    )
    return _summed_up(_blamed_cells(outcomes), dependencies, counts)


def _entries(texts: DataFrame, dependencies: Sequence[Dependency]) -> DataFrame:
    """One row per row and dependency whose left side is known: ``_DEP``, ``_LEFT`` (a hash), ``VALUE``."""
    made = []
    for number, dependency in enumerate(dependencies):
        left = left_value(dependency.determinant)
        value = F.coalesce(F.col(f"`{dependency.dependent}`"), F.lit(_NULL))
        entry = F.struct(F.lit(number).alias(_DEP), left.alias(_LEFT), value.alias(VALUE))
        is_told = left.isNotNull()
        if dependency.value is not None:
            # Whether there is anything at all, a rule about one value cannot tell.
            is_told = (F.col(f"`{dependency.determinant[0]}`") == dependency.value) & (value != _NULL)
        made.append(F.when(is_told, entry))
    return texts.select(ROW_ID, F.explode(F.array_compact(F.array(*made))).alias("entry")).select(ROW_ID, "entry.*")


def _judged_values(entries: DataFrame, dependencies: Sequence[Dependency]) -> DataFrame:
    """One row per dependency, left side and value: the group's usual value, and how much is against this one.

    The usual value's confidence is the share of the *other* rows that have it, as if three further rows had been seen
    that agree as often as the whole dependency does (Laplace's rule of succession, with that prior): two of two other
    rows are little proof, ninety-nine of ninety-nine a lot. A value that is nearly as frequent as the usual one, or
    that returns, is another usual one; so it is, in part, where such values return all over the dependency. Where a
    dependency names its usual values, these together are held against the others, and none of them is proposed.
    """
    group = Window.partitionBy(_DEP, _LEFT)
    copies, is_null = F.col(COPIES), F.col(VALUE) == _NULL
    counted = entries.groupBy(_DEP, _LEFT, VALUE).agg(F.count(F.lit(1)).alias(COPIES))
    ranked = F.struct(F.when(is_null, F.lit(0)).otherwise(copies).alias(COPIES), F.col(VALUE).alias(VALUE))
    grouped = counted.withColumns({"size": F.sum(copies).over(group), _BEST: F.max(ranked).over(group)})
    best, size = F.col(f"{_BEST}.{VALUE}"), F.col("size")
    named = _literal_of(_DEP, [one.usual for one in dependencies])
    has_several, is_named = F.size(named) > 0, F.array_contains(named, F.col(VALUE))
    is_usual = F.when(has_several, is_named).otherwise(F.col(VALUE) == best)
    agreeing = F.sum(F.when(is_usual, F.when(is_null, 0).otherwise(copies))).over(group)
    most = F.min(F.when(is_usual, F.when(is_null, 0).otherwise(copies))).over(group)
    prior = _literal_of(_DEP, [1 - one.error for one in dependencies])
    confidence = (agreeing + 2 * prior) / (size - 1 + 3)
    rivalry = F.when(is_null, 0.5).otherwise(1.0) * copies / most
    variety = 2 * (copies - 1) / size
    strictness = _literal_of(_DEP, [1 - one.variety / 2 for one in dependencies])
    doubt = strictness * confidence * F.greatest(F.lit(0.0), 1 - rivalry) * F.greatest(F.lit(0.0), 1 - variety)
    return grouped.select(
        _DEP,
        _LEFT,
        VALUE,
        F.when(is_usual, F.lit(_NULL)).when(~has_several, best).alias(PROPOSED),
        confidence.alias(CONFIDENCE),
        F.when(is_usual | (most < 1), 0.0).otherwise(doubt).alias("doubt"),
        # A value that no other row of the group has says nothing for itself.
        F.when(is_usual & (copies > 1), copies / (size + 1)).otherwise(0.0).alias("support"),
    )


def _blamed_cells(outcomes: DataFrame) -> DataFrame:
    """One row per broken dependency of a row and cell to blame for it: the dependent one, or a determinant.

    The blame of a cell is the share of what dependencies say of it, on either of their sides, that is against it.
    """
    is_broken = F.col("doubt") >= LEAST_DOUBT
    sides = outcomes.select(
        ROW_ID, _DEP, VALUE, PROPOSED, CONFIDENCE, "doubt", "support", F.posexplode("cells").alias("side", COLUMN),
        F.size("cells").alias("sides"),
    )  # fmt: skip
    of_cell = Window.partitionBy(ROW_ID, COLUMN)
    against = F.sum(F.when(is_broken, F.col("doubt")).otherwise(0.0)).over(of_cell)
    blame = against / (against + F.sum("support").over(of_cell) + 0.05)
    is_dependent = F.col("side") == F.col("sides") - 1
    told = sides.withColumn("blame", blame).where(is_broken)
    of_rule = Window.partitionBy(ROW_ID, _DEP)
    compared = told.withColumns(
        {
            "dependent_blame": F.max(F.when(is_dependent, F.col("blame"))).over(of_rule),
            "other_blame": F.max(F.when(~is_dependent, F.col("blame"))).over(of_rule),
        }
    )
    margin = 0.02
    of_dependent, of_other = F.col("dependent_blame"), F.col("other_blame")
    is_tie = F.abs(of_dependent - of_other) <= margin
    is_blamed = F.when(is_dependent, of_dependent >= of_other - margin).otherwise(
        (F.col("blame") >= of_other) & (of_other > of_dependent + margin)
    )
    weight = F.col("doubt") * F.sqrt("blame") * F.when(is_tie, 0.75).otherwise(1.0)
    return compared.where(is_blamed).select(
        ROW_ID,
        COLUMN,
        _DEP,
        F.when(is_dependent, F.col(VALUE)).alias(VALUE),
        F.when(is_dependent, F.col(PROPOSED)).alias(PROPOSED),
        F.when(is_dependent, F.col(CONFIDENCE)).otherwise(0.0).alias(CONFIDENCE),
        weight.alias(SUSPICION),
    )


def _summed_up(blamed: DataFrame, dependencies: Sequence[Dependency], counts: DataFrame) -> DataFrame:
    """One row per blamed cell, with the value most dependencies propose; of equals the one spelled most like it."""
    votes = blamed.groupBy(ROW_ID, COLUMN, PROPOSED).agg(
        F.max(VALUE).alias(VALUE),
        F.sum(SUSPICION).alias("votes"),
        F.max(SUSPICION).alias("strongest"),
        F.max(CONFIDENCE).alias(CONFIDENCE),
        F.count(F.lit(1)).alias("voters"),
        F.max_by(_DEP, F.struct(F.col(SUSPICION), -F.col(_DEP))).alias(_DEP),
    )
    near = F.coalesce(is_near(F.col(VALUE), F.col(PROPOSED)), F.lit(False))
    order = F.struct(
        F.col(PROPOSED).isNotNull(),
        F.round("votes", 6),
        near,
        -F.coalesce(F.levenshtein(VALUE, PROPOSED), F.lit(0)),
        PROPOSED,
    )
    entry = F.struct(VALUE, PROPOSED, "strongest", CONFIDENCE, "voters", _DEP, near.alias("near"))
    cells = votes.groupBy(ROW_ID, COLUMN).agg(F.max_by(entry, order).alias("cell"), F.max("strongest").alias("any"))
    flat = cells.select(ROW_ID, COLUMN, "any", "cell.*")
    known = counts.select(COLUMN, VALUE, F.col(COPIES).alias("__copies"))
    joined = flat.join(known, on=[COLUMN, VALUE], how="left")
    further = 0.25 * (F.least(F.col("voters"), F.lit(5)) - 1)
    # A value next to the one proposed is probably a slip of it, and so is one that is nowhere else.
    left = F.pow(1 - F.greatest("strongest", F.col("any") * 0.9), 1 + further)
    left = left * F.when(F.col("near"), 0.5).otherwise(1.0) * F.when(F.col("__copies") == 1, 0.75).otherwise(1.0)
    unsure = F.pow(1 - F.col(CONFIDENCE), 1 + further) * F.when(F.col("near"), 0.7).otherwise(1.0)
    return joined.select(
        ROW_ID,
        COLUMN,
        PROPOSED,
        F.concat(F.lit("mined:"), _literal_of(_DEP, [str(one) for one in dependencies])).alias(RULE),
        F.when(F.col(PROPOSED).isNotNull(), 1 - unsure).otherwise(0.0).alias(CONFIDENCE),
        (1 - left).alias(SUSPICION),
    )


def is_near(one: Column, other: Column) -> Column:
    """Whether two texts are a slip apart: at most two edits, case aside, and few for their length."""
    edits = F.levenshtein(F.lower(one), F.lower(other))
    longest = F.greatest(F.length(one), F.length(other))
    return (longest >= FEWEST_LETTERS) & (edits <= MOST_EDITS) & (edits <= longest / 3)


def misspelled(counts: DataFrame, columns: Sequence[ColumnFacts]) -> DataFrame:
    """Rare values next to a frequent one of the same column: one row per column (its place) and value.

    Candidates share a text with one letter taken out (the deletion neighbourhood of Mor and Fraenkel 1982), so that no
    value is compared with all others. A difference of digits only is none of spelling (Size 10, Size 12). Where even
    frequent values are near to one another (A1, A2), nearness says little.

    Returns:
        ``COLUMN``, ``VALUE``, then ``PROPOSED``, ``RULE``, ``CONFIDENCE`` and ``SUSPICION``.
    """
    of_column = Window.partitionBy(COLUMN)
    total = F.sum(COPIES).over(of_column)
    covered = F.sum(F.when(F.col(COPIES) >= FREQUENT, F.col(COPIES)).otherwise(0)).over(of_column) / total
    labels = F.count_if(F.col(COPIES) >= LABEL * F.col("total")).over(of_column)
    is_label_set = (F.col("labels") <= MOST_LABELS) & (F.col("covered") >= LABELS_COVER)
    words = (
        counts.where(F.col(COLUMN).isin([facts.place for facts in columns]))
        .withColumns({"total": total, "covered": covered})
        .withColumn("labels", labels)
        .withColumn("is_label_set", is_label_set)
        .where(F.col("covered") >= COVERED)
        .where(F.length(VALUE).between(F.when(F.col("is_label_set"), 2).otherwise(FEWEST_LETTERS), LONGEST_WORD))
        .where(F.col(VALUE).rlike(r"\p{L}"))
    )
    lower = F.lower(F.col(VALUE))
    gaps = F.transform(
        F.sequence(F.lit(0), F.length(VALUE)),
        lambda gap: F.xxhash64(F.concat(F.substr(lower, F.lit(1), gap - 1), F.substr(lower, gap + 1))),
    )
    spread = words.withColumn("gap", F.explode(F.array_distinct(gaps)))
    one = spread.select(COLUMN, VALUE, COPIES, "is_label_set", "gap")
    other = spread.where(F.col(COPIES) >= FREQUENT).select(
        COLUMN, F.col(VALUE).alias(PROPOSED), F.col(COPIES).alias("frequency"), "gap"
    )
    is_other = F.col(VALUE) != F.col(PROPOSED)
    is_recased = F.lower(VALUE) == F.lower(PROPOSED)
    is_short_slip = F.col("is_label_set") & (F.levenshtein(F.lower(VALUE), F.lower(PROPOSED)) <= 1)
    is_slip = is_near(F.col(VALUE), F.col(PROPOSED)) | is_short_slip

    def letters(name: str) -> Column:
        return F.regexp_replace(F.lower(name), r"\d", "")

    pairs = (
        one.join(other, on=[COLUMN, "gap"], how="inner")
        .where(is_other & (is_recased | (is_slip & (letters(VALUE) != letters(PROPOSED)))))
        .select(COLUMN, VALUE, COPIES, PROPOSED, "frequency")
        .distinct()
    )
    is_frequent = F.col(COPIES) >= FREQUENT
    is_rarer = F.col("frequency") >= F.greatest(
        F.lit(FREQUENT), F.when(F.col(COPIES) > 1, F.col(COPIES) * TIMES_RARER).otherwise(0)
    )
    frequent = (
        words.where(is_frequent)
        .groupBy(COLUMN)
        .agg(F.count(F.lit(1)).alias("frequents"), F.max("covered").alias("covered"))
    )
    is_alike = F.col("frequency").between(F.col(COPIES) / TIMES_RARER, F.col(COPIES) * TIMES_RARER)
    twins = pairs.where(is_frequent & is_alike).groupBy(COLUMN).agg(F.countDistinct(VALUE).alias("twins"))
    crowding = F.coalesce(F.col("twins"), F.lit(0)) / F.col("frequents")
    best = F.max_by(F.struct(PROPOSED, "frequency", COPIES), F.struct("frequency", PROPOSED))
    share = F.col("frequency") / (F.col("frequency") + F.col(COPIES) + 1)
    doubt = share * F.greatest(F.lit(0.0), 1 - 3 * F.col("crowding")) * (0.4 + 0.6 * F.col("covered"))
    return (
        pairs.where(is_rarer)
        .groupBy(COLUMN, VALUE)
        .agg(best.alias("best"))
        .select(COLUMN, VALUE, "best.*")
        .join(frequent, on=COLUMN, how="inner")
        .join(twins, on=COLUMN, how="left")
        .withColumn("crowding", crowding)
        .select(
            COLUMN,
            VALUE,
            PROPOSED,
            F.lit("mined:spelling").alias(RULE),
            (0.95 * doubt).alias(CONFIDENCE),
            doubt.alias(SUSPICION),
        )
    )


def spelling_candidates(texts: DataFrame, columns: Sequence[ColumnFacts], counts: DataFrame) -> DataFrame:
    """Evidence from spelling, as ``CANDIDATE``."""
    wrong = misspelled(counts, columns)
    cells = F.array(
        *(F.struct(F.lit(facts.place).alias(COLUMN), F.col(f"`{facts.name}`").alias(VALUE)) for facts in columns)
    )
    return (
        texts.select(ROW_ID, F.explode(cells).alias("cell"))
        .select(ROW_ID, "cell.*")
        .where(F.col(VALUE).isNotNull())
        .join(wrong, on=[COLUMN, VALUE], how="inner")
        .select(*CANDIDATE)
    )


def format_candidates(
    texts: DataFrame, columns: Sequence[ColumnFacts], formats: Sequence[Format], strings: Sequence[str]
) -> DataFrame | None:
    """Evidence from ways of writing and blanks, as ``CANDIDATE``; None where no column has a usual way."""
    place = {facts.name: facts.place for facts in columns}
    entries = []
    for one in formats:
        chain: Column | None = None
        for deviation in deviations(one, is_text=one.name in strings):
            entry = F.struct(
                F.lit(place[one.name]).alias(COLUMN),
                deviation.proposed.cast("string").alias(PROPOSED),
                F.lit(f"mined:{deviation.rule}").alias(RULE),
                F.when(deviation.proposed.isNotNull(), deviation.confidence).otherwise(0.0).alias(CONFIDENCE),
                F.lit(deviation.suspicion).alias(SUSPICION),
            )
            is_met = F.coalesce(deviation.condition, F.lit(False))
            chain = F.when(is_met, entry) if chain is None else chain.when(is_met, entry)
        if chain is not None:
            entries.append(chain)
    if not entries:
        return None
    found = texts.select(ROW_ID, F.explode(F.array_compact(F.array(*entries))).alias("cell"))
    return found.select(ROW_ID, "cell.*").select(*CANDIDATE)


def weigh(candidates: DataFrame) -> DataFrame:
    """One row per suspicious cell, as ``CANDIDATE``: all evidence together, the repair of the most confident.

    Pieces of evidence of different kinds count as independent of one another.
    """
    of_value = candidates.groupBy(ROW_ID, COLUMN, PROPOSED).agg(
        F.max_by(RULE, F.struct(SUSPICION, RULE)).alias(RULE),
        F.max(SUSPICION).alias("strongest"),
        (1 - F.product(1 - F.col(CONFIDENCE))).alias(CONFIDENCE),
        F.product(1 - F.least(F.col(SUSPICION), F.lit(0.99))).alias("left"),
    )
    best = F.max_by(F.struct(PROPOSED, RULE, CONFIDENCE), F.struct(CONFIDENCE, "strongest", PROPOSED))
    return (
        of_value.groupBy(ROW_ID, COLUMN)
        .agg(best.alias("best"), (1 - F.product("left")).alias(SUSPICION))
        .select(ROW_ID, COLUMN, "best.*", SUSPICION)
        # Sums of doubles depend on their order in the last digits.
        .withColumns({name: F.round(name, 6) for name in (CONFIDENCE, SUSPICION)})
        .select(*CANDIDATE)
    )


def _literal_of(name: str, values: Sequence[object]) -> Column:
    """The entry of a short list that a column of whole numbers points at."""
    entries = [F.array(*map(F.lit, value)) if isinstance(value, tuple) else F.lit(value) for value in values]
    return F.get(F.array(*entries), F.col(name))
