"""Writes a report: one self-contained HTML page, each figure as PNG, each table as CSV, and all of it as Markdown."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raydistill.artifacts import write_bytes, write_text
from raydistill.errors import ConfigError
from raydistill.report import compare, single, style
from raydistill.report.blocks import Block, Commands, Fold, Missing, Picture, Report, Table

if TYPE_CHECKING:
    import pandas as pd

PAGE_INCH = 108
"CSS pixels an inch of a figure takes on the page."

NUMBERS = re.compile(r"[\d\s.,±…–−+e-]*")


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report on one run, or the comparison of several, from their folders alone.

    Args:
        runs: run folders, at least one.
        out: the folder to write into; files of an earlier report are replaced.

    Returns:
        ``out/index.html``, which needs no other file.

    Raises:
        ConfigError: no run, or the same one twice.
        ArtifactError: a folder is no run folder, or something in it is damaged.
        EnvironmentIssue: ``out`` cannot be written.
    """
    if not runs:
        raise ConfigError("report: no run given; name at least one run folder, e.g. runs/quickstart")
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError(f"report: {', '.join(map(str, runs))} names a run twice; name each once")
    return write(single.report(runs[0]) if len(runs) == 1 else compare.report(runs), out)


def write(report: Report, out: Path) -> Path:
    """Write a report into the folder ``out``; returns ``out/index.html``.

    Raises:
        EnvironmentIssue: ``out`` cannot be written.
    """
    pngs: dict[str, bytes] = {}
    for block in (block for section in report.sections for block in section.blocks):
        if isinstance(block, Picture):
            pngs[block.name] = style.to_png(block.figure)
            write_bytes(out / f"{block.name}.png", pngs[block.name])
        elif isinstance(block, Table):
            write_text(out / f"{block.name}.csv", to_csv(block.frame))
    write_text(out / "report.md", to_markdown(report))
    write_text(out / "index.html", to_html(report, pngs))
    return out / "index.html"


def to_csv(frame: "pd.DataFrame") -> str:
    """The frame as CSV; tuples (each student's accuracy) are joined by spaces."""
    plain = frame.copy()
    for column in plain.columns:
        if any(isinstance(value, tuple) for value in plain[column]):
            plain[column] = [" ".join(map(repr, value)) for value in plain[column]]
    return plain.to_csv(index=False)


def to_html(report: Report, pngs: dict[str, bytes]) -> str:
    """The page, its pictures inline.

    Args:
        report: what to show.
        pngs: picture name → PNG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("raydistill", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["data_uri"] = lambda name: "data:image/png;base64," + base64.b64encode(pngs[name]).decode()
    environment.globals["css_width"] = lambda figure: round(figure.get_figwidth() * PAGE_INCH)
    environment.filters["numeric"] = is_numeric
    return environment.get_template("template.html").render(report=report)


def is_numeric(texts: Sequence[str]) -> bool:
    """Whether a column of texts holds numbers, which stand better on the right."""
    return all(NUMBERS.fullmatch(text) for text in texts)


def to_markdown(report: Report) -> str:
    """The same report as Markdown, its pictures as files beside it."""
    facts = "\n".join(f"- {_safe(key)}: {_safe(value)}" for key, value in report.facts.items())
    parts = [f"# {_safe(report.title)}", _safe(report.subtitle), facts]
    for section in report.sections:
        parts += [f"## {_safe(section.title)}", *(_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Table():
            return f"{_markdown_table(block.shown)}\n\n*{_safe(block.caption)}* ({block.name}.csv)"
        case Picture():
            return f"![{_safe(block.caption)}]({block.name}.png)\n\n*{_safe(block.caption)}*"
        case Missing():
            return f"{_safe(block.text)}\n\n{_fenced(block.command)}"
        case Commands():
            return _fenced("\n".join(f"{line}  # {what}" for what, line in block.lines))
        case Fold():
            return f"{_safe(block.title)}\n\n{_fenced(block.text)}"
    return _safe(block.text)


def _markdown_table(shown: "pd.DataFrame") -> str:
    lines = [list(map(str, shown.columns)), ["---"] * len(shown.columns), *shown.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_safe(str(cell)) for cell in line) + " |" for line in lines)


def _safe(text: str) -> str:
    """Names come from users: no HTML, no broken table, no emphasis or link by accident."""
    escaped = html.escape(text, quote=False).replace("\n", " ")
    for sign in ("\\", "|", "[", "]", "*", "`"):
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def _fenced(text: str) -> str:
    return "\n".join(["", *(f"    {line}" for line in text.splitlines())])
