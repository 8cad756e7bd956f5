"""What a report is made of: sections of tables, pictures and texts, which the page and the Markdown file both show."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table: ``frame`` goes to NAME.csv, ``shown`` (texts) to the page."""

    kind: ClassVar[str] = "table"
    name: str
    frame: "pd.DataFrame"
    shown: "pd.DataFrame"
    caption: str
    marked: int | None = None
    "The row that stands out."


@dataclass(frozen=True)
class Picture:
    """A figure: NAME.png, and inline on the page."""

    kind: ClassVar[str] = "picture"
    name: str
    figure: "Figure"
    caption: str
    zoom: bool = False
    "Whether a click shows it at its full size."


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Missing:
    """Something that the run folder does not hold, and the command that gets it."""

    kind: ClassVar[str] = "missing"
    text: str
    command: str


@dataclass(frozen=True)
class Commands:
    """Command lines, each with what it does."""

    kind: ClassVar[str] = "commands"
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fold:
    """A long text that opens on demand."""

    kind: ClassVar[str] = "fold"
    title: str
    text: str


Block = Table | Picture | Text | Missing | Commands | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page with an anchor."""

    anchor: str
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Report:
    """Everything that is on one page."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    sections: list[Section] = field(default_factory=list)


def command(*words: str | Path) -> str:
    """A shell line; words that need it are quoted."""
    return shlex.join(["raydistill", *map(str, words)])
