"""Fetch a file or a folder of weights; see `fetch_weights`."""

from pathlib import Path

from freemask import cli


def fetch_weights(*, url: str, sha256: str | None = None, weights: Path) -> None:
    """Fetch weights: a generator's checkpoint or folder, or a model's initial weights. Needs a network.

    Args:
        url: Address, also on Google Drive, or hf://owner/name@commit.
        sha256: SHA-256 of the file, or its first hex digits; without it, the first download's is recorded.
        weights: Output: the file, or model_index.json of the folder.
    """
    from freemask.data.fetch import fetch_file, fetch_folder

    if url.startswith("hf://"):
        fetch_folder(url, weights.parent)
    else:
        fetch_file(url, weights, sha256)


if __name__ == "__main__":
    cli.run(fetch_weights, watched=False)  # downloads have time-outs of their own
