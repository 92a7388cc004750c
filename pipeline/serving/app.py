"""The application: which address is answered by what."""

import io
import json
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from haemo.errors import HaemoError, UnreadableSlice
from haemo.pipeline.serving.guard import Guard
from haemo.pipeline.serving.pages import page, refusal, report_page
from haemo.pipeline.serving.reading_pages import reading_routes
from haemo.pipeline.serving.report import reading_report
from haemo.pipeline.serving.room import ReadingRoom
from haemo.pipeline.serving.run_pages import run_routes
from haemo.pipeline.serving.sessions import Session
from haemo.pipeline.serving.studies import Study
from haemo.pipeline.serving.uploads import Upload
from haemo.tables import csv_line

__all__ = ["application"]

_STATIC = Path(__file__).with_name("static")
_MOST_ROWS = 300
_SHOWN_FAILURES = 20


def application(room: ReadingRoom, cookie: str) -> ASGIApp:
    """The pages of a reading room, behind their guard.

    Parameters
    ----------
    room : ReadingRoom
    cookie : str
        Name of the cookie of its sessions.
    """
    handlers = _Handlers(room)
    routes = [
        Route("/", handlers.worklist),
        Route("/worklist", handlers.worklist_rows),
        Route("/studies/{key}", handlers.viewer),
        Route("/studies/{key}/findings", handlers.findings),
        Route("/studies/{key}/slices/{number:int}", handlers.pixels),
        Route("/studies/{key}/slices.csv", handlers.table),
        Route("/studies/{key}/outlines.geojson", handlers.outlines),
        Route("/studies/{key}/report", handlers.report),
        Route("/studies/{key}/dicom", handlers.dicom),
        Route("/uploads", handlers.begin_upload, methods=["POST"]),
        Route("/uploads/{upload}/files", handlers.receive, methods=["POST"]),
        Route("/uploads/{upload}/studies", handlers.finish_upload, methods=["POST"]),
        Route("/session/end", handlers.end_session, methods=["POST"]),
        *run_routes(room),
        *reading_routes(room),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HaemoError: _refused,
            OSError: _failed,
            HTTPException: _absent,
            Exception: _fault,
        },
    )
    return Guard(app, room.sessions, cookie)


class _Handlers:
    """One method an address."""

    def __init__(self, room: ReadingRoom):
        self._room = room

    # What takes time is a plain function, which Starlette runs in a thread, so that nobody else waits for it.

    def worklist(self, request: Request) -> Response:
        model = request.query_params.get("model", "")
        rows = self._room.worklist(_session(request), model)
        return page(
            request,
            "worklist.html",
            more=len(rows) - _MOST_ROWS,
            views=self._room.views,
            model=str(self._room.model),
            models=sorted({name for view in self._room.views for name in view.models}),
            chosen=model,
            failures=[(one.path, one.reason) for one in self._room.failures[:_SHOWN_FAILURES]],
            more_failures=len(self._room.failures) - _SHOWN_FAILURES,
        )

    def worklist_rows(self, request: Request) -> Response:
        rows = self._room.worklist(_session(request), request.query_params.get("model", ""))
        return JSONResponse(rows[:_MOST_ROWS])

    def viewer(self, request: Request) -> Response:
        study = self._study(request)
        view = None if study.run is None else self._room.views[study.run]
        asked = request.query_params.get("model", "")
        return page(
            request,
            "viewer.html",
            study=study,
            view=view,
            chosen=self._room.model_of(view, asked) if view else "",
        )

    def findings(self, request: Request) -> Response:
        found = self._room.findings(self._study(request), request.query_params.get("model", ""))
        return JSONResponse(found)

    def pixels(self, request: Request) -> Response:
        study, number = self._study(request), request.path_params["number"]
        if not 1 <= number <= len(study.slices):
            raise HTTPException(404, f"{study.name} has the slices 1 to {len(study.slices)}")
        found = self._room.pixels(study.slices[number - 1].path)
        return Response(found.data, media_type="application/octet-stream", headers={"x-slice": found.header})

    def table(self, request: Request) -> Response:
        study = self._study(request)
        found = self._room.findings(study, request.query_params.get("model", ""))
        columns = (
            "name",
            "z_mm",
            "called",
            "probability",
            "threshold",
            "outside",
            "failure",
            "label",
            "part",
        )
        rows: list[list[Any]] = [["slice", *columns, "outlines", "outlined_mm2"]]
        for number, one in enumerate(found["slices"], start=1):
            areas = [outline["area_mm2"] for outline in one["outlines"]]
            area = "" if None in areas else sum(areas)
            rows.append([number, *(_cell(one[name]) for name in columns), len(areas), area])
        text = "".join(f"{csv_line(row)}\n" for row in rows)
        return _download(text, "text/csv; charset=utf-8", "haemo-slices.csv")

    def outlines(self, request: Request) -> Response:
        study = self._study(request)
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": outline["rings"]},
                "properties": {"slice": number, "name": one["name"], "area_mm2": outline["area_mm2"]},
            }
            for number, one in enumerate(self._room.findings(study)["slices"], start=1)
            for outline in one["outlines"]
        ]
        text = json.dumps({"type": "FeatureCollection", "features": features})
        return _download(text, "application/geo+json", "haemo-outlines.geojson")

    def report(self, request: Request) -> Response:
        study = self._study(request)
        found = self._room.findings(study, request.query_params.get("model", ""))
        return report_page(request, **reading_report(study, found, self._room.pixels))

    def dicom(self, request: Request) -> Response:
        found = self._room.job(self._study(request)).result
        if found is None or not found.dicom:
            raise HTTPException(404, (found and found.no_dicom) or "There are no DICOM results yet.")
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in found.dicom:
                archive.write(path, path.name)
        return _download(stream.getvalue(), "application/zip", "haemo-dicom.zip")

    def begin_upload(self, request: Request) -> Response:
        session = _session(request)
        upload = Upload(Path(tempfile.mkdtemp(dir=session.folder)), session.meter)
        session.uploads[upload.key] = upload
        return JSONResponse({"upload": upload.key})

    async def receive(self, request: Request) -> Response:
        name = unquote(request.headers.get("x-name", ""), errors="replace") or "a file"
        upload = self._upload(request)
        declared = request.headers.get("content-length", "")
        if declared.isdecimal():
            upload.refuse_size(name, int(declared))
        await upload.receive(name, request.stream())
        return PlainTextResponse("received\n")

    async def finish_upload(self, request: Request) -> Response:
        session, upload = _session(request), self._upload(request)
        del session.uploads[upload.key]
        studies, failures = await run_in_threadpool(upload.studies)
        if len(studies) == 1:  # its own page says what is missing
            studies = [replace(studies[0], failures=tuple(failures))]
        self._room.admit(session, studies)
        return JSONResponse(
            {
                "studies": [{"key": one.key, "name": one.name, "slices": len(one.slices)} for one in studies],
                "failures": [{"name": one.path, "reason": one.reason} for one in failures],
            }
        )

    def end_session(self, request: Request) -> Response:
        self._room.sessions.end(_session(request))
        return PlainTextResponse("What you dropped is deleted.\n")

    def _study(self, request: Request) -> Study:
        study = self._room.study(_session(request), request.path_params["key"])
        if study is None:
            raise HTTPException(404, "There is no such study, or it was dropped in a session that has ended.")
        return study

    def _upload(self, request: Request) -> Upload:
        upload = _session(request).uploads.get(request.path_params["upload"])
        if upload is None:
            raise HTTPException(404, "There is no such upload; drop the files again.")
        return upload


def _session(request: Request) -> Session:
    return request.scope["session"]


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _download(content: str | bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    whole = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return Response(whole, media_type=media_type, headers=headers)


def _refused(request: Request, error: Exception) -> Response:
    return refusal(request, 415 if isinstance(error, UnreadableSlice) else 422, str(error))


def _failed(request: Request, error: Exception) -> Response:
    said = error.strerror if isinstance(error, OSError) else None
    return refusal(request, 507, f"The machine could not do it: {said or error}")


def _absent(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    detail = error.detail if isinstance(error, HTTPException) else ""
    return refusal(request, status, detail)


def _fault(request: Request, error: Exception) -> Response:
    return refusal(request, 500, f"This is a fault of haemo ({type(error).__name__}); the other pages go on.")
