"""Result tables for people: Markdown for the README, LaTeX (booktabs) for a paper, HTML for the report."""

import math
from html import escape

import pandas as pd

from freemask.reporting.results import REGIMES

NOTE = (
    "mIoU in percent on the validation set, {how}; mean ± sample standard deviation over train seeds (a number"
    " alone: one seed). Rare: mean IoU of the quarter of the classes with the fewest training pixels. Gains are points"
    " of mIoU, paired by train seed, over the same model trained on real images only for its normal schedule (1x) and"
    " for twice that schedule (2x). Bold: the best of a model. Checkpoint: of which one a row's numbers and gains are,"
    " the training's last or its best."
)
NOTE_BEST = (
    " Best: mIoU of the checkpoint that had the highest single-scale mIoU on these same images during training, so"
    " it flatters; gains don't use it."
)
NOTE_IMPORTED = (
    " Imported: not trained here, a public checkpoint that was evaluated here; imported log: what the log of a run says"
    " of its evaluation at the end (last) or of that with its highest mIoU (best)."
)
TEXT, MIOU = 5, 6  # so many columns of text come first; the column of mIoU
NOTE_REPORTED = " Authors: what the FreeMask paper reports for this model; their gain is over real images at 1x."


def number(mean: float, std: float = math.nan, sign: bool = False) -> str:
    """'45.21 ± 0.30', '45.21' without a deviation, '–' without a mean; with a plus sign for gains."""
    if math.isnan(mean):
        return "–"
    text = f"{mean:+.2f}" if sign else f"{mean:.2f}"
    return text if math.isnan(std) else f"{text} ± {std:.2f}"


def note(header: list[str], rows: list[list[str]], how: str) -> str:
    """What the columns mean; `how`: the evaluation, e.g. single scale."""
    text = NOTE.format(how=how) + (NOTE_BEST if "Best" in header else "")
    text += NOTE_IMPORTED if any("imported" in row[header.index("Checkpoint")] for row in rows) else ""
    return text + (NOTE_REPORTED if "Authors" in header else "")


def cells(summary: pd.DataFrame) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows of text, and the numbers of the rows that are a model's best.

    The column Best and the authors' are there only if one of their numbers is known.
    """
    header = ["Model", "Images", "Schedule", "Synthetic set", "Checkpoint", "Seeds", "mIoU"]
    validated = summary.best_mIoU.notna().any()
    header += [*(["Best"] if validated else []), "Rare", "over real 1x", "over real 2x"]
    reported = "reported_mIoU" in summary and summary.reported_mIoU.notna().any()
    if reported:
        header += ["Authors", "Authors' gain"]
    rows = []
    for row in summary.itertuples():
        images = REGIMES.get(row.regime, row.regime) + (", repeated" if row.balance == "repeat" else "")
        line = [row.model, images, f"{row.schedule:g}x", row.synthetic_set or "–"]
        line += [row.checkpoint, str(row.seeds), number(row.mIoU, row.mIoU_std)]
        line += [number(row.best_mIoU, row.best_mIoU_std)] if validated else []
        line += [number(row.rare_mIoU, row.rare_mIoU_std)]
        line += [number(row.gain_over_real, row.gain_over_real_std, sign=True)]
        line += [number(row.gain_over_real_2x, row.gain_over_real_2x_std, sign=True)]
        if reported:
            line += [number(row.reported_mIoU), number(row.reported_gain, sign=True)]
        rows.append(line)
    best = summary.reset_index(drop=True).groupby("model").mIoU.idxmax().tolist()
    return header, rows, best


def markdown(summary: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table as Markdown, with a note on its columns."""
    header, rows, best = cells(summary)
    for row in best:
        rows[row][MIOU] = f"**{rows[row][MIOU]}**"
    aligned = ["---"] * TEXT + ["---:"] * (len(header) - TEXT)
    lines = ["| " + " | ".join(line) + " |" for line in [header, aligned, *rows]]
    return f"## {title}\n\n" + "\n".join(lines) + f"\n\n{note(header, rows, how)}\n"


def latex(summary: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table as a LaTeX table (needs the package booktabs)."""
    header, rows, best = cells(summary)
    rows = [[_latex(cell) for cell in row] for row in rows]
    for row in best:
        rows[row][MIOU] = r"\textbf{" + rows[row][MIOU] + "}"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(title)}. {_latex(note(header, rows, how))}}}"]
    lines += [r"\begin{tabular}{" + "l" * TEXT + "r" * (len(header) - TEXT) + "}", r"\toprule"]
    lines += [" & ".join(_latex(cell) for cell in header) + r" \\", r"\midrule"]
    for position, row in enumerate(rows):
        if position and row[0] != rows[position - 1][0]:
            lines.append(r"\midrule")
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def page(summary: pd.DataFrame, per_class: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table and the IoU of every class as one HTML page that needs no other file."""
    header, rows, best = cells(summary)
    marked = [[escape(cell) for cell in row] for row in rows]
    for row in best:
        marked[row][MIOU] = f"<b>{marked[row][MIOU]}</b>"
    names, values = per_class["name"], per_class.drop(columns=["label", "name"])
    classes = [
        [escape(name), *map(number, row)] for name, row in zip(names, values.itertuples(index=False), strict=True)
    ]
    return PAGE.format(
        title=escape(title),
        table=html_table(header, marked),
        note=escape(note(header, rows, how)),
        per_class=html_table(["Class", *map(escape, values.columns)], classes),
    )


HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px sans-serif; color: #222; background: #fff; margin: 2em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ padding: 0.35em 0.8em; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
p {{ max-width: 60em; color: #555; }}
</style></head><body>
<h1>{title}</h1>
{table}
<p>{note}</p>
"""
SIMPLE_PAGE = HEAD + "</body></html>\n"
PAGE = (
    HEAD
    + """<h2>IoU of each class [%], mean over train seeds</h2>
{per_class}
</body></html>
"""
)


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """A table as HTML; cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _latex(text: str) -> str:
    for character, replacement in (
        ("\\", r"\textbackslash "), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#"), ("±", r"$\pm$"), ("–", "--")
    ):  # fmt: skip
        text = text.replace(character, replacement)
    return text
