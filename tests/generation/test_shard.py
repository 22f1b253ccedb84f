"""One shard of synthesis: resume, SIGTERM, stale and damaged images, blank images, refused folders."""

import io
import os
import re
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from freemask.errors import InputError
from freemask.generation.shard import Shard, claim_folder, is_blank, is_made, manifest, requests, shard_rows
from freemask.images import png_bytes
from freemask.stopping import CONTINUE, Stop, Terminated

WORDS = {3: "sky", 7: "road"}


class Noise:
    """Stands in for a generator: pixels depend on mask, name and seed only; counts its calls."""

    def __init__(self, blank=(), on_call=None):
        self.calls, self.generated, self.blank, self.on_call = 0, [], set(blank), on_call

    def prepare(self, labels, names, seeds):
        return labels, names, seeds

    def generate(self, prepared):
        labels, names, seeds = prepared
        self.calls += 1
        self.generated += list(zip(names, seeds, strict=True))
        if self.on_call:
            self.on_call(self.calls)
        images = []
        for mask, name, seed in zip(labels, names, seeds, strict=True):
            pixels = np.random.default_rng([int(name[1:]), seed, int(mask.sum())]).integers(0, 255, (8, 8, 3))
            images.append(np.zeros((8, 8, 3)) if (name, seed) in self.blank else pixels)
        return np.array(images, np.uint8)


@pytest.fixture
def world(tmp_path):
    masks = {}
    for number in range(5):
        path = tmp_path / f"m{number}.png"
        path.write_bytes(png_bytes(np.full((8, 8), 3 if number % 2 else 7, np.uint8)))
        masks[f"m{number}"] = str(path)
    plan = pd.DataFrame([(name, seed) for name in masks for seed in (42, 43)], columns=["mask_id", "seed"])
    return plan, masks, tmp_path / "images"


def requested(world, item="1-of-1"):
    plan, masks, images = world
    return requests(shard_rows(plan, item), masks, WORDS, images)


def make(world, noise, item="1-of-1", again=None, stop=None):
    load_again = again and (lambda: again)
    return Shard(lambda: noise, load_again, batch_size=4, quality=95).make(requested(world, item), "test", stop)


def test_a_second_run_makes_nothing(world):
    assert make(world, Noise()) == 10
    noise = Noise()
    assert make(world, noise) == 0 and noise.calls == 0


def test_shards_cut_the_plan_without_overlap_and_give_the_same_bytes(world, tmp_path):
    make(world, Noise())
    whole = manifest(requested(world))
    cut = (world[0], world[1], tmp_path / "cut")
    noise = Noise()
    for number in (1, 2, 3):
        make(cut, noise, f"{number}-of-3")
    assert manifest(requested(cut)).sha256.tolist() == whole.sha256.tolist()
    assert len(set(noise.generated)) == 10


def test_every_batch_has_one_shape(world):
    """10 images in batches of 4: the last one is filled up by repeating its last image."""
    noise = Noise()
    make(world, noise)
    assert noise.calls == 3 and len(noise.generated) == 12
    assert noise.generated[9:] == [("m4", 43)] * 3


def test_what_another_job_makes_meanwhile_is_not_generated_again(world, tmp_path):
    """Rows 4 and 6 come from another job while the first batch is generated and the second is ready."""
    make((*world[:2], tmp_path / "alone"), Noise())
    rows = requested(world)

    def meanwhile(call):
        if call == 1:
            Shard(Noise, None, batch_size=3, quality=95).make([rows[4], rows[6]], "other")

    noise = Noise(on_call=meanwhile)
    assert Shard(lambda: noise, None, batch_size=2, quality=95).make(rows, "test") == 8
    assert noise.generated == [tuple(world[0].iloc[row]) for row in (0, 1, 2, 3, 5, 7, 8, 9)]
    assert manifest(rows).sha256.tolist() == manifest(requested((*world[:2], tmp_path / "alone"))).sha256.tolist()


def test_an_image_that_another_job_made_while_it_was_generated_stays(world):
    """The other job, on another machine, makes other bytes, and its manifest holds their digest."""
    rows, theirs = requested(world), []

    def meanwhile(call):
        if call == 1:
            other = Noise()
            other.generate = lambda prepared: 255 - Noise().generate(prepared)
            Shard(lambda: other, None, batch_size=3, quality=95).make(rows[:2], "other")
            theirs.extend(manifest(rows[:2]).sha256)

    assert Shard(lambda: Noise(on_call=meanwhile), None, batch_size=2, quality=95).make(rows, "test") == 8
    assert manifest(rows[:2]).sha256.tolist() == theirs


def test_sigterm_finishes_the_batch_and_the_next_run_makes_the_rest(world, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(CONTINUE, str(tmp_path / "continue"))
    killer = Noise(on_call=lambda call: os.kill(os.getpid(), signal.SIGTERM) if call == 1 else None)
    with pytest.raises(Terminated) as stopped, Stop() as stop:
        make(world, killer, stop=stop)
    assert stopped.value.code == 143
    assert "SIGTERM: test: 4 of 10 images are there; the same command goes on" in capsys.readouterr().err
    assert (tmp_path / "continue").exists()
    there = [request for request in requested(world) if is_made(request)]
    assert len(there) == 4
    noise = Noise()
    assert make(world, noise) == 6
    assert not set(noise.generated) & {(request.mask_id, request.seed) for request in there}


def test_a_changed_mask_or_a_damaged_image_is_made_again(world):
    make(world, Noise())
    masks = world[1]
    with open(masks["m0"], "wb") as file:
        file.write(png_bytes(np.full((8, 8), 3, np.uint8)))
    damaged = requested(world)[9].image
    damaged.write_bytes(b"not a picture")
    noise = Noise()
    assert make(world, noise) == 3
    assert set(noise.generated) == {("m0", 42), ("m0", 43), ("m4", 43)}


def test_blank_images_are_generated_again_in_float32_and_named_at_the_end(world, monkeypatch):
    again, told = Noise(), []
    monkeypatch.setattr("freemask.generation.shard.tell", told.append)
    assert make(world, Noise(blank=[("m1", 42), ("m3", 43)]), again=again) == 10
    assert again.calls == 2
    assert told == ["2 images came out blank and were made again in float32: m1/42, m3/43"]


def test_black_and_constant_images_are_blank():
    gradient = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    constant = np.broadcast_to(np.array([200, 10, 90], np.uint8), (4, 4, 3)).copy()
    black, dark = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    dark[2:] = 3
    assert [is_blank(image) for image in (black, constant, gradient, dark)] == [True, True, False, False]
    constant[0, 0] += 1  # rounding
    assert is_blank(constant)


def test_jpegs_have_the_quality_that_was_asked_for(world):
    sizes = []
    for quality in (60, 95):
        folder = world[2] / str(quality)
        here = requests(world[0], world[1], WORDS, folder)
        Shard(Noise, None, batch_size=4, quality=quality).make(here, "test")
        tables = [Image.open(request.image).quantization for request in here]
        assert all(table == tables[0] for table in tables)
        sizes.append(sum(tables[0][0]))
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "JPEG", quality=60)
    assert sizes[0] == sum(Image.open(plain).quantization[0]) > sizes[1]


def test_progress_says_images_a_second_and_what_remains(world, capsys, monkeypatch):
    monkeypatch.setattr("freemask.cli._terminal", sys.stderr)
    monkeypatch.setattr("freemask.cli.SILENT", 0)
    make(world, Noise(), "1-of-2")
    make(world, Noise())
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("test:")][-1]
    assert re.search(r"100%\|.*\| 10/10 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+image/s\]", shown), shown


def test_images_that_stay_blank_are_named_once_the_others_are_made(world):
    blank = [("m1", 42), ("m3", 43)]
    with pytest.raises(InputError, match="2 blank images, in float32 too: m1/42, m3/43;"):
        make(world, Noise(blank), again=Noise(blank))
    there = [(request.mask_id, request.seed) for request in requested(world) if is_made(request)]
    assert len(there) == 8 and not set(blank) & set(there)


def test_writing_goes_on_while_the_next_batch_is_generated(world, monkeypatch):
    """The first batch's writes can't end before the second batch has begun; they must not be waited for."""
    second_begun = threading.Event()
    write = Shard._write

    def slow_write(self, request, image):
        assert second_begun.wait(timeout=20)
        return write(self, request, image)

    monkeypatch.setattr(Shard, "_write", slow_write)
    assert make(world, Noise(on_call=lambda call: second_begun.set() if call == 2 else None)) == 10


def test_the_next_batch_is_prepared_while_one_is_generated(world):
    """The first batch's sampling can't end before the second has been prepared; one is prepared after the other."""
    prepared, running = threading.Event(), threading.Lock()

    class Careful(Noise):
        preparing = 0

        def prepare(self, labels, names, seeds):
            assert running.acquire(blocking=False)
            self.preparing += 1
            if self.preparing == 2:
                prepared.set()
            running.release()
            return labels, names, seeds

    noise = Careful(on_call=lambda call: None if prepared.wait(timeout=20) else pytest.fail("not prepared"))
    assert make(world, noise) == 10
    assert noise.preparing == noise.calls == 3


def test_a_failed_write_stops_the_shard(world, monkeypatch):
    def full(self, request, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shard, "_write", full)
    noise = Noise()
    with pytest.raises(OSError, match="No space left"):
        make(world, noise)
    assert noise.calls == 2  # noticed after the batch that was being generated


def test_a_mask_of_another_size_is_named(world):
    with open(world[1]["m2"], "wb") as file:
        file.write(png_bytes(np.full((8, 4), 3, np.uint8)))
    with pytest.raises(InputError, match=r"m2\.png: 8x4 pixels, want 8x8"):
        Shard(Noise, None, batch_size=4, quality=95, image_size=8).make(requested(world), "test")


def test_old_temporary_files_are_swept_and_young_ones_left(world):
    folder = requested(world)[2].image.parent
    folder.mkdir(parents=True)
    old, young = folder / ".42.jpg.aaaa.tmp", folder / ".43.jpg.bbbb.tmp"
    for path in (old, young):
        path.write_bytes(b"half an image")
    os.utime(old, (1, 1))
    make(world, Noise())
    assert not old.exists() and young.exists()


def test_a_folder_of_other_settings_is_refused(tmp_path):
    claim_folder(tmp_path, {"guidance_scale": 3.0, "steps": 20})
    claim_folder(tmp_path, {"guidance_scale": 2.0, "steps": 20})  # nothing was made with the first
    (tmp_path / "m0").mkdir()
    (tmp_path / "m0" / "42.jpg").touch()
    claim_folder(tmp_path, {"guidance_scale": 2.0, "steps": 20})
    with pytest.raises(InputError, match="guidance_scale = 2.0, now it is 3.0"):
        claim_folder(tmp_path, {"guidance_scale": 3.0, "steps": 20})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(InputError, match="holds images but no settings.json"):
        claim_folder(tmp_path, {"guidance_scale": 2.0, "steps": 20})


def test_a_folder_of_an_earlier_version_is_refused(tmp_path):
    """Its images would all be made again beside it."""
    claim_folder(tmp_path, {"steps": 20})
    (tmp_path / "training_00001").mkdir()
    (tmp_path / "training_00001/42.jpg").touch()
    with pytest.raises(InputError, match=r"training_00001/42\.jpg: images have other paths now"):
        claim_folder(tmp_path, {"steps": 20})


@pytest.mark.parametrize("item", ["3", "0-of-2", "3-of-2", "a-of-b"])
def test_bad_shards_are_refused(world, item):
    with pytest.raises(InputError, match="shard"):
        shard_rows(world[0], item)


def test_plans_with_unknown_masks_are_refused(world):
    _, masks, images = world
    with pytest.raises(InputError, match="m9 isn't in the table"):
        requests(pd.DataFrame({"mask_id": ["m9"], "seed": [1]}), masks, WORDS, images)
