"""Pictures of the page for the documentation, taken in Chromium of a phantom study that bleeds.

    make screenshots                       # into docs/pictures
    make screenshots ARGS="--study FOLDER --out build/pictures"    # of a study of your own

Needs Debian's package chromium. Says how long the browser takes from the drop to the first picture.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from haemo.features.phantom import CohortSettings, write_cohort

SERVE = "import sys; from haemo.pipeline.cli import main; main()"
COLOURS = 96  # of the pictures: small files, and no grays that an eye would miss
COHORT = CohortSettings(patients=4, slices=(24, 24), prevalence=0.75, seed=5)


def take(page: Page, path: Path) -> None:
    whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=Path, help="folder of the study to be dropped, in place of a phantom")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, COHORT)
        studies = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.startswith("P"))
        command = [sys.executable, "-c", SERVE, "serve", "--model", "builtin", *map(str, studies)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            visit(server.stdout.readline().strip(), options)
        finally:
            server.terminate()
            server.wait()


def visit(address: str, options: argparse.Namespace) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(address)
        answers = (
            "[...document.querySelectorAll('#studies tbody td:nth-child(3)')].map(one => one.textContent)"
        )
        scored = f"() => {answers}.length && !{answers}.some(one => /scoring|waiting/.test(one))"
        page.wait_for_function(scored, timeout=600_000)
        take(page, options.out / "worklist.png")
        if options.study:
            files = sorted(str(path) for path in options.study.iterdir() if path.is_file())
            began = time.perf_counter()
            page.set_input_files("#files", files)
            page.wait_for_selector("#viewer[data-shown]")
            print(f"first picture {time.perf_counter() - began:.2f} s after the drop of {len(files)} files")
        else:
            page.click("#studies tbody tr a")
        page.wait_for_selector("#viewer[data-stage=scored]", timeout=600_000)
        page.click("#suspicious button")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        take(page, options.out / "study.png")
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_timeout(500)
        take(page, options.out / "study-narrow.png")
        browser.close()
    print(f"pictures in {options.out}")


if __name__ == "__main__":
    main()
