"""Every kind of plug-in at once, from a user's folder: the checkout isn't touched, and the chain runs to its end.

A strategy, a generator, a diffusion sampler, a filter rule, a regime, a sampler of training pairs, a model, a data set
and a figure, each a name in the user's configuration or one new file. The stages' own tests look at each kind closer.
"""

import json
import re

import pandas as pd
import pytest
import tiny_run
from tiny_run import ROOT, change, read_yaml, snakemake, write_yaml

pytestmark = pytest.mark.slow
TOYS = '''"""One plug-in of each kind."""

import numpy as np

from freemask.generation.freestyle.generator import FreestyleGenerator
from freemask.segmentation.samplers import PositionSampler


def two_for_the_hardest(masks, n_max):
    return np.where(masks.rank == len(masks.rank), 2, 1)


class Negative(FreestyleGenerator):
    """FreestyleNet's images with inverted colours."""

    def generate(self, prepared):
        return 255 - super().generate(prepared)


def left_half(scored):
    """Ignores the right half of every mask."""
    columns = np.arange(scored.mask.shape[1])
    return np.where(columns < scored.mask.shape[1] // 2, scored.mask, np.uint8(scored.ignored))


class InOrder(PositionSampler):
    """All pairs in the order of their tables."""

    def pair(self, position):
        return position % sum(self.sizes)
'''
REGIME = '''"""A regime: Snakemake and the tables read it, where there is no torch."""

from freemask.segmentation.regimes import Regime

BOTH = Regime("both, in order", real=True, synthetic=True, sampler="toys:InOrder")
'''
FIGURE = '''"""A toy."""

from pathlib import Path

from freemask import cli
from freemask.reporting.figures import new_figure, save


def plot_words(*, label_space: Path, figures: list[Path]) -> None:
    """Nothing to see.

    Args:
        label_space: The data set's label space.
        figures: Outputs.
    """
    save(new_figure(2, 2), figures)


if __name__ == "__main__":
    cli.run(plot_words)
'''
ROWS = [("real", "real", ""), ("both", "toy_regimes:BOTH", "halved")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder after a run with the toys."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "toys.py").write_text(TOYS)
    (folder / "toy_regimes.py").write_text(REGIME)
    (folder / "plot_words.py").write_text(FIGURE)
    (folder / "config/datasets").mkdir(parents=True)
    facts = read_yaml(ROOT / "config/datasets/miniworld.yaml") | {"title": "Toy", "root": "data/toy"}
    write_yaml(folder / "config/datasets/toyworld.yaml", facts | {"miniworld": tiny_run.WORLD})
    model = read_yaml(ROOT / "config/models.yaml")["segformer_mini"]
    model |= {"iterations": {"toyworld": 4}, "batch_size": 2}
    write_yaml(folder / "models.yaml", {"toy_model": model})
    lines = ["experiment\tdataset\tmodel\tregime\tschedule\tsynthetic_set\ttrain_seeds"]
    lines += [f"{name}\ttoyworld\ttoy_model\t{regime}\t1\t{chosen}\t0" for name, regime, chosen in ROWS]
    (folder / "experiments.tsv").write_text("\n".join(lines) + "\n")
    text = (ROOT / "config/demo.yaml").read_text().replace("miniworld", "toyworld")
    (folder / "run.yaml").write_text(text)
    for keys, value in {
        ("experiments",): "experiments.tsv",
        ("models",): "models.yaml",
        ("plans",): {"toy": {"strategy": "toys:two_for_the_hardest", "n_max": 2, "first_seed": 42}},
        ("synthetic_sets",): {"halved": {"dataset": "toyworld", "generator": "miniature", "plan": "toy", "alpha": 1.0,
                                         "filter": "toys:left_half"}},
        ("generators", "miniature", "method"): "toys:Negative",
        ("generators", "miniature", "scheduler"): "diffusers:EulerDiscreteScheduler",
        ("generators", "miniature", "steps"): 2,
        ("report", "toyworld"): {"baseline": "real", "improved": "both", "contact_sheet": "halved"},
        ("figures",): ["plot_words.py"],
    }.items():  # fmt: skip
        change(folder / "run.yaml", *keys, value=value)
    snakemake(folder, "-s", f"{ROOT}/Snakefile", config="run.yaml", timeout=1800)
    return folder


def test_the_strategy_plans(folder):
    plan = pd.read_csv(folder / "results/toyworld/plans/toy.tsv", sep="\t")
    assert sorted(plan.groupby("mask_id").size()) == [1] * (tiny_run.WORLD["training"] - 1) + [2]


def test_the_generator_and_its_scheduler_make_the_images(folder):
    settings = json.loads((folder / "results/toyworld/synthesis/miniature/images/settings.json").read_text())
    assert settings["scheduler"] == "diffusers:EulerDiscreteScheduler"
    assert "toys:Negative" in settings.values()
    assert len(list(folder.glob("results/toyworld/synthesis/miniature/images/*/*.jpg"))) == 7


def test_the_filter_ignores_the_right_half(folder):
    shares = pd.read_csv(folder / "results/toyworld/synthetic/halved/classes.tsv", sep="\t")
    assert 0.2 < shares.filtered.sum() / shares.pixels.sum() < 0.8
    table = pd.read_csv(folder / "results/toyworld/synthetic/halved/train.tsv", sep="\t")
    assert set(table["filter"]) == {"toys:left_half"} and set(table.alpha) == {1.0}


def test_the_regime_trains_with_its_sampler_and_has_its_title(folder):
    config = (folder / "results/toyworld/training/both/seed-0/config.py").read_text()
    assert "toys.InOrder" in config
    lists = re.search(r"'lists': \[([^\]]*)\]", config)[1]
    assert "index/train.tsv" in lists and "synthetic/halved/train.tsv" in lists
    table = (folder / "results/toyworld/tables/miou.md").read_text()
    assert "| toy_model | both, in order | 1x | halved |" in table


def test_the_figure_is_drawn(folder):
    assert (folder / "results/toyworld/figures/words.png").stat().st_size > 0


def test_a_change_of_a_toy_reruns_what_it_makes(folder):
    path = folder / "toys.py"
    before = path.read_text()
    path.write_text(before.replace("// 2, scored.mask", "// 3, scored.mask"))
    jobs = tiny_run.rules(tiny_run.planned(snakemake(folder, "-n", "-s", f"{ROOT}/Snakefile", config="run.yaml")))
    path.write_text(before)
    assert {"filter_masks", "plan_synthesis", "synthetic_set"} <= set(jobs)  # the module holds both plug-ins
    assert "real" not in str(jobs.get("train"))
