"""The headline: mIoU of every model and regime, the gains over both controls, and the sentence on top of the page."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from freemask.reporting.intervals import IMAGES_AND_SEEDS
from freemask.reporting.layout import lines_of, name_of, number
from freemask.reporting.recorded import Dataset, card_id
from freemask.segmentation.regimes import find_regime

# Columns of the headline table, in this order; other regimes come after them.
ORDER = [("joint", 2), ("real", 2), ("real", 1), ("finetune", 1), ("synthetic", 1)]


def gain_cell(row: pd.Series, key: str) -> dict[str, Any] | None:
    """A gain with its interval, or else its deviation over train seeds; None without a gain."""
    if key not in row or pd.isna(row[key]):
        return None
    low, high = (row.get(f"{key}_{end}", math.nan) for end in ("low", "high"))
    deviation = row.get(f"{key}_std", math.nan)
    spread, sure = _number(deviation, "± {:.2f}"), None
    if not (pd.isna(low) or pd.isna(high)):
        dagger = "†" if row[f"{key}_interval"] == IMAGES_AND_SEEDS else ""
        spread, sure = f"{low:+.2f} to {high:+.2f}{dagger}", bool(low > 0 or high < 0)
    return {
        "text": number(row[key], sign=True),
        "spread": spread,
        "value": row[key],
        "sure": sure,
        "within": abs(row[key]) <= deviation,
    }


def _number(value: float, form: str) -> str:
    """A number as text; empty for none."""
    return "" if pd.isna(value) else form.format(value)


def headline(data: Dataset) -> list[dict[str, Any]]:
    """Lines of the headline table: one per model and synthetic set, with a cell per (regime, schedule)."""
    lines = []
    reference = data.row(data.facts["improved"]).synthetic_set
    for model, table in data.miou.groupby("model", sort=False):
        real = np.array([find_regime(regime).only_real for regime in table.regime])
        others = table[~real]
        keys = sorted(
            dict.fromkeys(zip(others.synthetic_set, others.balance, strict=True)), key=lambda key: key[0] != reference
        )
        for key in keys or [("", "exact")]:
            own = others[(others.synthetic_set == key[0]) & (others.balance == key[1])]
            cells: dict[tuple[str, float], list] = {}
            for row in [*table[real].itertuples(), *own.itertuples()]:
                cell = {"text": f"{row.mIoU:.2f}", "id": card_id(data.id, row.experiment), "experiment": row.experiment}
                cell["spread"] = _number(row.mIoU_std, "± {:.2f}")
                cell["test"] = _number(getattr(row, "test_mIoU", math.nan), "{:.2f}")
                cells.setdefault((row.regime, row.schedule), []).append(cell)
            joint = own[own.regime == "joint"]
            last = (joint if len(joint) else own if len(own) else table).iloc[-1]
            reported = table.get("reported_mIoU", pd.Series(math.nan, table.index))
            theirs = joint.iloc[-1] if len(joint) else {}
            authors = {"real": reported[real].max(), "joint": theirs.get("reported_mIoU", math.nan)}
            authors["gain"] = theirs.get("reported_gain", math.nan)
            several, used = len(keys) > 1, key[0] + (" (repeated)" if key[1] == "repeat" else "")
            lines.append({
                "model": model, "set": used, "name": f"{model} ({used})" if several else model, "cells": cells,
                "gain_2x": gain_cell(last, "gain_over_real_2x"), "gain": gain_cell(last, "gain_over_real"),
                "seeds": int(last.seeds), "authors": authors, "id": card_id(data.id, last.experiment),
                "several": several,
            })  # fmt: skip
    return lines


def columns_of(lines: Iterable[dict[str, Any]]) -> list[tuple[str, float]]:
    """(regime, schedule) of every cell of the headline, the decisive ones first."""
    keys = list(dict.fromkeys(key for line in lines for key in line["cells"]))
    return [key for key in ORDER if key in keys] + [key for key in keys if key not in ORDER]


def text(datasets: list[Dataset]) -> str:
    """The headline table for a terminal: mIoU in percent, gains in points."""
    tables = {data.facts["title"]: headline(data) for data in datasets}
    keys = columns_of(line for lines in tables.values() for line in lines)
    rows = [["mIoU [%], gains [points]", "over real, 2x", "over real, 1x", *(name_of(*key) for key in keys), "seeds"]]
    for title, lines in tables.items():
        for line in lines:
            gains = [line[key]["text"] if line[key] else "–" for key in ("gain_2x", "gain")]
            cells = [", ".join(cell["text"] for cell in line["cells"].get(key, [])) or "not run" for key in keys]
            rows.append([f"{title}, {line['name']}", *gains, *cells, str(line["seeds"])])
    return "\n".join(lines_of(rows))


def dumbbell_table(datasets: list[Dataset], lines: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """The headline as charts.dumbbells takes it."""
    rows = []
    for data in datasets:
        for line in lines[data.id]:
            common = {"title": data.facts["title"], "row": line["name"]}
            common |= {f"authors_{key}": line["authors"][key] for key in ("real", "joint")}
            for (regime, schedule), cells in line["cells"].items():
                for cell in cells:
                    rows.append(common | {"regime": regime, "schedule": schedule, "mIoU": float(cell["text"])})
    return pd.DataFrame(rows)


def verdict(data: Dataset, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a data set's sentence: the compared pair, its gains, and how many models agree."""
    row = data.row(data.facts["improved"])
    own = [line for line in lines if line["gain_2x"] and line["set"] == row.synthetic_set]
    return {
        "title": data.facts["title"],
        "model": row.model,
        "miou": f"{row.mIoU:.2f}",
        "id": card_id(data.id, data.facts["improved"]),
        "gain": gain_cell(row, "gain_over_real"),
        "gain_2x": gain_cell(row, "gain_over_real_2x"),
        "test": _number(row.get("test_mIoU", math.nan), "{:.2f}"),
        "test_gain": _number(row.get("test_gain_over_real", math.nan), "{:+.2f}"),
        "seeds": int(row.seeds),
        "images": data.runs[data.facts["improved"]][0].metrics.get("images"),
        "models": len(own),
        "better": sum(line["gain_2x"]["value"] > 0 for line in own),
        "mean": f"{np.mean([line['gain_2x']['value'] for line in own]):+.2f}" if own else "",
    }


def provenance(datasets: list[Dataset]) -> dict[str, list[str]]:
    """Commits, cards and days of all trainings, each once, as they recorded them."""
    runs = [run for data in datasets for name in data.miou.experiment for run in data.runs[name]]
    days = sorted({day for run in runs for day in run.dates})
    return {
        "commits": list(dict.fromkeys(commit for run in runs for commit in run.commits)),
        "devices": list(dict.fromkeys(device for run in runs for device in run.devices)),
        "days": [days[0], days[-1]] if len(days) > 1 else days,
    }
