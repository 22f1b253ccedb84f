"""`snakemake evidence` on a finished run: no training, a page with its tables and figures."""

import pandas as pd
import pytest
import tiny_run
from tiny_run import planned, rules, snakemake

ADVICE = {"Train jointly.": "above", "Don't.": "below", "Toss a coin.": "open"}  # and the results that support it


@pytest.mark.slow
def test_questions_to_a_finished_run(rerun):
    """An arm that isn't in the table is said to be not run."""
    asked = tiny_run.read_yaml(rerun / "config/evidence.yaml")["evidence"]
    asked |= {"classes": ["joint", "real"], "judge": "real", "sheets": ["filtered"], "another_world": None}
    asked["questions"] = {
        "gain": {"question": "Does it gain?", "differences": [["joint", "real", "above"], ["later", "real"]]}
    }
    asked["advice"] = [{"text": text, "difference": ["joint", "real", wanted]} for text, wanted in ADVICE.items()]
    tiny_run.change(rerun / tiny_run.CONFIG, "evidence", value=asked)
    done = rules(planned(snakemake(rerun, "evidence")))
    assert done == dict.fromkeys(("evidence", "filter_kinds", "generator_quality", "write_evidence"), 1)
    folder = rerun / "results/miniworld/evidence"
    page, table = (folder / "evidence.md").read_text(), pd.read_csv(folder / "differences.tsv", sep="\t")
    assert "## Does it gain?" in page and "| later | real | 0 |  | not run |  |" in page
    result = table.result[0]
    for text, wanted in ADVICE.items():
        line = next(line for line in page.splitlines() if line.startswith(f"- {text} (joint over real: "))
        assert line.endswith("**Not supported.**") == (wanted != result)
    assert "{{" not in page and "nother world |" not in page
    assert all((folder / path).stat().st_size > 1000 for path in ("gain.png", "kinds/filtered.png"))
    assert table.result.tolist()[1] == "not run" and table.seeds.tolist() == [1, 0]
    kinds = pd.read_csv(folder / "kinds/filtered.tsv", sep="\t")
    shares = pd.read_csv(rerun / "results/miniworld/synthetic/filtered/classes.tsv", sep="\t")
    assert kinds.filtered.sum() == shares.filtered.sum() and kinds.pixels.sum() == shares.pixels.sum()
    quality = pd.read_csv(folder / "quality.tsv", sep="\t").set_index("generator")
    assert quality.images.to_dict() == {"real images": 4, "miniature": len(planned_images(rerun))}
    assert "Nothing to be done" in snakemake(rerun, "-n", "evidence")

    other = table.assign(difference=-300.0, low=-400.0, high=-200.0, result=["below", "not run"])
    other.to_csv(rerun / "other.tsv", sep="\t", index=False)
    tiny_run.change(rerun / tiny_run.CONFIG, "evidence", "another_world", value="other.tsv")
    assert rules(planned(snakemake(rerun, "evidence"))) == {"evidence": 1, "write_evidence": 1}
    lines = (folder / "evidence.md").read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("| arm |"))
    answers = lines[first : first + 4]
    assert [line.count("|") for line in answers] == [9] * 4
    assert "| -300.00 [-400.00, -200.00] below<br>rare " in answers[2] and answers[2].endswith(" | above |")
    assert answers[3].endswith("| not run | not run | not run |  |")
    doubted = [line.split(" (")[0] for line in lines if line.endswith(", both worlds) **Not supported.**")]
    assert doubted == ["- Train jointly.", "- Toss a coin."]


def planned_images(folder) -> pd.DataFrame:
    """Rows of the plan."""
    return pd.read_csv(folder / "results/miniworld/plans/hardness-2.tsv", sep="\t")
