"""Two PACS to hold the service against, on 127.0.0.1: Orthanc, and a small one in this process without it."""

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pydicom
import requests
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage

__all__ = ["PASSWORD", "USER", "Orthanc", "Result", "StandIn", "free_port", "store"]

USER, PASSWORD = "reader", "not a secret"


_FORWARD = """
function OnStableSeries(series, tags, metadata)
  if tags["Modality"] == "CT" then
    RestApiPost("/modalities/haemo/store", '{"Resources": ["' .. series .. '"], "Synchronous": false}')
  end
end
"""


class Result(NamedTuple):
    """What a PACS has of one result."""

    modality: str
    study: str
    uid: str
    description: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def store(
    paths: list[Path], port: int, calling: str = "SENDER", called: str = "HAEMO", **secure
) -> list[int]:
    """C-STORE files; their statuses, -1 for one without an answer and for all without an association."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title=called, **secure)
    if not association.is_established:
        return [-1] * len(paths)
    said = []
    for path in paths:
        try:
            said.append(int(association.send_c_store(pydicom.dcmread(path)).get("Status", -1)))
        except RuntimeError:  # the association ended
            said.append(-1)
    association.release()
    return said


class StandIn:
    """Keeps what is stored, each identifier once; `refuse` makes it answer with that status."""

    aet = "STANDIN"

    def __init__(self, tls=None):
        self.port = free_port()
        self.refuse = 0
        self.stored: dict[str, Result] = {}
        self.times: dict[str, int] = {}
        entity = AE(self.aet)
        for kind in (Comprehensive3DSRStorage, SegmentationStorage):
            entity.add_supported_context(kind)
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
            ssl_context=tls,
        )

    @property
    def address(self) -> str:
        return f"{self.aet}@127.0.0.1:{self.port}"

    def results(self) -> list[Result]:
        return list(self.stored.values())

    def close(self) -> None:
        self._server.shutdown()

    def _store(self, event) -> int:
        if self.refuse:
            return self.refuse
        data = event.dataset
        uid = str(data.SOPInstanceUID)
        self.stored[uid] = Result(data.Modality, data.StudyInstanceUID, uid, data.SeriesDescription)
        self.times[uid] = self.times.get(uid, 0) + 1
        return 0x0000


class Orthanc:
    """The real thing, as Debian packages it, with its DICOMweb plug-in."""

    aet = "ORTHANC"

    def __init__(self, folder: Path, forward_to: int | None = None):
        """Keep all in `folder`; CT series go on to the AE title HAEMO at this port, once they are stable."""
        self.port, web = free_port(), free_port()
        self.url = f"http://127.0.0.1:{web}"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "DicomAet": self.aet,
            "DicomPort": self.port,
            "HttpPort": web,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
            "DicomWeb": {"Enable": True},
            "DicomAlwaysAllowStore": True,
            "StableAge": 1,
            "JobsHistorySize": 10_000,
        }
        folder.mkdir(parents=True, exist_ok=True)
        if forward_to is not None:
            (folder / "forward.lua").write_text(_FORWARD)
            settings["DicomModalities"] = {"haemo": ["HAEMO", "127.0.0.1", forward_to]}
            settings["LuaScripts"] = [str(folder / "forward.lua")]
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = (folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen(
            ["Orthanc", str(folder / "orthanc.json")], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._session = requests.Session()
        self._session.auth = (USER, PASSWORD)
        self._session.trust_env = False
        for _ in range(150):
            try:
                self._session.get(f"{self.url}/system", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.2)
        self.close()
        raise RuntimeError((folder / "orthanc.log").read_text())

    @property
    def address(self) -> str:
        return f"{self.aet}@127.0.0.1:{self.port}"

    @property
    def web(self) -> str:
        return f"{self.url}/dicom-web"

    def put(self, paths: list[Path]) -> None:
        for path in paths:
            self._session.post(f"{self.url}/instances", data=path.read_bytes(), timeout=30).raise_for_status()

    def try_again(self) -> int:
        """Have jobs done again that failed, as a PACS does whose neighbour was away; how many they are."""
        jobs = self._session.get(f"{self.url}/jobs?expand", timeout=30).json()
        failed = [job["ID"] for job in jobs if job["State"] == "Failure"]
        for job in failed:
            self._session.post(f"{self.url}/jobs/{job}/resubmit", timeout=30).raise_for_status()
        return len(failed)

    def results(self) -> list[Result]:
        found = []
        for modality in ("SR", "SEG"):
            query = {"Level": "Series", "Query": {"Modality": modality}, "Expand": True}
            rows = self._session.post(f"{self.url}/tools/find", json=query, timeout=30).json()
            for row in rows:
                study = self._session.get(f"{self.url}/studies/{row['ParentStudy']}", timeout=30).json()
                for name in row["Instances"]:
                    tags = self._session.get(
                        f"{self.url}/instances/{name}/simplified-tags", timeout=30
                    ).json()
                    uid = study["MainDicomTags"]["StudyInstanceUID"]
                    found.append(Result(modality, uid, tags["SOPInstanceUID"], tags["SeriesDescription"]))
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._session.close()
        self._log.close()
