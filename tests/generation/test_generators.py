"""Generators behind one interface: ControlNet-seg in miniature, the same way in as FreestyleNet, refusals, compile."""

import importlib
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
from freemask.generation import compilation, generators
from freemask.generation.controlnet import ControlNetGenerator
from freemask.generation.freestyle.generator import FreestyleGenerator
from freemask.generation.freestyle.loading import adopt_pipeline, weights_sha256
from freemask.generation.freestyle.pipeline import FreestylePipeline, noise_of
from freemask.generation.generators import Sampling, load_generator
from freemask.generation.prompt import read_parts
from freemask.generation.schedulers import other_scheduler
from freemask.generation.shard import image_path

COLORS = ((120, 120, 120), (6, 230, 230), (0, 184, 255), (140, 140, 140))
LABEL_SPACE = LabelSpace(tuple(WORDS), tuple(WORDS.values()), tuple(WORDS.values()), COLORS, 0)
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
def controlnet(folder):
    torch.set_num_threads(1)
    return load_generator("controlnet", folder, LABEL_SPACE, SAMPLING)


def test_the_same_way_in_for_both_kinds(masks, controlnet, folder):
    freestyle = load_generator("freestyle", folder, LABEL_SPACE, SAMPLING)  # its networks are there too
    for kind in (controlnet, freestyle):
        images = kind(masks, ["a", "b", "c"], [1, 2, 3])
        assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
        assert len({image.tobytes() for image in images}) == 3


def test_an_image_is_a_function_of_mask_and_seed(masks, controlnet):
    """Whatever stands beside it in the batch; another seed, another mask or another id is another image."""
    first = controlnet(masks, ["a", "b", "c"], [1, 2, 3])
    again = controlnet(masks[[2, 0, 0]], ["c", "a", "a"], [3, 1, 2])
    assert (again[0] == first[2]).all() and (again[1] == first[0]).all()
    assert (again[2] != first[0]).any()
    assert (controlnet(masks[[0] * 3], ["a", "x", "a"], [1] * 3)[1] != first[0]).any()
    assert (controlnet(masks[[1] * 3], ["a"] * 3, [1] * 3)[0] != first[0]).any()


def test_it_is_what_diffusers_generates(masks, controlnet, folder):
    """From the words as text and the palette as a picture, with the same noise."""
    pipeline = ControlNetGenerator.load(folder)
    pipeline.scheduler = other_scheduler("ddim", pipeline.scheduler.config)
    picture = torch.from_numpy(LABEL_SPACE.colorize(masks[0])).permute(2, 0, 1)[None] / 255
    words = " ".join(WORDS[label] for label in sorted(set(masks[0].ravel().tolist()) - {0}))
    noise = noise_of(["a"], [1], (3, 8, 8))
    wanted = pipeline(words, picture, num_inference_steps=4, guidance_scale=3.0, latents=noise, output_type="np").images
    assert np.abs(controlnet(masks[:1], ["a"], [1]) - (wanted * 255).round()).max() <= 1


def test_the_palette_is_the_class_tables_and_ignored_is_black(folder):
    generator = ControlNetGenerator(ControlNetGenerator.load(folder), LABEL_SPACE, SAMPLING)
    controls = generator.controls(np.array([[[0, 2], [9, 1]]], np.uint8))
    assert (controls[0] * 255).round().permute(1, 2, 0).reshape(4, 3).tolist() == [
        [0, 0, 0], [6, 230, 230], [140, 140, 140], [120, 120, 120],
    ]  # fmt: skip


def test_colours_and_words_steer(masks, folder, controlnet):
    image = controlnet(masks[:1], ["a"], [1])
    other_colors = LabelSpace(LABEL_SPACE.ids, LABEL_SPACE.names, LABEL_SPACE.words, COLORS[::-1], 0)
    other_words = LabelSpace(LABEL_SPACE.ids, LABEL_SPACE.names, ("sea", "ship", "sand", "tree"), COLORS, 0)
    for labels in (other_colors, other_words):
        assert (load_generator("controlnet", folder, labels, SAMPLING)(masks[:1], ["a"], [1]) != image).any()


def test_parts_are_said_and_a_caption_that_is_cut_is_warned_of(masks, folder, caplog):
    entries = [{"text": "at night " * 40, "seeds": [2]}]
    sampling = Sampling("ddim", 2, 3.0, read_parts(entries, WORDS))
    controlnet = load_generator("controlnet", folder, LABEL_SPACE, sampling)
    with caplog.at_level(logging.WARNING, "freemask"):
        controlnet(masks[[0, 0]], ["a", "b"], [1, 2])
    assert [record.getMessage()[:7] for record in caplog.records if record.name.startswith("freemask")] == ["mask b:"]


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("pix2pix", {}, "generator method 'pix2pix' isn't known; use one of freestyle, controlnet"),
        ("controlnet", {"steps": 7}, "steps = 7 doesn't divide"),
        ("controlnet", {"guidance_scale": 0.5}, "guidance_scale = 0.5"),
        ("controlnet", {"scheduler": "euler"}, "scheduler 'euler' isn't known"),
    ],
)
def test_what_cannot_be_generated_is_refused(masks, folder, method, change, message):
    chosen = {"scheduler": "ddim", "steps": 4, "guidance_scale": 3.0} | change
    with pytest.raises(InputError, match=message):
        load_generator(method, folder, LABEL_SPACE, Sampling(**chosen))(masks, ["a", "b", "c"], [1, 2, 3])


def test_a_label_without_a_word_is_refused(masks, controlnet):
    with pytest.raises(InputError, match=r"mask b: label\(s\) \[200\] have no word"):
        controlnet(np.stack([masks[0], np.full((32, 32), 200, np.uint8)]), ["a", "b"], [1, 2])


def test_a_folder_without_a_controlnet_is_refused(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="weights can't be loaded"):
        ControlNetGenerator.load(tmp_path / "plain")


def test_adopted_with_its_controlnet(folder, tmp_path, masks, controlnet):
    adopt_pipeline(folder, tmp_path / "adopted", ControlNetGenerator.load)
    assert weights_sha256(tmp_path / "adopted") == weights_sha256(folder)
    assert any(name.startswith("controlnet/") for name in weights_sha256(folder))
    again = load_generator("controlnet", tmp_path / "adopted", LABEL_SPACE, SAMPLING)
    assert (again(masks, ["a", "b", "c"], [1, 2, 3]) == controlnet(masks, ["a", "b", "c"], [1, 2, 3])).all()


def write_inputs(folder, masks):
    """Write masks a, b, c, their tables and the label space."""
    for name, mask in zip("abc", masks, strict=True):
        files.write_atomic(folder / f"{name}.png", images.png_bytes(mask))
    LABEL_SPACE.write(folder / "label_space.json")
    (folder / "masks.tsv").write_text("mask_id\tmask\n" + "".join(f"{n}\t{folder}/{n}.png\n" for n in "abc"))
    (folder / "plan.tsv").write_text("mask_id\tseed\na\t1\nb\t2\nc\t3\n")


def prepare_and_synthesize(folder, source, method, index, **options):
    """Run the two scripts; images/ and shard.tsv lie in the folder then."""
    run_script("prepare_generator", path=source / "model_index.json", source="pipeline", method=method, pipeline=index)
    run_script(
        "synthesize",
        plan=folder / "plan.tsv", shard="1-of-1", masks=folder / "masks.tsv", label_space=folder / "label_space.json",
        generator=index, method=method, image_size=32, batch_size=3, images_dir=folder / "images",
        manifest=folder / "shard.tsv", **options,
    )  # fmt: skip


TOY = """
import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from freemask.generation.generators import Generator


class Tint(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(7.0))


class ToyPipeline(DiffusionPipeline):
    def __init__(self, tint):
        super().__init__()
        self.register_modules(tint=tint)


class Toy(Generator):
    @staticmethod
    def load(folder, dtype):
        return ToyPipeline(Tint.from_pretrained(folder / "tint", torch_dtype=dtype))

    def prepare(self, masks, mask_ids, seeds):
        return masks * np.array(seeds, np.uint8)[:, None, None]

    def generate(self, prepared):
        return np.stack([prepared * int(self.pipeline.tint.factor), prepared, prepared], -1)
"""


def test_a_generator_from_outside_is_one_file(tmp_path, masks, monkeypatch):
    """A module in the working directory, named by the option --method."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "toy_generator.py").write_text(TOY)
    toy = importlib.import_module("toy_generator")
    toy.ToyPipeline(toy.Tint()).save_pretrained(tmp_path / "toy")
    write_inputs(tmp_path, masks)
    method = "toy_generator:Toy"
    prepare_and_synthesize(tmp_path, tmp_path / "toy", method, tmp_path / "prepared" / "model_index.json")
    settings = files.read_json(tmp_path / "images" / "settings.json")
    assert settings["kind"] == method and list(settings["weights_sha256"]) == [
        "tint/diffusion_pytorch_model.safetensors"
    ]
    made = images.read_image(image_path(tmp_path / "images", "b", 2))
    expected = np.stack([masks[1] * 14, masks[1] * 2, masks[1] * 2], -1)
    assert np.abs(made.astype(int) - expected).mean() < 8  # JPEG


def test_tables_of_plug_ins_need_no_heavy_import():
    code = "import sys, freemask.generation.generators, freemask.generation.schedulers; "
    code += "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scheduler_from_outside(masks, folder):
    sampling = Sampling("diffusers:EulerDiscreteScheduler", 4, 3.0)
    made = load_generator("freestyle", folder, LABEL_SPACE, sampling)(masks, ["a", "b", "c"], [1, 2, 3])
    assert len({image.tobytes() for image in made}) == 3


def test_scripts_prepare_and_synthesize(folder, tmp_path, masks, controlnet):
    """The two command lines give the images that the library gives."""
    write_inputs(tmp_path, masks)
    index = tmp_path / "prepared" / "model_index.json"
    prepare_and_synthesize(tmp_path, folder, "controlnet", index, scheduler="ddim", steps=4, guidance_scale=3.0)
    settings = files.read_json(tmp_path / "images" / "settings.json")
    assert settings["kind"] == "controlnet" and "compile" not in settings
    wanted = controlnet(masks, ["a", "b", "c"], [1, 2, 3])
    for name, seed, image in zip("abc", (1, 2, 3), wanted, strict=True):
        made = images.read_image(image_path(tmp_path / "images", name, seed))
        assert np.abs(made.astype(int) - image).mean() < 8  # JPEG
    assert json.loads(index.read_text())["_class_name"] == "StableDiffusionControlNetPipeline"


def test_compiled_networks_generate_the_same(folder, masks, controlnet, monkeypatch):
    """With a backend that needs no compiler: the graph is captured, weights and names stay."""
    calls, compile_function = [], torch.compile

    def captured(forward, **options):
        calls.append(type(forward.__self__).__name__)
        return compile_function(forward, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", captured)
    compiled = load_generator("freestyle", folder, LABEL_SPACE, SAMPLING, compiled=True)
    plain = load_generator("freestyle", folder, LABEL_SPACE, SAMPLING)
    arguments = (masks, ["a", "b", "c"], [1, 2, 3])
    assert sorted(calls) == ["Decoder", "UNet2DConditionModel"]
    assert np.abs(compiled(*arguments).astype(int) - plain(*arguments)).max() <= 1


@pytest.mark.slow
def test_a_compiler_makes_one_graph_that_generates_the_same(tmp_path, monkeypatch):
    """With torch's own compiler, on a UNet of one level: every batch and step goes through the same compiled code."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_DEBUG_COMPILE", "1")  # C++ without optimisation
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
    plain = [FreestyleGenerator(pipeline, LABEL_SPACE, SAMPLING)(*batch) for batch in batches]
    generators.arrange(pipeline, "cpu", compiled=True)
    compiled = [FreestyleGenerator(pipeline, LABEL_SPACE, SAMPLING)(*batch) for batch in batches]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # UNet and decoder
    assert not torch._dynamo.utils.counters["graph_break"]
    for one, other in zip(compiled, plain, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_channels_last_where_a_gpu_runs_compiled_code(monkeypatch):
    monkeypatch.setattr(compilation, "obstacle", lambda: None)
    monkeypatch.setattr(compilation, "compile_network", lambda network: None)
    pipeline = tiny_pipeline()
    weight = pipeline.unet.conv_in.weight
    for device, compiled, expected in (("cpu", True, False), ("cuda", False, False), ("cuda", True, True)):
        generators.arrange(pipeline, device, compiled)
        assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last) == expected
        assert isinstance(pipeline.unet.forward, compilation.Captured) == (device == "cuda")
    assert (pipeline.unet.conv_in.weight == weight).all()


FAULTS = """
import resource, torch
from freemask.generation.generators import cache_memory
torch.set_num_threads(1)
for kept in (False, True):
    cache_memory(kept)
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
