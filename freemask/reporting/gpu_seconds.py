"""GPU seconds of a run's jobs: those of the run's own jobs that are done, else a card's, else the authors'.

`Done` reads times below results/ and logs/, `Card` what benchmarks/gpu.sh measured, `Paper` the authors' figures on
V100s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from freemask.files import own_id, read_json
from freemask.segmentation.outputs import read_segments
from freemask.selection.estimates import job_seconds, measured_seconds

SIDE, CALLS = 512, 51  # of the images that cards are measured with: pixels, calls of the UNet (50 steps)
WAYS = {  # how training steps are computed, each with what stands in for it where it wasn't measured
    "theirs": ("theirs",),
    "merged": ("ours-launched", "ours"),  # merged groups and fused steps
    "captured": ("ours", "ours-launched"),  # and the backbone as a CUDA graph
}
Run = dict[str, Any]  # as configured; see scripts/cost.py


@dataclass(frozen=True)
class Paper:
    """GPU seconds by the authors' figures (`read_paper`); `seconds`: of an image, seconds_per_image of the run."""

    figures: dict
    seconds: float

    @property
    def paper(self) -> "Paper":
        """Itself; a Card has the paper's figures beside its own."""
        return self

    @property
    def name(self) -> str:
        """What tables call it: the authors' card."""
        return f"{self.figures['gpu']}, authors' figures"

    def image(self, generator: dict, images: float) -> float | None:
        """GPU seconds of one image, in a job that makes so many."""
        return self.seconds

    def training(self, model: str, dataset: str, updates: int, way: str) -> float | None:
        """GPU seconds of a training, all its GPUs together, in one of WAYS; None if nothing is known of the model.

        In proportion to the authors' joint training of the model, on another data set if there is none on this.
        """
        tables = self.figures["hours"]
        for one in (own_id(dataset), *tables):
            if model in tables.get(one, {}):
                return tables[one][model] * 3600 * self.figures["gpus"] * updates / self.figures["iterations"][one]
        return None

    def scored(self) -> float | None:
        """GPU seconds to score or evaluate one image with SegFormer-B4."""
        return self.figures["seconds_per_scored_image"]


def read_paper(reported: Path, more: Path, seconds: float) -> Paper:
    """The authors' figures on V100s.

    Args:
        reported: config/reported.yaml: cost, and logs (hours of joint trainings, on ADE20K unless said). Hours on other
            numbers of GPUs than cost.training_gpus are brought to that.
        more: resources/costs/v100.yaml: what the first lacks.
        seconds: Of an image.
    """
    authors, figures = (yaml.safe_load(path.read_text()) for path in (reported, more))
    gpus = authors["cost"]["training_gpus"]
    for log in authors["logs"]:
        hours = log["hours"] * log.get("gpus", gpus) / gpus
        figures["hours"].setdefault(log.get("dataset", "ade20k"), {})[log["model"]] = hours
    return Paper(figures | {"gpus": gpus}, seconds)


@dataclass(frozen=True)
class Card:
    """GPU seconds as benchmarks/gpu.sh measured them; methods as those of Paper, None where nothing was measured.

    numbers: Content of gpu.json. steps: GPU steps of an update by model.
    """

    numbers: dict
    paper: Paper
    steps: dict[str, int]

    @property
    def name(self) -> str:
        """What tables call it: the card."""
        return self.numbers["machine"].get("gpu", "CPU")

    def image(self, generator: dict, images: float) -> float | None:
        """GPU seconds of one image, compiled where that pays for so many and the configuration doesn't forbid it."""
        eager, compiled = self.eager_and_compiled(generator)
        if eager is None or compiled is None or generator.get("compile") is False:
            return eager
        return min(eager, compiled + self.compilation / max(images, 1))

    def eager_and_compiled(self, generator: dict) -> list[float | None]:
        """GPU seconds of one image, eager and compiled, in proportion to the generator's pixels and steps."""
        scale = (generator["image_size"] / SIDE) ** 2 * (generator["steps"] + 1) / CALLS
        keys = (("eager", "image_float16_8"), ("compiled", "image_8"))
        found = [self.numbers.get(part, {}).get(key) for part, key in keys]
        return [None if one is None else one * scale for one in found]

    @property
    def compilation(self) -> float:
        """Seconds that compiling the UNet and the decoder takes."""
        found = self.numbers.get("compiled", {})
        return found.get("first_call", 0.0) + found.get("vae_first_call", 0.0)

    def training(self, model: str, dataset: str, updates: int, way: str) -> float | None:
        """From the measured rate of the model, or of a relative with the same head times the authors' ratio of both."""
        wanted = self.paper.training(model, dataset, updates, way)
        for key in WAYS[way]:
            if rate := self._rate(model, key):
                return updates * self.steps[model] / rate
            relatives = []
            for other in self.steps:
                rate, theirs = self._rate(other, key), self.paper.training(other, dataset, updates, way)
                if rate and wanted and theirs and other.partition("_")[0] == model.partition("_")[0]:
                    ratio = wanted / theirs
                    relatives.append((abs(math.log(ratio)), ratio * updates * self.steps[other] / rate))
            if relatives:
                return min(relatives)[1]
        return None

    def _rate(self, model: str, key: str) -> float | None:
        """Steps a second of one GPU."""
        return self.numbers.get(f"training_{model}", {}).get(f"{key}_iterations_a_second")

    def scored(self) -> float | None:
        """GPU seconds to score one image with SegFormer-B4, its filter included, in batches of eight with TF32."""
        found = self.numbers.get("scoring_tf32_on_batch_8", {})
        return found["seconds"] / found["images"] if "images" in found else None


Source = Paper | Card


def read_sources(
    run: Run, reported: Path, paper: Path, cards: Sequence[Path], card: str, results: Path = Path("results")
) -> tuple[Source, list[Source]]:
    """The card that a run is estimated on, and all cards, the authors' first.

    Args:
        run: What is configured.
        reported, paper: See read_paper.
        cards: Files that benchmarks/gpu.sh wrote.
        card: Type of the run's GPUs if the preflight hasn't found it; "" takes the first of cards that was measured in
            this folder, else the authors'.
        results: Folder of results.
    """
    authors = read_paper(reported, paper, run["seconds_per_image"])
    steps = {name: model["gpus"] for name, model in run["models"].items()}
    measured = [Card(read_json(path), authors, steps) for path in cards]
    checks = sorted(results.glob("*/preflight/*.json"))
    found = [read_json(path).get("gpu", "") for path in checks if path.stat().st_size]  # empty: passed by hand
    own = [one.name for path, one in zip(cards, measured, strict=True) if path.parts[0] == "build"]
    name = next((one for one in [*found, *own, card] if one), authors.figures["gpu"])
    chosen = next((one for one in measured if name.lower() in one.name.lower()), authors)
    return chosen, [authors, *measured]


@dataclass(frozen=True)
class Done:
    """Times of jobs that are done."""

    results: Path
    logs: Path

    def job(self, dataset: str, rule: str) -> float | None:
        """Mean wall time of a rule's jobs [s]."""
        folder = self.logs / dataset
        found = [*folder.glob(f"{rule}.benchmark.tsv"), *folder.glob(f"{rule}/**/*.benchmark.tsv")]
        times = [seconds for path in found if (seconds := job_seconds(path)) is not None]
        return float(np.mean(times)) if times else None

    def image(self, dataset: str, generator: str) -> float | None:
        """GPU seconds of one image."""
        found = measured_seconds(self.logs / dataset / "synthesize")
        return float(found.seconds_per_image[generator]) if generator in found.index else None

    def training(self, dataset: str, name: str) -> float | None:
        """GPU seconds of a finished training; process seconds on a CPU."""
        folder = self.results / dataset / "training" / name
        segments = read_segments(folder / "work") if (folder / "weights.pth").exists() else pd.DataFrame()
        return float((segments.seconds * segments.gpus.clip(lower=1)).sum()) if len(segments) else None
