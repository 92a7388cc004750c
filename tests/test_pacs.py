"""`haemo pacs`: studies in, scored once, results back, whatever is killed on the way."""

import gc
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pydicom
import pytest
from dicom_studies import write_study
from pacs_servers import PASSWORD, USER, Orthanc, StandIn, free_port, store

from haemo.errors import BadDataset, BadSettings, RunLocked
from haemo.pipeline.cli import main
from haemo.pipeline.dicom_results.scorer import file_scorer
from haemo.pipeline.pacs.access import Credentials, Tls, is_loopback, require_encryption
from haemo.pipeline.pacs.delivery import CStore, NotDelivered
from haemo.pipeline.pacs.inbox import Inbox, Limits, Refused
from haemo.pipeline.pacs.pulling import parse_since
from haemo.pipeline.pacs.receiving import Address, Listener
from haemo.pipeline.pacs.service import opened
from haemo.pipeline.pacs.state import State, StudyState
from haemo.pipeline.pacs.worker import Worker
from haemo.pipeline.segmenting.segmenter import builtin_segmenter

# pynetdicom leaves the socket of an association that was cut off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

ORTHANC = pytest.param("orthanc", marks=pytest.mark.debian("orthanc", "orthanc-dicomweb"))


TOKEN = Credentials.find(None, {"HAEMO_PACS_TOKEN": "t"})


@pytest.fixture(scope="module", autouse=True)
def _sockets_that_were_left():
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


class Clock:
    """A time that moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Study 1 does not bleed, 2 does."""
    root = tmp_path_factory.mktemp("studies")
    for number in (1, 2):
        write_study(root / str(number), number, bleeds=number == 2, slices=2)
    return root


@pytest.fixture(scope="module")
def scorer():
    return file_scorer(builtin_segmenter(), None)


@pytest.fixture(params=["own", ORTHANC])
def server(request, tmp_path):
    made = StandIn() if request.param == "own" else Orthanc(tmp_path / "orthanc")
    yield made
    made.close()


@pytest.fixture
def stand_in():
    made = StandIn()
    yield made
    made.close()


@pytest.fixture
def service(tmp_path):
    with opened(tmp_path / "state", Limits()) as made:
        yield made


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def take(inbox: Inbox, folder: Path) -> None:
    for path in files(folder):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        inbox.take(str(header.StudyInstanceUID), str(header.SOPInstanceUID), path.read_bytes())


class TestEndToEnd:
    def test_studies_come_in_and_results_go_back_once(self, server, studies, service, scorer, caplog):
        caplog.set_level(logging.DEBUG)
        address = Address.parse(server.address)
        worker = Worker(service.inbox, scorer, CStore(address, "HAEMO"), quiet_seconds=0)
        with Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox) as listener:
            assert store(files(studies), listener.port) == [0, 0, 0, 0]
            worker.finish()
            assert store(files(studies), listener.port) == [0, 0, 0, 0]  # the same again: known
            worker.finish()
        kinds = sorted((one.study[-1], one.modality) for one in server.results())
        assert kinds == [("1", "SR"), ("2", "SEG"), ("2", "SR")]
        assert all(one.description.startswith("AI ") for one in server.results())
        assert service.state.counts()["sent"] == 2
        assert [case.positive for case in service.state.cases()] == [False, True]
        said = " ".join(
            record.getMessage() for record in caplog.records if record.name.startswith("haemo.pacs")
        )
        assert "case 1: 2 images scored, negative" in said
        for secret in ("Müller", "Erika", "PID-", "1.2.826", "Secret"):
            assert secret not in said

    def test_late_images_are_scored_with_the_others_and_the_new_report_names_the_old(
        self, stand_in, service, scorer, tmp_path
    ):
        write_study(tmp_path / "in", 2, bleeds=True, slices=3)
        *early, late = files(tmp_path / "in")
        worker = Worker(
            service.inbox, scorer, CStore(Address.parse(stand_in.address), "HAEMO"), quiet_seconds=0
        )
        with Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox) as listener:
            store(early, listener.port)
            worker.finish()
            store([late], listener.port)
            worker.finish()
        assert [one.modality for one in stand_in.results()] == ["SEG", "SR", "SEG", "SR"]
        case = service.state.cases()[0]
        report = pydicom.dcmread(service.inbox.results(case) / "2" / "report.dcm")
        before = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert before.ReferencedSOPInstanceUID == stand_in.results()[1].uid

    @pytest.mark.debian("orthanc", "orthanc-dicomweb")
    def test_pull_and_stow(self, studies, tmp_path, monkeypatch, capsys):
        orthanc = Orthanc(tmp_path / "orthanc")
        try:
            orthanc.put(files(studies))
            monkeypatch.setenv("HAEMO_PACS_USER", USER)
            monkeypatch.setenv("HAEMO_PACS_PASSWORD", PASSWORD)
            uid = str(pydicom.dcmread(files(studies / "2")[0]).StudyInstanceUID)
            arguments = ["pacs", "pull", "--model", "builtin", "--dicomweb", orthanc.web]
            arguments += ["--state", str(tmp_path / "state")]
            assert main([*arguments, "--study", uid]) == 0
            assert "studies looked at: 1; 2 new images" in capsys.readouterr().out
            assert sorted(one.modality for one in orthanc.results()) == ["SEG", "SR"]
            assert main([*arguments, "--since", "9999d"]) == 0
            said = capsys.readouterr()
            assert "studies looked at: 2; 2 new images, 1 known before" in said.out
            assert sorted(one.modality for one in orthanc.results()) == ["SEG", "SR", "SR"]
            for secret in ("Müller", "PID-", "1.2.826", PASSWORD):
                assert secret not in said.out + said.err
            monkeypatch.setenv("HAEMO_PACS_PASSWORD", "wrong")
            assert main([*arguments, "--since", "24h"]) == 1
            assert "it answered 401 (user, password or token)" in capsys.readouterr().err
        finally:
            orthanc.close()


class TestKilled:
    def test_a_killed_listener_goes_on(self, stand_in, tmp_path):
        from torture_pacs import torture

        found = torture(stand_in, tmp_path, studies=3, kills=1, seed=1)
        assert found == {"studies": 3, "kills": 1, "reports": 3, "segmentations": 1, "lost": 0, "double": 0}

    def test_results_that_may_have_been_taken_are_sent_again_under_the_same_names(
        self, stand_in, studies, service, scorer
    ):
        class Dies(CStore):
            def send(self, paths):
                super().send(paths)
                raise KeyboardInterrupt  # after the PACS has them, before we know

        take(service.inbox, studies / "2")
        to = Address.parse(stand_in.address)
        with pytest.raises(KeyboardInterrupt):
            Worker(service.inbox, scorer, Dies(to, "HAEMO"), quiet_seconds=0).finish()
        Worker(service.inbox, scorer, CStore(to, "HAEMO"), quiet_seconds=0).finish()
        assert len(stand_in.results()) == 2
        assert set(stand_in.times.values()) == {2}

    def test_a_study_that_ends_the_process_is_given_up(self, tmp_path):
        state = State(tmp_path / "studies.sqlite")
        state.add_image(state.number_of("1.2"), "1.2.3", 10)
        for _ in range(5):
            assert state.begin_scoring(0) is not None
            state.restore()
        assert state.begin_scoring(0) is None
        assert state.cases()[0].reason == "the process ended 5 times while it was scored"
        state.close()


class TestState:
    def test_a_study_is_complete_after_a_quiet_time(self, tmp_path):
        clock = Clock()
        state = State(tmp_path / "studies.sqlite", clock)
        number = state.number_of("1.2")
        for image in range(3):
            state.add_image(number, f"1.2.{image}", 10)
            clock.now += 20
            assert state.begin_scoring(30) is None
        clock.now += 10
        assert state.begin_scoring(30).slices == 3
        assert state.begin_scoring(30) is None
        state.close()

    def test_an_image_that_comes_while_it_is_scored_or_sent_is_not_lost(self, tmp_path):
        clock = Clock()
        state = State(tmp_path / "studies.sqlite", clock)
        number = state.number_of("1.2")
        state.add_image(number, "1.2.1", 10)
        case = state.begin_scoring(0)
        clock.now += 1
        state.add_image(number, "1.2.2", 10)
        state.scored(case, "1", True)
        assert state.begin_sending() is None
        case = state.begin_scoring(0)
        assert case.slices == 2
        state.scored(case, "2", True)
        sending = state.begin_sending()
        clock.now += 1
        state.add_image(number, "1.2.3", 10)
        state.sent(sending)
        case = state.begin_scoring(0)
        assert (case.slices, case.sent_result) == (3, "2")
        state.close()

    def test_waits_double_up_to_an_hour(self, tmp_path):
        clock = Clock()
        state = State(tmp_path / "studies.sqlite", clock)
        state.add_image(state.number_of("1.2"), "1.2.1", 10)
        state.scored(state.begin_scoring(0), "1", True)
        waits = []
        for _ in range(12):
            next_try = state.failed(state.begin_sending(), "refused", again=True)
            assert state.begin_sending() is None
            waits.append(next_try - clock.now)
            clock.now = next_try
        assert waits[:4] == [10, 20, 40, 80]
        assert waits[-1] == 3600
        assert state.cases()[0].state is StudyState.FAILED
        state.sent(state.begin_sending())
        assert state.cases()[0].reason == ""
        state.close()

    def test_no_state(self, tmp_path, capsys):
        assert main(["pacs", "status", "--state", str(tmp_path / "none")]) == 1
        assert "it is made by haemo pacs listen" in capsys.readouterr().err
        (tmp_path / "studies.sqlite").write_text("no database at all, but long enough to be looked at" * 20)
        with pytest.raises(BadDataset, match="no state of studies"):
            State(tmp_path / "studies.sqlite")


class TestRefusals:
    def test_a_pacs_that_refuses_is_tried_again_with_the_same_results(
        self, stand_in, studies, service, scorer, tmp_path, capsys
    ):
        worker = Worker(
            service.inbox, scorer, CStore(Address.parse(stand_in.address), "HAEMO"), quiet_seconds=0
        )
        take(service.inbox, studies / "1")
        stand_in.refuse = 0xA700
        worker.finish()
        assert main(["pacs", "status", "--state", str(tmp_path / "state"), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["counts"]["failed"] == 1
        assert "refused a result with status 0xA700" in said["cases"][0]["reason"]
        assert said["cases"][0]["next_try"]
        assert "study" not in said["cases"][0]
        stand_in.refuse = 0
        service.state.retry_now()
        worker.finish()
        assert len(stand_in.results()) == 1

    def test_what_cannot_be_scored_is_named_and_may_be_sent_again(self, stand_in, service, scorer, tmp_path):
        write_study(tmp_path / "in", 3, bleeds=False, slices=1, RescaleSlope=None)
        worker = Worker(
            service.inbox, scorer, CStore(Address.parse(stand_in.address), "HAEMO"), quiet_seconds=0
        )
        take(service.inbox, tmp_path / "in")
        worker.finish()
        case = service.state.cases()[0]
        assert (case.state, case.next_try) == (StudyState.FAILED, None)
        assert "no usable Rescale Slope" in case.reason
        assert str(tmp_path) not in case.reason
        write_study(tmp_path / "in", 3, bleeds=False, slices=1)
        take(service.inbox, tmp_path / "in")
        worker.finish()
        assert service.state.cases()[0].state is StudyState.SENT

    def test_a_title_that_is_not_allowed(self, studies, service, caplog):
        with Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox, ["PACS"]) as listener:
            assert store(files(studies / "1"), listener.port) == [-1, -1]
            assert store(files(studies / "1"), listener.port, calling="PACS", called="OTHER") == [-1, -1]
            assert store(files(studies / "1"), listener.port, calling="PACS") == [0, 0]

    def test_limits(self, studies, tmp_path):
        size = files(studies / "1")[0].stat().st_size / 1e6
        for limits, said in (
            (Limits(image_mb=size / 2), [0xA700, 0xA700]),
            (Limits(slices=1), [0, 0xA700]),
            (Limits(folder_gb=1.5 * size / 1000), [0, 0xA700]),
        ):
            folder = tmp_path / str(limits)
            with (
                opened(folder, limits) as service,
                Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox) as listener,
            ):
                assert store(files(studies / "1"), listener.port) == said
                if limits.slices == 1:
                    assert service.state.cases()[0].state is StudyState.FAILED
                    assert "more than 1 images" in service.state.cases()[0].reason

    def test_a_giant_image_ends_the_association_before_it_is_in_memory(self, tmp_path, caplog):
        write_study(tmp_path / "in", 1, bleeds=False, slices=1)
        path = files(tmp_path / "in")[0]
        data = pydicom.dcmread(path)
        data.Rows = data.Columns = 2048
        data.PixelData = bytes(2 * 2048 * 2048)
        data.save_as(path)
        with (
            opened(tmp_path / "state", Limits(image_mb=1)) as service,
            Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox) as listener,
        ):
            assert store([path], listener.port) == [-1]
            assert not service.state.cases()
        assert "an association was ended: an image of more than 1 MB" in caplog.text

    def test_what_is_no_dicom_at_all(self, service):
        with Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox) as listener:
            with socket.create_connection(("127.0.0.1", listener.port)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(0.2)
            assert not service.state.cases()

    def test_files_are_cleared_away_in_time(self, stand_in, studies, service, scorer):
        worker = Worker(
            service.inbox,
            scorer,
            CStore(Address.parse(stand_in.address), "HAEMO"),
            quiet_seconds=0,
            keep_hours=0,
        )
        take(service.inbox, studies / "1")
        worker.finish()
        worker.step()
        assert not list((service.inbox.folder / "cases").iterdir())
        assert service.state.bytes_kept() == 0
        take(service.inbox, studies / "1")  # known still
        worker.finish()
        assert len(stand_in.results()) == 1

    def test_one_process_at_a_time(self, tmp_path):
        with opened(tmp_path / "state", Limits()):
            assert (tmp_path / "state").stat().st_mode & 0o077 == 0
            with pytest.raises(RunLocked), opened(tmp_path / "state", Limits()):
                pass


@pytest.mark.parametrize(("knows_offset", "knows_limit"), [(True, True), (False, True), (False, False)])
def test_a_search_ends_whatever_a_service_makes_of_pages(knows_offset, knows_limit):
    from haemo.pipeline.pacs import pulling

    rows = [{"0020000D": {"Value": [f"1.2.{number}"]}} for number in range(450)]
    calls = []

    def search(limit: int, offset: int, **asked):
        calls.append(offset)
        found = rows[offset if knows_offset else 0 :]
        return found[:limit] if knows_limit else found

    if knows_limit and not knows_offset:
        with pytest.raises(pulling.NotPulled, match="knows no offset; ask for less"):
            pulling._paged(search, "0020000D")
    else:
        assert len(pulling._paged(search, "0020000D")) == 450
    assert len(calls) <= 3


class TestAccess:
    def test_credentials_come_from_a_private_file_or_the_environment(self, tmp_path):
        path = tmp_path / "credentials"
        path.write_text("# of the archive\nuser = reader\npassword = a = b\n")
        path.chmod(0o644)
        with pytest.raises(BadSettings, match="chmod 600"):
            Credentials.find(path)
        path.chmod(0o600)
        assert Credentials.find(path) == Credentials("reader", "a = b")
        assert "reader" not in repr(Credentials.find(path))
        assert TOKEN
        assert not TOKEN.user
        with pytest.raises(BadSettings, match="a user and a password belong together"):
            Credentials.find(None, {"HAEMO_PACS_USER": "reader"})
        path.write_text("pass: x\n")
        with pytest.raises(BadSettings, match="line 1"):
            Credentials.find(path)

    def test_nothing_secret_goes_over_a_network_in_the_clear(self):
        require_encryption("http://127.0.0.1:8042/dicom-web", TOKEN)
        require_encryption("https://pacs/dicom-web", TOKEN)
        for url in ("http://pacs/dicom-web", "https://a:b@pacs/dicom-web", "ftp://pacs"):
            with pytest.raises(BadSettings):
                require_encryption(url, TOKEN)

    def test_others_are_let_in_by_name_only(self, service):
        assert is_loopback("::1")
        assert not is_loopback("192.0.2.1")
        with pytest.raises(BadSettings, match="--allow AET"):
            Listener(Address("HAEMO", "192.0.2.1", 0), service.inbox)

    @pytest.mark.parametrize(
        "text", ["PACS", "PACS@host", "PACS@host:0", "@host:104", "A" * 17 + "@host:104"]
    )
    def test_addresses_that_are_none(self, text):
        with pytest.raises(BadSettings):
            Address.parse(text)

    def test_times(self):
        assert parse_since("24h").total_seconds() == 86400
        for text in ("24", "h", "0d", "-1h"):
            with pytest.raises(BadSettings):
                parse_since(text)

    @pytest.mark.debian("openssl")
    def test_tls_both_ways(self, studies, service, tmp_path):
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        tls = Tls(certificate, key, certificate)
        with Listener(Address("HAEMO", "127.0.0.1", 0), service.inbox, tls=tls.server()) as listener:
            assert store(files(studies / "1"), listener.port) == [-1, -1]
            secure = (tls.client(), "127.0.0.1")
            assert store(files(studies / "1"), listener.port, tls_args=secure) == [0, 0]
        server = StandIn(tls.server())
        try:
            write_report(tmp_path)
            to = Address.parse(server.address)
            with pytest.raises(NotDelivered, match="gives no association"):
                CStore(to, "SENDER").send([tmp_path / "report.dcm"])
            CStore(to, "SENDER", tls.client()).send([tmp_path / "report.dcm"])
            assert [one.uid for one in server.results()] == ["1.2.3"]
        finally:
            server.close()

    def test_files_that_are_no_certificates(self, tmp_path):
        (tmp_path / "cert.pem").write_text("none")
        with pytest.raises(BadSettings, match="must be PEM files"):
            Tls(tmp_path / "cert.pem").server()
        with pytest.raises(BadSettings, match="--tls-cert"):
            Tls(key=tmp_path / "cert.pem").server()
        assert Tls().server() is None
        assert Tls().client() is None


def write_report(folder: Path) -> None:
    """Something with the class of a report."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.Comprehensive3DSRStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Modality, data.StudyInstanceUID, data.SeriesDescription = "SR", "1.2", "AI"
    data.save_as(folder / "report.dcm", enforce_file_format=True)


class TestCommand:
    def test_listen_takes_scores_and_ends_on_a_signal(self, stand_in, studies, tmp_path):
        port = free_port()
        code = "import sys; from haemo.pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-c", code, "pacs", "listen", "--model", "builtin"),
                *("--port", str(port), "--to", stand_in.address, "--state", str(tmp_path / "state")),
                *("--quiet-time", "0.5"),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        try:
            while "listening as" not in process.stderr.readline():
                assert process.poll() is None
            reader.start()
            assert store(files(studies / "2"), port) == [0, 0]
            for _ in range(1200):
                if len(stand_in.results()) == 2:
                    break
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            reader.join()
            assert "1 sent" in process.stdout.read()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        assert "case 1: 2 images scored, positive\n" in lines
        assert "1.2.826" not in "".join(lines)

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["listen", "--model", "builtin", "--to", "nowhere"], "write AET@HOST:PORT"),
            (["listen", "--to", "A@b:1"], "name one: --run RUN, or --model FILE or builtin"),
            (["pull", "--model", "builtin", "--dicomweb", "http://127.0.0.1:1"], "say which studies"),
            (["pull", "--model", "builtin", "--dicomweb", "x", "--since", "1h"], "no address of a DICOMweb"),
            (
                ["listen", "--model", "builtin", "--to", "A@b:1", "--bind", "192.0.2.1"],
                "name who may send",
            ),
        ],
    )
    def test_wrong(self, arguments, why, tmp_path, capsys):
        assert main(["pacs", arguments[0], "--state", str(tmp_path / "state"), *arguments[1:]]) == 2
        assert why in capsys.readouterr().err

    def test_a_service_that_is_not_there(self, tmp_path, capsys):
        url = f"http://127.0.0.1:{free_port()}"
        arguments = ["pacs", "pull", "--model", "builtin", "--dicomweb", url, "--since", "1h"]
        assert main([*arguments, "--state", str(tmp_path / "state")]) == 1
        assert "it cannot be reached (ConnectionError)" in capsys.readouterr().err


def test_an_image_is_on_disk_before_it_is_known(tmp_path, studies):
    with opened(tmp_path / "state", Limits(image_mb=0.001)) as service, pytest.raises(Refused):
        take(service.inbox, studies / "1")
    with opened(tmp_path / "state", Limits()) as service:
        data = files(studies / "1")[0].read_bytes()
        assert service.inbox.take("1.2", "1.2.3", data)
        assert not service.inbox.take("1.2", "1.2.3", data)
        kept = list(service.inbox.images(service.state.cases()[0]).iterdir())
        assert [path.read_bytes() for path in kept] == [data]
        assert "1.2.3" not in kept[0].name
