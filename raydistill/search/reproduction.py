"""Several searches with one page: what it takes to lay a published report's tables beside one's own."""

from pydantic import Field, field_validator

from raydistill.config import Config
from raydistill.search.definition import Search


class Reproduction(Config):
    """Searches by the name of what they measure; ``raydistill run`` does them one after another and writes their page."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")
    "Of the folder of the page."
    parts: dict[str, Search] = Field(min_length=1)
    "FILE.py:NAME → search; each has a run folder of its own."

    @field_validator("parts")
    @classmethod
    def _apart(cls, parts: dict[str, Search]) -> dict[str, Search]:
        if len({part.name for part in parts.values()}) < len(parts):
            raise ValueError("two parts have one name, and so one run folder; name each search differently")
        return parts
