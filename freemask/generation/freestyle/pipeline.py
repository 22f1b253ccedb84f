"""FreestyleNet as a diffusers pipeline: masks and words in, images out."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.schedulers import DPMSolverMultistepScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from freemask import watchdog
from freemask.errors import InputError
from freemask.generation.freestyle.attention import Visibility, rectify, resolutions, visibilities
from freemask.generation.prompt import Captions, Part, Prompt, present_labels

TOKENIZER = Path(__file__).resolve().parents[3] / "resources" / "miniature-generator" / "tokenizer"  # CLIP's
CACHED_CONTEXTS = 1024  # captions whose embeddings are cached: 0.2 GB at Stable Diffusion's width, in float32


def seeded(name: str) -> torch.Generator:
    """A generator on the CPU, seeded with the first 63 bits of SHA-256 of a name; the same everywhere."""
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def noise_for(mask_id: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Initial noise of one image, (C, h, w) float32: a function of mask and seed and nothing else."""
    return torch.randn(shape, generator=seeded(f"{mask_id}:{seed}"))


def noise_of(mask_ids: Sequence[str], seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """`noise_for` of a batch: (B, C, h, w) float32."""
    return torch.stack([noise_for(name, seed, shape) for name, seed in zip(mask_ids, seeds, strict=True)])


class Prepared(NamedTuple):
    """A batch ready to be sampled, on the device: noise (B, C, h, w); context and masks of the guided pass's 2B."""

    noise: torch.Tensor
    context: torch.Tensor
    masks: Visibility


class FreestylePipeline(DiffusionPipeline):
    """Stable Diffusion 1.x (or the miniature) with rectified cross-attention.

    Components: vae, text_encoder, tokenizer, unet, scheduler, as in StableDiffusionPipeline.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
    ):
        super().__init__()
        found, expected = len(tokenizer), text_encoder.config.vocab_size
        if found != expected:  # where files are missing, transformers makes a tokenizer of 2 tokens
            raise InputError(
                f"tokenizer of {found} tokens, the text encoder has {expected}; copy {TOKENIZER} beside it"
            )
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        rectify(self.unet)
        self.prompt = Captions(tokenizer)
        self._context = lru_cache(CACHED_CONTEXTS)(self._encode)

    def forget_contexts(self) -> None:
        """Drop the cached text embeddings. Needed when the text encoder's weights change."""
        self._context.cache_clear()

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(
        self,
        labels: np.ndarray,
        words: Mapping[int, str],
        mask_ids: Sequence[str],
        seeds: Sequence[int],
        ignored: int,
        steps: int = 50,
        guidance_scale: float = 2.0,
        parts: Sequence[Sequence[Part]] | None = None,
    ) -> np.ndarray:
        """Synthesize one image per mask and seed.

        Args:
            labels: (B, H, W) uint8 raw labels.
            words: Word of each raw label.
            mask_ids: B names; with the seeds they determine the noise.
            seeds: B seeds.
            ignored: Raw label left out of the caption.
            steps: Sampling steps.
            guidance_scale: Classifier-free guidance; 1 is none.
            parts: Extra text in each image's prompt.
        Returns: (B, H, W, 3) uint8; an image in which a NaN or an infinity came up is black.
        Raises: InputError for sizes, labels or settings that can't be sampled.
        """
        check_sampling(self.scheduler, steps, guidance_scale)  # before captions are encoded
        return self.generate(self.prepare(labels, words, mask_ids, seeds, ignored, parts), steps, guidance_scale)

    @torch.no_grad()
    def prepare(
        self,
        labels: np.ndarray,
        words: Mapping[int, str],
        mask_ids: Sequence[str],
        seeds: Sequence[int],
        ignored: int,
        parts: Sequence[Sequence[Part]] | None = None,
    ) -> Prepared:
        """Make what precedes sampling, in any thread; arguments and errors as above."""
        parts = [()] * len(mask_ids) if parts is None else parts
        check_request(labels, words, mask_ids, seeds, ignored, parts, self.downscale)
        each = zip(labels, mask_ids, parts, strict=True)
        prompts = [self.prompt(mask, words, ignored, name, extra) for mask, name, extra in each]
        both = [self.empty_prompt()] * len(prompts) + prompts  # the unconditional half sees every token
        masks = self.visibility(np.concatenate([labels, labels]), both)
        return Prepared(self.initial_noise(mask_ids, seeds, labels.shape[1:]), self.encode_prompts(both), masks)

    def generate(self, prepared: Prepared, steps: int, guidance_scale: float) -> np.ndarray:
        """Sample the images of a prepared batch, (B, H, W, 3) uint8; see `check_sampling`."""
        check_sampling(self.scheduler, steps, guidance_scale)
        return self.decode_latents(self.denoise(*prepared, steps, guidance_scale))

    @torch.no_grad()
    def denoise(
        self, noise: torch.Tensor, context: torch.Tensor, masks: Visibility, steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """Sample latents (B, C, h, w) from noise of that shape; both float32, the UNet computes in its own dtype.

        Args: context: (2B, 77, D) text embeddings, unconditional half first; masks: `visibilities` of the 2B.
        """
        self.scheduler.set_timesteps(steps)  # on the CPU, where looking a number up doesn't wait for the GPU
        latents = noise * self.scheduler.init_noise_sigma
        for t, t_device in zip(self.scheduler.timesteps, self.scheduler.timesteps.to(noise.device), strict=True):
            watchdog.beat()
            both = self.scheduler.scale_model_input(torch.cat([latents, latents]), t).to(self.unet.dtype)
            predicted = self.unet(both, t_device, context, cross_attention_kwargs={"visibility": masks}).sample
            unconditional, conditional = predicted.float().chunk(2)
            guided = unconditional + guidance_scale * (conditional - unconditional)
            latents = self.scheduler.step(guided, t, latents, return_dict=False)[0]
        return latents

    def initial_noise(self, mask_ids: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
        """(B, C, h, w) float32 noise on the pipeline's device for masks of a size in pixels."""
        shape = (self.unet.config.in_channels, *(side // self.downscale for side in size))
        return noise_of(mask_ids, seeds, shape).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B, 77, D) last hidden states, cached; each caption is encoded alone, so its neighbours don't matter."""
        return torch.stack([self._context(tuple(prompt.tokens.tolist())) for prompt in prompts])

    def _encode(self, tokens: tuple[int, ...]) -> torch.Tensor:
        return self.text_encoder(torch.tensor([tokens], device=self.device)).last_hidden_state[0]

    def empty_prompt(self) -> Prompt:
        """The unconditional prompt: no words, every token visible to all."""
        return self.prompt(np.zeros((1, 1), np.uint8), {}, ignored=0, mask_id="")

    def visibility(self, labels: np.ndarray, prompts: Sequence[Prompt]) -> Visibility:
        """The boolean masks of a batch at every resolution of the UNet, on the device."""
        token_labels = torch.from_numpy(np.stack([prompt.token_labels for prompt in prompts])).to(self.device)
        sizes = resolutions(self.unet, *(side // self.downscale for side in labels.shape[1:]))
        return visibilities(torch.from_numpy(labels).to(self.device), token_labels, sizes)

    def _latent_statistics(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(1, C, 1, 1) mean and deviation of the latent channels, if the autoencoder's config has them."""
        mean, deviation = (getattr(self.vae.config, key, None) for key in ("latents_mean", "latents_std"))
        if mean is None or deviation is None:
            return None
        return tuple(torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (mean, deviation))

    def encode_images(self, images: torch.Tensor, generators: list[torch.Generator] | None = None) -> torch.Tensor:
        """(B, 3, H, W) in -1..1 to the latents (B, C, h, w) that diffusion sees.

        generators: One per image, for the autoencoder's noise; None: torch's own.
        """
        latents = self.vae.encode(images).latent_dist.sample(generators)
        statistics = self._latent_statistics()
        if statistics is not None:
            latents = (latents - statistics[0]) / statistics[1]
        return latents * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> np.ndarray:
        """Latents (B, C, h, w) to images (B, H, W, 3) uint8; an image with a NaN or an infinity becomes black."""
        latents = latents / self.vae.config.scaling_factor
        statistics = self._latent_statistics()
        if statistics is not None:
            latents = latents * statistics[1] + statistics[0]
        return to_pixels(self.vae.decode(latents.to(self.vae.dtype)).sample)


def check_request(labels, words, mask_ids, seeds, ignored, parts, downscale: int) -> None:
    """Refuse masks that can't be sampled, before any work.

    Args: as FreestylePipeline's; downscale: Image pixels per latent pixel.
    Raises: InputError naming the mask, the size or the label.
    """
    if labels.ndim != 3 or labels.dtype != np.uint8 or labels.size == 0:
        raise InputError(f"labels of shape {labels.shape} and type {labels.dtype}, want (B, H, W) uint8")
    if not len(labels) == len(mask_ids) == len(seeds) == len(parts):
        found = f"{len(labels)} masks, {len(mask_ids)} mask ids, {len(seeds)} seeds, {len(parts)} lists of parts"
        raise InputError(f"{found}: give one of each per image")
    if labels.shape[1] % downscale or labels.shape[2] % downscale:
        raise InputError(f"mask of {labels.shape[1]}x{labels.shape[2]} pixels, want multiples of {downscale}")
    for mask, name in zip(labels, mask_ids, strict=True):
        unknown = [label for label in present_labels(mask, ignored) if label not in words]
        if unknown:
            raise InputError(f"mask {name}: label(s) {unknown} have no word; add them to the class table")


def check_sampling(scheduler: SchedulerMixin, steps: int, guidance_scale: float) -> None:
    """Raises: InputError for a number of steps or a guidance that the scheduler doesn't support."""
    noise = scheduler.config
    if not 1 <= steps <= noise.num_train_timesteps:
        raise InputError(f"steps = {steps}, want 1..{noise.num_train_timesteps}")
    multistep = isinstance(scheduler, DPMSolverMultistepScheduler)
    if noise.num_train_timesteps % steps and noise.timestep_spacing == "leading" and not multistep:
        raise InputError(
            f"steps = {steps} doesn't divide the {noise.num_train_timesteps} noise levels, so that the noisiest"
            " would be left out; use 10, 20, 25, 40, 50, 100, ... or the scheduler dpmsolver++"
        )
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise InputError(f"guidance_scale = {guidance_scale}, want 1 (no guidance) or more; the paper has 2.0")


def to_pixels(decoded: torch.Tensor) -> np.ndarray:
    """Decoded images (B, 3, H, W) in -1..1 to (B, H, W, 3) uint8; one with a NaN or an infinity becomes black."""
    decoded = decoded.float()
    finite = decoded.isfinite().all(dim=(1, 2, 3), keepdim=True)
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round()
    return torch.where(finite, pixels, 0).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
