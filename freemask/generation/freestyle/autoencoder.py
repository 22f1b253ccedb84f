"""Training the miniature generator's autoencoder (Stable Diffusion brings its own)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from freemask.cli import bar, progress, tell


@dataclass(frozen=True)
class AutoencoderSettings:
    """How the autoencoder is trained.

    kl_weight: Weight of the KL term per latent value; small, since it limits only the scale.
    crop: Side of the random crops of the first four fifths of the steps [pixels]. The last fifth sees whole images, as
        sampling does.
    """

    steps: int
    batch_size: int
    learning_rate: float
    kl_weight: float
    crop: int
    seed: int


def train_autoencoder(vae: AutoencoderKL, images: np.ndarray, settings: AutoencoderSettings, device: str) -> None:
    """Train `vae` in place on images (N, H, W, 3) uint8; then set its per-channel latent mean and deviation.

    The loss is L1 + L1 of the image gradients (keeps edges) + kl_weight * KL, nats per latent value.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    vae.to(device).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, settings.learning_rate / 100)
    with bar("autoencoder", settings.steps, "step") as shown:
        for step in range(settings.steps):
            crop = settings.crop if step < 0.8 * settings.steps else images.shape[1]
            batch = to_unit(_crops(rng, images, settings.batch_size, crop)).to(device)
            with torch.autocast(device, torch.bfloat16):
                posterior = vae.encode(batch).latent_dist
                decoded = vae.decode(posterior.sample()).sample.float()
            kl = posterior.kl().mean() / posterior.mean[0].numel()
            loss = F.l1_loss(decoded, batch) + _gradient_loss(decoded, batch) + settings.kl_weight * kl
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            shown.update()
            if step % 500 == 0 or step == settings.steps - 1:
                psnr = 10 * torch.log10(4 / F.mse_loss(decoded.detach(), batch)).item()  # of images in -1..1
                tell(f"autoencoder step {step}: loss {loss.item():.4f}, PSNR {psnr:.1f} dB")
    vae.eval()
    _record_statistics(vae, images[:2048], settings.batch_size, device)


def _crops(rng: np.random.Generator, images: np.ndarray, count: int, side: int) -> np.ndarray:
    """(count, side, side, 3) crops of random images, at multiples of four pixels, where latents begin."""
    corners = 4 * rng.integers(0, (images.shape[1] - side) // 4 + 1, size=(count, 2))
    chosen = rng.integers(len(images), size=count)
    return np.stack([images[i, y : y + side, x : x + side] for i, (y, x) in zip(chosen, corners, strict=True)])


def to_unit(images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _gradient_loss(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return sum(F.l1_loss(decoded.diff(dim=dim), target.diff(dim=dim)) for dim in (2, 3))


@torch.no_grad()
def encode_stream(
    encode: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray, device: str, seed: int
) -> np.ndarray:
    """Latents of all images, (N, C, h, w) float16: encoded once, since the stream isn't augmented.

    seed: Seed of the autoencoder's noise, so that a resumed training sees the same latents.
    """
    torch.manual_seed(seed)
    starts = progress(range(0, len(images), 64), "encoding the stream", "x64 scenes")
    batches = (to_unit(images[start : start + 64]).to(device) for start in starts)
    return np.concatenate([encode(batch).half().cpu().numpy() for batch in batches])


@torch.no_grad()
def _record_statistics(vae: AutoencoderKL, images: np.ndarray, batch_size: int, device: str) -> None:
    """Record the mean and deviation of every latent channel, so that diffusion sees unit variance."""
    batches = (to_unit(images[start : start + batch_size]) for start in range(0, len(images), batch_size))
    latents = torch.cat([vae.encode(batch.to(device)).latent_dist.mean.float().cpu() for batch in batches])
    found = {"latents_mean": latents.mean((0, 2, 3)), "latents_std": latents.std((0, 2, 3))}
    rounded = {name: [round(value, 5) for value in values.tolist()] for name, values in found.items()}
    vae.register_to_config(**rounded, scaling_factor=1.0)
