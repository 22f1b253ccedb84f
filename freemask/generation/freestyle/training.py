"""Training a mask-to-image UNet with rectified attention: the miniature from scratch, Stable Diffusion 1.x fine-tuned.

One code for both (accelerate): EMA, gradient accumulation, mixed precision, gradient checkpointing, resume, prompt
dropout for classifier-free guidance, logs of losses and samples.

Noise, noise level, dropout and mirroring of a pair follow from the seed and the pair's position in one stream, which
accumulated parts, processes and resumed runs share.
"""

import atexit
import copy
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from diffusers.utils.torch_utils import randn_tensor
from torch.utils.data import DataLoader, Dataset

from freemask.cli import bar, tell
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import read_json, write_atomic, write_json
from freemask.generation.freestyle.autoencoder import AutoencoderSettings, to_unit
from freemask.generation.freestyle.pairs import Batch, PairStream, draw, numbers, positions, stack
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.prompt import Prompt
from freemask.images import png_bytes
from freemask.stopping import Stop, ignore_sigterm, kill_loaders
from freemask.weights import refuse_emulated_bfloat16


@dataclass(frozen=True)
class TrainingSettings:
    """How the UNet is trained.

    batch_size: Images per optimizer step and process, batch_size / gradient_accumulation at a time.
    prompt_dropout: Share of images trained without caption and rectification, which guidance needs.
    mixed_precision: no, fp16 or bf16.
    checkpoint_every, sample_every: Optimizer steps; 0 is never.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    ema_decay: float
    prompt_dropout: float
    seed: int
    gradient_accumulation: int = 1
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    train_text_encoder: bool = False
    decay_learning_rate: bool = False
    flip: bool = True
    workers: int = 0
    checkpoint_every: int = 0
    sample_every: int = 0

    def __post_init__(self) -> None:
        parts, dropout = self.gradient_accumulation, self.prompt_dropout
        if self.batch_size % parts:
            raise InputError(f"gradient_accumulation {parts} doesn't divide batch_size {self.batch_size}")
        if not 0 <= dropout < 1:
            raise InputError(f"prompt_dropout {dropout}, want a share in 0..1 (the paper's family uses 0.1)")


def split_settings(settings: dict) -> tuple[TrainingSettings, dict | None, AutoencoderSettings | None]:
    """Split a generator's `training` entry into settings of the UNet, the stream of scenes, and the autoencoder.

    Raises: InputError where neither or both of init and stream are given.
    """
    others = ("stream", "autoencoder", "init", "init_address")
    plain = {key: value for key, value in settings.items() if key not in others}
    if ("init" in settings) == ("stream" in settings):
        raise InputError("generator training: give either init (fine-tune a folder) or stream (the miniature)")
    autoencoder = settings.get("autoencoder")
    if autoencoder is not None:
        autoencoder = AutoencoderSettings(**autoencoder, seed=settings["seed"])
    return TrainingSettings(**plain), settings.get("stream"), autoencoder


def begin(folder: Path, made_from: dict) -> None:
    """Empty the folder of a training that began with other settings, classes, pairs or initial weights.

    Otherwise training resumes. `made_from` is a JSON-able value of all that determines the weights.
    """
    stamp = folder / "made_from.json"
    if folder.exists() and not (stamp.exists() and read_json(stamp) == made_from):
        shutil.rmtree(folder)
    write_json(stamp, made_from)


def make_accelerator(settings: TrainingSettings) -> Accelerator:
    """Make the Accelerator of a training.

    Raises: InputError for arithmetic that the machine doesn't have.
    """
    made = Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation,
        step_scheduler_with_optimizer=False,
    )
    if settings.mixed_precision == "fp16" and made.device.type == "cpu":  # accelerate would use float32
        raise InputError("mixed_precision fp16 needs a GPU, and there is none; use bf16 or no")
    if settings.mixed_precision == "bf16":
        refuse_emulated_bfloat16()
    return made


class GeneratorTrainer:
    """Trains the UNet of a pipeline in place, and the text encoder if requested; `folder` holds the state."""

    def __init__(
        self,
        pipeline: FreestylePipeline,
        words: Mapping[int, str],
        ignored: int,
        settings: TrainingSettings,
        folder: Path,
    ):
        self.pipeline, self.words, self.ignored = pipeline, words, ignored
        self.settings, self.folder = settings, folder
        self.accelerator = make_accelerator(settings)
        device = self.accelerator.device
        pipeline.vae.to(device).requires_grad_(False)
        pipeline.text_encoder.to(device).requires_grad_(settings.train_text_encoder)
        if settings.gradient_checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
        self.noise = DDPMScheduler.from_config(pipeline.scheduler.config)
        trained = [pipeline.unet, *[pipeline.text_encoder] * settings.train_text_encoder]
        parameters = self.parameters = [weights for network in trained for weights in network.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=1e-2)
        self.unet, self.optimizer = self.accelerator.prepare(pipeline.unet, optimizer)
        self.text_encoder = pipeline.text_encoder
        if settings.train_text_encoder:
            self.text_encoder = self.accelerator.prepare(self.text_encoder)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.ema = EMAModel(parameters, decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
        self.ema.to(device)
        self.step = self.begun = self.saved = 0  # steps made; those of an earlier run; those of the last state

    def _rate(self, step: int) -> float:
        """Linear warm-up, then constant or a cosine down to a hundredth."""
        warm = min(1.0, (step + 1) / max(1, self.settings.warmup))
        if not self.settings.decay_learning_rate:
            return warm
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.settings.steps))))

    def train(self, pairs: Dataset, sample: Callable[[int], None] | None = None, stop: Stop | None = None) -> None:
        """Train to settings.steps, from the last state in `folder` if there is one.

        Args: pairs: images or latents with their masks; sample: called with the step every settings.sample_every steps,
            with EMA weights loaded; stop: ends the training after the current step, with a state to resume from.
        Raises: Terminated after SIGTERM; InputError where there are no pairs, or the loss is no longer finite.
        """
        settings, processes = self.settings, self.accelerator
        stream = PairStream(pairs, settings.seed, settings.flip)
        self._resume()
        steps, parts = range(self.step, settings.steps), settings.gradient_accumulation
        rank, ranks = processes.process_index, processes.num_processes
        mine = positions(steps, parts, settings.batch_size // parts, rank, ranks)
        losses: list[torch.Tensor] = []
        workers = {"num_workers": settings.workers, "worker_init_fn": ignore_sigterm}
        loader = DataLoader(stream, batch_sampler=mine, collate_fn=stack, **workers)
        if settings.workers:
            atexit.register(kill_loaders)
        with bar("generator", settings.steps, "step") as shown:
            shown.update(self.step)
            for batch in loader:
                with self.accelerator.accumulate(self.unet, self.text_encoder):
                    losses.append(self._loss_step(batch))
                if self.accelerator.sync_gradients:
                    self.step += 1
                    shown.update()
                    self._after_step(losses, sample)
                    self._end_if_requested(stop)
        self.ema.copy_to(self.parameters)

    def _loss_step(self, batch: Batch) -> torch.Tensor:
        """One forward and backward pass; returns the detached mean squared error."""
        device, levels = self.accelerator.device, self.noise.config.num_train_timesteps
        drawn = [numbers("noise", self.settings.seed, position) for position in batch.positions]
        with torch.no_grad():
            latents = self._latents(batch.images, drawn)
            prompts = [self._prompt(*each) for each in zip(batch.labels, batch.names, batch.positions, strict=True)]
            tokens = torch.from_numpy(np.stack([prompt.tokens for prompt in prompts])).to(device)
            masks = self.pipeline.visibility(batch.labels, prompts)
        steps = torch.cat([torch.randint(levels, (1,), generator=generator) for generator in drawn]).to(device)
        noise = randn_tensor(latents.shape, drawn, device, latents.dtype)
        noisy = self.noise.add_noise(latents, noise, steps)
        with self.accelerator.autocast():
            context = self.text_encoder(tokens).last_hidden_state
            predicted = self.unet(noisy, steps, context, cross_attention_kwargs={"visibility": masks}).sample
        velocity = self.noise.config.prediction_type == "v_prediction"
        target = self.noise.get_velocity(latents, noise, steps) if velocity else noise
        loss = F.mse_loss(predicted.float(), target.float())
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _latents(self, images: np.ndarray, drawn: list[torch.Generator]) -> torch.Tensor:
        """Encode images (B, H, W, 3) uint8; latents (B, C, h, w) float16 pass through."""
        if images.dtype == np.uint8:
            return self.pipeline.encode_images(to_unit(images).to(self.accelerator.device), drawn)
        return torch.from_numpy(images).to(self.accelerator.device, torch.float32)

    def _prompt(self, mask: np.ndarray, name: str, position: int) -> Prompt:
        """The mask's caption; or, for dropout, the empty one without rectification."""
        if draw("dropout", self.settings.seed, position) < self.settings.prompt_dropout:
            return self.pipeline.empty_prompt()
        return self.pipeline.prompt(mask, self.words, self.ignored, name)

    def _after_step(self, losses: list[torch.Tensor], sample: Callable[[int], None] | None) -> None:
        self.schedule.step()
        self.ema.step(self.parameters)
        if self.step % 100 == 0 or self.step == self.settings.steps:
            mean = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
            losses.clear()
            if not np.isfinite(mean):
                raise InputError(f"generator training: loss {mean} at step {self.step}; lower the learning rate")
            if self.accelerator.is_main_process:
                rate = self.schedule.get_last_lr()[0]
                self.folder.mkdir(parents=True, exist_ok=True)
                with open(self.folder / "loss.jsonl", "a") as file:
                    file.write(json.dumps({"step": self.step, "loss": round(mean, 6), "learning_rate": rate}) + "\n")
            if self.step % 1000 == 0:
                tell(f"generator step {self.step}: loss {mean:.4f}")
        due = self.settings.sample_every and self.step % self.settings.sample_every == 0
        if sample and due and self.accelerator.is_main_process:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
            sample(self.step)
            self.ema.restore(self.parameters)
        if self.settings.checkpoint_every and self.step % self.settings.checkpoint_every == 0:
            self._save()  # after the samples, so that a kill in between loses none

    def _end_if_requested(self, stop: Stop | None) -> None:
        """End after SIGTERM to any process, all together, with a state of this step. The last step ends anyway."""
        if stop is None or self.step == self.settings.steps:
            return
        requested = torch.tensor(float(stop.requested), device=self.accelerator.device)
        if not (stop.requested if self.accelerator.num_processes == 1 else self.accelerator.reduce(requested).item()):
            return
        if self.saved != self.step:
            self._save()
        self.accelerator.wait_for_everyone()  # torchrun ends the others with the first that ends
        stop.saved = self.step - self.begun
        state = f"saved step {self.step} of {self.settings.steps} in {self.folder}"
        stop.end(state, self.accelerator.is_main_process)

    def _save(self) -> None:
        """Save all that resuming needs under a new name, then move the pointer and delete older states."""
        folder, self.saved = self.folder / f"state-{self.step}", self.step
        self.accelerator.save_state(str(folder))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = {"ema": copy.deepcopy(self.ema.state_dict()), "schedule": self.schedule.state_dict()}
            torch.save(state, folder / "ema.pt")
            write_json(self.folder / "latest.json", {"step": self.step})
            for old in self.folder.glob("state-*"):
                if old != folder:
                    shutil.rmtree(old)

    def _resume(self) -> None:
        pointer = self.folder / "latest.json"
        if not pointer.exists():
            return
        self.step = self.begun = self.saved = read_json(pointer)["step"]
        folder = self.folder / f"state-{self.step}"
        self.accelerator.load_state(str(folder))
        state = torch.load(folder / "ema.pt", weights_only=True, map_location="cpu")  # not accelerate's "cpu:0"
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        self.schedule.load_state_dict(state["schedule"])
        log = self.folder / "loss.jsonl"
        if self.accelerator.is_main_process and log.exists():  # steps after the last state are repeated
            kept = [line for line in log.read_text().splitlines(True) if json.loads(line)["step"] <= self.step]
            write_atomic(log, "".join(kept).encode())
        tell(f"resuming the generator at step {self.step}")


def sample_sheets(
    pipeline: FreestylePipeline, examples: list[tuple[np.ndarray, np.ndarray]], label_space: LabelSpace, folder: Path
) -> Callable[[int], None]:
    """Make a function that generates images of the examples' masks and writes them to folder/samples/step-<n>.png.

    A row per example: mask, real image, synthetic images of three seeds.

    Args: pipeline: the generator in training; examples: images (H, W, 3) and masks (H, W), uint8.
    """
    images, masks = (np.stack(part) for part in zip(*examples, strict=True))
    names = [f"sample{index}" for index in range(len(masks))]

    def sample(step: int) -> None:
        pipeline.forget_contexts()
        columns = [label_space.colorize(masks), images]
        for seed in range(3):
            seeds = [seed] * len(masks)
            columns.append(pipeline(masks, label_space.words_by_label(), names, seeds, label_space.ignored, steps=20))
        sheet = np.concatenate([column.reshape(-1, *column.shape[2:]) for column in columns], axis=1)
        write_atomic(folder / "samples" / f"step-{step}.png", png_bytes(sheet))
        pipeline.forget_contexts()

    return sample
