"""Pages of the runs: tables, figures, errors, and every slice that a model judged."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from haemo.pipeline.evaluation.jackknife import rough_mark
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.run.directory import read_json
from haemo.pipeline.serving.pages import REPORT_POLICY, page
from haemo.pipeline.serving.room import ReadingRoom
from haemo.pipeline.serving.runs import RunView

__all__ = ["figure_cell", "run_routes"]

_ROWS = 100


def run_routes(room: ReadingRoom) -> list[BaseRoute]:
    """Addresses of the runs' pages."""

    def overview(request: Request) -> Response:
        return page(request, "runs.html", views=room.views, model=str(room.model))

    def run(request: Request) -> Response:
        view = _view(room, request)
        chosen = room.model_of(view, request.query_params.get("model", ""))
        figures, notes, source = _figures(view)
        return page(
            request,
            "run.html",
            view=view,
            chosen=chosen,
            errors=view.errors(chosen) if chosen else [],
            figures=figures,
            notes=notes,
            source=source,
            pictures=[path.name for path in view.figures()],
            unreadable=view.unreadable,
            has_report=(view.run.path / "report.html").is_file(),
        )

    def slices(request: Request) -> Response:
        view = _view(room, request)
        chosen = room.model_of(view, request.query_params.get("model", ""))
        part = "cv" if request.query_params.get("part") == "cv" else "test"
        first = _number(request.query_params.get("first", ""))
        rows, total = view.slices(chosen, part, first, _ROWS) if chosen else ([], 0)
        return page(
            request,
            "slices.html",
            view=view,
            chosen=chosen,
            part=part,
            rows=rows,
            first=first,
            total=total,
            step=_ROWS,
        )

    def report(request: Request) -> Response:
        path = _view(room, request).run.path / "report.html"
        if not path.is_file():
            raise HTTPException(404, "The run has no report yet: haemo report --run RUN")
        return FileResponse(path, headers={"content-security-policy": REPORT_POLICY})

    def figure(request: Request) -> Response:
        # One of those that are there; the name never becomes a path.
        asked = request.path_params["name"]
        found = next((path for path in _view(room, request).figures() if path.name == asked), None)
        if found is None:
            raise HTTPException(404, "The run has no such figure.")
        return FileResponse(found, media_type="image/png")

    pages: dict[str, Callable[[Request], Response]] = {
        "": run,
        "/slices": slices,
        "/report": report,
        "/figures/{name}": figure,
    }
    return [Route("/runs", overview), *(Route(f"/runs/{{run:int}}{end}", get) for end, get in pages.items())]


def _view(room: ReadingRoom, request: Request) -> RunView:
    number = request.path_params["run"]
    if number >= len(room.views):
        raise HTTPException(404, "There is no such run here.")
    return room.views[number]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _figures(view: RunView) -> tuple[dict[str, list[str]], list[str], str]:
    """The table of `haemo compare`, or what training noted: cells of a figure by its title, below models."""
    path = view.run.path / "compare.json"
    if path.exists():
        found = read_json(path)
        models, notes = found.get("models", {}), found.get("notes", [])
        source = f"haemo compare: {found.get('part', '')}, by {found.get('unit', '')}"
    else:
        own = {name: view.run.model_path(name) / "metrics.json" for name in view.models}
        models = {name: read_json(path).get("test", {}) for name, path in own.items() if path.exists()}
        notes, source = [], "as trained; intervals and differences with haemo compare"
    table = {"": list(models)}
    for metric in METRICS:
        cells = [figure_cell(figures, metric) for figures in models.values()]
        if any(cells):
            table[metric_title(metric)] = cells
    return table, notes, source


def figure_cell(figures: Mapping[str, Any], metric: str) -> str:
    """One figure with its interval, as text; empty where there is none."""
    value = figures.get(metric)
    if not isinstance(value, int | float):
        return ""
    interval = figures.get("intervals", {}).get(metric)
    ends = f" ({rough_mark(interval)}{interval['low']:.3f}–{interval['high']:.3f})" if interval else ""
    return f"{value:.3f}{ends}"
