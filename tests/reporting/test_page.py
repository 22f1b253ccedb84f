"""The page of results: made of recorded files alone; every link and picture works without a network."""

import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recorded as evaluations
import recorded_tree
import yaml
from command_line import run_script

from freemask import files
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.reporting import charts, comparisons, headline, pictures, recorded, runs
from rules import ROOT

EXPERIMENTS = ROOT / "config/experiments.tsv"
REPORTED = ROOT / "config/reported.yaml"
VOID = {"meta", "link", "img", "br", "input", "use", "path", "rect"}


class Page(HTMLParser):
    """Elements of a page: tag, attributes and text of each, in order; and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[int, str] = {}
        self.open: list[tuple[str, int]] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "br":
            self.handle_data(" ")
        elif tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data):
        for _, place in self.open:
            self.texts[place] = self.texts.get(place, "") + data

    def all(self, tag: str) -> list[tuple[dict, str]]:
        return [(attrs, self.texts.get(place, "")) for place, (name, attrs) in enumerate(self.elements) if name == tag]

    def rows(self, heading: str) -> list[list[str]]:
        """Texts of the cells of the first table whose first heading is this."""
        tables = [place for place, (tag, _) in enumerate(self.elements) if tag == "table"]
        for start, end in zip(tables, [*tables[1:], len(self.elements)], strict=True):
            found: list[list[str]] = []
            for place in range(start, end):
                tag = self.elements[place][0]
                if tag == "tr":
                    found.append([])
                elif tag in ("td", "th") and found:
                    found[-1].append(" ".join(self.texts.get(place, "").split()))
            if found and found[0][0] == heading:
                return found
        raise AssertionError(f"no table of {heading}")


def write(folder: Path, facts: dict, experiments: Path = EXPERIMENTS) -> str:
    """Make the tables of every data set and the page."""
    for dataset, own in facts.items():
        results = folder / "results" / dataset
        common = {"experiments": experiments, "dataset": dataset, "training": results / "training"}
        tables = results / "tables"
        files.write_atomic(tables / "warnings.tsv", b"of\twarning\nscorer\tdoubtful <b>\n")
        run_script("result_tables", **common, masks=results / "masks.tsv", label_space=results / "label_space.json",
                   reported=REPORTED, reported_set=own["contact_sheet"], markdown=tables / "miou.md",
                   csv=tables / "miou.csv", latex=tables / "miou.tex", html=tables / "miou.html",
                   per_class=tables / "per_class_iou.tsv")  # fmt: skip
        run_script("training_cost", **common, reported=REPORTED, cost=tables / "cost.tsv", html=tables / "cost.html")
        roles = {"real": "baseline", "control": "control", "joint": "improved"}
        paths = {key: results / "training" / own[one] / "seed-0/per_class_iou.tsv" for key, one in roles.items()}
        run_script("most_improved", **paths, train_seeds=0, control_seeds=0, reported=REPORTED, dataset=dataset,
                   most_improved=tables / "most_improved.tsv")  # fmt: skip
    return write_page(folder, facts, experiments)


def write_page(folder: Path, facts: dict, experiments: Path = EXPERIMENTS) -> str:
    path = folder / "results/report/report.html"
    run_script("write_report", facts=json.dumps(facts), experiments=experiments, results=folder / "results",
               logs=folder / "logs", reported=REPORTED, report=path)  # fmt: skip
    return path.read_text()


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's run as recorded: folder, facts, and the page."""
    folder = tmp_path_factory.mktemp("paper")
    facts = recorded_tree.make(folder, images=60, ablations=3)
    return folder, facts, write(folder, facts)


@pytest.fixture(scope="module")
def page(paper):
    return Page(paper[2])


def test_it_is_whole_html_that_needs_nothing_else(paper, page):
    assert page.wrong == [] and page.open == []
    for tag, attrs in page.elements:
        for name, value in attrs.items():
            if name in ("src", "srcset", "poster", "data", "action") or (tag in ("link", "use") and "href" in name):
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not re.search(r"url\((?!#)|@import|\bfetch\(|XMLHttpRequest", paper[2])
    assert len(paper[2].encode()) < 20e6
    assert len([attrs for attrs, _ in page.all("img")]) == 2 * (8 * (2 + 4 * 2) + 4 * 6)
    assert all(attrs["alt"] for attrs, _ in page.all("img"))


def test_numbers_of_a_test_split_stand_beside_those_of_validation(paper, tmp_path):
    folder, facts, without = paper
    folder = shutil.copytree(folder, tmp_path / "copy")
    dataset = next(iter(facts))
    path = folder / f"results/{dataset}/tables/miou.csv"
    table = pd.read_csv(path)
    improved = table.experiment == facts[dataset]["improved"]
    table.assign(test_mIoU=33.333, test_gain_over_real=improved.map({True: 1.25})).to_csv(path, index=False)
    found = " ".join(write_page(folder, {dataset: facts[dataset]}).split())
    assert "validation images. On the test images, on which nothing was chosen: 33.33 % mIoU, +1.25 points" in found
    assert found.count('<span class="spread">test 33.33</span>') >= len(table)
    sentence = "The validation set is the only test."
    assert sentence in without and sentence not in found


def test_warnings_stand_below_the_verdict(paper):
    assert "<li>scorer: doubtful &lt;b&gt;</li>" in paper[2][: paper[2].index('id="headline"')]


def test_a_named_run_is_found_in_the_experiments_table(paper):
    folder, facts, _ = paper
    made = recorded.read_dataset(
        "cocostuff164k", facts["cocostuff164k"], folder / "results", folder / "logs", EXPERIMENTS
    )
    shutil.copytree(folder / "results/cocostuff164k", folder / "results/cocostuff164k@b")
    named = recorded.read_dataset(
        "cocostuff164k@b", facts["cocostuff164k"], folder / "results", folder / "logs", EXPERIMENTS
    )
    assert len(made.experiments) == len(named.experiments) > 0
    shutil.rmtree(folder / "results/cocostuff164k@b")


def test_every_link_leads_somewhere(page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for attrs, _ in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {link for link in links if not link.startswith("#")} == {"snakemake.html"}


def test_the_headline_has_the_numbers_of_every_pair_and_the_papers(paper, page):
    spaces = {one: LabelSpace.read(paper[0] / f"results/{one}/label_space.json") for one in ("ade20k", "cocostuff164k")}
    names = {one: space.names for one, space in spaces.items()}
    rows = page.rows("Model")
    assert rows[0][:3] == ["Model", "gain over real, 2x", "gain over real, 1x"]
    assert len(rows) == 1 + 2 + 13
    reported = yaml.safe_load(REPORTED.read_text())
    for place, dataset in ((2, "ade20k"), (10, "cocostuff164k")):
        for row, theirs in zip(rows[place : place + len(reported[dataset])], reported[dataset], strict=True):
            means = {
                key: np.mean(
                    [iou for iou in evaluations.iou_of(dataset, names[dataset], theirs["model"], *key) if iou >= 0]
                )
                for key in (("joint", 2), ("real", 2), ("real", 1), ("finetune", 1), ("synthetic", 1))
            }
            gains = [f"{(means['joint', 2] - means['real', schedule]) / 100:+.2f}" for schedule in (2, 1)]
            assert all(cell.startswith(gain) and " to " in cell for cell, gain in zip(row[1:3], gains, strict=True))
            assert row[:1] + row[3:] == [
                theirs["model"], *(f"{mean / 100:.2f}" for mean in means.values()), f"{theirs['real']:.1f}",
                f"{theirs['joint']:.1f}", f"{theirs['joint'] - theirs['real']:+.1f}", "1",
            ]  # fmt: skip


def test_every_number_of_the_headline_opens_its_run_card(paper, page):
    start = paper[2].index('<section id="headline">')
    section = Page(paper[2][start : paper[2].index("</section>", start)])
    links = {attrs["href"] for attrs, _ in section.all("a")}
    experiments = pd.read_csv(EXPERIMENTS, sep="\t")
    main = experiments[experiments.study == "main"]
    assert links == {f"#run-{row.dataset}-{row.experiment}" for row in main.itertuples()}
    cards = {attrs["id"]: text for attrs, text in page.all("details") if "id" in attrs}
    assert len(cards) == 65 + 2 * 3
    card = cards["run-ade20k-mask2former_swin-t_joint"]
    for fact in (recorded_tree.COMMIT, f"PyTorch {recorded_tree.TORCH}", "scripts/train.py --config", "mIoU 52.00",
                 "hardness", "8 x Tesla V100-SXM2-32GB", "the end of train", "seed-0.log", "# a line",
                 "SHA-256 of", "55aa", "freemask0.0.9"):  # fmt: skip
        assert fact in card, fact
    assert "80000/160000" not in card  # a line of a progress bar


def test_versions_are_those_of_the_run(paper):
    assert version("torch") not in paper[2]


def test_the_verdict_says_what_is_known(page):
    first = page.texts[page.elements.index(("div", {"class": "verdict"}))]
    assert " ".join(first.split()) == (
        "ADE20K: trained on real + synthetic images, mask2former_swin-t reaches 52.00 % mIoU, +3.30 points over real "
        "images (+2.07 to +4.38) and +2.20 over real images at twice the schedule (+0.57 to +3.82); n = 1 train seed, "
        "60 validation images. In brackets: 95 % intervals over the validation images; the chance of another training "
        "isn't in them. Of 7 models, 7 gain over real images at twice the schedule; mean +1.33 points."
    )


def test_the_supplements_ten_classes_come_out_in_order(page):
    rows = page.rows("Class")
    theirs = yaml.safe_load(REPORTED.read_text())["most_improved_ade20k"]
    column = rows[0].index("gain over real, 1x")
    shown = sorted(rows[1:], key=lambda row: -float(row[column]))[:10]
    assert [(row[0], row[column]) for row in shown] == [(one["class"], f"{one['gain']:+.2f}") for one in theirs]
    assert len(rows) == 1 + 150


def test_classes_without_iou_are_named(paper):
    assert re.search(r"No IoU, since [^:]*: hair drier\.", paper[2])


def test_ablations_that_are_made_are_shown(paper, page):
    names = [row[0] for row in page.rows("Experiment")[1:]]
    assert names[0] == "mask2former_swin-t_joint" and names[1:] == paper[1]["ade20k"]["ablations"]


def test_folds_are_what_an_ablation_changes(paper):
    folder, facts, _ = paper
    own = facts["ade20k"] | {"ablations": facts["ade20k"]["ablations"][:1]}
    own["sets"] = {name: chosen | {"alpha": "1.25"} for name, chosen in own["sets"].items()}
    own["sets"]["ade20k-unfiltered"] |= {"folds": 5}
    data = recorded.read_dataset("ade20k", own, folder / "results", folder / "logs", EXPERIMENTS)
    panels, listed = comparisons.ablation_panels(data)
    assert panels["folds of the class losses"].value.tolist() == ["1", "5"]
    assert listed[1]["changed"] == "folds of the class losses: 5"


def test_a_gain_says_its_interval_or_its_deviation():
    row = pd.Series({"gain": 1.5, "gain_std": 2.0, "gain_low": -0.25, "gain_high": 3.0, "gain_interval": "images"})
    found = headline.gain_cell(row, "gain")
    assert (found["text"], found["spread"], found["sure"]) == ("+1.50", "-0.25 to +3.00", False)
    sure = row.copy()
    sure["gain_low"], sure["gain_interval"] = 0.25, "images and train seeds"
    assert headline.gain_cell(sure, "gain")["spread"] == "+0.25 to +3.00†" and headline.gain_cell(sure, "gain")["sure"]
    without = headline.gain_cell(row.drop(["gain_low", "gain_high"]), "gain")
    assert (without["spread"], without["sure"], without["within"]) == ("± 2.00", None, True)
    assert headline.gain_cell(row, "other") is None


def test_the_same_figure_is_the_same_element():
    table = pd.DataFrame({"name": ["a", "b < c"], "gain": [2.0, -1.0], "pixels": [10, 1000]})
    made = [charts.svg(charts.gain_and_frequency(table, "real"), "one", "t") for _ in range(2)]
    assert made[0] == made[1] and "b &lt; c" in made[0]


def test_what_a_log_says_of_its_job(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(recorded_tree.LOG.format(commit="c", script="<b>", device="d", torch="1"))
    assert runs.read_step("t", log).command.startswith("scripts/<b>.py")
    log.write_text("2026-01-02 03:04:05,678 freemask.cli INFO: packages: torch 1.2, mmcv 2.1\n")
    assert runs.read_step("t", log).versions == [("torch", "1.2"), ("mmcv", "2.1")]


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "metrics.json").touch()
    with pytest.raises(InputError, match="metrics.json: not valid JSON"):
        runs.read_run(tmp_path, tmp_path, "joint", 0)


def test_iou_of_an_image_by_hand():
    """Sky: 2 of 3; ship: 1 of 2; one ignored pixel."""
    space = LabelSpace((1, 2), ("sky", "ship"), ("sky", "ship"), ((10, 20, 30), (200, 100, 0)), ignored=0)
    truth, guess = np.array([[1, 1, 1, 2, 0]]), np.array([[1, 1, 2, 2, 1]])
    assert pictures.image_miou(truth, guess, space) == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    shown = pictures.errors(truth, guess, space)[0].tolist()
    assert shown == [list(pictures.RIGHT)] * 2 + [list(pictures.WRONG), list(pictures.RIGHT), list(pictures.UNKNOWN)]
    labels = np.ones((40, 40), np.uint8)
    labels[:, 20:] = 2
    found = pictures.region_names(labels, space)
    assert [name for _, _, name in found] == ["sky", "ship"] and found[0][0] < 50 < found[1][0]


# ---- In a browser: Debian's chromium, driven by Playwright, which is no requirement of this project ------------------

SIZES = {"desktop": (1400, 900), "phone": (390, 844)}
UNREACHABLE = """() => [...document.querySelectorAll("main *, dialog[open] *")].filter((one) => {
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height) return false;
    let [top, left] = [box.top + scrollY, box.left + scrollX];
    for (let up = one.parentElement; up; up = up.parentElement) {
        if (up.scrollTop || up.scrollLeft) { top += up.scrollTop; left += up.scrollLeft; }
    }
    return top < -1 || (left < -1 && !one.classList.contains("region"));
}).map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser():
    """Chromium. The tests above look at the same page without it; this one says what it lacks."""
    chromium = shutil.which("chromium")
    found = importlib.util.find_spec("playwright")
    if not (chromium and found):
        missing = " and ".join(name for name, there in (("chromium", chromium), ("playwright", found)) if not there)
        pytest.skip(f"not installed: {missing} (Debian: apt install chromium; pip install playwright)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("size", SIZES)
def test_it_works_in_a_browser(browser, paper, size):
    width, height = SIZES[size]
    tab = browser.new_page(viewport={"width": width, "height": height})
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((paper[0] / "results/report/report.html").as_uri())
    assert said == [] and {url.partition(":")[0] for url in asked[1:]} <= {"data"}
    assert tab.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert tab.evaluate("document.documentElement.scrollWidth") == width  # wide tables scroll in themselves
    assert tab.evaluate("[...document.querySelectorAll('svg')].every((one) => one.getBoundingClientRect().width > 300)")
    assert tab.evaluate(UNREACHABLE) == []

    link = tab.locator("#headline td a").first
    target = link.get_attribute("href")
    link.click()
    card = tab.locator(target)
    assert card.evaluate("one => one.open") and card.locator("pre").first.is_visible()
    assert 0 <= card.bounding_box()["y"] < height

    table = tab.locator("#classes table.sortable").first
    names = "rows => rows.map((one) => one.cells[0].textContent)"
    table.locator("thead th button").first.click()
    shown = table.locator("tbody tr").evaluate_all(names)
    assert shown == sorted(shown, key=str.casefold)
    table.locator("thead th button", has_text="real, 1x").first.click()  # the gain: largest first
    assert table.locator("tbody tr").evaluate_all(names)[:2] == ["ship", "microwave"]

    tab.locator("#synthetic figure.picture button").nth(1).click()
    large = tab.locator("dialog[open] img")
    assert large.bounding_box()["width"] > 300 and large.bounding_box()["y"] >= 0
    assert tab.evaluate(UNREACHABLE) == []
    tab.keyboard.press("Escape")
    assert not large.is_visible()
    assert said == []
    tab.close()
