"""Small files of many shapes, and what is guessed of them as the configuration has it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from dlmine_spark.pipelines import init


def configured(tmp_path: Path, *paths: str | Path) -> dict[str, Any]:
    """The configuration that init writes for some files, as plain values."""
    out = tmp_path / "guessed.yaml"
    init.run([str(path) for path in paths], out, force=True)
    content: dict[str, Any] = yaml.safe_load(out.read_text(encoding="utf-8"))
    return content


def source_of(tmp_path: Path, *paths: str | Path) -> dict[str, Any]:
    """The only source of that configuration, without its path."""
    (source,) = configured(tmp_path, *paths)["sources"].values()
    return {key: value for key, value in source.items() if key != "path"}


def write(path: Path, rows: Iterable[Sequence[object]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """A text file of rows; packed where its name ends with .gz."""
    text = "".join(delimiter.join(map(str, row)) + "\n" for row in rows)
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def days(count: int, start: date = date(2024, 1, 1), step: int = 1) -> list[date]:
    """Dates, so many days apart."""
    return [start + timedelta(days=step * place) for place in range(count)]


def months(count: int) -> list[str]:
    """Months as 2020-01."""
    return [f"{2020 + place // 12}-{place % 12 + 1:02d}" for place in range(count)]


def daily_sales(path: Path, **options: Any) -> Path:
    """One series: a date and its sales."""
    rows = [(day, 100 + place % 7) for place, day in enumerate(days(60))]
    return write(path, [("date", "sales"), *rows], **options)


def nights_with_offset(path: Path) -> Path:
    """Days of Berlin that begin the day before in UTC; clocks are changed on 31 March."""
    rows = [(f"{day}T00:30:00+0{1 + (day >= date(2024, 4, 1))}:00", 100 + at) for at, day in enumerate(days(100))]
    return write(path, [("date", "sales"), *rows])


def german_sales(path: Path) -> Path:
    """Semicolons, decimal commas, days first, letters of cp1252."""
    rows = [
        (f"{day:%d.%m.%Y}", branch, f"1.{100 + 10 * place + offset},{place % 10}0", (place + offset) % 2)
        for offset, branch in enumerate(("Köln", "Münster"))
        for place, day in enumerate(days(50))
    ]
    return write(path, [("Datum", "Filiale", "Umsatz (€)", "Aktion"), *rows], delimiter=";", encoding="cp1252")


def monthly_patients(path: Path) -> Path:
    """A long panel of months."""
    rows = [(f"T{unit}", month, 10 * unit + place % 12) for unit in (1, 2, 3) for place, month in enumerate(months(48))]
    return write(path, [("hospital unit", "month", "patients"), *rows])


def weekly_store_sales(path: Path) -> Path:
    """A panel of weeks with covariates of every role."""
    rows = [
        (
            store,
            day,
            50 + place,
            place % 3 == 0,
            9.5 + place % 4,
            "north" if store == 1 else "south",
            300 + 7 * place % 50,
        )
        for store in (1, 2)
        for place, day in enumerate(days(80, date(2023, 1, 2), 7))
    ]
    return write(path, [("Store", "Date", "Weekly_Sales", "IsHoliday", "price", "region", "temperature"), *rows])


def receipts(path: Path) -> Path:
    """Lines of receipts, a few of them returns."""
    header = ("ReceiptNo", "Time", "Branch", "Card", "Article", "Text", "Qty", "UnitPrice")
    rows = [
        (
            f"R{receipt:04d}",
            f"{day} {9 + receipt % 8:02d}:{7 * receipt % 60:02d}",
            f"B{receipt % 2}",
            f"K{receipt % 11}",
            f"A{item}",
            f"article {item}",
            -1 if receipt == 13 else 1 + item % 3,
            f"{1.5 + item:.2f}",
        )
        for receipt, day in enumerate(days(90))
        for item in range(receipt % 3, 5)
    ]
    return write(path, [header, *rows])


def baskets(path: Path) -> Path:
    """Lines of items, as many as were bought."""
    items = ["whole milk", "rye bread", "butter", "ham", "eggs"]
    return write(path, [[items[(place + step) % 5] for step in range(1 + place % 4)] for place in range(40)])


def two_keys(path: Path) -> Path:
    """Series that a store and an article name together."""
    rows = [
        (day, store, sku, place + 3)
        for place, day in enumerate(days(40))
        for store in ("north", "south")
        for sku in ("tea", "coffee", "juice")
    ]
    return write(path, [("day", "store", "sku", "qty"), *rows])


def single_sales(path: Path) -> Path:
    """A row for each sale of a store, at any time of its day."""
    at = [[(7919 * place + 104_729 * sale) % 711 for sale in range(3 + place % 3)] for place in range(50)]
    rows = [
        (f"{day} {8 + minute // 60:02d}:{minute % 60:02d}:00", f"S{sale % 2}", 3 + sale)
        for day, minutes in zip(days(50), at, strict=True)
        for sale, minute in enumerate(minutes)
    ]
    return write(path, [("timestamp", "store", "amount"), *rows])


def visits(path: Path) -> Path:
    """What members took on a day, without a number of the receipt."""
    rows = [
        (1000 + place % 9, f"{day:%d-%m-%Y}", item)
        for place, day in enumerate(days(60))
        for item in ("milk", "bread", "soda")[: 1 + place % 3]
    ]
    return write(path, [("Member_number", "Date", "itemDescription"), *rows])
