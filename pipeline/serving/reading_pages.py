"""Blinded reading: a random sample of a run's test slices, answered one by one, then set beside models."""

import threading
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from haemo.atomic import parse_json
from haemo.errors import BadSettings
from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.reader_comparison import compare_readers
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.run.readings import LEVELS, Reading, readers
from haemo.pipeline.serving.pages import page
from haemo.pipeline.serving.room import ReadingRoom
from haemo.pipeline.serving.run_pages import figure_cell
from haemo.pipeline.serving.runs import RunView

__all__ = ["reading_routes"]


def reading_routes(room: ReadingRoom) -> list[BaseRoute]:
    """Addresses of the reader study. None of them says whose slice it is, or what anybody thinks of it."""
    one_by_one = threading.Lock()

    def overview(request: Request) -> Response:
        begun = [(view, _progress(view)) for view in room.views]
        return page(request, "readings.html", begun=begun)

    def read(request: Request) -> Response:
        view, reading = _reading(room, request)
        done = len(reading.answers())
        return page(
            request,
            "reading.html",
            view=view,
            reading=reading,
            done=done,
            total=len(reading.slices),
            levels=LEVELS,
        )

    def pixels(request: Request) -> Response:
        view, reading = _reading(room, request)
        case = request.path_params["case"]
        if not 1 <= case <= len(reading.slices):
            raise HTTPException(404, "There is no such case.")
        found = room.pixels(_row(view, reading.slices[case - 1]).path)
        return Response(found.data, media_type="application/octet-stream", headers={"x-slice": found.header})

    def result(request: Request) -> Response:
        view, reading = _reading(room, request)
        if len(reading.answers()) < len(reading.slices):
            raise HTTPException(403, "The result is shown when every case is answered.")
        comparison = compare_readers(view.run, [reading.reader])
        names = list(comparison.models)
        table = {"": names}
        for metric in METRICS:
            cells = [figure_cell(figures, metric) for figures in comparison.models.values()]
            if any(cells):
                table[metric_title(metric)] = cells
        own = f"reader {reading.reader}"
        return page(
            request,
            "reading_result.html",
            view=view,
            reading=reading,
            figures=table,
            sentences=[
                pair["sentence"] for pair in comparison.pairs if own in (pair["first"], pair["second"])
            ],
            notes=comparison.notes,
            rows=_missed(view, reading),
            chosen="",
            seconds=_median([float(one["seconds"]) for one in reading.answers()]),
        )

    async def begin(request: Request) -> Response:
        view = _view(room, request)
        asked = await _json(request)
        reading = await run_in_threadpool(
            Reading.begin,
            view.run,
            str(asked.get("reader", "")),
            view.tested(),
            view.classes(),
            cases=_whole(asked.get("cases")),
            seed=_whole(asked.get("seed", 0)),
        )
        return JSONResponse({"address": f"/reading/{view.number}/{reading.reader}"})

    async def answer(request: Request) -> Response:
        view, reading = _reading(room, request)
        asked = await _json(request)
        seconds = asked.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise BadSettings("an answer says how many seconds it took")

        def keep() -> int:
            with one_by_one:
                rows = view.manifest.labelled.rows
                return reading.answer(
                    _whole(asked.get("case")) - 1, _whole(asked.get("level")), seconds, rows
                )

        return JSONResponse({"done": await run_in_threadpool(keep), "total": len(reading.slices)})

    own = "/reading/{run:int}/{reader}"
    gets: dict[str, Callable[[Request], Response]] = {
        "/reading": overview,
        own: read,
        f"{own}/cases/{{case:int}}": pixels,
        f"{own}/result": result,
    }
    return [
        *(Route(address, get) for address, get in gets.items()),
        Route("/reading/{run:int}", begin, methods=["POST"]),
        Route(f"{own}/answers", answer, methods=["POST"]),
    ]


def _progress(view: RunView) -> list[dict[str, Any]]:
    found = []
    for name in readers(view.run):
        reading = Reading.open(view.run, name)
        found.append({"reader": name, "done": len(reading.answers()), "total": len(reading.slices)})
    return found


def _view(room: ReadingRoom, request: Request) -> RunView:
    number = request.path_params["run"]
    if number >= len(room.views):
        raise HTTPException(404, "There is no such run here.")
    return room.views[number]


def _reading(room: ReadingRoom, request: Request) -> tuple[RunView, Reading]:
    view = _view(room, request)
    return view, Reading.open(view.run, request.path_params["reader"])


def _row(view: RunView, slice_id: str) -> ManifestRow:
    row = view.row(slice_id)
    if row is None:
        raise HTTPException(404, "The run has been indexed anew without this slice; begin another reading.")
    return row


def _missed(view: RunView, reading: Reading) -> list[dict[str, Any]]:
    said = reading.predictions(view.manifest.labelled.rows)
    rows = []
    for number in (said.predicted != said.label).nonzero()[0].tolist():
        slice_id = str(said.slice_id[number])
        rows.append(
            {
                "name": slice_id,
                "patient": str(said.patient[number]),
                "label": str(said.label[number]),
                "predicted": str(said.predicted[number]),
                "probability": float(said.probabilities[number]),
                "link": view.link(slice_id),
            }
        )
    return rows


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 < value < 10**9:
        raise BadSettings(f"{value!r} is no whole number from 0 on")
    return value


async def _json(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 10_000:
            raise BadSettings("the request is too long")
    try:
        return dict(parse_json(body))
    except (ValueError, TypeError) as error:
        raise BadSettings("the request is not JSON") from error
