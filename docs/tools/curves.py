# SPDX-License-Identifier: Apache-2.0
"""Redraw the curves of docs/results from the figures beside them. The README's is the one that `make demo` writes.

Usage: python docs/tools/curves.py   (a few seconds; writes the pictures that are there already)
"""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.quality import Quality
from transformers_simul.evaluation.report import ReportLine

DOCS = Path(__file__).resolve().parents[1]
FILES = {"BLEU": "bleu", "chrF++": "chrfpp"}


def report_line(row: Mapping[str, str]) -> ReportLine:
    """A line of `results.csv`."""
    quality = [
        Quality(name, *(float(row[name + end]) for end in ("", "_low", "_high")), signature="") for name in FILES
    ]
    return ReportLine(row["policy"], quality, {"LAAL": float(row["LAAL"])}, 0, 0, 0, "")


def lines_by_system(rows: Iterable[Mapping[str, str]]) -> dict[str, list[ReportLine]]:
    """The curves of a `results.csv`."""
    curves: dict[str, list[ReportLine]] = {}
    for row in rows:
        curves.setdefault(row["system"], []).append(report_line(row))
    return curves


def main() -> None:
    for table in sorted((DOCS / "results").glob("*.csv")):
        with table.open(encoding="utf-8", newline="") as lines:
            curves = lines_by_system(csv.DictReader(lines))
        for metric, name in FILES.items():
            picture = table.with_name(f"{table.stem}-{name}.png")
            if picture.is_file():
                pair = re.search(r"en-[a-z]{2}", table.stem)
                plot_curves(picture, curves, f"{pair[0] if pair else table.stem}: {metric} over LAAL", metric)
                print(f"written: {picture}")


if __name__ == "__main__":
    main()
