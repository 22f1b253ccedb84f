"""FreestyleNet as a diffusers pipeline: masks and words in, images out."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from freemask.errors import InputError
from freemask.freestyle.attention import Visibility, rectify, resolutions, visibilities
from freemask.freestyle.prompt import TOKENS, Prompt, make_prompt, present_labels

SCHEDULERS = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}
# As the reference's samplers have it; any of these set otherwise is wrong by 1e-2 and more.
DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.0120,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}

KEPT_CONTEXTS = 512  # 236 kB each at Stable Diffusion's size in float32


def make_scheduler(name: str, prediction_type: str = "epsilon") -> SchedulerMixin:
    """The sampler of that name: plms (the paper's), ddim or dpmsolver++."""
    if name not in SCHEDULERS:
        raise InputError(f"scheduler {name!r} is not known; use one of {', '.join(SCHEDULERS)}")
    kind, options = SCHEDULERS[name]
    if kind is not DPMSolverMultistepScheduler:
        options = options | {"set_alpha_to_one": False}
    return kind(**DIFFUSION, **options, prediction_type=prediction_type)


def noise_for(mask_id: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Initial noise of one image, (C, h, w) float32: a function of mask and seed and nothing else.

    Drawn on the CPU by a generator seeded with the first 8 bytes of SHA-256 of "mask_id:seed".
    """
    digest = hashlib.sha256(f"{mask_id}:{seed}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(shape, generator=generator)


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
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        rectify(self.unet)
        self._contexts: dict[bytes, torch.Tensor] = {}

    def forget_contexts(self) -> None:
        """Drop the kept text embeddings, needed where the text encoder's weights changed."""
        self._contexts.clear()

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def use_scheduler(self, name: str) -> None:
        """Sample with plms, ddim or dpmsolver++ from now on."""
        self.scheduler = make_scheduler(name, self.scheduler.config.prediction_type)

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
    ) -> np.ndarray:
        """Synthesize one image per mask and seed.

        Args: labels: (B, H, W) uint8 raw labels; words: raw label -> word; ignored: raw label left out of the caption.
        Returns: (B, H, W, 3) uint8.
        Raises: InputError for sizes, labels or settings that can't be painted.
        """
        self._check(labels, words, mask_ids, seeds, ignored, steps, guidance_scale)
        prompts = [self.prompt(mask, words, ignored, name) for mask, name in zip(labels, mask_ids, strict=True)]
        context, masks = self.conditions(labels, prompts)
        latents = self.initial_noise(mask_ids, seeds, labels.shape[1:])
        return self.decode_latents(self.denoise(latents, context, masks, steps, guidance_scale))

    @torch.no_grad()
    def denoise(
        self, latents: torch.Tensor, context: torch.Tensor, masks: Visibility, steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """Sample from unit noise (B, C, h, w) to latents (B, C, h, w); context, masks: see `conditions`."""
        self.scheduler.set_timesteps(steps, device=self.device)
        latents = latents * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            unconditional, conditional = self.predict(latents, t, context, masks)
            guided = unconditional + guidance_scale * (conditional - unconditional)
            latents = self.scheduler.step(guided, t, latents, return_dict=False)[0]
        return latents

    def predict(
        self, latents: torch.Tensor, t: torch.Tensor | int, context: torch.Tensor, masks: Visibility
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The UNet's output at timestep t in one batched pass: unconditional and conditional, (B, C, h, w) each."""
        both = self.scheduler.scale_model_input(torch.cat([latents, latents]), t)
        predicted = self.unet(both, t, context, cross_attention_kwargs={"visibility": masks}).sample
        return predicted.chunk(2)

    def initial_noise(self, mask_ids: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
        """(B, C, h, w) noise on the pipeline's device, in its dtype."""
        shape = (self.unet.config.in_channels, size[0] // self.downscale, size[1] // self.downscale)
        noise = torch.stack([noise_for(name, seed, shape) for name, seed in zip(mask_ids, seeds, strict=True)])
        return noise.to(self.device, self.unet.dtype)

    def prompt(self, mask: np.ndarray, words: Mapping[int, str], ignored: int, mask_id: str) -> Prompt:
        """The caption of a mask; a warning names the mask where it doesn't fit."""
        return make_prompt(present_labels(mask, ignored), words, self.tokenizer, mask_id)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B, 77, D) last hidden states; each caption is encoded alone, and the latest KEPT_CONTEXTS are kept."""
        found = []
        for prompt in prompts:
            key = prompt.tokens.tobytes()
            if key not in self._contexts:
                tokens = torch.from_numpy(prompt.tokens)[None].to(self.device)
                self._contexts[key] = self.text_encoder(tokens).last_hidden_state[0]
                if len(self._contexts) > KEPT_CONTEXTS:
                    del self._contexts[next(iter(self._contexts))]
            found.append(self._contexts[key])
        return torch.stack(found)

    def empty_prompt(self) -> Prompt:
        """The unconditional prompt: no words, every token visible to all."""
        return make_prompt((), {}, self.tokenizer)

    def visibility(self, labels: np.ndarray, prompts: Sequence[Prompt]) -> Visibility:
        """The boolean masks of a batch at every resolution of the UNet, on the device."""
        token_labels = torch.from_numpy(np.stack([prompt.token_labels for prompt in prompts])).to(self.device)
        height, width = labels.shape[1] // self.downscale, labels.shape[2] // self.downscale
        sizes = resolutions(self.unet, height, width)
        return visibilities(torch.from_numpy(labels).to(self.device), token_labels, sizes)

    @torch.no_grad()
    def conditions(self, labels: np.ndarray, prompts: list[Prompt]) -> tuple[torch.Tensor, Visibility]:
        """Context (2 B, 77, D) and masks of the batched pass: unconditional half first, where every token is visible.

        Args: labels: (B, H, W) uint8 raw labels; prompts: one a mask.
        """
        nothing = [self.empty_prompt()] * len(prompts)
        context = self.encode_prompts([*nothing, *prompts])
        masks = self.visibility(np.concatenate([labels, labels]), [*nothing, *prompts])
        return context, masks

    def _latent_statistics(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(1, C, 1, 1) mean and deviation of the latent channels where the autoencoder's config has them."""
        mean, deviation = (getattr(self.vae.config, key, None) for key in ("latents_mean", "latents_std"))
        if mean is None or deviation is None:
            return None
        return tuple(torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (mean, deviation))

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in -1..1 to the latents (B, C, h, w) that diffusion sees."""
        latents = self.vae.encode(images).latent_dist.sample()
        statistics = self._latent_statistics()
        if statistics is not None:
            latents = (latents - statistics[0]) / statistics[1]
        return latents * self.vae.config.scaling_factor

    def decode_latents(self, latents: torch.Tensor) -> np.ndarray:
        """Latents (B, C, h, w) to images (B, H, W, 3) uint8; NaN stays visible as black."""
        latents = latents / self.vae.config.scaling_factor
        statistics = self._latent_statistics()
        if statistics is not None:
            latents = latents * statistics[1] + statistics[0]
        decoded = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().nan_to_num(0)
        return pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def _check(self, labels, words, mask_ids, seeds, ignored, steps, guidance_scale) -> None:
        if labels.ndim != 3 or labels.dtype != np.uint8 or 0 in labels.shape:
            raise InputError(f"labels of shape {labels.shape} and type {labels.dtype}, want (B, H, W) uint8")
        if not len(labels) == len(mask_ids) == len(seeds):
            raise InputError(
                f"{len(labels)} masks, {len(mask_ids)} mask ids, {len(seeds)} seeds: give one of each an image"
            )
        for seed in seeds:
            if not isinstance(seed, int | np.integer):
                raise InputError(f"seed {seed!r}, want a whole number: the noise is made from how it is written")
        unit = self.downscale * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if labels.shape[1] % unit or labels.shape[2] % unit:
            raise InputError(f"mask of {labels.shape[1]}x{labels.shape[2]} pixels, want multiples of {unit}")
        unknown = sorted(set(np.unique(labels).tolist()) - set(words) - {ignored})
        if unknown:
            raise InputError(f"masks {list(mask_ids)[:3]}: labels {unknown} have no word; add them to the class table")
        self._check_sampling(steps, guidance_scale)

    def _check_sampling(self, steps: int, guidance_scale: float) -> None:
        trained = self.scheduler.config.num_train_timesteps
        if not 1 <= steps <= trained // 2:
            raise InputError(f"steps = {steps}, want 1..{trained // 2}")
        if trained % steps and not isinstance(self.scheduler, DPMSolverMultistepScheduler):
            # timesteps are multiples of trained // steps: others would begin far below the noise that was trained
            near = min((n for n in range(1, trained // 2 + 1) if trained % n == 0), key=lambda n: abs(n - steps))
            raise InputError(f"steps = {steps} doesn't divide {trained}; use {near}, or the scheduler dpmsolver++")
        if not 1 <= guidance_scale < np.inf:
            raise InputError(f"guidance_scale = {guidance_scale}, want 1 (no guidance) or more; the paper has 2.0")


__all__ = ["SCHEDULERS", "TOKENS", "FreestylePipeline", "make_scheduler", "noise_for"]
