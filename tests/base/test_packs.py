"""Packs: what is in them can be read, whatever killed their writer."""

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from freemask import packs
from freemask.errors import InputError

NAMES = ["a-42.png", "b-42.png", "ü 'x' \"y\"\tz-1.png", "c" * 150 + "-42.png"]


def content(name: str, number: int = 0) -> bytes:
    """Some bytes, about as many blocks of tar's as the number says."""
    return f"{name} {number} ".encode() * (1 + 40 * number)


def write(folder: Path, names=NAMES, stamp="s") -> None:
    with packs.Writer(folder) as writer:
        for number, name in enumerate(names):
            writer.add(name, stamp, content(name, number))
            if number % 2:
                writer.save()


def find(folder: Path, names=NAMES, stamp="s") -> list:
    return packs.find([f"{folder}/{name}" for name in names], [stamp] * len(names))


def check(folder: Path, places: list, names=NAMES) -> None:
    assert [packs.read(place) for place in places] == [content(name, number) for number, name in enumerate(names)]


def test_files_come_back(tmp_path):
    write(tmp_path / "p")
    places = find(tmp_path / "p")
    check(tmp_path / "p", places)
    assert find(tmp_path / "p", stamp="other") == [None] * len(NAMES)
    assert find(tmp_path / "nowhere") == [None] * len(NAMES)
    assert sorted(os.listdir(tmp_path / "p")) == ["0001.index", "0001.tar"]
    with tarfile.open(tmp_path / "p/0001.tar") as archive:  # and with tar
        assert [archive.extractfile(name).read() for name in archive.getnames()] == [
            content(name, number) for number, name in enumerate(NAMES)
        ]


def test_a_writer_without_files_makes_no_pack(tmp_path):
    with packs.Writer(tmp_path / "p"):
        pass
    assert not (tmp_path / "p").exists()


def test_writers_at_the_same_time_have_packs_of_their_own(tmp_path):
    with packs.Writer(tmp_path) as one, packs.Writer(tmp_path) as other:
        for writer, name in ((one, "a"), (other, "b"), (one, "c")):
            writer.add(name, "s", name.encode())
            writer.save()
    assert [packs.read(place) for place in find(tmp_path, ["a", "b", "c"])] == [b"a", b"b", b"c"]
    assert len(list(tmp_path.glob("*.tar"))) == 2
    (tmp_path / "0001.tar").unlink()
    assert [place is None for place in find(tmp_path, ["a", "b", "c"])] == [True, False, True]
    write(tmp_path)  # takes a free number, and doesn't believe the index that was left
    check(tmp_path, find(tmp_path))
    assert find(tmp_path, ["a", "c"]) == [None, None]


def test_what_was_added_before_an_error_is_saved(tmp_path):
    with pytest.raises(KeyError), packs.Writer(tmp_path) as writer:
        writer.add("a", "s", b"a")
        raise KeyError
    assert packs.read(find(tmp_path, ["a"])[0]) == b"a"


WRITER = """
import sys
from pathlib import Path
from freemask import packs
with packs.Writer(Path(sys.argv[1])) as writer:
    for number in range(10**9):
        writer.add(f"{number}", "s", f"{number}".encode() * 5000)
        if number % 4 == 3:
            writer.save()
"""


def test_sigkill_loses_one_batch_at_most(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path])
    index, deadline = tmp_path / "0001.index", time.monotonic() + 60
    while not index.exists() or index.read_bytes().count(b"\n") < 40:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    before = index.read_bytes().count(b"\n")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    names = [str(number) for number in range(before)]
    assert [packs.read(place) for place in find(tmp_path, names)] == [name.encode() * 5000 for name in names]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_cut_index_holds_its_whole_lines(tmp_path, cut):
    write(tmp_path)
    index = tmp_path / "0001.index"
    text = index.read_bytes()
    whole = text[:-cut].count(b"\n")
    index.write_bytes(text[:-cut])
    places = find(tmp_path)
    assert [place is None for place in places] == [number >= whole for number in range(len(NAMES))]
    check(tmp_path, places[:whole], NAMES[:whole])


def test_a_cut_archive_holds_its_whole_files(tmp_path):
    write(tmp_path)
    last = find(tmp_path)[-1]
    os.truncate(last.pack, last.offset + last.size - 1)
    assert [place is None for place in find(tmp_path)] == [False, False, False, True]


@pytest.mark.parametrize("line", [b"a\ts\t1\n", b"a\ts\tx\t1\n", b"\xff\ts\t0\t1\n"])
def test_a_damaged_index_is_named(tmp_path, line):
    write(tmp_path)
    (tmp_path / "0001.index").write_bytes(line)
    with pytest.raises(InputError, match=r"0001\.index: damaged .*; delete it, what .*0001\.tar holds is made again"):
        find(tmp_path)


def test_a_dropped_file_is_made_again_and_the_last_of_twins_counts(tmp_path):
    write(tmp_path)
    packs.drop(find(tmp_path)[1:2])
    assert [place is None for place in find(tmp_path)] == [False, True, False, False]
    check(tmp_path, find(tmp_path, NAMES[:1]), NAMES[:1])
    write(tmp_path)
    assert {Path(place.pack).name for place in find(tmp_path)} == {"0002.tar"}
    check(tmp_path, find(tmp_path))


def test_forked_processes_read_at_random(tmp_path):
    """They share the open archive of the process that they were forked from."""
    names = [f"{number}" for number in range(60)]
    write(tmp_path, names)
    places = find(tmp_path, names)
    expected = [packs.read(place) for place in places]
    order = sorted(range(600), key=lambda number: hash((number, 7)) % 601)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(packs.read, [places[number % 60] for number in order], chunksize=7)
    assert found == [expected[number % 60] for number in order]


def test_many_packs_need_few_open_files(tmp_path, monkeypatch):
    for number in range(packs.OPEN + 20):
        Path(tmp_path / f"{number:04d}.tar").write_bytes(b"%04d" % number)
        packs.read(packs.Place(f"{tmp_path}/{number:04d}.tar", 0, 4))
    held = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert sum(str(tmp_path) in path for path in held) <= packs.OPEN
    assert packs.read(packs.Place(f"{tmp_path}/0003.tar", 1, 3)) == b"003"


def test_the_index_is_a_table(tmp_path):
    write(tmp_path)
    with open(tmp_path / "0001.index", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert [row[0] for row in rows] == NAMES and {len(row) for row in rows} == {4}
