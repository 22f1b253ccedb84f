"""Files that nothing uses any more are listed, and deleted on request; what a plan of any run holds stays."""

from pathlib import Path

import pytest
from command_line import run_script

from freemask.data.masks import mask_path
from freemask.errors import InputError
from freemask.generation.shard import image_path
from freemask.generation.unused import find

FOLDER, OTHER = Path("results/toy"), Path("results/toy@b")
IMAGES = FOLDER / "synthesis/noise/images"


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def image(mask_id: str, seed: int) -> Path:
    return image_path(IMAGES, mask_id, seed)


@pytest.fixture
def made(tmp_path, monkeypatch) -> set[str]:
    """A plan of masks a and b, another run's of c, and what was left behind; the latter."""
    monkeypatch.chdir(tmp_path)
    write(FOLDER / "plans/now.tsv", "mask_id\tseed\na\t42\nb\t42\nb\t43\n")
    write(OTHER / "plans/larger.tsv", "mask_id\tseed\nc\t42\n")
    write(OTHER / "synthesis/noise/larger/1-of-1.tsv", "mask_id\tseed\timage\tsha256\n")
    write(FOLDER / "masks.tsv", f"mask_id\tmask\na\t{mask_path(FOLDER / 'masks', 'a')}\n")
    write(
        FOLDER / "index/train.tsv", f"mask_id\tmask\tsource\na\t{mask_path(FOLDER / 'labels/train', 'a')}\traw/a.tif\n"
    )
    write(FOLDER / "margins/noise/now/1-of-1.tsv", f"margin\n{FOLDER}/margins/noise/new/a-42.png\n")
    write(FOLDER / "margins/noise/now~5-folds/1-of-1.tsv", f"margin\n{FOLDER}/margins/noise/folds/a-42.png\n")
    for name in ("1.tar", "1.index"):
        write(FOLDER / "margins/noise/folds" / name)
    for row in (("a", 42), ("b", 42), ("b", 43), ("c", 42)):
        write(image(*row))
    write(IMAGES / "settings.json")
    for folder in ("masks", "labels/train"):
        write(mask_path(FOLDER / folder, "a"))
    for name in ("1.tar", "1.index"):
        write(FOLDER / "margins/noise/new" / name)
    left = [image("a", 43), image("gone", 42)]
    left += [mask_path(FOLDER / folder, "gone") for folder in ("masks", "labels/train")]
    left += [FOLDER / "margins/noise/old" / name for name in ("1.tar", "1.index")]
    left += [FOLDER / f"{stage}/noise/former/1-of-1.tsv" for stage in ("synthesis", "filtered")]
    return {str(write(path)) for path in left}


def everything() -> set[str]:
    return {str(path) for path in Path("results").rglob("*") if path.is_file()}


def unused(**more):
    run_script("unused", folder=FOLDER, plans='{"noise": ["now", "never-made"]}', files=FOLDER / "unused.tsv", **more)


def test_what_is_listed_and_deleted(made, capfd):
    before = everything()
    unused()
    table = (FOLDER / "unused.tsv").read_text().splitlines()
    assert {line.split("\t")[0] for line in table[1:]} == made
    assert f"{len(made)} unused files" in "".join(capfd.readouterr())
    assert everything() == before | {str(FOLDER / "unused.tsv")}
    unused(delete=True)
    assert everything() == before - made | {str(FOLDER / "unused.tsv")}
    unused()
    assert len((FOLDER / "unused.tsv").read_text().splitlines()) == 1


def test_another_run_sees_the_plans_of_the_first(made):
    """Of run b: nothing that the first run's plans hold; what neither holds."""
    found = {path for path, _, _ in find(OTHER, {"noise": ["larger"]})}
    assert found == {str(image("a", 43)), str(image("gone", 42))}


def test_images_without_any_plan_are_not_all_listed(made):
    (FOLDER / "plans/now.tsv").unlink()
    with pytest.raises(InputError, match=r"none of noise's plans now is made.*snakemake results/toy/plans/now\.tsv"):
        list(find(FOLDER, {"noise": ["now"]}))
