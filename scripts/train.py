"""Train a segmentor from a resolved config; see `train`."""

from pathlib import Path

from freemask import cli, segmentation


def train(*, config: Path, weights: Path, threads: cli.Positive | None = None) -> None:
    """Train a segmentor from a resolved config; writes its weights (a state_dict, loadable with weights_only).

    If the config validates during training, the best weights by mIoU are written beside them: best.pth, best.json.
    Training resumes from the last readable checkpoint in the work folder that was made from the same config, tables and
    initial weights. On one core, the same inputs give the same weights. Several GPUs:
    python -m freemask.devices --gpus N -- torchrun --standalone --nproc-per-node N scripts/train.py ... (N free ones).

    Args:
        config: Config from training_config.
        weights: Output, a state_dict.
        threads: CPU threads of torch (default: torch's choice).
    """
    from mmengine.dist import is_main_process

    from freemask.segmentation import checkpoints, runner
    from freemask.segmentation.interruptions import remove_checkpoints
    from freemask.stopping import Stop

    runner.pick_device(threads)
    settings = runner.read_config(config)
    state = runner.train(settings)
    if is_main_process():
        with Stop() as stop:  # what is left takes seconds: SIGTERM waits for it
            steps = settings.train_cfg.max_iters // settings.experiment.iterations
            checkpoints.hand_out_best(settings.work_dir, weights.with_name("best.pth"), steps)
            checkpoints.write_weights(weights, state)
            if not stop.requested:  # else this job may still count as failed, and its next attempt ends at once
                remove_checkpoints(settings.work_dir)


if __name__ == "__main__":
    cli.run(train, gpus=1, hidden=segmentation.HIDDEN)
