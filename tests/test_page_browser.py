"""The page in a real browser: Chromium of Debian, without a window."""

import io
import json
import shutil

import numpy as np
import pytest
from cohorts import dicom_dataset, save_dicom
from drawn_heads import cohort, head
from readers import served
from runs import add_model, make_run

pytestmark = pytest.mark.debian("chromium")

HOSTILE = "\"'><img src=x onerror=window.hit=1><script>window.hit=1</script>"


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """P00, normal, and P01, who bleeds: six slices each."""
    return cohort(tmp_path_factory.mktemp("heads"), patients=2, slices=6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run") / "first", patients=9, slices=2)
    add_model(made, "svm")
    return made


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporary")
    process, found = served(folder, "--run", str(run), "--model", "builtin")
    yield found
    process.terminate()
    process.communicate(timeout=60)
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page with all that went wrong on it, and every address it asked for."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1600, "height": 1000}, **options})
        self.page = self.context.new_page()
        self.wrong, self.asked = [], []
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.origin = address.split("/?")[0]
        self.page.goto(address)

    def drop(self, paths):
        self.page.set_input_files("#files", paths)
        self.page.wait_for_selector("#viewer[data-shown]")

    def scored(self):
        self.page.wait_for_selector("#viewer[data-stage=scored]", timeout=120_000)

    def shown(self):
        return int(self.page.get_attribute("#viewer", "data-shown"))

    def shows(self, number):
        self.page.wait_for_selector(f'#viewer[data-shown="{number}"]')


@pytest.fixture
def visit(chromium, address):
    made = Visit(chromium, address)
    yield made
    made.context.close()
    assert made.wrong == []
    assert all(url.startswith((made.origin, "data:")) for url in made.asked)


@pytest.fixture
def reading(visit, heads):
    visit.drop(sorted((heads / "P01").glob("*.dcm")))
    return visit


def gray_at_middle(page):
    return page.evaluate(
        "() => { const c = document.querySelector('#picture');"
        "return c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; }"
    )


def test_no_script_in_a_name_is_ever_run(visit):
    files = []
    for number in range(2):
        pixels = (head(number)[0] + 1024).clip(0, 4095).astype(np.int16)
        stream = io.BytesIO()
        tags = {"PatientID": HOSTILE[:64], "PatientName": HOSTILE[:64], "StudyDescription": HOSTILE[:64]}
        place = {"ImagePositionPatient": [0, 0, 5 * number], "SeriesInstanceUID": HOSTILE[:40]}
        save_dicom(dicom_dataset(pixels, SOPInstanceUID=f"1.2.{number}", **tags, **place), stream)
        name = f"{number}{HOSTILE}.dcm".replace("/", "\\")
        files.append({"name": name, "mimeType": "text/html", "buffer": stream.getvalue()})
    files.append({"name": f"{HOSTILE.replace('/', '')}.txt", "mimeType": "text/html", "buffer": b"<script>"})
    visit.drop(files)
    visit.scored()
    assert visit.page.inner_text("h1").startswith("\"'><img src=x onerror=window.hit=1>")
    assert "onerror=window.hit=1" in visit.page.inner_text("#failures")
    visit.page.goto(f"{visit.origin}/")
    visit.page.wait_for_selector("#studies tbody tr")
    assert "<img src=x onerror" in visit.page.inner_text("#studies")
    link = visit.page.get_attribute("#studies tr:has-text('onerror') a", "href")
    visit.page.goto(f"{visit.origin}{link}/report")
    assert "<img src=x onerror" in visit.page.inner_text("h1")
    assert visit.page.evaluate("window.hit") is None
    assert visit.page.locator("img").count() == 0


def test_keys_wheel_and_mouse_move_through_the_study_and_its_window(reading):
    page = reading.page
    assert reading.shown() == 1
    for key, number in (("ArrowDown", 2), ("End", 6), ("PageUp", 1), ("ArrowRight", 2), ("Home", 1)):
        page.keyboard.press(key)
        reading.shows(number)
    page.hover("#stage")
    page.mouse.wheel(0, 120)
    reading.shows(2)
    page.click("#after")
    reading.shows(3)
    assert "brain" in page.inner_text("#presets").lower()
    assert page.inner_text("#window") == "W 80 L 40"
    brain = gray_at_middle(page)
    page.keyboard.press("5")
    page.wait_for_function("document.querySelector('#window').textContent === 'W 2800 L 600'")
    page.wait_for_timeout(50)
    assert gray_at_middle(page) != brain
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.press("1")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y - 10)
    page.mouse.up()
    assert page.inner_text("#window") == "W 90 L 45"
    assert "HU at" in page.inner_text("#probe")
    under = page.inner_text("#probe").split(" at ")[1]
    for _ in range(3):
        page.keyboard.press("+")
    page.mouse.move(x + 21, y - 10)
    assert page.locator("#picture").bounding_box()["width"] > 1.9 * box["width"]
    near = page.inner_text("#probe").split(" at ")[1]
    assert all(abs(int(a) - int(b)) <= 1 for a, b in zip(under.split(", "), near.split(", "), strict=True))
    for _ in range(3):
        page.keyboard.press("-")
    assert page.locator("#picture").bounding_box() == pytest.approx(box)


def test_what_the_model_says_is_beside_the_picture_and_outlines_go_on_and_off(reading):
    page = reading.page
    reading.scored()
    assert "suspicion" in page.inner_text("#answer")
    assert "synthetic heads only" in page.inner_text("#caveat")
    assert " ml" in page.inner_text("#measures")
    page.keyboard.press("Home")
    page.keyboard.press("n")
    page.wait_for_selector("#outlines path", state="attached")
    number = reading.shown()
    assert page.get_attribute("#slider", "aria-valuetext").startswith(f"slice {number} of 6, ")
    page.keyboard.press("o")
    page.wait_for_selector("#outlines path", state="detached")
    assert page.get_attribute("#toggle", "aria-pressed") == "false"
    assert page.locator("#strip rect.outlined").count() > 0
    with page.expect_download() as download:
        page.click("text=CSV")
    assert download.value.suggested_filename == "haemo-slices.csv"


def test_scrolling_asks_nothing_of_the_server_once_slices_are_there(reading):
    reading.scored()
    slices = "performance.getEntriesByType('resource').filter(one => /slices\\/\\d+$/.test(one.name))"
    reading.page.wait_for_function(f"() => {slices}.length === 6")
    before = len(reading.asked)
    for _ in range(5):
        reading.page.keyboard.press("ArrowDown")
    reading.shows(6)
    assert len(reading.asked) == before


def test_a_reader_answers_by_keys_and_is_set_beside_the_model(visit, run):
    page = visit.page
    page.goto(f"{visit.origin}/reading")
    page.fill("input[name=reader]", "anna")
    page.fill("input[name=cases]", "6")
    page.press("input[name=cases]", "Enter")
    for case in range(1, 7):
        page.wait_for_selector(f'#reading[data-shown="{case}"]')
        page.keyboard.press("6" if case % 2 else "1")
    page.wait_for_selector("text=beside the models")
    assert "reader anna" in page.inner_text("table")
    kept = (run.path / "readings" / "anna" / "answers.csv").read_text().splitlines()
    assert len(kept) == 7
    assert all(0 <= float(line.split(",")[2]) < 60 for line in kept[1:])
    assert len(json.loads((run.path / "compare_readers.json").read_text())["models"]) == 2


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_cut_off_and_nothing_hinders_who_cannot_see_or_use_a_mouse(
    chromium, address, heads, width
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # What axe does to a page its policy forbids, as it should.
    view = Visit(chromium, address, viewport={"width": width, "height": 900}, bypass_csp=True)
    view.drop(sorted((heads / "P01").glob("*.dcm")))
    view.scored()
    places = [view.page.url, *(f"{view.origin}/{name}" for name in ("", "runs", "runs/0", "reading"))]
    for place in places:
        view.page.goto(place)
        view.page.wait_for_load_state("networkidle")
        found = axe.run(view.page).response["violations"]
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], place
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    view.context.close()
