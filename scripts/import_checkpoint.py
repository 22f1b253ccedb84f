"""Import an mmsegmentation checkpoint; see `import_checkpoint`."""

from pathlib import Path

from freemask import cli, segmentation


def import_checkpoint(*, checkpoint: Path, sha256: str | None = None, config: Path, weights: Path) -> None:
    """Import an mmsegmentation checkpoint: check its weights against the model and write them as a training does.

    Loading executes nothing that the file holds. Its names, shapes and (if it has them) classes must be the config's.

    Args:
        checkpoint: A .pth with a state_dict, or a state_dict itself.
        sha256: SHA-256 of the file, or its first hex digits (default: not checked).
        config: Config of the training that the checkpoint replaces.
        weights: Output, a state_dict.
    """
    from freemask.data.label_space import LabelSpace
    from freemask.segmentation.checkpoints import import_weights, write_weights
    from freemask.segmentation.runner import read_config

    settings = read_config(config)
    names = LabelSpace.read(settings.test_dataloader.dataset.label_space).names
    write_weights(weights, import_weights(settings, checkpoint, sha256, names))


if __name__ == "__main__":
    cli.run(import_checkpoint, hidden=segmentation.HIDDEN)
