"""List or delete made files that nothing uses any more; see `unused`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def unused(*, folder: Path, plans: cli.Json, files: Path, delete: bool = False) -> None:
    """List made files that nothing uses any more: images in no plan, masks of no table, maps of a former scorer.

    Images that a plan of another run of the data set holds are used.

    Args:
        folder: results/<dataset>.
        plans: Plans that the synthetic sets use, by generator, JSON.
        files: Output: table of path, bytes, why.
        delete: Delete what is listed.
    """
    import pandas as pd

    from freemask.generation.unused import Unused, find
    from freemask.tables import write_table

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; nothing was made yet, or the path is wrong")
    found = list(find(folder, plans))
    write_table(files, pd.DataFrame(found, columns=Unused._fields))
    size = sum(item.bytes for item in found)
    if delete:
        for item in found:
            Path(item.path).unlink(missing_ok=True)
    cli.tell(f"{folder}: {len(found):,} unused files, {size / 1e9:.3g} GB{', deleted' if delete else ''}; see {files}")


if __name__ == "__main__":
    cli.run(unused)
