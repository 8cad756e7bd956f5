"""What can go wrong by input or environment, as one family.

Every message is one line that names the field, the value, the rule and the way out. The command line prints it
and exits with 2, or with 1 where work had begun; anything that is not a ``RaydistillError`` is a bug and keeps its traceback.
"""

import difflib
import re
from collections.abc import Iterable

USERINFO = re.compile(r"(:?//?)(?<=[:/]/)(?:[^/\s:@]+:(?!\d+/)\S*|[^/\s]*)@(?=\S)")
"Up to the last @ before the host; a password may hold a slash, and a path that was made of an address has lost one."
SECRET_QUERY = re.compile(r"([?&][^&=\s]*(?:password|passwd|token|secret|key|signature|sig)=)[^&\s]+", re.IGNORECASE)


class RaydistillError(Exception):
    """Base of all errors that a user can mend."""

    begun = False
    "Whether it ended work that had begun, so that ``--resume`` goes on; the command line then exits with 1."


class ConfigError(RaydistillError):
    """A setting is unknown, out of range, or without effect in this combination."""


class DataError(RaydistillError):
    """Real data are missing, damaged or unusable; says what was looked for, where, and how to get it."""


class ArtifactError(RaydistillError):
    """A stored artefact is missing, damaged or of another kind."""


class EnvironmentIssue(RaydistillError):
    """The machine cannot do what was asked: no space, no such device, no cluster at that address."""


class FullDisk(EnvironmentIssue):
    """A disk that belongs to one machine alone is full; on another machine the work may succeed."""


class OutOfMemory(EnvironmentIssue):
    """A piece of work needed more memory than there was; with more of a machine for itself it may succeed."""


class OutOfGPUMemory(OutOfMemory):
    """It was the GPU's memory."""


class UnknownNameError(ConfigError):
    """A name that no registry knows, with the nearest names that one does."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        lowered = {k.lower(): k for k in known}
        near = [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


def without_credentials(text: str) -> str:
    """``text`` with ``user:password@`` and ``password=…`` taken out of the addresses in it; for all that is shown or stored."""
    return SECRET_QUERY.sub(r"\1***", USERINFO.sub(r"\1", text))
