"""scripts/synthesize.py with a real (random, tiny) generator: killed, cut into shards, refused, terminated."""

import faulthandler
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import load, run_script
from cyclopts import CycloptsError
from PIL import Image
from processes import FORKS
from tiny_generator import WORDS, tiny_pipeline

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.generation.shard import image_path

SCRIPTS = Path(__file__).parents[2] / "scripts"
KILLS = 10
HANGS = 120  # seconds


def run(options: dict) -> None:
    """Run the script as its command line would, with a log or in this process."""
    import torch

    from freemask import cli

    torch.set_num_threads(1)
    if "log" not in options:
        run_script("synthesize", **{key.replace("-", "_"): value for key, value in options.items()})
        return
    sys.argv = ["synthesize", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    cli.run(load("synthesize").synthesize)


class World:
    """A folder with masks, a plan of 24 images, a class table and a generator."""

    def __init__(self, folder: Path):
        self.folder = folder
        rng = np.random.default_rng(0)
        masks = []
        for number in range(8):
            blocks = np.array([0, *WORDS], np.uint8)[rng.integers(0, 5, (4, 4))]
            files.write_atomic(folder / f"masks/m{number}.png", images.png_bytes(blocks.repeat(8, 0).repeat(8, 1)))
            masks.append(f"m{number}\t{folder}/masks/m{number}.png")
        self.plan = [(f"m{number}", seed) for number in range(8) for seed in (42, 43, 44)]
        rows = {
            "masks": ["mask_id\tmask", *masks],
            "plan": ["mask_id\tseed", *(f"{name}\t{seed}" for name, seed in self.plan)],
        }
        for name, lines in rows.items():
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        words, colors = tuple(WORDS.values()), tuple((0, 0, label) for label in WORDS)
        LabelSpace(tuple(WORDS), words, words, colors, ignored=0).write(folder / "label_space.json")
        tiny_pipeline().save_pretrained(folder / "generator")

    def options(self, out: str, shard: str = "1-of-1", **changed) -> dict:
        folder, images = self.folder, self.folder / out
        chosen = {"plan": folder / "plan.tsv", "shard": shard, "masks": folder / "masks.tsv"}
        chosen |= {"label-space": folder / "label_space.json", "generator": folder / "generator" / "model_index.json"}
        chosen |= {"scheduler": "ddim", "steps": 8, "image-size": 32, "batch-size": 3, "images-dir": images / "images"}
        return chosen | {"manifest": images / f"{shard}.tsv"} | changed

    def images(self, out: str) -> dict[str, bytes]:
        root = self.folder / out / "images"
        return {path.name: path.read_bytes() for path in sorted(root.glob("*/*.jpg"), key=lambda path: path.name)}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """The world with the images of one uninterrupted run in whole/."""
    made = World(tmp_path_factory.mktemp("world"))
    run(made.options("whole"))
    return made


def run_watched(options: dict) -> None:
    """As `run`; one that hangs writes where into its log and ends with an error."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    run(options)


def start(options: dict):
    process = FORKS.Process(target=run_watched, args=(options,))
    process.start()
    return process


def made_in(logs: list[Path]) -> list[str]:
    """The images that the generator made, by the logs of all runs."""
    return [name for log in logs for name in re.findall(r" made \S+/images/\w\w/(\S+\.jpg)", log.read_text())]


def test_images_and_manifest(world):
    images = world.images("whole")
    assert list(images) == sorted(f"{name}-{seed}.jpg" for name, seed in world.plan)
    assert len(set(images.values())) == 24
    manifest = tables.read_table(world.folder / "whole" / "1-of-1.tsv", ["mask_id", "seed", "image", "sha256"])
    assert list(zip(manifest.mask_id, manifest.seed, strict=True)) == world.plan
    assert [files.sha256(path) for path in manifest.image] == manifest.sha256.tolist()
    with Image.open(manifest.image[0]) as image:
        assert image.size == (32, 32)
    settings = files.read_json(world.folder / "whole" / "images" / "settings.json")
    assert settings["guidance_scale"] == 2.0 and len(settings["weights_sha256"]) == 3


@pytest.mark.parametrize("count", [2, 5])
def test_same_bytes_however_sharded(world, count):
    """Also in another order of shards, and with batches that are cut elsewhere."""
    for number in reversed(range(1, count + 1)):
        run(world.options(f"cut{count}", f"{number}-of-{count}"))
    assert world.images(f"cut{count}") == world.images("whole")


def kill_at_random(process, log: Path, images, moments: random.Random) -> None:
    """SIGKILL while the libraries load the generator, or while images are generated and written."""
    before, awaited = len(images()), moments.choice([0, 1, 1, 2])
    while process.is_alive() and not (log.exists() and len(images()) >= before + awaited):
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.03 if awaited else 0.3))
    assert process.is_alive(), "nothing was left to do: give the plan more images"
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_killed_at_random_moments_no_image_is_made_twice(world):
    """SIGKILL ten times: every image made once (counted), none truncated, bytes of the uninterrupted run."""
    rows = [(f"m{number}", seed) for number in range(8) for seed in range(42, 51)]
    plan = world.folder / "long.tsv"
    plan.write_text("mask_id\tseed\n" + "".join(f"{name}\t{seed}\n" for name, seed in rows))
    changed, out, moments, logs = {"plan": plan, "steps": 4}, world.folder / "killed", random.Random(7), []
    written: dict[Path, int] = {}
    for number in range(KILLS + 1):
        logs.append(out / f"log{number}.txt")
        process = start(world.options("killed", log=logs[-1], **changed))
        if number < KILLS:
            kill_at_random(process, logs[-1], lambda: world.images("killed"), moments)
        for image in out.glob("images/*/*.jpg"):
            with Image.open(image) as opened:
                opened.load()
            written.setdefault(image, image.stat().st_mtime_ns)
    process.join()
    run(world.options("uninterrupted", **changed))
    made = made_in(logs)
    assert process.exitcode == 0 and len(made) == len(set(made))
    assert {image: image.stat().st_mtime_ns for image in written} == written  # none written again
    assert len(rows) - 3 * KILLS <= len(made) <= len(rows)  # killed between an image and the line that tells of it
    assert world.images("killed") == world.images("uninterrupted") and len(world.images("killed")) == len(rows)
    manifests = [(world.folder / name / "1-of-1.tsv").read_text() for name in ("killed", "uninterrupted")]
    assert manifests[0].replace("/killed/", "/uninterrupted/") == manifests[1]


def test_two_plans_at_once_make_few_images_twice(world):
    """As jobs of two plans that fill one folder, from the same moment on."""
    rows = [(f"m{number}", seed) for number in range(8) for seed in range(42, 52)]
    plan, out = world.folder / "both.tsv", world.folder / "both"
    plan.write_text("mask_id\tseed\n" + "".join(f"{name}\t{seed}\n" for name, seed in rows))
    jobs = [{"plan": plan, "log": out / f"{name}.txt", "manifest": out / f"{name}.tsv"} for name in "ab"]
    running = [start(world.options("both", **job)) for job in jobs]
    for process in running:
        process.join()
    made = made_in([job["log"] for job in jobs])
    assert [process.exitcode for process in running] == [0, 0]
    assert len(set(made)) == len(rows) <= len(made) < 1.5 * len(rows)  # 2 where both make everything
    assert (out / "a.tsv").read_bytes() == (out / "b.tsv").read_bytes()
    images = world.images("both")
    assert {name: images[name] for name in world.images("whole")} == world.images("whole")


def test_sigterm_finishes_the_batch_and_exits_with_143(world):
    out = world.folder / "terminated"
    process = start(world.options("terminated", log=out / "a.txt", steps=200))
    while process.is_alive() and not (out / "images" / "settings.json").exists():
        time.sleep(0.005)
    while process.is_alive() and not world.images("terminated"):
        time.sleep(0.005)
    process.terminate()
    process.join()
    first = made_in([out / "a.txt"])
    assert process.exitcode == 143
    assert 0 < len(first) < 24 and len(first) % 3 == 0
    assert sorted(first) == list(world.images("terminated")) and not (out / "1-of-1.tsv").exists()


def test_a_second_run_makes_nothing_and_a_longer_plan_only_what_is_new(world):
    plan = world.folder / "longer.tsv"
    plan.write_text((world.folder / "plan.tsv").read_text() + "m3\t45\nm0\t45\n")
    logs = [world.folder / "whole" / name for name in ("again.txt", "longer.txt")]
    before = world.images("whole")
    process = start(world.options("whole", log=logs[0]))
    process.join()
    assert process.exitcode == 0 and made_in(logs[:1]) == []
    process = start(world.options("whole", log=logs[1], plan=plan, manifest=world.folder / "longer-out.tsv"))
    process.join()
    assert sorted(made_in(logs[1:])) == ["m0-45.jpg", "m3-45.jpg"]
    after = world.images("whole")
    assert {name: after[name] for name in before} == before
    for name in ("m0-45.jpg", "m3-45.jpg"):
        image_path(world.folder / "whole" / "images", name[:2], 45).unlink()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"guidance-scale": 3.0}, r"guidance_scale = 2.0, now it is 3.0"),
        ({"steps": 10}, r"steps = 8, now it is 10"),
        ({"batch-size": 4}, r"batch_size = 3, now it is 4"),
        ({"jpeg-quality": 90}, r"jpeg_quality = 95, now it is 90"),
        ({"prompt-parts": json.dumps([{"text": "at night"}])}, r"prompt_parts = None, now it is"),
        ({"threads": 2}, r"cpu_threads = 1, now it is 2"),
    ],
)
def test_a_folder_of_other_settings_is_refused(world, changed, message):
    before = world.images("whole")
    with pytest.raises(InputError, match=message):
        run(world.options("whole", **changed))
    assert world.images("whole") == before


def test_other_weights_are_refused(world, tmp_path):
    tiny_pipeline(seed=1).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="weights_sha256"):
        run(world.options("whole", generator=tmp_path / "model_index.json"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scheduler": "euler"}, "scheduler 'euler' isn't known"),
        ({"method": "pix2pix"}, "generator method 'pix2pix' isn't known; use one of freestyle, controlnet, or package"),
        ({"steps": 7}, "steps = 7 doesn't divide"),
        ({"guidance-scale": 0}, "guidance_scale = 0.0"),
        ({"image-size": 64}, r"m\d\.png: 32x32 pixels, want 64x64"),
        ({"prompt-parts": json.dumps([{"text": "red", "label": 5}])}, "label 5 isn't in the class table"),
        ({"generator": "/nowhere/model_index.json"}, "no model_index.json"),
    ],
)
def test_bad_input_is_refused_before_any_image(world, changed, message):
    with pytest.raises(InputError, match=message):
        run(world.options("refused", **changed))
    assert world.images("refused") == {} and not (world.folder / "refused" / "1-of-1.tsv").exists()


@pytest.mark.parametrize("changed", [{"batch-size": 0}, {"jpeg-quality": 101}, {"threads": 0}, {"dtype": "int8"}])
def test_values_out_of_range_are_no_options(world, changed):
    with pytest.raises(CycloptsError):
        run(world.options("refused", **changed))


def test_parts_change_the_image(world):
    parts = json.dumps([{"text": "at night at night at night", "seeds": [43]}, {"text": "red", "label": 9}])
    run(world.options("parts", **{"prompt-parts": parts, "guidance-scale": 2.0}))
    whole, found = world.images("whole"), world.images("parts")
    assert all(found[f"m{number}-43.jpg"] != whole[f"m{number}-43.jpg"] for number in range(8))


def test_help_needs_no_heavy_import():
    heavy = ("torch", "diffusers", "pandas")
    code = f"import runpy, sys; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(SCRIPTS / 'synthesize.py')!r}, "
    code += f"run_name='__main__')\nexcept SystemExit: assert not set({heavy!r}) & set(sys.modules), sys.modules.keys()"
    import subprocess

    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "--guidance-scale" in done.stdout, done.stderr
