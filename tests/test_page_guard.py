"""Who gets into the page, what it lets a browser do, and that no name becomes a path or a script."""

import io
import re

import numpy as np
import pytest
from cohorts import ct_values, dicom_dataset, save_dicom
from PIL import Image
from readers import COOKIE, Desk, archive

from haemo.pipeline.serving.pages import TEMPLATES

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


@pytest.fixture
def reader(desk):
    return desk.read()


def picture():
    stream = io.BytesIO()
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


class TestToken:
    def test_without_it_nothing_is_answered(self, desk):
        stranger = desk.stranger()
        for address in ("/", "/worklist", "/static/viewer.js", "/studies/x", "/nowhere", "/?token=wrong"):
            answer = stranger.get(address)
            assert answer.status_code == 403
            assert "haemo serve" in answer.text
        assert stranger.post("/uploads").status_code == 403

    def test_it_becomes_a_cookie_that_no_other_site_and_no_script_gets(self, desk):
        answer = desk.stranger().get(f"/?token={desk.token}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        kept = answer.headers["set-cookie"].lower()
        assert "httponly" in kept
        assert "samesite=strict" in kept
        assert desk.token.lower() not in kept

    def test_a_guessed_cookie_is_none(self, desk):
        stranger = desk.stranger()
        stranger.cookies.set(COOKIE, "guess")
        assert stranger.get("/").status_code == 403


class TestOtherSites:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::ffff", ""])
    def test_another_name_for_this_machine_is_refused(self, reader, host):
        assert reader.get("/", host=host).status_code == 421

    @pytest.mark.parametrize("host", ["127.0.0.1:1234", "localhost", "localhost:80", "[::1]:80"])
    def test_its_own_names_are_not_also_through_a_tunnel(self, reader, host):
        assert reader.get("/", host=host).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "http://127.0.0.1:9000"},
            {"origin": "null"},
            {"x-haemo-csrf": "guess"},
            {"x-haemo-csrf": ""},
        ],
    )
    def test_nothing_changes_by_what_another_page_sends(self, reader, headers):
        before = dict(reader.session.uploads)
        assert reader.post("/uploads", **headers).status_code == 403
        assert reader.session.uploads == before

    def test_without_an_origin_the_browser_must_say_it_is_our_page(self, reader):
        secret = {"x-haemo-csrf": reader.session.csrf}
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
            answer = reader.client.post("/uploads", headers={**secret, "sec-fetch-site": site})
            assert answer.status_code == status


def test_every_answer_forbids_scripts_in_it_frames_and_guesses_of_its_type(desk, reader):
    answers = [reader.get(address) for address in ("/", "/worklist", "/static/style.css", "/nowhere")]
    answers += [desk.stranger().get("/"), reader.post("/uploads", origin="null")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_loads_nothing_from_elsewhere_and_has_no_script_or_style_in_it():
    for path in TEMPLATES.parent.glob("*/*"):
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert addresses == set(), path
        if path.suffix == ".html" and path.name != "report.html":  # that has a policy of its own
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path


def test_names_are_text_wherever_they_come_from(reader):
    stream = io.BytesIO()
    dataset = dicom_dataset(
        ct_values(1), PatientID=HOSTILE[:64], PatientName=HOSTILE[:64], SeriesInstanceUID="1.2"
    )
    save_dicom(dataset, stream)
    for name, content in ((f"{HOSTILE}/1.png", picture()), ("x.dcm", stream.getvalue())):
        (study,) = reader.drop({name: content}).json()["studies"]
        page = reader.get(f"/studies/{study['key']}").text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert reader.get("/worklist").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "name",
    [
        "../../../evil.png",
        "/etc/evil.png",
        "..\\..\\evil.png",
        "C:\\evil.png",
        "a/\x00/evil.png",
        "x" * 300 + ".png",
    ],
)
def test_no_name_leads_out_of_the_folder_of_its_session(desk, reader, name):
    before = {path for path in desk.folder.parent.rglob("*") if "evil" in path.name}
    packed = reader.drop({"a.zip": archive({name.replace("\x00", "_"): picture()})})
    plain = reader.drop({name: picture()})
    for answer in (packed, plain):
        assert answer.status_code == 200, answer.text
    assert {path for path in desk.folder.parent.rglob("*") if "evil" in path.name} == before
    stored = [path for path in reader.session.folder.rglob("*") if path.is_file()]
    assert len(stored) == 2
    assert all(re.fullmatch(r"\d{6}(\.png)?", path.name) for path in stored)


@pytest.mark.parametrize(
    "address",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/studies/..%2f..%2fetc%2fpasswd",
        "/studies/x/slices/../../../etc/passwd",
        "/uploads/..%2f/files",
    ],
)
def test_no_address_leads_to_a_file(reader, address):
    answer = reader.get(address)
    assert answer.status_code in (404, 405)
    assert "import" not in answer.text


def test_a_fault_costs_its_own_answer_and_shows_no_traceback(desk, reader, monkeypatch, caplog):
    def broken(*unused, **options):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(desk.room, "worklist", broken)
    answer = reader.get("/worklist")
    assert answer.status_code == 500
    assert "fault of haemo" in answer.text
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text
    monkeypatch.undo()
    assert reader.get("/worklist").status_code == 200
