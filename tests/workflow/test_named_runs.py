"""Two configurations over one data set: nothing overwrites the other's results, and images are shared."""

import re

import pytest
import tiny_run
from tiny_run import hashes, planned, rules, snakemake, stamps

from freemask.files import own_id

IMAGES = "results/miniworld/synthesis/miniature/images/*/*.jpg"


def test_an_id_without_its_run():
    assert (own_id("camvid@b"), own_id("camvid")) == ("camvid", "camvid")


def test_every_output_of_a_named_run_is_its_own(fresh):
    config = tiny_run.read_yaml(fresh / tiny_run.CONFIG)
    tiny_run.write_yaml(fresh / "config/b.yaml", config | {"run": "b"})
    printed = snakemake(fresh, "-n", config="config/b.yaml")
    outputs = re.findall(r"^    output: (.*)$", printed, flags=re.MULTILINE)
    paths = [path for line in outputs for path in line.split(", ")]
    assert paths and all(path.startswith(("results/miniworld@b/", "results/report@b/")) for path in paths)
    assert rules(planned(snakemake(fresh, "-n"))) == rules(planned(printed))


@pytest.mark.slow
def test_a_named_run_with_another_plan_makes_the_missing_images_only(rerun):
    """Its scorer is the first run's, imported; a larger plan adds images to the shared folder."""
    before, images = hashes(rerun), stamps(rerun, IMAGES)
    config = tiny_run.read_yaml(rerun / tiny_run.CONFIG) | {"run": "b"}
    config["plans"]["hardness-2"]["n_max"] = 4
    config["imported"] = {
        "miniworld": {"real": {0: {"checkpoint": "results/miniworld/training/real/seed-0/weights.pth"}}}
    }
    tiny_run.write_yaml(rerun / "config/b.yaml", config)
    done = rules(planned(snakemake(rerun, "--until", "synthesize", config="config/b.yaml")))
    assert "train" not in done and done["synthesize"] == 2
    after = stamps(rerun, IMAGES)
    assert {path: after[path] for path in images} == images and len(after) > len(images)
    first = {path: digest for path, digest in hashes(rerun).items() if path in before}
    assert first == before
    assert "Nothing to be done" in snakemake(rerun, "-n")
