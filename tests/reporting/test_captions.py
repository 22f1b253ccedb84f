"""The report's captions are valid reStructuredText and name no wildcard that a rule couldn't have."""

from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pytest

CAPTIONS = sorted((Path(__file__).resolve().parents[2] / "report").glob("*.rst"))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_caption_renders(path):
    job = SimpleNamespace(wildcards=SimpleNamespace(dataset="ade20k"))
    text = jinja2.Template(path.read_text(), undefined=jinja2.StrictUndefined).render(snakemake=job)
    html = docutils.core.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
    assert "<p>" in html
    if path.stem in ("miou", "per_class_iou", "most_improved", "most_improved_table", "contact_sheet"):
        assert "ade20k" in html
