"""Work that another run in the same place has done already: baselines and networks trained on all images do not depend on
the set, so two searches on the same data (DataDAM and PAD, say) need them once.
"""

from pathlib import Path
from typing import Any

from raydistill import artifacts
from raydistill.artifacts import Unit, read_json
from raydistill.errors import ArtifactError
from raydistill.evaluate import trained

ALIKE = ("versions", "git_commit", "machine", "images")
"What two runs must have in common, as ``results.json`` says it, for the same work to give the same numbers."


def taken(unit: Unit, run: Path) -> str | None:
    """End a unit that has begun with what another run beside ``run`` found for the very same work.

    The other unit has the same kind, name and fingerprint, and its run the same versions, commit (no changed checkout) and
    kind of machine. The record says ``taken_from``.

    Returns:
        The other run's name; ``None`` where there is none.
    """
    begun = unit.read()
    for file in sorted(run.parent.glob(f"*/units/{unit.kind}/{unit.name}/unit.json")):
        other, theirs = file.parents[3], Unit(file.parent)
        try:
            found = read_json(file)
            if other == run or found["fingerprint"] != begun["fingerprint"] or found["status"] not in Unit.FINAL:
                continue
            if not _alike(other, run):
                continue
            if unit.kind == "confirm":
                trained.load(theirs.directory / "network")  # whole, by its checksums
                artifacts.copy_folder(theirs.directory / "network", unit.directory / "network")
            lines = theirs.history_file.read_text(encoding="utf-8") if theirs.history_file.exists() else ""
        except (ArtifactError, KeyError, OSError):  # what is damaged there is no help here
            continue
        if lines:
            artifacts.write_text(unit.history_file, lines)
        own = {"status", "metrics", *begun}
        details: dict[str, Any] = {name: value for name, value in found.items() if name not in own}
        unit.finish(found["status"], found["metrics"], **{**details, "taken_from": other.name})
        return other.name
    return None


def told(names: list[str], what: str) -> str:
    """One line for people about units that were taken."""
    return f"{len(names)} {what} as {', '.join(sorted(set(names)))} has them: same data, protocol, seed, versions and machine"


def _alike(other: Path, run: Path) -> bool:
    one, two = (read_json(folder / "results.json") for folder in (other, run))
    clean = not str(one.get("git_commit")).endswith("-dirty")
    return clean and all(one.get(name) == two.get(name) for name in ALIKE)
