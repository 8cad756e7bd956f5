"""How long a search's work is: what may be shortened without changing what its figures mean."""

import math
from collections.abc import Mapping

from raydistill.search.definition import Search


def lengths(search: Search) -> dict[str, int]:
    """Config path → length, of everything that a time is fitted with; ``final.distill.iterations`` where these count."""
    evaluate, nas = search.evaluate, search.nas
    iterations = "distill.iterations"
    final = search.final.get(iterations)
    found = {iterations: search.distill.iterations} if final is None else {f"final.{iterations}": int(final)}
    found["evaluate.students"] = evaluate.students
    found |= {f"evaluate.also.{name}.students": table.students for name, table in evaluate.also.items()}
    if "whole" in evaluate.arms:
        found |= {"evaluate.whole_students": evaluate.whole_students, "evaluate.whole_epochs": evaluate.whole_epochs}
    if nas is not None and "whole" in nas.baselines:
        found["nas.whole_epochs"] = nas.whole_epochs
    if nas is not None and nas.confirm:
        found["nas.confirm_epochs"] = nas.confirm_epochs
    return found


def with_lengths(search: Search, found: Mapping[str, int]) -> Search:
    """The search with other ``lengths``."""
    final = {path.removeprefix("final."): n for path, n in found.items() if path.startswith("final.")}
    changes = {path: n for path, n in found.items() if not path.startswith("final.")}
    return search.override({**changes, "final": {**search.final, **final}})


def shortened(search: Search, share: float) -> Search:
    """The search with a share, in [0, 1], of each of its lengths, but at least one."""
    return with_lengths(search, {path: min(n, max(1, math.ceil(share * n))) for path, n in lengths(search).items()})
