"""Downloads from a server that truncates, stalls, knows no Range, serves wrong files; archives that want out."""

import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from command_line import run_script
from file_server import FileServer, Page
from gdown.parse_url import parse_url

from freemask import tables
from freemask.data import fetch as fetching
from freemask.data.fetch import fetch_file, unpack
from freemask.errors import InputError

CHUNK = 1 << 19  # bytes that gdown writes at a time
CONTENT = bytes(range(256)) * 8192  # 4 chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    monkeypatch.setattr(fetching, "TIMEOUT", (2, 0.3))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = FileServer()
    yield made
    made.close()


def ranges(server: FileServer) -> list[str | None]:
    """Ranges that were asked for; resuming, gdown first asks for the whole file and reads its headers only."""
    return [wanted for _, wanted in server.requests]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_under_its_name_and_nothing_else(server, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("freemask.cli.SILENT", 0)
    server.pages["a.zip"] = Page(CONTENT)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert re.search(r"^a\.zip: 100%\|#+\| 2\.10M/2\.10M ", capfd.readouterr().err, re.MULTILINE)  # progress
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("stall", [False, True])
def test_truncated_and_stalled_answers_are_resumed(server, tmp_path, stall):
    cut = CHUNK + 1000
    server.pages["a.zip"] = Page(CONTENT, cut=[cut, None, cut, None, None], stall=stall)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, None, f"bytes={CHUNK}-", None, f"bytes={2 * CHUNK}-"]


def test_a_later_run_resumes(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[CHUNK, None, 0, None, 0])
    with pytest.raises(InputError, match=rf"gave up after 2 attempts without a new byte \({CHUNK} bytes.*login"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    note, part = names(tmp_path)
    assert note == "a.zip.fetched.json" and re.fullmatch(r"a\.zip\.fetched.{8}\.part", part)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert ranges(server)[-1] == f"bytes={CHUNK}-"
    assert names(tmp_path) == ["a.zip"]


def test_server_without_range_starts_again(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[CHUNK], ranges=False)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, None, f"bytes={CHUNK}-", None]


def test_server_without_range_that_always_cuts_is_given_up(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[CHUNK] * 9, ranges=False)
    with pytest.raises(InputError, match=f"received {CHUNK} bytes but the server announced {len(CONTENT)}"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("etag", ['"second"', None])
def test_changed_file_is_not_glued_to_the_old_one(server, tmp_path, etag):
    server.pages["a.zip"] = Page(b"x" * 1_500_000, cut=[CHUNK, None, 0, None, 0], etag='"first"' if etag else None)
    with pytest.raises(InputError):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip")
    server.pages["a.zip"] = Page(CONTENT, etag=etag)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_changed_file_of_the_same_size_has_another_digest(server, tmp_path):
    server.pages["a.zip"] = Page(b"x" * len(CONTENT), cut=[CHUNK, None, 0, None, 0])
    with pytest.raises(InputError):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    server.pages["a.zip"] = Page(CONTENT, etag='"second"')
    with pytest.raises(InputError, match=f"want {DIGEST}.*run again"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert names(tmp_path) == ["a.zip"]


def test_killed_between_last_byte_and_check(server, tmp_path):
    (tmp_path / "a.zip.fetched").write_bytes(CONTENT)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert names(tmp_path) == ["a.zip"]
    assert server.requests == []


def test_part_longer_than_the_file_or_of_another_address_is_dropped(server, tmp_path):
    url = server.url("a.zip")
    server.pages["a.zip"] = Page(CONTENT)
    for note in ({"url": url, "total": 2 * len(CONTENT)}, {"url": "http://elsewhere/a.zip", "total": None}):
        (tmp_path / "a.zip.fetched.json").write_text(json.dumps(note))
        (tmp_path / "a.zip.fetched12345678.part").write_bytes(CONTENT + b"more")
        fetch_file(url, tmp_path / "a.zip", DIGEST)
        assert names(tmp_path) == ["a.zip"]
        (tmp_path / "a.zip").unlink()


def test_unannounced_length(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, announced=False)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_wrong_file_leaves_nothing(server, tmp_path):
    server.pages["a.zip"] = Page(b"another file")
    with pytest.raises(InputError, match=rf"a.zip\S*: SHA-256 is [0-9a-f]{{64}}, want {DIGEST}; .*save it as"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    assert names(tmp_path) == []


def test_first_hex_digits_are_enough_and_the_whole_digest_is_recorded(server, tmp_path):
    server.pages["w.pth"] = Page(CONTENT)
    fetch_file(server.url("w.pth"), tmp_path / "w.pth", DIGEST[:8])
    assert (tmp_path / "w.pth.sha256").read_text() == f"{DIGEST}  w.pth\n"
    (tmp_path / "w.pth").unlink()
    with pytest.raises(InputError, match="want 00000000"):
        fetch_file(server.url("w.pth"), tmp_path / "w.pth", "00000000")


def test_later_downloads_must_agree_with_the_first(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip")
    (tmp_path / "a.zip").unlink()
    server.pages["a.zip"] = Page(b"another file")
    with pytest.raises(InputError, match=f"the first download had {DIGEST}"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip")
    assert names(tmp_path) == ["a.zip.sha256"]


def test_file_that_is_there_is_checked_and_kept(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    with pytest.raises(InputError, match="delete .*a.zip to fetch it again"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", "0" * 64)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == []


def test_not_found_is_not_tried_again(server, tmp_path):
    with pytest.raises(InputError, match=r"gone.zip: the server answers 404 Not Found.*save it as .*gone.zip, or else"):
        fetch_file(server.url("gone.zip"), tmp_path / "gone.zip", otherwise="or else")
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_busy_server_is_tried_again(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, statuses=[503])
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    server.pages["b.zip"] = Page(CONTENT, statuses=[429] * 9)
    with pytest.raises(InputError, match="429 Too Many Requests; gave up after 2 attempts"):
        fetch_file(server.url("b.zip"), tmp_path / "b.zip")


def test_web_page_instead_of_the_file(server, tmp_path):
    server.pages["a.zip"] = Page(b"<html>Quota exceeded</html>", content_type="text/html; charset=utf-8")
    with pytest.raises(InputError, match="web page instead of the file"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_no_network(tmp_path, server):
    url = server.url("a.zip")
    server.close()
    with pytest.raises(InputError, match=r"No network, as on many compute nodes\? Run this on a login node, or fetch"):
        fetch_file(url, tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_full_disk_is_seen_early(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    server.pages["a.zip"] = Page(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, fetching.SPARE + 3_000_000))
    with pytest.raises(InputError, match=r"a.zip needs 0.0 GB, 0.3 GB are free there"):
        fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST, reserve=1)
    assert not (tmp_path / "a.zip").exists()
    fetch_file(server.url("a.zip"), tmp_path / "a.zip", DIGEST)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", bytes(4_000_000))
    with pytest.raises(InputError, match="unpacking z.zip needs"):
        unpack(tmp_path / "z.zip", tmp_path / "out")
    assert names(tmp_path) == ["a.zip", "z.zip"]


def test_gdown_knows_the_google_drive_links_of_the_configuration():
    generators = yaml.safe_load(Path("config/config.yaml").read_text())["generators"].values()
    links = [generator["address"] for generator in generators if "drive.google.com" in generator.get("address", "")]
    assert len(links) == 2
    for link in [*links, "https://drive.google.com/file/d/1Ab-c_D/view?usp=sharing"]:
        identifier, _ = parse_url(url=link)
        assert identifier and identifier in link


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def test_unpack_one_folder_without_its_name(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("freemask.cli.SILENT", 0)
    made = archive(tmp_path / "a.zip", {"top/": b"", "top/x/1.txt": b"one", "top/2.txt": b"two", "other/3.txt": b""})
    (tmp_path / ".out.unpacking").mkdir()  # an interrupted run's
    (tmp_path / ".out.unpacking" / "half").touch()
    unpack(made, tmp_path / "out", "top")
    assert "unpacking a.zip: 100%" in capfd.readouterr().err
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.txt")} == {
        "x/1.txt",
        "2.txt",
    }
    assert names(tmp_path) == ["a.zip", "out"]
    with pytest.raises(InputError, match="no files in its folder nowhere"):
        unpack(made, tmp_path / "out2", "nowhere")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:/evil"])
def test_no_name_leads_out(tmp_path, name):
    made = archive(tmp_path / "a.zip", {"good": b"", name: b"evil"})
    with pytest.raises(InputError, match="leads out of the archive's folder"):
        unpack(made, tmp_path / "deep" / "out")
    assert names(tmp_path) == ["a.zip", "deep"]
    assert names(tmp_path / "deep") == []


def test_no_links(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc")
    with pytest.raises(InputError, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_damaged_archives(tmp_path):
    made = archive(tmp_path / "a.zip", {"one": b"1" * 1000})
    content = bytearray(made.read_bytes())
    content[500] ^= 1
    made.write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked .*CRC"):
        unpack(made, tmp_path / "out")
    made.write_bytes(content[:700])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(made, tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


def test_a_data_set_in_three_archives(server, tmp_path):
    root = tmp_path / "data" / "world"
    archives = []
    for name, members, place in [
        ("train.zip", {"train/1.jpg": b"a"}, {"folder": "train", "unpack_to": "images/train"}),
        ("val.zip", {"val/2.jpg": b"b"}, {"folder": "val", "unpack_to": "images/val"}),
        ("maps.zip", {"train/1.png": b"c", "val/2.png": b"d"}, {"unpack_to": "masks"}),
    ]:
        server.pages[name] = Page(archive(tmp_path / name, members).read_bytes())
        archives.append({"url": server.url(name), **place})
    options = {"dataset": "world", "root": root, "archives": json.dumps(archives)}
    folders = ["images/train", "images/val", "masks/train", "masks/val"]
    maps = server.pages.pop("maps.zip")
    with pytest.raises(InputError, match=r"maps.zip: the server answers 404.*data_roots.world"):
        run_script("fetch_dataset", **options, folders=folders)
    assert names(root / "images") == ["train", "val"]
    server.pages["maps.zip"] = maps
    run_script("fetch_dataset", **options, folders=folders)
    assert [(root / folder).is_dir() for folder in folders] == [True] * 4
    assert [path for path, _ in server.requests] == ["/train.zip", "/val.zip", "/maps.zip", "/maps.zip"]
    assert names(tmp_path / "data" / "world.archives") == ["maps.zip.sha256", "train.zip.sha256", "val.zip.sha256"]
    with pytest.raises(InputError, match="elsewhere: not there, though"):
        run_script("fetch_dataset", **options, folders=[*folders, "elsewhere"])


RELEASED = {  # what lies in the released archives
    "ade20k": {
        "ADEChallengeData2016.zip": [
            f"ADEChallengeData2016/{kind}/{split}/ADE_{number}.{suffix}"
            for kind, suffix in (("images", "jpg"), ("annotations", "png"))
            for split, number in (("training", "train_00000001"), ("validation", "val_00000001"))
        ]
        + ["ADEChallengeData2016/objectInfo150.txt"]
    },
    "cocostuff164k": {
        "train2017.zip": ["train2017/000000000009.jpg"],
        "val2017.zip": ["val2017/000000000139.jpg"],
        "stuffthingmaps_trainval2017.zip": ["train2017/000000000009.png", "val2017/000000000139.png"],
    },
}


@pytest.mark.parametrize("dataset", RELEASED)
def test_the_released_archives_become_what_the_configuration_looks_for(server, tmp_path, dataset):
    facts = yaml.safe_load(Path(f"config/datasets/{dataset}.yaml").read_text())
    archives, root = [], tmp_path / "data"
    for entry in facts["archives"]:
        name = entry["url"].rpartition("/")[2]
        content = archive(tmp_path / name, dict.fromkeys(RELEASED[dataset][name], b"x")).read_bytes()
        server.pages[name] = Page(content)
        archives.append(entry | {"url": server.url(name), "sha256": hashlib.sha256(content).hexdigest()})
    folders = [*facts["images"].values(), *facts["masks"].values()]
    run_script("fetch_dataset", dataset=dataset, root=root, archives=json.dumps(archives), folders=folders)
    for split in ("train", "val"):
        run_script("index_dataset", images=root / facts["images"][split], masks=root / facts["masks"][split],
                   image_suffix=facts["image_suffix"], mask_suffix=facts["mask_suffix"],
                   index=tmp_path / "index.tsv")  # fmt: skip
        assert len(tables.read_table(tmp_path / "index.tsv", ["mask_id"])) == 1
    assert not list((tmp_path / "data.archives").glob("*.zip"))


def test_an_archive_that_is_the_root(server, tmp_path):
    server.pages["ADE.zip"] = Page(archive(tmp_path / "ADE.zip", {"ADE/images/1.jpg": b"a"}).read_bytes())
    archives = [{"url": server.url("ADE.zip"), "folder": "ADE", "unpack_to": "."}]
    root = tmp_path / "data" / "ade"
    run_script("fetch_dataset", dataset="ade", root=root, archives=json.dumps(archives), folders=["images"])
    assert (root / "images" / "1.jpg").read_bytes() == b"a"
