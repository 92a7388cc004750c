"""The report page in a browser: what must be read whole on a narrow screen."""

import re
import shutil
import subprocess

import pytest

from pipeline.report.page import Section, page, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Adds up how far captions reach out of the page, left and right, with tables as they are and scrolled.
_MEASURE = """<script>
let out = 0, scrolled = 0
const width = document.documentElement.clientWidth
for (const left of [0, 400]) for (const box of document.querySelectorAll(".scroll")) {
  box.scrollLeft = left
  scrolled += box.scrollLeft
  const range = document.createRange()
  range.selectNodeContents(box.querySelector("caption"))
  const place = range.getBoundingClientRect()
  out += Math.max(0, place.right - width) + Math.max(0, -place.left)
}
document.title = `${width} ${scrolled > 0} ${out}`
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_captions_of_wide_tables_are_read_whole_on_a_narrow_screen(tmp_path):
    columns = [f"a column {number}" for number in range(12)]
    caption = "* patients kept whole, corrected for the number of tests (Holm), as described below"
    wide = table(columns, [["0.784 (0.698-0.857)"] * 12], caption)
    narrow = table(columns[:2], [["a", "b"]], caption)
    in_list = f"<ul><li><details open><summary>which</summary>{wide}</details></li></ul>"
    text = page("Report", "", [], [Section("a", "A", [wide, narrow, in_list])])
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", _MEASURE + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,800"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    width, scrolled, outside = re.search(r"<title>(\d+) (\w+) (\S+)</title>", found).groups()
    assert int(width) <= 500
    assert scrolled == "true"
    assert float(outside) == 0
