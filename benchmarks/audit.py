"""Known holes in what is installed here: each package is asked of a vulnerability service, with pip-audit.

    make audit
    make audit ARGS="--service osv"

Exits with 0 where every package was looked up and none has a known hole, with 1 where one has, and with 2
where the service cannot be reached or does not know a package: what nobody has looked up is not called safe.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

MOST_NAMED = 5


def verdict(report: dict[str, Any]) -> tuple[str, int]:
    """What pip-audit's report comes to, and the exit code."""
    packages = [package for package in report["dependencies"] if package["name"] != "haemo"]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version yet'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    lines = [*holes, f"{len(packages) - len(skipped)} packages looked up, {len(holes)} known holes"]
    if skipped:
        more = f" and {len(skipped) - MOST_NAMED} more" if len(skipped) > MOST_NAMED else ""
        lines.append(
            f"NOT AUDITED: the service knows nothing of {', '.join(skipped[:MOST_NAMED])}{more}. It needs a "
            "network that reaches PyPI itself or, with --service osv, OSV; a mirror of packages has none"
        )
    return "\n".join(lines), 1 if holes else 2 if skipped else 0


@click.command()
@click.option("--service", type=click.Choice(["pypi", "osv"]), default="pypi", show_default=True)
@click.option(
    "--report", type=click.Path(path_type=Path), help="A report of pip-audit -f json, in place of asking."
)
def main(service: str, report: Path | None) -> None:
    if report is not None:
        text, said = report.read_text(), ""
    else:
        asked = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(
            [*asked, "--vulnerability-service", service, "--timeout", "15"],
            capture_output=True,
            text=True,
            check=False,
        )
        text, said = done.stdout, done.stderr
    try:
        text, code = verdict(json.loads(text))
    except (ValueError, KeyError, TypeError):
        reason = said.strip().splitlines()[-1:] or ["it gave no report"]
        text, code = f"NOT AUDITED: pip-audit could not ask {service}: {reason[0]}", 2
    click.echo(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
