"""ControlNet-seg on a Stable Diffusion as a generator: the mask in the data set's palette steers the image.

Source: ControlNet (ICCV 2023), in diffusers' StableDiffusionControlNetPipeline. Its public segmentation weights were
trained with ADE20K's palette, which is the one in config/datasets/ade20k.tsv.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

from freemask.data.label_space import LabelSpace
from freemask.generation.freestyle.loading import NETWORKS, load_folder
from freemask.generation.freestyle.pipeline import CACHED_CONTEXTS, check_request, check_sampling, noise_of, to_pixels
from freemask.generation.generators import Generator, Sampling
from freemask.generation.prompt import Captions


class ControlNetGenerator(Generator):
    """Generates with a StableDiffusionControlNetPipeline; caption and noise are FreestyleNet's.

    Words aren't bound to pixels: a prompt part with a label stands before its class's word, visible to all.
    """

    def __init__(self, pipeline: StableDiffusionControlNetPipeline, label_space: LabelSpace, sampling: Sampling):
        super().__init__(pipeline, label_space, sampling)
        self._context = lru_cache(CACHED_CONTEXTS)(self._encode)
        self._caption = Captions(pipeline.tokenizer)

    @staticmethod
    def load(folder: str | Path, dtype: torch.dtype = torch.float32) -> StableDiffusionControlNetPipeline:
        """Load a diffusers folder of a StableDiffusionControlNetPipeline (Stable Diffusion 1.x or 2.x), strictly.

        Raises: InputError where it isn't one, or its weights are damaged.
        """
        networks = NETWORKS | {"controlnet": ControlNetModel}
        unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return load_folder(StableDiffusionControlNetPipeline, folder, dtype, networks, **unused)

    @classmethod
    def class_settings(cls, label_space: LabelSpace) -> dict[int, str]:
        """The words and, since the palette shapes the image, the colors."""
        words = super().class_settings(label_space)
        return {label: f"{words[label]} {color}" for label, color in zip(words, label_space.colors, strict=True)}

    @torch.no_grad()
    def prepare(self, masks: np.ndarray, mask_ids: Sequence[str], seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        """The pipeline's arguments; see Generator."""
        pipeline, scale = self.pipeline, self.pipeline.vae_scale_factor
        parts = [self.sampling.parts_of(seed) for seed in seeds]
        check_request(masks, self.words, mask_ids, seeds, self.label_space.ignored, parts, scale)
        each = zip(masks, mask_ids, parts, strict=True)
        captions = [self._caption(mask, self.words, self.label_space.ignored, *one).text for mask, *one in each]
        shape = (pipeline.unet.config.in_channels, masks.shape[1] // scale, masks.shape[2] // scale)
        return {
            "prompt_embeds": torch.stack([self._context(text) for text in captions]),
            "negative_prompt_embeds": torch.stack([self._context("")] * len(captions)),
            "image": self.controls(masks),
            "latents": noise_of(mask_ids, seeds, shape).to(pipeline.unet.dtype),
        }

    @torch.no_grad()
    def generate(self, prepared: dict[str, torch.Tensor]) -> np.ndarray:
        """See Generator."""
        pipeline, sampling = self.pipeline, self.sampling
        check_sampling(pipeline.scheduler, sampling.steps, sampling.guidance_scale)
        asked = {"num_inference_steps": sampling.steps, "guidance_scale": sampling.guidance_scale}
        latents = pipeline(**prepared, **asked, output_type="latent", return_dict=False)[0]
        return to_pixels(pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample)

    def controls(self, masks: np.ndarray) -> torch.Tensor:
        """Masks in the palette of the class table, ignored pixels in their own color: (B, 3, H, W) float32 in 0..1."""
        colors = np.stack([self.label_space.colorize(mask) for mask in masks])
        return torch.from_numpy(colors).permute(0, 3, 1, 2).float() / 255

    def _encode(self, text: str) -> torch.Tensor:
        """(77, D) embedding of a caption, encoded alone, so that its neighbours don't matter."""
        return self.pipeline.encode_prompt(text, self.pipeline.device, 1, False)[0][0]
