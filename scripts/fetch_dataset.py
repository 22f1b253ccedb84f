"""Fetch and unpack a data set; see `fetch_dataset`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def fetch_dataset(*, dataset: str, root: Path, archives: cli.Json, folders: list[str]) -> None:
    """Fetch a data set's archives and unpack them below its root. Folders that hold files are left as they are.

    Archives are downloaded to <root>.archives and deleted when they are unpacked; the digest of an archive without a
    published digest stays there. Needs a network, and disk for an archive and its content at the same time.

    Args:
        dataset: Data set id, for messages.
        root: Output: folder of the raw data.
        archives: JSON list of objects with url, sha256, folder (in the archive) and unpack_to (below root).
        folders: Folders below root that must exist in the end.
    """
    from freemask.data.fetch import fetch_file, unpack
    from freemask.files import file_name

    for archive in archives:
        destination = root / archive["unpack_to"]
        if destination.is_dir() and any(destination.iterdir()):
            cli.tell(f"{destination}: there already, left as it is")
            continue
        path = Path(f"{root}.archives") / file_name(archive["url"])
        otherwise = f"or, if you have the data already, give their folder in data_roots.{dataset}"
        # JPEG and PNG files don't shrink in a zip: unpacked, they need as much disk again.
        fetch_file(archive["url"], path, archive.get("sha256"), otherwise, reserve=1)
        unpack(path, destination, archive.get("folder", ""))
        path.unlink()
        cli.tell(f"{destination}: unpacked")
    for folder in folders:
        if not (root / folder).is_dir():
            raise InputError(
                f"{root / folder}: not there, though {root} holds other files; move those away and fetch again, or give"
                f" the folder of the data in data_roots.{dataset}"
            )


if __name__ == "__main__":
    cli.run(fetch_dataset, watched=False)  # downloads have time-outs of their own
