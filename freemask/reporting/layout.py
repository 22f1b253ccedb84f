"""Result tables for people: Markdown for the README, LaTeX (booktabs) for a paper, HTML for the report."""

import math
import re
from html import escape

import pandas as pd

from freemask.segmentation.regimes import find_regime

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
NOTE_TEST = (
    " Test: mIoU of the row's checkpoint on the test split, on which nothing was chosen, and its gain over real images"
    " at 1x there: the numbers to report. Best, test: of the checkpoint that was best in the validations."
)
NOTE_IMPORTED = (
    " Imported: not trained here, a public checkpoint that was evaluated here; imported log: what the log of a run says"
    " of its evaluation at the end (last) or of that with its highest mIoU (best)."
)
NOTE_REPORTED = " Authors: what the FreeMask paper reports for this model; their gain is over real images at 1x."
TEXT = 5  # number of text columns, which come first

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px sans-serif; color: #222; background: #fff; margin: 2em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ padding: 0.35em 0.8em; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
p {{ max-width: 60em; color: #555; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def number(mean: float, std: float = math.nan, sign: bool = False) -> str:
    """'45.21 ± 0.30', '45.21' without a deviation, '–' without a mean; with a plus sign for gains."""
    if math.isnan(mean):
        return "–"
    text = f"{mean:+.2f}" if sign else f"{mean:.2f}"
    return text if math.isnan(std) else f"{text} ± {std:.2f}"


def images(regime: str, balance: str = "exact") -> str:
    """What an experiment is trained on, e.g. 'real + synthetic, repeated'."""
    return find_regime(regime).title + (", repeated" if balance == "repeat" else "")


def cells(summary: pd.DataFrame, bold: str = "{}") -> pd.DataFrame:
    """The mIoU table as text; the column Best and the authors' only if one of their numbers is known.

    Args:
        summary: Made by results.summarize.
        bold: Marks a model's best mIoU, e.g. "**{}**".
    """

    def numbers(key: str, sign: bool = False) -> list[str]:
        deviations = summary.get(f"{key}_std", pd.Series(math.nan, summary.index))
        return [number(mean, std, sign) for mean, std in zip(summary[key], deviations, strict=True)]

    columns = {
        "Model": summary.model,
        "Images": list(map(images, summary.regime, summary.balance)),
        "Schedule": summary.schedule.map("{:g}x".format),
        "Synthetic set": summary.synthetic_set.replace("", "–"),
        "Checkpoint": summary.checkpoint,
        "Seeds": summary.seeds.map(str),
        "mIoU": numbers("mIoU"),
    }
    if summary.best_mIoU.notna().any():
        columns["Best"] = numbers("best_mIoU")
    if "test_mIoU" in summary:
        columns["Test"] = numbers("test_mIoU")
        columns["Test, over real 1x"] = numbers("test_gain_over_real", sign=True)
        if summary.best_test_mIoU.notna().any():
            columns["Best, test"] = numbers("best_test_mIoU")
    columns["Rare"] = numbers("rare_mIoU")
    columns["over real 1x"] = numbers("gain_over_real", sign=True)
    columns["over real 2x"] = numbers("gain_over_real_2x", sign=True)
    if "reported_mIoU" in summary and summary.reported_mIoU.notna().any():
        columns["Authors"] = numbers("reported_mIoU")
        columns["Authors' gain"] = numbers("reported_gain", sign=True)
    table = pd.DataFrame(columns)
    best = summary.groupby("model").mIoU.idxmax()
    table.loc[best, "mIoU"] = table.mIoU[best].map(bold.format)
    return table


def note(table: pd.DataFrame, how: str) -> str:
    """What the columns of a table of text mean.

    Args:
        table: Made by `cells`.
        how: The evaluation, e.g. single scale.
    """
    text = NOTE.format(how=how) + (NOTE_BEST if "Best" in table else "")
    text += NOTE_TEST if "Test" in table else ""
    text += NOTE_IMPORTED if table.Checkpoint.str.contains("imported").any() else ""
    return text + (NOTE_REPORTED if "Authors" in table else "")


def markdown(summary: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table as Markdown, with a note on its columns."""
    table = cells(summary, bold="**{}**")
    aligned = ["---"] * TEXT + ["---:"] * (len(table.columns) - TEXT)
    lines = ["| " + " | ".join(line) + " |" for line in [table.columns, aligned, *table.to_numpy()]]
    return f"## {title}\n\n" + "\n".join(lines) + f"\n\n{note(table, how)}\n"


def latex(summary: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table as a LaTeX table (needs the package booktabs)."""
    table = cells(summary, bold=r"\textbf{{{}}}")
    align = "l" * TEXT + "r" * (len(table.columns) - TEXT)
    caption = _latex(f"{title}. {note(table, how)}")
    styled = table.map(_latex).rename(columns=_latex).style.hide(axis="index")
    return styled.to_latex(hrules=True, position_float="centering", column_format=align, caption=caption)


def _latex(text: str) -> str:
    return re.sub(r"([_%&#])", r"\\\1", text).replace("±", r"$\pm$").replace("–", "--")


def page(summary: pd.DataFrame, per_class: pd.DataFrame, title: str, how: str = "single scale") -> str:
    """The mIoU table and the IoU of every class as one HTML page that needs no other file."""
    table = cells(summary, bold="<b>{}</b>")
    parts = [
        html_table(table),
        f"<p>{escape(note(table, how))}</p>",
        "<h2>IoU of each class [%], mean over train seeds</h2>",
        html_table(per_class.drop(columns="label").rename(columns={"name": "Class"})),
    ]
    return PAGE.format(title=escape(title), body="\n".join(parts))


def html_table(table: pd.DataFrame) -> str:
    """A table as HTML; <b> in a cell is kept."""
    with pd.option_context("display.max_colwidth", None):
        text = table.to_html(index=False, border=0, float_format=number, na_rep="–")
    return text.replace("&lt;b&gt;", "<b>").replace("&lt;/b&gt;", "</b>")
