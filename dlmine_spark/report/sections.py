"""What each section of the page says: data in, blocks out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.report import charts, data, network
from dlmine_spark.report import text as t
from dlmine_spark.report.blocks import (
    Block,
    Chart,
    Code,
    Column,
    Fact,
    Facts,
    Heading,
    Lookup,
    Note,
    Pane,
    Section,
    Table,
    Tabs,
    table,
)
from dlmine_spark.report.data import ChosenSeries, ReportData
from dlmine_spark.report.series import Packed, pack

_METRICS = (
    ("wape", "WAPE", t.percent),
    ("mae", "MAE", t.number),
    ("rmse", "RMSE", t.number),
    ("smape", "sMAPE", t.percent),
    ("mase", "MASE", t.number),
    ("bias", "bias", t.percent),
    ("coverage_80", "in 80 % band", t.percent),
    ("coverage_95", "in 95 % band", t.percent),
    ("rmsse", "RMSSE", t.number),
    ("rmspe", "RMSPE", t.percent),
    ("forecasts", "values compared", t.count),
    ("fallback_share", "made by a fallback", t.percent),
)
"""Metrics people ask for, in their order; any other follows under its own name."""

_MEMBERS_SHOWN = 12


def all_sections(report: ReportData) -> list[Section]:
    """The sections of the page, in the order of reading."""
    return [
        summary(report),
        quality(report),
        segments(report),
        rules(report),
        forecasts(report),
        accuracy(report),
        mining(report),
        tuning(report),
        drivers(report),
        run(report),
    ]


# Summary


def summary(report: ReportData) -> Section:
    """Key figures, and the page in a few sentences."""
    blocks: list[Block] = [Facts(_key_figures(report))]
    wape = _wape(report)
    if wape:
        blocks.append(_wape_chart(report, wape))
    blocks += [Note(sentence) for sentence in _findings(report)]
    return Section("summary", "Summary", _what_this_is(report), blocks)


def _what_this_is(report: ReportData) -> str:
    extent = report.extent
    if not extent.series:
        return "What was found in the data, from the raw rows on."
    return (
        f"{t.plural(extent.series, 'series')} from {t.moment(extent.first)} to {t.moment(extent.last)}, "
        f"forecast {t.plural(report.horizon, extent.step)} ahead. Made on {t.day(report.created)} "
        f"at {report.created:%H:%M} UTC."
    )


def _key_figures(report: ReportData) -> list[Fact]:
    extent = report.extent
    facts = []
    if extent.series:
        facts.append(Fact("series", t.count(extent.series)))
        facts.append(
            Fact(
                f"{extent.step}s of history",
                t.count(extent.steps),
                f"{t.moment(extent.first)} – {t.moment(extent.last)}",
            )
        )
    if extent.baskets is not None:
        facts.append(Fact("baskets", t.count(extent.baskets)))
    if not report.sources.empty:
        refused = int(report.sources["quarantined"].sum())
        repaired = 0 if report.repairs.empty else int(report.repairs["count"].sum())
        facts.append(
            Fact(
                "rows cleaned",
                t.count(report.sources["rows_in"].sum()),
                f"{t.count(repaired)} cells repaired, {t.count(refused)} rows refused",
            )
        )
    if report.rules_total:
        facts.append(Fact("rules", t.count(report.rules_total)))
    wape = _wape(report)
    if wape:
        best = min(wape, key=lambda model: wape[model])
        floor = report.truth.irreducible_wape
        facts.append(
            Fact(
                f"WAPE of {t.model_name(best)}",
                t.percent(wape[best]),
                "" if floor is None else f"irreducible: {t.percent(floor)}",
            )
        )
    return facts


def _wape_chart(report: ReportData, wape: dict[str, float]) -> Chart:
    values = [
        charts.Bar(t.model_name(model), wape[model], t.percent(wape[model]), charts.model_colour(model))
        for model in charts.in_order(wape)
    ]
    floor = report.truth.irreducible_wape
    reading = (
        "The WAPE is the sum of all errors as a share of the sum of all values, on dates that no model had seen. "
        "Shorter is better."
    )
    if floor is not None:
        values.append(charts.Bar("irreducible", floor, t.percent(floor), charts.GREEN))
        reading += (
            " The irreducible error is what a forecast would still miss that knew everything but chance; "
            "a simulation knows it, real data does not."
        )
    return Chart(
        "wape",
        "How far off the forecasts were",
        charts.bars(values, "WAPE on held-out dates", percent=True),
        reading,
        _bar_table("WAPE by model", "model", "WAPE", values),
    )


def _findings(report: ReportData) -> list[str]:
    """One sentence a section that has something to say."""
    sentences = [winner_sentence(report)]
    if not report.importance.empty:
        ranked = _by_feature(report.importance)
        strongest = ranked[ranked["importance"] >= s.LEAST_IMPORTANCE].head(3)["feature"]
        if len(strongest):
            names = t.enumeration([str(name) for name in strongest])
            sentences.append(f"The network's forecast rests most on {names}.")
        else:
            sentences.append("The network's forecast hardly changes without any single one of its inputs.")
    if not report.rules.empty:
        best = report.rules.sort_values(["lift", "support"], ascending=False).iloc[0]
        sentences.append(
            f"The strongest rule: of the baskets with {t.items(best['antecedent'])}, "
            f"{t.percent(best['confidence'])} also hold {t.items(best['consequent'])}, "
            f"{best['lift']:.1f} times as many as of all baskets."
        )
    return [sentence for sentence in sentences if sentence]


# Data quality


def quality(report: ReportData) -> Section:
    """What came in, what was repaired and what was refused, and why."""
    lead = (
        "Every row that came in is accepted, an exact duplicate, replaced by a newer row of the same key, or "
        "quarantined with a reason. Nothing vanishes silently."
    )
    if report.sources.empty:
        return _absent(report, "quality", "Data quality", "No source was cleaned in this lakehouse.")
    blocks: list[Block] = [
        Chart(
            "rows",
            "What became of the rows",
            charts.row_fates(report.sources),
            "Each bar is one source; its parts add up to all rows that came in.",
            table(
                report.sources,
                "Rows by source: rows in = accepted + duplicates + replaced + quarantined",
                [Column("source", "source"), *_FATES],
            ),
        ),
    ]
    blocks += _run_blocks(report)
    blocks += _repair_blocks(report)
    blocks += _rejection_blocks(report)
    blocks += _set_aside_blocks(report)
    return Section("quality", "Data quality", lead, blocks)


_FATES = (
    Column("rows_in", "rows in", t.count, numeric=True),
    Column("accepted", "accepted", t.count, numeric=True),
    Column("duplicates", "duplicates", t.count, numeric=True),
    Column("superseded", "replaced", t.count, numeric=True),
    Column("quarantined", "quarantined", t.count, numeric=True),
)


def _run_blocks(report: ReportData) -> list[Block]:
    """Whether sources become better or worse; nothing as long as there is one run."""
    runs = report.quality_runs
    if runs.empty or runs["cleaned_at"].nunique() < 2:
        return []
    shares = runs["quarantined"] / runs["rows_in"].where(runs["rows_in"] > 0)
    newest_first = runs.assign(share=shares).sort_values(["cleaned_at", "source"], ascending=[False, True])
    return [
        Chart(
            "quality-runs",
            "Rows refused, run after run",
            charts.quality_over_runs(runs),
            "Each dot is a run of the stage clean. A jump says that a source changed, or what is expected of it.",
            table(
                newest_first,
                "Runs, the newest first",
                [
                    Column("cleaned_at", "run", _iso),
                    Column("source", "source"),
                    *_FATES,
                    Column("share", "refused", t.percent, numeric=True),
                    Column("repaired", "cells repaired", t.count, numeric=True),
                ],
                sortable=True,
            ),
        )
    ]


def _repair_blocks(report: ReportData) -> list[Block]:
    if report.repairs.empty:
        return [Note("No cell needed a repair.", "good")]
    by_rule = report.repairs.groupby("rule", as_index=False).agg(count=("count", "sum"))
    bars = [
        charts.Bar(_spaced(rule), float(count), t.count(count), charts.BLUE)
        for rule, count in by_rule.sort_values("count", ascending=False).itertuples(index=False, name=None)
    ]
    blocks: list[Block] = [
        Chart(
            "repairs",
            "Cells repaired, by rule",
            charts.bars(bars, "cells"),
            "How many cells each rule changed. The old value of every one is kept in silver.repairs.",
            table(
                report.repairs.sort_values("count", ascending=False),
                "Repairs by source, rule and column",
                [
                    Column("source", "source"),
                    Column("rule", "rule", _spaced),
                    Column("column", "column"),
                    Column("count", "cells", t.count, numeric=True),
                ],
                sortable=True,
                folded=True,
            ),
        )
    ]
    if not report.repair_examples.empty:
        blocks.append(
            table(
                report.repair_examples,
                "Examples of repairs",
                [
                    Column("source", "source"),
                    Column("key", "row"),
                    Column("column", "column"),
                    Column("old_value", "was", _quoted),
                    Column("new_value", "is now", _quoted),
                    Column("rule", "rule", _spaced),
                ],
            )
        )
    return blocks


def _rejection_blocks(report: ReportData) -> list[Block]:
    if report.rejections.empty:
        return [Note("No row was refused.", "good")]
    return [
        table(
            report.rejections.sort_values("count", ascending=False),
            "Why rows were refused (a row may have several reasons)",
            [
                Column("source", "source"),
                Column("rule", "rule", _spaced),
                Column("column", "column"),
                Column("count", "rows", t.count, numeric=True),
                Column("message", "for example"),
            ],
            sortable=True,
        )
    ]


def _set_aside_blocks(report: ReportData) -> list[Block]:
    if report.set_aside.empty:
        return []
    return [
        table(
            report.set_aside,
            "Series of other steps than the panel, which does not have them",
            [
                Column("unique_id", "series"),
                Column("rows", "rows", t.count, numeric=True),
                Column("start", "from"),
                Column("end", "to"),
                Column("reason", "why"),
            ],
            sortable=True,
        )
    ]


# Segments


def segments(report: ReportData) -> Section:
    """Groups of series and of customers, and what sets them apart."""
    if report.profiles.empty:
        return _absent(report, "segments", "Segments", "Nothing was segmented.")
    blocks: list[Block] = []
    for entity in sorted(report.profiles["entity"].unique(), key=lambda name: (name != "store", name)):
        blocks += _entity_blocks(report, str(entity))
    lead = "Groups that k-means found, by how they behave and not by what they are called."
    ari = report.truth.store_types_ari
    if ari is not None:
        lead += f" Against the simulation's true store types the adjusted Rand index is {ari:.2f} (1 is identical)."
    return Section("segments", "Segments", lead, blocks)


def _entity_blocks(report: ReportData, entity: str) -> list[Block]:
    profiles = report.profiles[report.profiles["entity"] == entity]
    sizes = profiles.drop_duplicates("segment").sort_values("segment")
    # Customers have segments of their own, with the same numbers: the reader's filter is about those of series.
    filtered_by = "segment" if entity == "store" else None
    number = Column("segment", "segment", t.count, numeric=True)
    title = "Stores and series" if entity == "store" else f"{entity.capitalize()}s"
    bars = [
        charts.Bar(f"segment {segment}", float(size), t.count(size), segment=str(segment) if filtered_by else None)
        for segment, size in sizes[["segment", "size"]].itertuples(index=False, name=None)
    ]
    noun = "series" if entity == "store" else f"{entity}s"
    blocks: list[Block] = [
        Heading(title),
        table(
            sizes,
            "In a few words",
            [number, Column("size", "size", t.count, numeric=True), Column("description", "what sets them apart")],
            segment=filtered_by,
        ),
        Chart(
            f"sizes-{entity}",
            "How large the segments are",
            charts.bars(bars, noun),
            f"Number of {noun} in each segment.",
            _bar_table(f"Segments of {noun}", "segment", noun, bars),
        ),
        Chart(
            f"profile-{entity}",
            "What sets them apart",
            charts.profile_heat(profiles),
            "Each cell says how many standard deviations the segment's mean lies above (warm) or below (cold) "
            "the overall mean of that feature.",
            table(
                profiles.sort_values("segment", kind="stable"),
                "Means by segment and feature",
                [
                    number,
                    Column("feature", "feature"),
                    Column("mean", "mean", t.number, numeric=True),
                    Column("z", "sd from overall mean", _signed, numeric=True),
                ],
                sortable=True,
                folded=True,
                segment=filtered_by,
            ),
        ),
        *_map_blocks(report, entity),
    ]
    members = _member_table(report, entity, sizes)
    return [*blocks, members] if members is not None else blocks


def _map_blocks(report: ReportData, entity: str) -> list[Block]:
    """Where the entities lie between the centres of the segments."""
    if report.map_entities.empty or report.map_centres.empty:
        return []
    entities = report.map_entities[report.map_entities["entity"] == entity]
    centres = report.map_centres[report.map_centres["entity"] == entity].sort_values("segment")
    if entities.empty or centres.empty:
        return []
    noun = "series" if entity == "store" else f"{entity}s"
    profiles = report.profiles[report.profiles["entity"] == entity]
    is_sample = len(entities) < int(profiles.drop_duplicates("segment")["size"].sum())
    across = (
        "To the right is the direction from one centre to the other, upwards how far off the line between them."
        if len(centres) == 2
        else "Right and up are the two directions in which the centres differ most; others are not seen, so that dots "
        "of different segments may lie on each other."
    )
    return [
        Chart(
            f"map-{entity}",
            "Map of the segments",
            charts.cluster_map(entities, centres, by_segment=entity == "store"),
            f"Each dot is one of the {noun}, in scaled features, each number the centre of a segment. {across}"
            + (f" A sample of {len(entities):,} is shown." if is_sample else ""),
            table(
                entities.sort_values(["segment", "entity_id"]),
                f"Places of {noun} on the map",
                [
                    Column("entity_id", entity if entity != "store" else "series"),
                    Column("segment", "segment", t.count, numeric=True),
                    Column("x", "right", _two_decimals, numeric=True),
                    Column("y", "up", _two_decimals, numeric=True),
                    Column("is_outlier", "far from every centre", _yes),
                ],
                sortable=True,
                segment="segment" if entity == "store" else None,
                series="entity_id" if entity == "store" else None,
            ),
        )
    ]


def _member_table(report: ReportData, entity: str, sizes: pd.DataFrame) -> Table | None:
    """The most typical members of each segment; customers are numbers to a reader and left out."""
    if report.members.empty or entity != "store":
        return None
    members = report.members[report.members["entity"] == entity].sort_values(["segment", "distance"])
    if members.empty:
        return None
    rows = []
    for segment, size in sizes[["segment", "size"]].itertuples(index=False, name=None):
        names = [str(name) for name in members.loc[members["segment"] == segment, "entity_id"]]
        more = int(size) - len(names[:_MEMBERS_SHOWN])
        listed = ", ".join(names[:_MEMBERS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        rows.append({"segment": segment, "size": size, "members": listed})
    return table(
        pd.DataFrame(rows),
        "Members, the most typical first",
        [
            Column("segment", "segment", t.count, numeric=True),
            Column("size", "size", t.count, numeric=True),
            Column("members", "members"),
        ],
        segment="segment",
    )


# Rules


def rules(report: ReportData) -> Section:
    """What is bought together."""
    if report.rules.empty:
        return _absent(report, "rules", "Rules", _no_rules(report))
    lead = (
        f"{t.plural(report.rules_total, 'rule')} of what is in a basket together. Support is the share of baskets "
        "that hold both sides, confidence the share of those with the left side that hold the right one too, and "
        "lift how many times more often that is than by chance."
    )
    blocks: list[Block] = []
    if report.mining_note:
        blocks.append(Note(f"Mining: {report.mining_note}"))
    truth = report.truth
    if truth.rules_planted:
        found = truth.rules_found or 0
        blocks.append(
            Note(
                f"{found} of {truth.rules_planted} associations planted by the simulation were found "
                f"(recall {t.percent(found / truth.rules_planted)}).",
                "good" if found == truth.rules_planted else "plain",
            )
        )
    if truth.sequences_planted:
        found = truth.sequences_found or 0
        blocks.append(
            Note(
                f"{found} of {truth.sequences_planted} sequences planted by the simulation were found.",
                "good" if found == truth.sequences_planted else "plain",
            )
        )
    if not report.itemsets.empty:
        blocks.append(
            Facts(
                [
                    Fact(f"frequent {'items' if size == 1 else f'sets of {size}'}", t.count(count))
                    for size, count in report.itemsets.sort_values("size")[["size", "count"]].itertuples(
                        index=False, name=None
                    )
                ]
            )
        )
    blocks += _network_blocks(report)
    blocks.append(_rule_table(report))
    if not report.sequences.empty:
        blocks.append(_sequence_table(report))
    cloud = report.rules if report.rule_cloud.empty else report.rule_cloud
    blocks.append(
        Chart(
            "rule-cloud",
            "All rules at a glance" if len(cloud) >= report.rules_total else f"The {len(cloud):,} best rules",
            charts.rule_cloud(cloud),
            "Each dot is a rule: to the right it applies to more baskets, further up it holds more often, "
            "a stronger colour means that it tells more than chance would (lift).",
            _rules_as_table(cloud, f"{len(cloud):,} rules by lift", folded=True),
        )
    )
    return Section("rules", "Rules", lead, blocks)


def _no_rules(report: ReportData) -> str:
    """Why there are none: those that were mined may all be marked."""
    return f"No rule is worth showing. Mining: {report.mining_note}" if report.mining_note else "No rules were mined."


def _network_blocks(report: ReportData) -> list[Block]:
    """The best rules as a picture."""
    drawn = network.rule_network(report.rules)
    if drawn is None:
        return []
    return [
        Chart(
            "rule-network",
            f"The {drawn.rules} best rules as a network"
            if drawn.rules == len(report.rules)
            else f"{drawn.rules} of the {len(report.rules)} best rules as a network",
            charts.rule_network(drawn),
            "An arrow leads from what a basket holds to what it then also holds; the thicker, the more often it does "
            "(confidence). Where several items are needed, their lines meet in a dot. Where things stand means nothing "
            "but that what belongs together is near.",
            _rules_as_table(report.rules, "The rules of the network", folded=True),
        )
    ]


def _rule_table(report: ReportData) -> Table:
    return _rules_as_table(report.rules, f"The {len(report.rules)} best rules by lift (a click on a heading sorts)")


def _rules_as_table(rules: pd.DataFrame, caption: str, *, folded: bool = False) -> Table:
    shown = rules.assign(antecedent=rules["antecedent"].map(t.items), consequent=rules["consequent"].map(t.items))
    return table(
        shown,
        caption,
        [
            Column("antecedent", "if a basket holds"),
            Column("consequent", "it also holds"),
            Column("support", "support", t.percent, numeric=True),
            Column("confidence", "confidence", t.percent, numeric=True),
            Column("lift", "lift", _two_decimals, numeric=True),
        ],
        sortable=True,
        folded=folded,
    )


def _sequence_table(report: ReportData) -> Table:
    shown = report.sequences.assign(sequence=report.sequences["sequence"].map(t.sequence))
    return table(
        shown,
        f"What customers buy one time after another: the {len(shown)} best sequences by lift. Support is the share of "
        "customers who did, confidence the share of those who came as far as the last step that took it too, and lift "
        "compares that with the share of customers who ever bought the last step",
        [
            Column("sequence", "customers bought"),
            Column("support", "support", t.percent, numeric=True),
            Column("confidence", "confidence", t.percent, numeric=True),
            Column("lift", "lift", _two_decimals, numeric=True),
        ],
        sortable=True,
    )


# Forecasts


def forecasts(report: ReportData) -> Section:
    """Chosen series: what happened, what was forecast, what comes next; and all others to look up."""
    if report.history.empty or report.forecasts.empty or not report.chosen:
        return _absent(report, "forecasts", "Forecasts", "Nothing was forecast.")
    listed = report.listed or report.chosen
    packed = pack(listed, report.history, report.forecasts)
    panes = [
        Pane(
            f"series-{index}",
            one.unique_id,
            _series_blocks(report, one, index, packed),
            _tag(one.segment),
            one.unique_id,
        )
        for index, one in enumerate(report.chosen)
    ]
    lead = (
        "The black line (white on dark) is what happened. Forecasts right of the first dotted line were made on that "
        "date, without the values that followed; what lies right of the last one nobody knows yet."
    )
    blocks: list[Block] = [Tabs("Series", panes)]
    if set(packed.names) - {one.unique_id for one in report.chosen}:
        blocks += [Heading("Look up a series"), _lookup(report, listed, packed)]
    return Section("forecasts", "Forecasts", lead, blocks)


def store_segments(report: ReportData) -> list[str]:
    """The segments of series that the reader may filter by, in their order."""
    found = {str(one.segment) for one in (report.listed or report.chosen) if one.segment is not None}
    if not report.profiles.empty:
        found |= {str(segment) for segment in report.profiles.loc[report.profiles["entity"] == "store", "segment"]}
    return sorted(found, key=lambda name: (len(name), name))


def _lookup(report: ReportData, listed: Sequence[ChosenSeries], packed: Packed) -> Lookup:
    by_name = {one.unique_id: one for one in listed}
    shown = [by_name[name] for name in packed.names]
    models = charts.in_order({model for one in shown for model in one.wape})
    rows = pd.DataFrame(
        [{s.UNIQUE_ID: one.unique_id, "segment": one.segment, "tag": _tag(one.segment), **one.wape} for one in shown],
        columns=[s.UNIQUE_ID, "segment", "tag", *models],
    )
    total = max(report.extent.series, len(shown))
    note = f"All {total:,} series are here." if len(shown) == total else (
        f"{len(shown):,} of {total:,} series are here, spread evenly from the one forecast best to the one forecast "
        "worst, so that the page stays small; the table gold.forecasts has the others (report.max_listed, "
        "report.series)."
    )  # fmt: skip
    return Lookup(
        f"{note} Those of the buttons above have all their numbers in a table of their own.",
        f"The shaded bands are the {_banded(report.forecasts)}'s: about 80 and 95 in 100 values should fall inside.",
        table(
            rows,
            "Series and their errors (WAPE on held-out dates)",
            [
                Column(s.UNIQUE_ID, "series"),
                *([Column("segment", "segment", t.count, numeric=True)] if rows["segment"].notna().any() else []),
                *(Column(model, t.model_name(model), t.percent, numeric=True) for model in models),
            ],
            sortable=True,
            segment="tag",
            series=s.UNIQUE_ID,
        ),
        packed.content,
    )


def _tag(segment: int | None) -> str | None:
    """A segment as the filter knows it."""
    return None if segment is None else str(segment)


def _banded(rows: pd.DataFrame) -> str:
    """The model whose bands are drawn."""
    return "LSTM" if data.LSTM in set(rows[s.MODEL]) else "ARIMA"


def _series_blocks(report: ReportData, chosen: ChosenSeries, index: int, packed: Packed) -> list[Block]:
    history = report.history[report.history[s.UNIQUE_ID] == chosen.unique_id].sort_values(s.DS)
    rows = report.forecasts[report.forecasts[s.UNIQUE_ID] == chosen.unique_id]
    if chosen.unique_id not in packed.names:
        return [Note(f"There is no forecast for series {chosen.unique_id}.", "warn")]
    errors = [f"{t.model_name(model)} {t.percent(chosen.wape[model])}" for model in charts.in_order(chosen.wape)]
    about = [
        f"{chosen.why}." if chosen.why else "",
        f"Segment {chosen.segment}." if chosen.segment is not None else "",
        f"WAPE on the held-out dates: {t.enumeration(errors)}." if errors else "",
    ]
    return [
        Chart(
            f"forecast-{index}",
            chosen.unique_id,
            charts.series(packed.names.index(chosen.unique_id)),
            " ".join(part for part in about if part)
            + f" The shaded bands are the {_banded(rows)}'s: about 80 and 95 in 100 values should fall inside.",
            _forecast_table(history, rows, chosen.unique_id),
        )
    ]


def _forecast_table(history: pd.DataFrame, rows: pd.DataFrame, unique_id: str) -> Table:
    """Date, what happened, and each model's forecast; the bands of the banded model."""
    models = charts.in_order(rows[s.MODEL].unique())
    wide = rows.pivot_table(index=[s.CUTOFF, s.DS], columns=s.MODEL, values=s.Y_HAT, aggfunc="first").reset_index()
    bounded = rows[rows[s.MODEL] == models[0]][[s.CUTOFF, s.DS, s.LO_80, s.HI_80]]
    wide = wide.merge(bounded, on=[s.CUTOFF, s.DS], how="left").merge(history[[s.DS, s.Y]], on=s.DS, how="left")
    return table(
        wide.sort_values([s.CUTOFF, s.DS]),
        f"Forecasts of {unique_id}",
        [
            Column(s.CUTOFF, "made on", _iso),
            Column(s.DS, "for", _iso),
            Column(s.Y, "actual", t.number, numeric=True),
            *(Column(model, t.model_name(model), t.number, numeric=True) for model in models),
            Column(s.LO_80, "80 % from", t.number, numeric=True),
            Column(s.HI_80, "80 % to", t.number, numeric=True),
        ],
        folded=True,
    )


# Accuracy


def accuracy(report: ReportData) -> Section:
    """Each model's errors on held-out dates."""
    if report.metrics.empty:
        return _absent(report, "accuracy", "Accuracy", "There was no backtest.")
    lead = winner_sentence(report) or "Errors on dates that no model had seen."
    blocks: list[Block] = [_metric_table(report.metrics)]
    if not report.comparisons.empty:
        blocks.append(_comparison_table(report.comparisons))
    floor = report.truth.irreducible_wape
    if not report.wape_by_step.empty:
        blocks.append(
            Chart(
                "by-step",
                "Error by distance",
                charts.accuracy_by_step(report.wape_by_step, floor),
                "How far ahead a forecast looks, against its WAPE. A line that climbs means that the far end of the "
                "horizon is harder; waves come from the days of the week."
                + (" No forecast can stay below the dashed line." if floor is not None else ""),
                _wide_table(report.wape_by_step, s.H, "steps ahead", "WAPE by distance"),
            )
        )
    if not report.wape_by_segment.empty:
        blocks.append(
            Chart(
                "by-segment",
                "Error by segment",
                charts.accuracy_by_segment(report.wape_by_segment),
                "Each dot is a model's WAPE within one segment: further left is better.",
                _wide_table(report.wape_by_segment, "segment", "segment", "WAPE by segment"),
            )
        )
    if not report.wape_by_part.empty:
        blocks.append(_part_chart(report.wape_by_part))
    if not report.coverage.empty:
        blocks.append(_coverage_table(report.coverage))
    return Section("accuracy", "Accuracy", lead, blocks)


def _part_chart(errors: pd.DataFrame) -> Chart:
    """Errors by segment and part of the horizon: of one model in the picture, of all in the table."""
    models = charts.in_order(errors[s.MODEL].unique())
    model = next((name for name in (data.LSTM, data.ARIMA) if name in models), models[0])
    return Chart(
        "by-part",
        f"Error by segment and distance: {t.model_name(model)}",
        charts.error_heat(errors[errors[s.MODEL] == model]),
        f"Each cell is the WAPE of {t.the_model(model)} within a segment and a part of the horizon: the warmer, the "
        "larger. The table has the other models too.",
        table(
            errors,
            "WAPE by segment and part of the horizon",
            [
                Column(s.MODEL, "model", t.model_name),
                Column("segment", "segment"),
                Column("steps", "steps ahead"),
                Column("value", "WAPE", t.percent, numeric=True),
            ],
            sortable=True,
            segment="segment",
        ),
    )


def winner_sentence(report: ReportData) -> str:
    """Which model had the lowest WAPE, said the same way whoever won; empty without a backtest."""
    wape = _wape(report)
    if not wape:
        return ""
    ranking = sorted(wape, key=lambda model: (wape[model], model))
    best, others = ranking[0], ranking[1:]
    sentence = f"{t.sentence_case(t.the_model(best))} forecast best: WAPE {t.percent(wape[best])}"
    if others:
        rest = t.enumeration([f"{t.percent(wape[model])} for {t.the_model(model)}" for model in others])
        sentence += f", against {rest}"
    sentence += "."
    if others:
        sentence += _how_sure(report.comparisons, best, others[0])
    if data.LSTM in wape and best not in (data.LSTM, data.BLEND):
        sentence += f" The LSTM did not win here: its error is {_ratio(wape[data.LSTM], wape[best])} larger."
    floor = report.truth.irreducible_wape
    if floor is not None:
        sentence += f" No forecast could be expected below {t.percent(floor)}: the rest is chance."
    return sentence


SURE = 0.05
"""Largest p-value of a difference that is called beyond chance."""


def _how_sure(comparisons: pd.DataFrame, best: str, second: str) -> str:
    """Whether the best model is better than the next one beyond chance; empty where nobody can tell."""
    if comparisons.empty:
        return ""
    sides = comparisons[s.MODEL].isin((best, second)) & comparisons["other"].isin((best, second))
    p_values = comparisons.loc[sides, "p_value"].dropna()
    if p_values.empty:
        return ""
    verdict = "is beyond chance" if p_values.iloc[0] <= SURE else "may be chance"
    p_value = t.p_value(p_values.iloc[0])
    return f" Its lead over {t.the_model(second)} {verdict} (p {'' if p_value.startswith('<') else '= '}{p_value})."


def _comparison_table(comparisons: pd.DataFrame) -> Table:
    return table(
        comparisons,
        "Models against each other: mean absolute errors",
        [
            Column(s.MODEL, "model", t.model_name),
            Column("other", "less", t.model_name),
            Column("difference", "difference", t.number, numeric=True),
            Column("standard_error", "standard error", t.number, numeric=True),
            Column("p_value", "p", t.p_value, numeric=True),
        ],
        folded=True,
    )


def _coverage_table(coverage: pd.DataFrame) -> Table:
    return table(
        coverage,
        "Values inside the bands, by segment and steps ahead: about 80 and 95 in 100 should be",
        [
            Column(s.MODEL, "model", t.model_name),
            Column("segment", "segment"),
            Column("steps", "steps ahead"),
            Column("coverage_80", "in 80 % band", t.percent, numeric=True),
            Column("coverage_95", "in 95 % band", t.percent, numeric=True),
        ],
        sortable=True,
        folded=True,
        segment="segment",
    )


def _metric_table(metrics: pd.DataFrame) -> Table:
    wide = metrics.pivot_table(index=s.MODEL, columns="metric", values="value", aggfunc="first")
    wide = wide.reindex(charts.in_order(wide.index)).reset_index()
    known = [name for name, _, _ in _METRICS]
    further = [str(name) for name in wide.columns if name not in (*known, s.MODEL)]
    return table(
        wide,
        "Errors on held-out dates, all series together",
        [
            Column(s.MODEL, "model", t.model_name),
            *(Column(name, title, shown, numeric=True) for name, title, shown in _METRICS),
            *(Column(name, _spaced(name), t.number, numeric=True) for name in further),
        ],
        sortable=True,
    )


def _wide_table(errors: pd.DataFrame, key: str, title: str, caption: str) -> Table:
    models = charts.in_order(errors[s.MODEL].unique())
    wide = errors.pivot_table(index=key, columns=s.MODEL, values="value", aggfunc="first").reset_index()
    return table(
        wide,
        caption,
        [Column(key, title), *(Column(model, t.model_name(model), t.percent, numeric=True) for model in models)],
        folded=True,
        segment="segment",
    )


# What mining adds


def mining(report: ReportData) -> Section:
    """What each mined signal is worth to the forecast: measured by going without it."""
    title = "What mining adds"
    if report.effects.empty:
        return _absent(report, "mining", title, "This was not measured: run dlmine backtest --ablation.")
    first = report.effects.iloc[0]
    lead = (
        "The network was trained again without each mined signal, with the same budget: from "
        f"{t.plural(first['seeds'], 'random start')}, for {t.plural(first['origins'], 'date')} to forecast from. The "
        f"error (WAPE) is that on the {t.count(first['forecasts'])} values that followed."
    )
    return Section(
        "mining",
        title,
        lead,
        [
            *(Note(effect_sentence(row)) for row in report.effects.to_dict("records")),
            Chart(
                "mining-effects",
                "Change of the error without each signal",
                charts.effects(report.effects.assign(label=report.effects["signal"].map(_without))),
                "A dot right of the line: the forecast is worse without the signal, so that it helps. The bar says how "
                "far chance may reach (95 %), given how much series, dates and random starts differ; where it crosses "
                "the line, the change may be chance.",
                _effect_table(report.effects),
            ),
        ],
    )


def effect_sentence(effect: Mapping[Hashable, Any]) -> str:
    """What a signal is worth in plain words: it helps, does harm, or makes no difference that one can be sure of."""
    low, high = effect["lo_95"], effect["hi_95"]
    change = (
        f"{t.sentence_case(_without(str(effect['signal'])))}, the error changes by "
        f"{_signed_percent(effect['difference'])}, from {t.percent(effect['wape_with'])}"
    )
    if t.is_missing(low) or t.is_missing(high):
        return f"{change}; with a single series or date nobody can tell whether that is chance."
    verdict = (
        "worse beyond chance, so it helps"
        if low > 0
        else "better beyond chance, so it does harm here"
        if high < 0
        else "no difference beyond chance"
    )
    return f"{change} (95 % range {_signed_percent(low)} to {_signed_percent(high)}): {verdict}."


def _without(signal: str) -> str:
    return f"without {t.signal_name(signal)}"


def _effect_table(effects: pd.DataFrame) -> Table:
    return table(
        effects,
        "Errors with and without each signal",
        [
            Column("signal", "signal", t.signal_name),
            Column("wape_with", "WAPE with all", t.percent, numeric=True),
            Column("wape_without", "WAPE without", t.percent, numeric=True),
            Column("difference", "change", _signed_percent, numeric=True),
            Column("lo_95", "95 % from", _signed_percent, numeric=True),
            Column("hi_95", "95 % to", _signed_percent, numeric=True),
            Column("p_value", "p", t.p_value, numeric=True),
        ],
        folded=True,
    )


# Tuning


def tuning(report: ReportData) -> Section:
    """What was tried to make the network better, what came of it, and which settings mattered."""
    title = "Tuning"
    if report.trials.empty:
        return _absent(report, "tuning", title, "Better settings were not looked for: run dlmine tune.")
    tried = report.trials
    counts = tried["state"].value_counts()
    lead = (
        f"{t.plural(len(tried), 'network')} with different settings were trained and judged on windows before all that "
        f"the sections above test on: {t.count(counts.get('complete', 0))} to the end, "
        f"{t.count(counts.get('pruned', 0))} stopped early for being worse than others"
        + (f", {t.count(counts['failed'])} without success" if "failed" in counts else "")
        + "."
    )
    base = _configured_error(tried)
    blocks: list[Block] = [
        *(Note(sentence) for sentence in tuning_sentences(report)),
        Chart(
            "tuning-trials",
            "Error of each trial",
            charts.trials(tried, base),
            "Each dot is a network, in the order they were tried; lower is better. An open dot was stopped early: its "
            "error then is no measure beside that of a network trained to the end.",
            _trial_table(tried),
        ),
        table(
            report.tuned,
            "Settings: configured, and of the best trial",
            [
                Column("parameter", "setting"),
                Column("default_value", "configured", t.number, numeric=True),
                Column("best_value", "best trial", t.number, numeric=True),
            ],
        ),
    ]
    known = report.tuned.dropna(subset=["importance"]) if not report.tuned.empty else report.tuned
    if not known.empty:
        bars = [
            charts.Bar(str(name), float(share), t.percent(share))
            for name, share in known[["parameter", "importance"]].itertuples(index=False, name=None)
        ]
        blocks.append(
            Chart(
                "tuning-importance",
                "Which settings mattered",
                charts.bars(bars, "share", percent=True),
                "How far the values in the best quarter of the trials are spread otherwise than in all (PED-ANOVA). Of "
                "some twenty trials, settings that do not matter get small shares by chance.",
                _bar_table("Importance of the settings", "setting", "share", bars),
            )
        )
    return Section("tuning", title, lead, blocks)


def _configured_error(tried: pd.DataFrame) -> float | None:
    """Of the first trial; None where it failed."""
    values = tried.loc[(tried["number"] == 0) & (tried["state"] == "complete"), "value"].dropna()
    return None if values.empty else float(values.iloc[0])


def tuning_sentences(report: ReportData) -> list[str]:
    """What the best settings bring, on the windows they were chosen by and on those they were not."""
    complete = report.trials[(report.trials["state"] == "complete") & report.trials["value"].notna()]
    if complete.empty:
        return ["No network could be trained to the end."]
    best = complete.sort_values(["value", "number"]).iloc[0]
    base = _configured_error(report.trials)
    if best["number"] == 0:
        return [f"Nothing was better than the configured settings: WAPE {t.percent(base)} on these windows."]
    before = "could not be trained" if base is None else f"have {t.percent(base)}"
    sentences = [
        f"Trial {t.count(best['number'])} was the best, with a WAPE of {t.percent(best['value'])} on these windows; "
        f"the configured settings {before}. The best of many looks better than it is."
    ]
    if not report.tuning_effect.empty:
        sentences += [_tuning_verdict(effect) for effect in report.tuning_effect.to_dict("records")]
    return sentences


def _tuning_verdict(effect: Mapping[Hashable, Any]) -> str:
    low, high = effect["lo_95"], effect["hi_95"]
    compared = (
        f"On held-out dates, the error is {t.percent(effect['wape_default'])} as configured and "
        f"{t.percent(effect['wape_best'])} with the best settings"
    )
    by = f"by {t.plural(int(effect['seeds']), 'random start')} each"
    if t.is_missing(low) or t.is_missing(high):
        return f"{compared}, {by}; with a single series or date nobody can tell whether that is chance."
    verdict = (
        "better beyond chance"
        if low > 0
        else "worse beyond chance, so better left as they are"
        if high < 0
        else "no difference beyond chance"
    )
    return f"{compared}, {by} (95 % range of the gain {_signed_percent(low)} to {_signed_percent(high)}): {verdict}."


def _trial_table(tried: pd.DataFrame) -> Table:
    return table(
        tried,
        "Trials",
        [
            Column("number", "trial", t.count, numeric=True),
            Column("state", "state"),
            Column("value", "WAPE", t.percent, numeric=True),
            Column("epochs", "epochs", t.count, numeric=True),
            Column("seconds", "time", t.seconds, numeric=True),
            Column("settings", "settings"),
            Column("error", "why it failed"),
        ],
        sortable=True,
        folded=True,
    )


# Drivers


def drivers(report: ReportData) -> Section:
    """What the network's forecast rests on."""
    if report.importance.empty:
        return _absent(report, "drivers", "What drives the forecast", "The forecast was not explained.")
    blocks: list[Block] = []
    for method, rows in report.importance.groupby("method", sort=True):
        ranked = _by_feature(rows)
        bars = [
            charts.Bar(
                str(feature), float(value), _signed_percent(value), charts.role_colour(str(role)), t.role_name(role)
            )
            for feature, role, value in ranked[["feature", "role", "importance"]]
            .head(25)
            .itertuples(index=False, name=None)
        ]
        is_permutation = "permut" in str(method)
        blocks.append(
            Chart(
                f"drivers-{len(blocks)}",
                "Rise of the error without each input" if is_permutation else f"Importance by {_spaced(method)}",
                charts.bars(bars, "rise of WAPE" if is_permutation else "importance", percent=True),
                (
                    "Each input in turn is shuffled between windows, so that it tells nothing any more. The bar is how "
                    "much the WAPE rises: the longer, the more the network relies on it. Inputs that tell the same "
                    "share their importance, and a bar near zero does not mean that the input is unrelated to sales."
                    if is_permutation
                    else "Share of the forecast's departure from its baseline that is due to each input."
                ),
                table(
                    ranked,
                    "Importance by input",
                    [
                        Column("feature", "input"),
                        Column("role", "role", t.role_name),
                        Column("importance", "importance", _signed_percent, numeric=True),
                    ],
                    sortable=True,
                    folded=True,
                ),
            )
        )
    if not report.error_patterns.empty:
        blocks += _failure_blocks(report.error_patterns)
    if not report.surrogates.empty:
        blocks += _surrogate_blocks(report.surrogates, report.surrogate_scores)
    return Section("drivers", "What drives the forecast", "How much the network relies on each of its inputs.", blocks)


def _failure_blocks(patterns: pd.DataFrame) -> list[Block]:
    """When the forecast is far off, the most telling pattern in a sentence."""
    worst = patterns.iloc[0]
    sentence = (
        f"When {t.enumeration([str(one) for one in worst['conditions']])}, {t.percent(worst['share'])} of "
        f"{t.plural(int(worst['forecasts']), 'forecast')} were among the largest tenth of errors, the "
        f"{worst['failure']}: {worst['lift']:.1f} times as often as usual."
    )
    shown = patterns.assign(conditions=patterns["conditions"].map(lambda conditions: t.enumeration(list(conditions))))
    return [
        Heading("When it is far off"),
        Note(sentence),
        table(
            shown,
            "What the largest errors on held-out dates have in common",
            [
                Column("conditions", "when"),
                Column("failure", "then the"),
                Column("forecasts", "forecasts", t.count, numeric=True),
                Column("share", "of which so", t.percent, numeric=True),
                Column("lift", "lift", _two_decimals, numeric=True),
            ],
            sortable=True,
            folded=True,
        ),
    ]


def _surrogate_blocks(rules: pd.DataFrame, scores: Mapping[str, float]) -> list[Block]:
    """The network in a few rules, and how far they may be believed."""
    r2, nearly = scores.get("r2"), scores.get("within_a_tenth")
    sentences = [f"{t.plural(len(rules), 'rule')} that imitate the network."]
    if r2 is not None:
        sentences.append(f"They account for {t.percent(max(r2, 0.0))} of what its forecasts vary by (R2).")
    if nearly is not None:
        sentences.append(f"{t.percent(nearly)} of the forecasts lie within a tenth of what the rule says.")
    sentences.append("All figures are of forecasts that the rules were not made from.")
    always = "always"
    shown = rules.assign(conditions=rules["conditions"].map(lambda one: t.enumeration(list(one)) or always))
    return [
        Heading("The network in a few rules"),
        Note(" ".join(sentences)),
        table(
            shown,
            "Forecasts as a multiple of what was usual for the series at that place of the season",
            [
                Column("conditions", "when"),
                Column("coverage", "of the forecasts", t.percent, numeric=True),
                Column("ratio", "the rule says", _two_decimals, numeric=True),
                Column("held_out_ratio", "the network forecast", _two_decimals, numeric=True),
            ],
            sortable=True,
            folded=True,
        ),
    ]


def _by_feature(importance: pd.DataFrame) -> pd.DataFrame:
    return importance.sort_values(["importance", "feature"], ascending=[False, True])


# Run


def run(report: ReportData) -> Section:
    """How this page came about."""
    blocks: list[Block] = []
    if not report.runs.empty:
        blocks.append(
            table(
                report.runs,
                "Stages, in the order they run",
                [
                    Column("stage", "stage"),
                    Column("status", "status", _spaced),
                    Column("seconds", "time", t.seconds, numeric=True),
                    Column("rows_in", "rows in", t.count, numeric=True),
                    Column("rows_out", "rows out", t.count, numeric=True),
                    Column("rows_rejected", "rejected", t.count, numeric=True),
                    Column("message", "what it said"),
                ],
            )
        )
    if not report.tables.empty:
        blocks.append(
            table(
                report.tables,
                "Tables and the versions this page was made from",
                [
                    Column("table", "table"),
                    Column("version", "version", t.count, numeric=True),
                    Column("stage", "written by"),
                ],
                folded=True,
            )
        )
    if report.config_yaml:
        blocks.append(Code("Configuration", report.config_yaml))
    if not blocks:
        return _absent(report, "run", "Run", "The ledger holds no run.")
    return Section("run", "Run", "How this page came about: every stage, its rows and its time.", blocks)


# Shared


def _absent(report: ReportData, section: str, title: str, otherwise: str) -> Section:
    """An empty section that says why it is empty."""
    return Section(section, title, "", [Note(report.absent.get(section, otherwise), "warn")])


def _wape(report: ReportData) -> dict[str, float]:
    """WAPE over everything held out, by model."""
    if report.metrics.empty:
        return {}
    rows = report.metrics[(report.metrics["metric"] == "wape") & report.metrics["value"].notna()]
    return {str(model): float(value) for model, value in zip(rows[s.MODEL], rows["value"], strict=True)}


def _bar_table(caption: str, key: str, title: str, bars: Sequence[charts.Bar]) -> Table:
    frame = pd.DataFrame({"label": [bar.label for bar in bars], "shown": [bar.shown for bar in bars]})
    return table(frame, caption, [Column("label", key), Column("shown", title)], folded=True)


def _ratio(larger: float, smaller: float) -> str:
    return t.percent(larger / smaller - 1) if smaller > 0 else "infinitely"


def _spaced(value: Any) -> str:
    return t.plain(value).replace("_", " ")


def _quoted(value: Any) -> str:
    """A cell's content so that blanks show; a missing value is said in words."""
    return "missing" if t.is_missing(value) else f"“{value}”"


def _signed(value: Any) -> str:
    return t.MISSING if t.is_missing(value) else f"{float(value):+.2f}"


def _signed_percent(value: Any) -> str:
    """Percentage points with their sign."""
    return t.MISSING if t.is_missing(value) else f"{100 * float(value):+.2f} pp"


def _two_decimals(value: Any) -> str:
    return t.MISSING if t.is_missing(value) else f"{float(value):.2f}"


def _iso(value: Any) -> str:
    return t.MISSING if t.is_missing(value) else str(t.iso(value))


def _yes(value: Any) -> str:
    return "yes" if value is True or value == 1 else ""
