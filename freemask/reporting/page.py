"""One page for people: the results of all data sets in one HTML file that needs no other file and no network."""

from typing import Any

import pandas as pd

from freemask.files import own_id
from freemask.reporting import charts, gallery
from freemask.reporting.comparisons import ablation_panels, class_table, confusions, entry_of
from freemask.reporting.headline import columns_of, dumbbell_table, headline, provenance, verdict
from freemask.reporting.layout import name_of
from freemask.reporting.pictures import template
from freemask.reporting.recorded import Dataset, card_id
from freemask.reporting.reported import reported_logs
from freemask.tables import read_table

LOST = 5  # classes with the largest losses in the chart of gains


def training_curves(data: Dataset) -> charts.Curves:
    """Smoothed loss and validations of every training that left curves; see charts.curves."""
    found: charts.Curves = {}
    for row in data.experiments[data.experiments.study == "main"].itertuples():
        for run in data.runs[row.experiment]:
            work = data.training(row.experiment, run.seed) / "work"
            if any(work.glob("*/vis_data/scalars.json")):  # not imported
                charts.add_curves(found, row.model, (row.regime, row.schedule), row.experiment, work)
    return found


def cost_rows(data: Dataset, reported: dict[str, Any]) -> list[dict[str, Any]]:
    """Hours and GPU hours of each experiment, and the authors' of joint training.

    Args:
        data: The data set.
        reported: Content of the file of the authors' numbers.
    """
    table = data.table("cost.tsv", ["experiment", "model", "regime", "schedule", "hours", "gpu_hours"])
    logs = reported_logs(reported, data.id)
    compared = set(data.miou.experiment[data.miou.get("reported_gain", pd.Series(dtype=float)).notna()])
    rows = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        theirs = logs.get(row["model"], {}) if row["experiment"] in compared else {}
        rows.append(row | {
            "what": data.what(row["experiment"]), "id": card_id(data.id, row["experiment"]),
            "authors_hours": theirs.get("hours"), "authors_gpu_hours": theirs.get("gpu_hours"),
        })  # fmt: skip
    return rows


def image_rows(data: Dataset, reported: dict[str, Any]) -> list[dict[str, Any]]:
    """Images of each synthetic set of the main experiments, and what they cost at the authors' speed [V100 hours]."""
    seconds = reported.get("cost", {}).get("seconds_per_image_v100")
    rows = []
    for name in dict.fromkeys(data.miou.synthetic_set[data.miou.synthetic_set != ""]):
        shown = read_table(data.folder / "synthetic" / name / "train.tsv", ["mask_id"], only=True)
        images = len(shown)
        rows.append({"name": name, "images": images, "masks": shown.mask_id.nunique(), **data.facts["sets"][name],
                     "authors_hours": images * seconds / 3600 if seconds else None})  # fmt: skip
    return rows


def sections(data: Dataset, reported: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template shows of one data set."""
    name, title = data.id, data.facts["title"]
    panels, listed = ablation_panels(data)
    classes = class_table(data)
    known, top = classes[classes.gain.notna()], data.facts["top"]
    ends = known if len(known) <= top + LOST else pd.concat([known.head(top), known.tail(LOST)])
    over = data.what(data.control)
    trained = training_curves(data)
    lines = {
        data.what(one): (entry_of(data, one)["mIoU"], charts.REGIME_COLORS[key])
        for one, key in ((data.facts["baseline"], ("real", 1)), (data.facts["control"], ("real", 2))) if one
    }  # fmt: skip

    def curves(value: str) -> str:
        found = {key: row for key, row in trained.items() if key[1] == value}
        return drawn(value, charts.curves(found), f"Training, {value}") if found else ""

    def drawn(kind: str, figure: Any, what: str) -> str:
        return charts.svg(figure, f"{kind}-{name}", f"{what}, {title}")

    return {
        "data": data, "own_id": own_id(name), "facts": data.facts, "title": title, "over": over,
        "headline": headline(data),
        "warnings": data.table("warnings.tsv", ["of", "warning"]).to_dict("records"),
        "ablations": listed,
        "ablation_chart": drawn("ablations", charts.ablations(panels, lines), "Ablations") if panels else "",
        "classes": classes.astype(object).where(classes.notna(), None).to_dict("records"),
        "absent": classes.name[classes.gain.isna()].tolist(),
        "pixels": int(classes.pixels.sum()),
        "gains_chart": drawn("gains", charts.gains(ends, over), "Classes that gain and lose most"),
        "frequency_chart": drawn("frequency", charts.gain_and_frequency(known, over), "Gain against frequency"),
        "confusions": confusions(data),
        "synthetic": gallery.synthetic_rows(data.folder, data.facts["contact_sheet"], data.label_space),
        "predictions": prediction_rows(data),
        "loss_chart": curves("loss"),
        "validation_chart": curves("mIoU"),
        "cost": cost_rows(data, reported),
        "images": image_rows(data, reported),
        "cards": [card(data, row) for row in data.experiments.to_dict("records")],
    }  # fmt: skip


def prediction_rows(data: Dataset) -> list[gallery.Row]:
    """Rows of predictions of the control and the improved segmentor; [] if one of them left none."""
    numbers = range(1, data.facts["pictures"] + 1)
    if not numbers:
        return []
    folders = {one: data.training(one, data.facts["train_seed"]) for one in (data.control, data.facts["improved"])}
    sides = {one: [folder / f"predictions/{place}.png" for place in numbers] for one, folder in folders.items()}
    return gallery.prediction_rows(data.folder / "index/val.tsv", sides, data.label_space)


def card(data: Dataset, row: dict[str, Any]) -> dict[str, Any]:
    """The run card of an experiment: its row of the table, its set, and each training."""
    name = row["experiment"]
    return {
        "id": card_id(data.id, name),
        "experiment": name,
        "what": data.what(name),
        "row": {key: value for key, value in row.items() if key != "train_seeds" and value != ""},
        "set": data.facts["sets"].get(row["synthetic_set"], {}),
        "runs": data.runs[name],
        "mIoU": entry_of(data, name)["text"],
    }


def render(datasets: list[Dataset], reported: dict[str, Any]) -> str:
    """The page.

    Args:
        datasets: In the order of the page.
        reported: Content of the file of the authors' numbers.
    """
    shown = [sections(data, reported) for data in datasets]
    lines = {one["data"].id: one["headline"] for one in shown}
    columns = columns_of(line for rows in lines.values() for line in rows)
    chart = charts.svg(charts.dumbbells(dumbbell_table(datasets, lines)), "headline", "mIoU of each model and regime")
    return template("page.html").render(
        shown=shown,
        verdicts=[verdict(one["data"], one["headline"]) for one in shown],
        provenance=provenance(datasets),
        columns=columns,
        name_of=name_of,
        colors=charts.regime_colors(columns),
        chart=chart,
        authors=any(not pd.isna(line["authors"]["joint"]) for rows in lines.values() for line in rows),
        synthetic_only=reported.get("synthetic_only", {}),
        isnan=pd.isna,
    )
