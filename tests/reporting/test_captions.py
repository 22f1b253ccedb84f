"""Captions of the report are valid reStructuredText; those of figures come from their scripts' docstrings."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pytest
from command_line import FOLDER, load

from freemask.workflow.figures import read_figure

REPORT = Path(__file__).resolve().parents[2] / "report"
CAPTIONS = sorted(REPORT.glob("*.rst"))
FIGURES = sorted(path.stem for path in FOLDER.glob("plot_*.py"))


def render(path: Path, caption: str = "any") -> str:
    """The caption's HTML, as Snakemake's report makes it."""
    job = SimpleNamespace(wildcards=SimpleNamespace(dataset="ade20k"), params=SimpleNamespace(caption=caption))
    text = jinja2.Template(path.read_text(), undefined=jinja2.StrictUndefined).render(snakemake=job)
    return docutils.core.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_caption_renders(path):
    html = render(path)
    assert "<p>" in html
    if path.stem in ("miou", "per_class_iou", "most_improved_table", "figure"):
        assert "ade20k" in html


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_caption_is_the_first_paragraph_of_its_docstring(name):
    function = getattr(load(name), name)
    figure = read_figure(FOLDER / f"{name}.py", inspect.signature(function).parameters)
    assert inspect.getdoc(function).startswith(figure.caption + "\n\nArgs:")
    assert "<p><strong>ade20k</strong>: " in render(REPORT / "figure.rst", figure.caption)
