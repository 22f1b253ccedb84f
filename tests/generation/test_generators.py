"""Generators behind one interface: ControlNet-seg in miniature, the same way in as FreestyleNet, refusals, compile."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from command_line import run_script
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from tiny_generator import WORDS, tiny_pipeline

from freemask import files, images
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.generation import generators
from freemask.generation.controlnet import ControlNetPainter, load_controlnet
from freemask.generation.freestyle.loading import adopt_pipeline, weights_sha256
from freemask.generation.freestyle.pipeline import FreestylePipeline, noise_of
from freemask.generation.freestyle.prompt import read_parts
from freemask.generation.generators import Sampling, load_generator

COLORS = ((120, 120, 120), (6, 230, 230), (0, 184, 255), (140, 140, 140))
LABELS = LabelSpace(tuple(WORDS), tuple(WORDS.values()), tuple(WORDS.values()), COLORS, 0)
SAMPLING = Sampling("ddim", 4, 3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Stable Diffusion with a random ControlNet whose output isn't zero, saved by diffusers."""
    made = tmp_path_factory.mktemp("controlnet") / "pipeline"
    base = tiny_pipeline()
    control = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(4, 4, 8))
    torch.manual_seed(1)
    for parameter in control.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    parts = {name: getattr(base, name) for name in names}
    pipeline = StableDiffusionControlNetPipeline(
        **parts, controlnet=control, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def masks():
    blocks = np.random.default_rng(0).choice([0, *WORDS], (3, 4, 4)).astype(np.uint8)
    return blocks.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def paint(folder):
    torch.set_num_threads(1)
    return load_generator("controlnet", folder, LABELS, SAMPLING)


def test_the_same_way_in_for_both_kinds(masks, paint, folder):
    freestyle = load_generator("freestyle", folder, LABELS, SAMPLING)  # its networks are there too
    for kind in (paint, freestyle):
        images = kind(masks, ["a", "b", "c"], [1, 2, 3])
        assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
        assert len({image.tobytes() for image in images}) == 3


def test_an_image_is_a_function_of_mask_and_seed(masks, paint):
    """Whatever stands beside it in the batch; another seed, another mask or another id is another image."""
    first = paint(masks, ["a", "b", "c"], [1, 2, 3])
    again = paint(masks[[2, 0, 0]], ["c", "a", "a"], [3, 1, 2])
    assert (again[0] == first[2]).all() and (again[1] == first[0]).all()
    assert (again[2] != first[0]).any()
    assert (paint(masks[[0] * 3], ["a", "x", "a"], [1] * 3)[1] != first[0]).any()
    assert (paint(masks[[1] * 3], ["a"] * 3, [1] * 3)[0] != first[0]).any()


def test_it_is_what_diffusers_paints(masks, paint, folder):
    """From the words as text and the palette as a picture, with the same noise."""
    pipeline = load_controlnet(folder)
    pipeline.scheduler = generators.other_scheduler("ddim", pipeline.scheduler)
    picture = torch.from_numpy(LABELS.colorize(masks[0])).permute(2, 0, 1)[None] / 255
    words = " ".join(WORDS[label] for label in sorted(set(masks[0].ravel().tolist()) - {0}))
    noise = noise_of(["a"], [1], (3, 8, 8))
    wanted = pipeline(words, picture, num_inference_steps=4, guidance_scale=3.0, latents=noise, output_type="np").images
    assert np.abs(paint(masks[:1], ["a"], [1]) - (wanted * 255).round()).max() <= 1


def test_the_palette_is_the_class_tables_and_ignored_is_black(folder):
    controls = ControlNetPainter(load_controlnet(folder), LABELS).controls(np.array([[[0, 2], [9, 1]]], np.uint8))
    assert (controls[0] * 255).round().permute(1, 2, 0).reshape(4, 3).tolist() == [
        [0, 0, 0], [6, 230, 230], [140, 140, 140], [120, 120, 120],
    ]  # fmt: skip


def test_colours_and_words_steer(masks, folder, paint):
    image = paint(masks[:1], ["a"], [1])
    other_colors = LabelSpace(LABELS.ids, LABELS.names, LABELS.words, COLORS[::-1], 0)
    other_words = LabelSpace(LABELS.ids, LABELS.names, ("sea", "ship", "sand", "tree"), COLORS, 0)
    for labels in (other_colors, other_words):
        assert (load_generator("controlnet", folder, labels, SAMPLING)(masks[:1], ["a"], [1]) != image).any()


def test_parts_are_said_and_a_caption_that_is_cut_is_warned_of(masks, folder, caplog):
    entries = [{"text": "at night " * 40, "seeds": [2]}]
    sampling = Sampling("ddim", 2, 3.0, read_parts(entries, WORDS))
    paint = load_generator("controlnet", folder, LABELS, sampling)
    with caplog.at_level(logging.WARNING, "freemask"):
        paint(masks[[0, 0]], ["a", "b"], [1, 2])
    assert [record.getMessage()[:7] for record in caplog.records if record.name.startswith("freemask")] == ["mask b:"]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("pix2pix", {}, "kind 'pix2pix' is not known; use one of freestyle, controlnet"),
        ("controlnet", {"steps": 7}, "steps = 7 doesn't divide"),
        ("controlnet", {"guidance_scale": 0.5}, "guidance_scale = 0.5"),
        ("controlnet", {"scheduler": "euler"}, "scheduler 'euler' is not known"),
    ],
)
def test_what_cannot_be_painted_is_refused(masks, folder, kind, change, message):
    chosen = {"scheduler": "ddim", "steps": 4, "guidance_scale": 3.0} | change
    with pytest.raises(InputError, match=message):
        load_generator(kind, folder, LABELS, Sampling(**chosen))(masks, ["a", "b", "c"], [1, 2, 3])


def test_a_label_without_a_word_is_refused(masks, paint):
    with pytest.raises(InputError, match=r"mask b: label\(s\) \[200\] have no word"):
        paint(np.stack([masks[0], np.full((32, 32), 200, np.uint8)]), ["a", "b"], [1, 2])


def test_a_folder_without_a_controlnet_is_refused(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="weights can't be loaded"):
        load_controlnet(tmp_path / "plain")


def test_adopted_with_its_controlnet(folder, tmp_path, masks, paint):
    adopt_pipeline(folder, tmp_path / "adopted", generators.loader("controlnet"))
    assert weights_sha256(tmp_path / "adopted") == weights_sha256(folder)
    assert any(name.startswith("controlnet/") for name in weights_sha256(folder))
    again = load_generator("controlnet", tmp_path / "adopted", LABELS, SAMPLING)
    assert (again(masks, ["a", "b", "c"], [1, 2, 3]) == paint(masks, ["a", "b", "c"], [1, 2, 3])).all()


def test_scripts_prepare_and_synthesize(folder, tmp_path, masks, paint):
    """The two command lines give the images that the library gives."""
    for name, mask in zip("abc", masks, strict=True):
        files.write_atomic(tmp_path / f"{name}.png", images.png_bytes(mask))
    colors = ["#787878", "#06e6e6", "#00b8ff", "#8c8c8c"]
    rows = [f"{label}\t{word}\t{word}\t{color}" for (label, word), color in zip(WORDS.items(), colors, strict=True)]
    (tmp_path / "classes.tsv").write_text("\n".join(["label\tname\tword\tcolor", *rows]) + "\n")
    (tmp_path / "masks.tsv").write_text("mask_id\tmask\n" + "".join(f"{n}\t{tmp_path}/{n}.png\n" for n in "abc"))
    (tmp_path / "plan.tsv").write_text("mask_id\tseed\na\t1\nb\t2\nc\t3\n")
    index = tmp_path / "prepared" / "model_index.json"
    run_script(
        "prepare_generator",
        source=folder / "model_index.json", kind="pipeline", paints_as="controlnet", pipeline=index,
    )  # fmt: skip
    run_script(
        "synthesize",
        plan=tmp_path / "plan.tsv", shard="1-of-1", masks=tmp_path / "masks.tsv", classes=tmp_path / "classes.tsv",
        ignored_label=0, generator=index, kind="controlnet", scheduler="ddim", steps=4, guidance_scale=3.0,
        image_size=32, batch_size=3, images_dir=tmp_path / "images", manifest=tmp_path / "shard.tsv",
    )  # fmt: skip
    settings = files.read_json(tmp_path / "images" / "settings.json")
    assert settings["kind"] == "controlnet" and "compile" not in settings
    wanted = paint(masks, ["a", "b", "c"], [1, 2, 3])
    for name, seed, image in zip("abc", (1, 2, 3), wanted, strict=True):
        made = images.read_image(tmp_path / "images" / name / f"{seed}.jpg")
        assert np.abs(made.astype(int) - image).mean() < 8  # JPEG
    assert json.loads(index.read_text())["_class_name"] == "StableDiffusionControlNetPipeline"


def test_compiled_networks_paint_the_same(folder, masks, paint, monkeypatch):
    """With a backend that needs no compiler: the graph is captured, weights and names stay."""
    calls, compile_module = [], torch.nn.Module.compile

    def captured(network, **options):
        calls.append(type(network).__name__)
        compile_module(network, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", captured)
    compiled = load_generator("freestyle", folder, LABELS, SAMPLING, compiled=True)
    plain = load_generator("freestyle", folder, LABELS, SAMPLING)
    arguments = (masks, ["a", "b", "c"], [1, 2, 3])
    assert calls == ["UNet2DConditionModel"]
    assert np.abs(compiled(*arguments).astype(int) - plain(*arguments)).max() <= 1


@pytest.mark.slow
def test_a_compiler_makes_one_graph_that_paints_the_same(tmp_path, monkeypatch):
    """With torch's own compiler, on a UNet of one level: every batch and step goes through the same compiled code."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    parts = tiny_pipeline().components
    torch.manual_seed(0)
    parts["unet"] = UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, down_block_types=("CrossAttnDownBlock2D",), mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",), block_out_channels=(8,), layers_per_block=1, cross_attention_dim=8,
        attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    pipeline = FreestylePipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    masks = np.random.default_rng(0).choice([0, *WORDS], (4, 4, 4)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    batches = [(masks[:2], ["a", "b"], [1, 2]), (masks[2:], ["c", "d"], [3, 4])]
    plain = [generators.freestyle(pipeline, LABELS, SAMPLING)(*batch) for batch in batches]
    generators.arrange(pipeline, "cpu", compiled=True)
    compiled = [generators.freestyle(pipeline, LABELS, SAMPLING)(*batch) for batch in batches]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    for one, other in zip(compiled, plain, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_channels_last_on_a_gpu_only(monkeypatch):
    pipeline = tiny_pipeline()
    weight = pipeline.unet.conv_in.weight
    generators.arrange(pipeline, "cpu", compiled=False)
    assert not pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    generators.arrange(pipeline, "cuda", compiled=False)
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert (pipeline.unet.conv_in.weight == weight).all()


def test_bfloat16_needs_capability_8(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "V100")
    for capability, refused in (((7, 0), True), ((8, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        if refused:
            with pytest.raises(InputError, match="V100 has less"):
                generators.check_arithmetic(torch.bfloat16, "cuda")
        generators.check_arithmetic(torch.float16, "cuda")
        if not refused:
            generators.check_arithmetic(torch.bfloat16, "cuda")


FAULTS = """
import resource, torch
from freemask.generation.generators import keep_memory
torch.set_num_threads(1)
for kept in (False, True):
    keep_memory(kept)
    for _ in range(4):
        torch.ones(2**24)  # 64 MB; what the first ones are given is kept
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_is_kept_for_the_next_activations():
    """Counted in pages that the system hands out; meant for glibc, the C library of every wheel that torch has.

    One block in four may be new: small blocks may lie in the way of a kept one.
    """
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    handed_out, kept = map(int, ran.stdout.split())
    assert handed_out > 100 and kept <= handed_out / 4 + 10
