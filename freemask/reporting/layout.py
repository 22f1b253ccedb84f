"""Tables for people: Markdown, CSV, LaTeX (booktabs), HTML, a terminal's lines; cells are text, **...** is bold."""

import math
import re
from collections.abc import Sequence
from html import escape

import pandas as pd

from freemask.reporting.intervals import IMAGES_AND_SEEDS, LEVEL, NOT_KEPT, RESAMPLES
from freemask.segmentation.regimes import find_regime

NOTE = (
    "mIoU in percent on {images}, {how}; mean ± sample standard deviation over train seeds (a number"
    " alone: one seed). Rare: mean IoU of the quarter of the classes with the fewest training pixels. Gains are points"
    " of mIoU, paired by train seed, over the same model trained on real images only for its normal schedule (1x) and"
    " for twice that schedule (2x). Bold: the best of a model, where the intervals of its gains over all other rows of"
    " the model lie above 0. Checkpoint: of which one a row's numbers and gains are, the training's last or its best."
)
NOTE_INTERVALS = " Intervals: {level:.0%}, paired bootstrap over the validation images, {resamples:,} resamples."
NOTE_SEEDS = " †: and Student's interval over train seeds, of which there are three or more."
NOTE_NOT_KEPT = (
    " Not kept: evaluated before the pixels of each image were, or imported from a log; another evaluation gives the"
    " interval."
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
BOLD = {"csv": r"\1", "tex": r"\\textbf{\1}", "html": r"<b>\1</b>"}  # of **...**
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
    text = f"{mean:+z.2f}" if sign else f"{mean:.2f}"
    return text if math.isnan(std) else f"{text} ± {std:.2f}"


def interval(low: float, high: float, over: str) -> str:
    """'[+1.20, +3.40]', with a † if it covers the chance of train seeds; why there is none, a dash without a gain."""
    if not over or over == NOT_KEPT:
        return over or "–"
    return f"[{low:+.2f}, {high:+.2f}]" + ("†" if over == IMAGES_AND_SEEDS else "")


def images(regime: str, balance: str = "exact") -> str:
    """What an experiment is trained on, e.g. 'real + synthetic, repeated'."""
    return find_regime(regime).title + (", repeated" if balance == "repeat" else "")


def name_of(regime: str, schedule: float, balance: str = "exact") -> str:
    """What a training trains on, e.g. 'real, 2x'."""
    return f"{images(regime, balance)}, {schedule:g}x"


def cells(summary: pd.DataFrame) -> pd.DataFrame:
    """The table of results.summarize as text; the mIoU of a model's clearly best row is bold.

    The columns of the best checkpoint and of the authors are there only if one of their numbers is known.
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
    for key, text in {"gain_over_real": "1x", "gain_over_real_2x": "2x"}.items():
        ends = (summary[f"{key}_{end}"] for end in ("low", "high", "interval"))
        columns[f"over real {text}"] = numbers(key, sign=True)
        columns[f"interval {text}"] = list(map(interval, *ends))
    if "reported_mIoU" in summary and summary.reported_mIoU.notna().any():
        columns["Authors"] = numbers("reported_mIoU")
        columns["Authors' gain"] = numbers("reported_gain", sign=True)
    table = pd.DataFrame(columns)
    return table.assign(mIoU=table.mIoU.mask(summary.clearly_best, "**" + table.mIoU + "**"))


def note(summary: pd.DataFrame, how: str, remarks: list[str] | None = None) -> str:
    """What the columns of a table mean, and what isn't in it.

    Args:
        summary: Made by results.summarize.
        how: The evaluation, e.g. single scale.
        remarks: Sentences for the end; "" is left out.
    """
    table = cells(summary)
    text = NOTE.format(how=how, images=validation_images(summary.images)) + note_on_intervals(table)
    text += NOTE_BEST if "Best" in table else ""
    text += NOTE_TEST if "Test" in table else ""
    text += NOTE_IMPORTED if table.Checkpoint.str.contains("imported").any() else ""
    text += NOTE_REPORTED if "Authors" in table else ""
    return text + "".join(f" {remark}" for remark in remarks or [] if remark)


def validation_images(numbers: pd.Series) -> str:
    """'the 2,000 validation images', or 'the validation images' where evaluations are of several numbers or of none."""
    known = numbers.dropna().unique()
    return f"the {known[0]:,.0f} validation images" if len(known) == 1 else "the validation images"


def note_on_intervals(table: pd.DataFrame) -> str:
    """What the intervals among a table's cells are; "" if there are none."""
    text = " ".join(table.to_numpy().ravel())
    note = NOTE_INTERVALS.format(level=LEVEL, resamples=RESAMPLES) if "[" in text else ""
    note += NOTE_SEEDS if "†" in text else ""
    return note + (NOTE_NOT_KEPT if NOT_KEPT in text else "")


BREAK = r" \\ "  # words of a heading stand below each other
NARROWED = r"""\footnotesize
\setlength{\tabcolsep}{3pt}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
"""


def _latex_table(table: pd.DataFrame, text: int, caption: str, label: str | None) -> str:
    r"""A LaTeX table over all columns of a page, narrowed to it (needs booktabs and graphicx); \textbf{} is kept."""
    align = "l" * text + "r" * (len(table.columns) - text)
    heads = {name: rf"\shortstack{{{_latex(name).replace(' ', BREAK)}}}" for name in table.columns}
    styled = table.map(_latex).rename(columns=heads).style.hide(axis="index")
    options = {"hrules": True, "position_float": "centering", "column_format": align, "caption": _latex(caption)}
    made = styled.to_latex(label=label, environment="table*", **options)
    return made.replace(r"\begin{tabular}", NARROWED + r"\begin{tabular}").replace(r"\end{tabular}", r"\end{tabular}}")


def _latex(text: str) -> str:
    return re.sub(r"([_%&#])", r"\\\1", text).replace("±", r"$\pm$").replace("–", "--").replace("†", r"$\dagger$")


def lines_of(rows: list[list[str]]) -> list[str]:
    """Rows as lines of a terminal with columns of one width; the first and a last column of text to the left."""
    padded = []
    for place, column in enumerate(zip(*rows, strict=True)):
        pad = str.ljust if place == 0 or column[0].startswith("source") else str.rjust
        padded.append([pad(cell, max(map(len, column))) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def page(title: str, *parts: str) -> str:
    """An HTML page that needs no other file, of a title (text) and parts (HTML)."""
    return PAGE.format(title=escape(title), body="\n".join(parts))


def html_table(table: pd.DataFrame) -> str:
    """A table as HTML; <b> in a cell is kept."""
    with pd.option_context("display.max_colwidth", None):
        text = table.to_html(index=False, border=0, float_format=number, na_rep="–")
    return text.replace("&lt;b&gt;", "<b>").replace("&lt;/b&gt;", "</b>")


def formats(
    table: pd.DataFrame, text: int, title: str, note: str, label: str | None = None, more: Sequence[str] = ()
) -> dict[str, str]:
    """A table of text as a file's content, by suffix: md, csv, tex (booktabs), html.

    Args:
        table: Cells; **...** is bold.
        text: Number of text columns, which come first; the others are aligned to the right.
        title: Heading.
        note: What the columns mean; not in the CSV.
        label: For LaTeX's ref.
        more: HTML that stands below the table on its page.
    """
    marked = {suffix: table.replace(r"\*\*(.*)\*\*", bold, regex=True) for suffix, bold in BOLD.items()}
    aligned = ["---"] * text + ["---:"] * (len(table.columns) - text)
    lines = ["| " + " | ".join(line) + " |\n" for line in [table.columns, aligned, *table.to_numpy()]]
    return {
        "md": f"## {title}\n\n{''.join(lines)}\n{note}\n",
        "csv": marked["csv"].to_csv(index=False, lineterminator="\n"),
        "tex": _latex_table(marked["tex"], text, f"{title}. {note}", label),
        "html": page(title, html_table(marked["html"]), f"<p>{escape(note)}</p>", *more),
    }
