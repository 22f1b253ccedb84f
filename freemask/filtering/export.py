"""A synthetic set as files of its own, for programs that don't know this workflow.

One folder serves three readers: those of ADE20K's layout (images/training, annotations/training), Hugging Face's
datasets (metadata.jsonl, and the head of the card README.md), and FiftyOne (two folders with files of equal names).
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import link, subfolder, sweep, write_atomic, write_changed
from freemask.filtering.sets import MaskFilter, mask_filters, read_filtered
from freemask.generation.prompt import present_labels
from freemask.images import png_bytes, read_mask
from freemask.parallel import map_files
from freemask.tables import read_table

IMAGES, MASKS = "images/training", "annotations/training"
MARK = ".freemask-export"  # of a folder that belongs to an export
FLAT = 10_000  # files in one folder that Hugging Face's hub accepts
SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]

CARD = """# {title}: synthetic images with dense annotations

{number:,} synthetic images, made by [FreeMask](https://arxiv.org/abs/2310.15160)'s method from masks of {title}. The
masks are those to train with: pixels that the filter doesn't trust, {share:.1%} of the labelled ones, have the label
{ignored}, "ignored".

- `{images}`: the images. `{masks}`: for each an 8-bit grey PNG of the same name, whose values are the labels below.
- `metadata.jsonl`: for each image its mask, the id of the real mask (`mask_id`) and the seed that it was made from, the
  share of its labelled pixels that is filtered (`filtered`, 0 to 1) and the words of its classes (`words`).
- `classes.tsv`: label, name, word and color of each class.

```python
from datasets import load_dataset
data = load_dataset("{folder}", split="train")  # image, mask, mask_id, seed, filtered, words

import fiftyone
data = fiftyone.Dataset.from_dir(
    dataset_type=fiftyone.types.ImageSegmentationDirectory,
    data_path="{folder}/{images}",
    labels_path="{folder}/{masks}",
)
```

The masks come from {title}, the images from a generator: the licences of both bind whoever publishes this. Add
`license` to the head of this file.

## How it was made

```yaml
{settings}```

## Classes

| label | name | word | pixels | filtered |
|---:|---|---|---:|---:|
{classes}
"""


def export_pairs(synthetic: Path, space: LabelSpace, folder: Path, processes: int) -> pd.DataFrame:
    """Link the images of a synthetic set into a folder, and write their masks as they are trained with.

    What is there already stays; images and masks of another set are removed.

    Args: synthetic: table of the set; folder: the export's.
    Returns: A row for each image: image_file_name, mask_file_name (in the folder), mask_id, seed, filtered, words.
    Raises: InputError for a folder that holds something else, or an image or mask that can't be read.
    """
    table = read_table(synthetic, ["image", "mask", "mask_id", "seed", "filtered"])
    names = [f"{row.mask_id}-{row.seed}" for row in table.itertuples()]
    if len(names) > FLAT:
        names = [f"{subfolder(mask_id)}/{name}" for mask_id, name in zip(table.mask_id, names, strict=True)]
    images = [f"{IMAGES}/{name}{Path(image).suffix}" for name, image in zip(names, table.image, strict=True)]
    masks = [f"{MASKS}/{name}.png" for name in names]
    _claim(folder, {*images, *masks})
    pairs = list(zip(table.image, images, table["mask"], masks, mask_filters(table), strict=True))
    words = map_files(partial(_export_pair, space=space, folder=folder), pairs, processes, "export", "image")
    columns = {"image_file_name": images, "mask_file_name": masks, "mask_id": table.mask_id, "seed": table.seed}
    return pd.DataFrame(columns | {"filtered": table.filtered, "words": list(words)})


def _claim(folder: Path, wanted: set[str]) -> None:
    """Mark a folder as an export's, and remove what an earlier one left in it.

    Raises: InputError for a folder of images that isn't marked.
    """
    if not (folder / MARK).exists() and any((folder / kind).exists() for kind in (IMAGES, MASKS)):
        raise InputError(f"{folder}: holds {IMAGES} or {MASKS} that aren't an export's; give another folder")
    write_atomic(folder / MARK, b"Files that no longer belong to the export are removed from here.\n")
    for kind in (IMAGES, MASKS):
        for parent, _, names in os.walk(folder / kind, topdown=False):
            sweep(Path(parent))
            for name in names:
                path = Path(parent, name)
                if not name.endswith(".tmp") and path.relative_to(folder).as_posix() not in wanted:
                    path.unlink()
            if not os.listdir(parent):
                os.rmdir(parent)


def _export_pair(pair: tuple[str, str, str, str, MaskFilter | None], space: LabelSpace, folder: Path) -> list[str]:
    """Export an image and its mask, each from one path to another; returns the words of the mask's classes."""
    image, to_image, mask, to_mask, mask_filter = pair
    if not Path(image).exists():
        raise InputError(f"{image}: no such image; run verify, then make it again")
    link(image, folder / to_image)
    write_changed(folder / to_mask, png_bytes(read_filtered(mask, mask_filter, space)))
    words = space.words_by_label()
    return [words[label] for label in present_labels(read_mask(mask), space.ignored)]


def metadata(rows: pd.DataFrame) -> bytes:
    """A line of JSON for each image; datasets makes the columns image and mask of *_file_name."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows.to_dict("records")]
    return "".join(f"{line}\n" for line in lines).encode()


def card(title: str, rows: pd.DataFrame, shares: pd.DataFrame, space: LabelSpace, settings: Any, folder: Path) -> str:
    """The card: a head in YAML that Hugging Face's hub and datasets read, and a description.

    Args: title: name of the data set; rows: made by export_pairs; shares: table of label, pixels, filtered, share of
        each class (synthetic_set); settings: how the images were made; folder: the export's, for examples.
    """
    size = next((name for limit, name in SIZES if len(rows) < limit), "1M<n<10M")
    files = {"split": "train", "path": ["metadata.jsonl", f"{IMAGES}/**", f"{MASKS}/**"]}
    head = {
        "pretty_name": f"{title}, synthetic",
        "task_categories": ["image-segmentation"],
        "tags": ["synthetic", "semantic-segmentation", "freemask"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [files]}],
    }
    classes = shares.assign(word=space.words)
    lines = [
        f"| {row.label} | {row.name} | {row.word} | {row.pixels:,} | {f'{row.share:.1%}' if row.pixels else ''} |"
        for row in classes.itertuples(index=False)
    ]
    text = CARD.format(
        title=title,
        number=len(rows),
        share=shares.filtered.sum() / shares.pixels.sum(),
        ignored=space.ignored,
        images=IMAGES,
        masks=MASKS,
        folder=folder.name,
        settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
        classes="\n".join(lines),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{text}"
