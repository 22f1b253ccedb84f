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

from freemask import tables
from freemask.data import fetch as fetching
from freemask.data.archives import unpack
from freemask.data.fetch import Patience, direct_address, fetch
from freemask.errors import InputError

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect=2, stall=0.3, failures=2, pause=0.01)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = FileServer()
    yield made
    made.close()


def ranges(server: FileServer) -> list[str | None]:
    return [wanted for _, wanted in server.requests]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_under_its_name_and_nothing_else(server, tmp_path, capfd):
    server.pages["a.zip"] = Page(CONTENT)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert re.search(r"^a\.zip: 100%\|#+\| 10\.2k/10\.2k ", capfd.readouterr().err, re.MULTILINE)  # progress
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.zip"]


def test_truncated_answers_are_continued(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[1000, 2000, None])
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000-", "bytes=3000-"]


def test_stalled_answers_are_continued(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[1000, None], stall=True)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000-"]


def test_a_later_run_goes_on_where_one_gave_up(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[1000, 0, 0])
    with pytest.raises(InputError, match=r"gave up after 2 attempts without a new byte \(1000 bytes are kept\).*login"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert ranges(server)[-1] == "bytes=1000-"
    assert names(tmp_path) == ["a.zip"]


def test_server_without_range_starts_again(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[1000, None], ranges=False)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000-"]


def test_server_without_range_that_always_cuts_is_given_up(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, cut=[1000] * 9, ranges=False)
    with pytest.raises(InputError, match="ended after 1000 of 10240 bytes|IncompleteRead"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert len(server.requests) == 3
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("etag", ['"second"', None])
def test_changed_file_is_not_glued_to_the_old_one(server, tmp_path, etag):
    server.pages["a.zip"] = Page(b"x" * 5000, cut=[1000, 0, 0], etag='"first"' if etag else None)
    with pytest.raises(InputError):
        fetch(server.url("a.zip"), tmp_path / "a.zip", patience=QUICK)
    server.pages["a.zip"] = Page(CONTENT, etag=etag)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_killed_between_last_byte_and_rename(server, tmp_path):
    url = server.url("a.zip")
    server.pages["a.zip"] = Page(CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": url, "validator": '"first"', "total": len(CONTENT)}))
    fetch(url, tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert names(tmp_path) == ["a.zip"]
    assert ranges(server) == ["bytes=10240-"]


def test_part_longer_than_the_file_or_of_another_address_is_dropped(server, tmp_path):
    url = server.url("a.zip")
    server.pages["a.zip"] = Page(CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    for facts in ({"url": url, "validator": None, "total": 20000}, {"url": "http://elsewhere/a.zip"}):
        (tmp_path / "a.zip.part.json").write_text(json.dumps(facts))
        fetch(url, tmp_path / "a.zip", DIGEST, patience=QUICK)
        assert (tmp_path / "a.zip").read_bytes() == CONTENT
        (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")


def test_unannounced_length(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, announced=False)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_wrong_file_leaves_nothing(server, tmp_path):
    server.pages["a.zip"] = Page(b"another file")
    with pytest.raises(InputError, match=rf"a.zip: SHA-256 [0-9a-f]{{64}}, want {DIGEST} as configured.*save it as"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    assert names(tmp_path) == []


def test_first_hex_digits_are_enough_and_the_whole_digest_is_recorded(server, tmp_path):
    server.pages["w.pth"] = Page(CONTENT)
    fetch(server.url("w.pth"), tmp_path / "w.pth", DIGEST[:8], patience=QUICK)
    assert (tmp_path / "w.pth.sha256").read_text() == f"{DIGEST}  w.pth\n"
    (tmp_path / "w.pth").unlink()
    with pytest.raises(InputError, match="want 00000000"):
        fetch(server.url("w.pth"), tmp_path / "w.pth", "00000000", patience=QUICK)


def test_later_downloads_must_agree_with_the_first(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT)
    fetch(server.url("a.zip"), tmp_path / "a.zip", patience=QUICK)
    (tmp_path / "a.zip").unlink()
    server.pages["a.zip"] = Page(b"another file")
    with pytest.raises(InputError, match=f"the first download had {DIGEST}"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == ["a.zip.sha256"]


def test_file_that_is_there_is_checked_and_kept(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    with pytest.raises(InputError, match="delete .*a.zip to fetch it again"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", "0" * 64, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == []


def test_not_found_is_not_tried_again(server, tmp_path):
    with pytest.raises(InputError, match=r"gone.zip: the server answers 404 Not Found.*save it as .*gone.zip, or else"):
        fetch(server.url("gone.zip"), tmp_path / "gone.zip", otherwise="or else", patience=QUICK)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_busy_server_is_tried_again(server, tmp_path):
    server.pages["a.zip"] = Page(CONTENT, statuses=[503])
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    server.pages["b.zip"] = Page(CONTENT, statuses=[429] * 9)
    with pytest.raises(InputError, match="429 Too Many Requests; gave up after 2 attempts"):
        fetch(server.url("b.zip"), tmp_path / "b.zip", patience=QUICK)


def test_web_page_instead_of_the_file(server, tmp_path):
    server.pages["a.zip"] = Page(b"<html>Quota exceeded</html>", content_type="text/html; charset=utf-8")
    with pytest.raises(InputError, match="web page instead of the file"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == []


def test_no_network(tmp_path, server):
    url = server.url("a.zip")
    server.close()
    with pytest.raises(InputError, match=r"No network, as on many compute nodes\? Run this on a login node, or fetch"):
        fetch(url, tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == []


def test_full_disk_is_seen_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    server.pages["a.zip"] = Page(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, fetching.SPARE + 15000))
    with pytest.raises(InputError, match=r"a.zip needs 0.0 GB, 0.3 GB are free there"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, reserve=1, patience=QUICK)
    assert names(tmp_path) == []
    fetch(server.url("a.zip"), tmp_path / "a.zip", DIGEST, patience=QUICK)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", bytes(20000))
    with pytest.raises(InputError, match="unpacking z.zip needs"):
        unpack(tmp_path / "z.zip", tmp_path / "out")
    assert names(tmp_path) == ["a.zip", "z.zip"]


def test_a_page_that_asks_whether_to_download_is_answered(server, tmp_path):
    """Google Drive's, of files too large for its virus scan; its uuid is another each time, and a part goes on."""
    form = (
        '<html><form action="/search"><input type="hidden" name="q" value="no"></form><form id="download-form" '
        'action="/download" method="get"><input type="submit" value="Download anyway">'
        '<input type="hidden" name="id" value="1Ab"><input type="hidden" name="confirm" value="t">'
        '<input type="hidden" name="uuid" value="{}"></form></html>'
    )
    page = Page(form.format("7-a b").encode(), content_type="text/html; charset=utf-8")
    server.pages = {"uc?id=1Ab": page, "download?id=1Ab&confirm=t&uuid=7-a+b": Page(CONTENT, cut=[4000])}
    server.pages["download?id=1Ab&confirm=t&uuid=8"] = Page(CONTENT)
    url, path = server.url("uc?id=1Ab"), tmp_path / "a.ckpt"
    with pytest.raises(InputError, match="4000 bytes are kept"):
        fetch(url, path, DIGEST, patience=Patience(connect=2, stall=0.3, failures=0, pause=0.01))
    page.content = form.format("8").encode()
    fetch(url, path, DIGEST, patience=QUICK)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("/download?id=1Ab&confirm=t&uuid=8", "bytes=4000-")


def test_google_drive_addresses():
    served = "https://drive.usercontent.google.com/download?id=1Ab-c_D&export=download&confirm=t"
    assert direct_address("https://drive.google.com/uc?id=1Ab-c_D") == served
    assert direct_address("https://drive.google.com/file/d/1Ab-c_D/view?usp=sharing") == served
    assert direct_address("https://example.org/file/d/1Ab-c_D/view") == "https://example.org/file/d/1Ab-c_D/view"


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def test_unpack_one_folder_without_its_name(tmp_path, capfd):
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
