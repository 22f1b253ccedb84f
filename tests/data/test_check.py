"""Checking a data set: every kind of offender, the cache, the tables."""

import errno
import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import run_script
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from freemask import files, images, tables
from freemask.data import check as library
from freemask.data.check import read_file
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import MaskFormat
from freemask.errors import InputError
from freemask.images import ORIENTATION

CLASSES = "label\tname\tword\tcolor\n10\tsea\tsea\t#2060a0\n20\tship\tship\t#c02020\n200\tisland\tisland\t#30a040\n"


def label_space(classes):
    Path("classes.tsv").write_text(classes)
    LabelSpace.of_class_table("classes.tsv", 255).write("label_space.json")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Twelve good pairs of several sizes, indexed."""
    monkeypatch.chdir(tmp_path)
    label_space(CLASSES)
    for number in range(12):
        mask = np.full((4 + number % 3, 6), 10, np.uint8)
        mask[0, :2], mask[1, :3] = 255, 20
        files.write_atomic(f"images/{number:02d}.jpg", images.jpeg_bytes(np.zeros((*mask.shape, 3), np.uint8), 95))
        files.write_atomic(f"masks/{number:02d}.png", images.png_bytes(mask))
    index()
    return tmp_path


def index(**more):
    run_script("index_dataset", images="images", masks="masks", image_suffix=".jpg", mask_suffix=".png",
               index="index/train.tsv", **more)  # fmt: skip


def check(threads=1):
    """Check; the lines for people."""
    run_script("check_dataset", index="index/train.tsv", label_space="label_space.json",
               frequencies="check/train.tsv", offenders="check/train.offenders.tsv", cache="check/train.cache",
               threads=threads)  # fmt: skip


def save(array, path, **options):
    Image.fromarray(array).save(path, **options)


@pytest.mark.parametrize("threads", [1, 2])
def test_good_data_and_its_frequencies(data, threads, capfd, monkeypatch):
    monkeypatch.setattr("freemask.cli.SILENT", 0)
    check(threads)
    table = tables.read_table("check/train.tsv", ["label", "name", "pixels", "images"])
    # 12 masks of 6 columns and 4, 5, 6 rows (four of each): 360 pixels, of each mask 2 ignored and 3 ships
    assert table.label.tolist() == [10, 20, 200]
    assert table.pixels.tolist() == [360 - 12 * 5, 36, 0]
    assert table.images.tolist() == [12, 12, 0]
    assert not Path("check/train.offenders.tsv").exists()
    printed = capfd.readouterr().err
    assert "12 pairs are good, 24 files read; no pixel of 1 class(es): island" in printed
    assert "check train: 100%" in printed  # progress


def spoil():
    """Damage ten pairs, each in its own way."""
    Path("images/00.jpg").write_bytes(b"")
    cut = Path("images/01.jpg").read_bytes()
    Path("images/01.jpg").write_bytes(cut[: len(cut) - 40])
    save(np.zeros((6, 6, 3), np.uint8), "masks/02.png")
    save(np.full((4, 6), 10, np.uint16), "masks/03.png")
    save(np.full((5, 6), 11, np.uint8), "masks/04.png")
    save(np.full((6, 7), 10, np.uint8), "masks/05.png")
    save(np.full((4, 6), 255, np.uint8), "masks/06.png")
    save(np.full((5, 6), 10, np.uint8), "masks/07.png", format="JPEG")
    Path("images/08.jpg").write_text("<html>moved</html>")
    Path("masks/09.png").unlink()


def test_one_report_lists_all_offenders(data, capfd):
    spoil()
    with pytest.raises(InputError) as error:
        check(2)
    table = tables.read_table("check/train.offenders.tsv", ["path", "what", "remedy"])
    expected = {
        "images/00.jpg": "empty file", "images/01.jpg": "truncated or damaged", "masks/02.png": "colours (mode RGB)",
        "masks/03.png": "16 bits", "masks/04.png": "label(s) [11]", "masks/05.png": "7x6 pixels",
        "masks/06.png": "no labelled pixel", "masks/07.png": "a JPEG", "images/08.jpg": "not a readable image",
        "masks/09.png": "no such file",
    }  # fmt: skip
    assert table.path.tolist() == list(expected)
    for (path, what), row in zip(expected.items(), table.itertuples(), strict=True):
        assert row.what.startswith(what), path
        assert row.remedy
        assert f"{path}: {what}" in str(error.value)
    assert not Path("check/train.tsv").exists()


def test_files_that_stand_alone_are_in_the_same_report(data, capfd):
    spoil()  # masks/09.png is gone: its image stands alone now
    Path("images/10.jpg").unlink()
    accepted = MaskFormat.of_labels(LabelSpace.read("label_space.json")).to_json()
    report = {"mask_format": json.dumps(accepted), "offenders": "check/train.offenders.tsv",
              "cache": "check/train.cache"}  # fmt: skip
    with pytest.raises(InputError, match=r"^11 problem\(s\) in 10 pairs, all in check/train.offenders.tsv"):
        index(**report)
    table = tables.read_table("check/train.offenders.tsv", ["path", "what", "remedy"])
    assert table.path.tolist()[:3] == ["images/09.jpg", "masks/10.png", "images/00.jpg"]
    assert table.what.tolist()[:3] == ["image without a mask", "mask without an image", "empty file"]
    assert table.remedy[0] == "put <id>.png into masks or take the image out"
    for path in table.path:
        Path(path).unlink()
    for number in (0, 1, 8):
        Path(f"masks/{number:02d}.png").unlink()
    for number in (2, 3, 4, 5, 6, 7):
        Path(f"images/{number:02d}.jpg").unlink()
    index(**report)
    capfd.readouterr()
    check()
    assert "1 pairs are good, all files read before" in capfd.readouterr().err  # the report's check remembered them
    assert not Path("check/train.offenders.tsv").exists()


def test_a_rerun_reads_what_changed_and_nothing_else(data, capfd, monkeypatch):
    spoil()
    with pytest.raises(InputError):
        check()
    stamps = Path("check/train.cache").stat()
    with pytest.raises(InputError):
        check()  # nothing fixed: the same report, from memory
    assert Path("check/train.cache").stat().st_size == stamps.st_size
    good = {"jpg": Path("images/11.jpg").read_bytes(), "png": Path("masks/11.png").read_bytes()}
    for number in range(10):
        for suffix, folder in (("jpg", "images"), ("png", "masks")):
            if number not in (3, 4, 5):
                Path(f"{folder}/{number:02d}.{suffix}").write_bytes(good[suffix])
    with pytest.raises(InputError, match=r"^3 problem\(s\) in 12 pairs"):
        check()
    for number in (3, 4, 5):  # of 4, 5, 6 rows
        mask = np.full((4 + number % 3, 6), 10, np.uint8)
        save(mask, f"masks/{number:02d}.png")
    capfd.readouterr()
    check()
    assert "12 pairs are good, 3 files read" in capfd.readouterr().err
    assert not Path("check/train.offenders.tsv").exists()
    read = []
    monkeypatch.setattr(library, "read_file", lambda kind, path: read.append(path))
    check()
    assert "12 pairs are good, all files read before" in capfd.readouterr().err and read == []


def test_another_class_table_needs_no_reading(data, capfd):
    check()
    label_space(CLASSES.replace("\n20\t", "\n21\t"))
    with pytest.raises(InputError, match=r"label\(s\) \[20\]"):
        check()
    label_space(CLASSES)
    capfd.readouterr()
    check()
    assert "all files read before" in capfd.readouterr().err


def test_a_damaged_cache_is_begun_anew(data, capfd):
    check()
    Path("check/train.cache").write_bytes(b"not a database at all" * 100)
    capfd.readouterr()
    check()
    assert "24 files read" in capfd.readouterr().err


def narrow_png() -> bytes:
    """A grey PNG of 2x1 pixels with 4 bits each."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x12")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_palette_indices_are_labels_and_narrow_grey_is_refused(tmp_path):
    palette = Image.fromarray(np.array([[10, 20], [200, 255]], np.uint8))
    palette.putpalette(bytes(768))
    palette.save(tmp_path / "palette.png")
    assert read_file("mask", str(tmp_path / "palette.png")).counts == "10:1 20:1 200:1 255:1"
    (tmp_path / "narrow.png").write_bytes(narrow_png())
    assert "4 bits a pixel" in read_file("mask", str(tmp_path / "narrow.png")).what
    for mode in ("1", "LA", "RGBA"):
        Image.new(mode, (3, 2)).save(tmp_path / "other.png")
        assert f"mode {mode}" in read_file("mask", str(tmp_path / "other.png")).what


def test_a_flipped_bit_and_a_turned_image_are_noticed(tmp_path):
    random = np.random.default_rng(0)
    content = bytearray(images.png_bytes(random.integers(0, 3, (64, 64), dtype=np.uint8)))
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.png").write_bytes(content)
    assert "damaged" in read_file("mask", str(tmp_path / "flipped.png")).what
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    content = read_file("image", str(tmp_path / "turned.jpg"))
    assert (content.width, content.height) == (20, 30)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "gif", "jp2", "ppm"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
@pytest.mark.parametrize("turned", [False, True])
def test_trainings_see_the_pixels_of_an_accepted_image(tmp_path, mode, suffix, turned):
    """OpenCV reads for trainings, Pillow everywhere else."""
    path, exif = tmp_path / f"image.{suffix}", Image.Exif()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif[ORIENTATION] = 6 if turned else 1
    try:
        (Image.new(mode, (30, 20), 300) if mode == "I;16" else photo.convert(mode)).save(path, exif=exif)
    except (OSError, ValueError):
        return  # no file of this kind
    content = read_file("image", str(path))
    accepted = suffix not in ("gif", "jp2", "ppm") and Image.open(path).mode in library.IMAGE_MODES
    assert bool(content.what) == (not accepted or (suffix == "tif" and turned))
    if not content.what:
        assert (images.read_image(path) == cv2.imread(str(path))[..., ::-1]).all()


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_an_orientation_that_only_pillow_reads_is_refused(tmp_path, suffix):
    path, text = str(tmp_path / f"a.{suffix}"), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.new("RGB", (30, 20)).save(path, **({"pnginfo": text} if suffix == "png" else {"xmp": XMP}))
    assert read_file("image", path).what.startswith("an orientation that OpenCV doesn't read")


def test_transparency_that_opencv_mixes_into_colours_is_refused(tmp_path):
    path, photo = tmp_path / "a.tif", Image.fromarray(np.full((2, 3, 4), 200, np.uint8))
    photo.save(path)
    assert (cv2.imread(str(path))[..., ::-1] != images.read_image(path)).any()
    assert read_file("image", str(path)).what.startswith("a TIFF with transparency")
    photo.save(path.with_suffix(".png"))
    assert not read_file("image", str(path.with_suffix(".png"))).what


def test_a_pipe_among_images_is_no_file(data):
    Path("images/07.jpg").unlink()
    os.mkfifo("images/07.jpg")  # whoever reads it waits for ever
    with pytest.raises(InputError, match="images/07.jpg: not a file; take it out of the folder"):
        check()


def test_a_tiff_of_other_bands_is_told_from_a_damaged_one(tmp_path):
    path = str(tmp_path / "a.tif")
    cv2.imwrite(path, np.zeros((2, 3, 3), np.float32))
    assert "three colour bands" in read_file("image", path).remedy


def tiff(path: Path, bands: int, bits: int, next_page: int = 0) -> None:
    """Write a plain TIFF of 8 x 8 pixels, grey or RGB and further bands."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 2 if bands > 2 else 1), (273, 300), (277, bands), (278, 8)]
    entries = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags]
    if bands > 2:
        entries[2] = struct.pack("<HHII", 258, 3, bands, 200)
        if bands > 3:  # of no kind
            entries.append(struct.pack("<HHII", 338, 3, bands - 3, 0 if bands < 6 else 250))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + struct.pack("<I", next_page)
    head = head.ljust(200, b"\0") + struct.pack(f"<{bands}H", *[bits] * bands)
    path.write_bytes(head.ljust(300, b"\0") + bytes(range(64)) * bands)


@pytest.mark.parametrize(("bands", "bits"), [(1, 8), (1, 4), (1, 2), (3, 8), (4, 8), (5, 8), (6, 8)])
def test_tiffs_that_opencv_cannot_read_are_refused(tmp_path, bands, bits):
    """Pillow reads red, green and blue of satellites' five bands, and grey of 4 bits."""
    tiff(path := tmp_path / "a.tif", bands, bits)
    assert images.read_image(path).shape == (8, 8, 3)
    read, what = cv2.imread(str(path)), read_file("image", str(path)).what
    assert (read is None) == (bands > 4 or bits < 8) == what.startswith("a TIFF of more than 4 bands")
    assert read is None or (images.read_image(path) == read[..., ::-1]).all()


def test_a_mask_whose_next_page_is_damaged_is_an_offender(tmp_path):
    """Pillow raises a TypeError where it looks for more pages."""
    tiff(path := tmp_path / "a.tif", 1, 8)
    assert not read_file("mask", str(path)).what
    tiff(path, 1, 8, next_page=150)  # zeros
    assert read_file("mask", str(path)).what.startswith("truncated or damaged")


def test_a_bmp_of_five_bits_a_channel_is_refused(tmp_path):
    """Pillow stretches 31 to 255, OpenCV makes it 248."""
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 62, 0, 54, 40, 2, 2, 1, 16, 0, 8, 0, 0, 0, 0)
    (path := tmp_path / "a.bmp").write_bytes(header + b"\xff\x7f" * 4)
    assert images.read_image(path).min() == 255 != cv2.imread(str(path)).max()
    assert read_file("image", str(path)).what == "16 bits a pixel"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_a_channel_are_refused(tmp_path, suffix):
    """Pillow opens such a file as RGB and gives a byte of each value."""
    path = str(tmp_path / f"deep.{suffix}")
    cv2.imwrite(path, np.full((2, 3, 3), 1000, np.uint16))
    assert read_file("image", path).what == "more than 8 bits a channel"


def test_a_file_that_cannot_be_opened_is_not_called_damaged(data, monkeypatch):
    """Tests may run as root, whom permissions don't stop: the system's answer is given here."""
    opened = Image.open

    def refuse(path, *others):
        if str(path) == "masks/07.png":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *others)

    for digest in (lambda path: refuse(path) and "", library.sha256):  # the second one: a file server that stumbles
        with monkeypatch.context() as closed:
            closed.setattr(Image, "open", refuse)
            closed.setattr(library, "sha256", digest)
            with pytest.raises(
                InputError, match=r"masks/07.png: can't be opened \(Permission denied\); make it readable"
            ):
                check()
            with pytest.raises(InputError, match="Permission denied.*make it readable"):
                images.read_mask("masks/07.png")
    check()  # not remembered: permissions change no time


def test_a_folder_and_a_damaged_file_differ(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert read_file("mask", str(tmp_path / "a.png")).what == "can't be opened (Is a directory)"


def test_a_killed_check_remembers_what_it_read(data, monkeypatch):
    original = library.read_file

    def stops(kind, path):
        if path == "masks/07.png":
            raise KeyboardInterrupt
        return original(kind, path)

    monkeypatch.setattr(library, "read_file", stops)
    with pytest.raises(KeyboardInterrupt):
        check()
    read = []
    monkeypatch.setattr(library, "read_file", lambda kind, path: read.append(path) or original(kind, path))
    check()
    assert "images/06.jpg" not in read and "masks/07.png" in read
    assert os.path.exists("check/train.tsv")
