"""What a forecast says, for a person."""

import pytest

from raydistill import costs
from raydistill.costs import Cost, Forecast


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert costs.duration(seconds) == text


def test_several_searches_are_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    experts = Cost("experts", "epochs", 60, 2, 2)
    one = Forecast([experts, Cost("distill", "iterations", 100, 1.2, 1)], 0, 0, 0)
    other = Forecast([Cost("distill", "iterations", 100, 3, 1)], 0, 0, 0)
    costs.show_parts({"one": one, "other": other}, {"experts": 60, "distill": 420})
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[:4] == [
        ["part", "experts", "distill", "all"],
        ["one", "1 min 0 s", "2 min 0 s", "3 min 0 s"],
        ["other", "–", "5 min 0 s", "5 min 0 s"],
        ["together", "1 min 0 s", "7 min 0 s", "8 min 0 s"],
    ]
