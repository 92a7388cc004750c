"""Pages from templates. Everything that is put into one is escaped; nothing from outside is ever markup."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from haemo.pipeline.serving.sessions import Session
from haemo.pipeline.serving.studies import shown

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["REPORT_POLICY", "TEMPLATES", "page", "refusal", "report_page"]

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)
"""For a page with its style and pictures in it, and no script."""

TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["shown"] = shown
    return made


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """One page for the session of a request."""
    session: Session | None = request.scope.get("session")
    text = (
        _environment()
        .get_template(template)
        .render(csrf=session.csrf if session else "", path=request.url.path, **values)
    )
    return HTMLResponse(text, status)


def report_page(request: Request, **values: Any) -> Response:
    """A report, which has its style and pictures in it and so a policy of its own: nothing in it can act."""
    answer = page(request, "report.html", **values)
    answer.headers["content-security-policy"] = REPORT_POLICY
    return answer


def refusal(request: Request, status: int, text: str) -> Response:
    """Why there is no answer: a page for a person, plain text for a script of ours."""
    if "text/html" in request.headers.get("accept", ""):
        return page(request, "message.html", status, title="This cannot be shown", text=text)
    return PlainTextResponse(f"{text}\n", status)
