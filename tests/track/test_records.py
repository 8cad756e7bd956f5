"""What is read from unit files, line by line."""

import math
from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED, DIVERGED, Unit, write_text
from raydistill.errors import without_credentials
from raydistill.track import records
from raydistill.track.records import Number, Tail
from tests.track.conftest import begin


def test_the_tail_gives_each_line_once_and_no_half_lines(tmp_path: Path) -> None:
    file, tail = tmp_path / "h", Tail()
    assert tail.read(file) == []
    file.write_text("one\ntw")
    assert tail.read(file) == ["one"]
    assert tail.read(file) == []
    with open(file, "a") as stream:
        stream.write("o\nthree\n")
    assert tail.read(file) == ["two", "three"]


def test_the_tail_starts_again_when_the_file_was_replaced(tmp_path: Path) -> None:
    file, tail = tmp_path / "h", Tail()
    write_text(file, "1\n2\n3\n")
    assert tail.read(file) == ["1", "2", "3"]
    write_text(file, "1\n2\n3\n4\n5\n")  # longer than before, and another file
    assert tail.read(file) == ["1", "2", "3", "4", "5"]
    with open(file, "w") as stream:
        stream.write("1\n")  # the same file, shorter
    assert tail.read(file) == ["1"]


def test_numbers_go_on_from_what_was_delivered() -> None:
    lines = [
        '{"step": 1, "loss": 3, "seconds": 0.25}',
        '{"step": 2, "loss": 2.5',  # cut short by a kill
        '{"step": 2, "loss": 2.5, "note": "text"}',
        '{"step": 2, "val_accuracy": 0.5}',
        '{"step": 1, "loss": 9}',  # an older step, after a rewind
        '["no", "object"]',
        '{"step": 3, "loss": NaN}',
    ]
    found = records.new_numbers(lines, {"seconds": (1, 0.25)})
    assert found[:3] == [Number("loss", 1, 3.0, 250), Number("loss", 2, 2.5, 2), Number("val_accuracy", 2, 0.5, 2)]
    assert [(n.name, n.step) for n in found[3:]] == [("loss", 3)]
    assert math.isnan(found[3].value)
    assert records.new_numbers(lines, {**records.reached(found), "seconds": (1, 0.25)}) == []


def test_a_final_number_differs_or_is_new() -> None:
    record = {"metrics": {"loss": 1.0, "val_accuracy": 0.75, "accuracy": 0.5}, "step": 8}
    latest = {"loss": (8, 1.0), "val_accuracy": (6, 0.5)}
    found = records.final_numbers(record, latest)
    assert found == [Number("final_val_accuracy", 8, 0.75, 8), Number("accuracy", 8, 0.5, 8)]
    assert records.final_numbers(record, {**latest, **records.reached(found)}) == []


def test_the_best_accuracy_grows_with_the_finished_trials(tmp_path: Path) -> None:
    ended = [(1, 0.25, COMPLETED), (2, 0.75, COMPLETED), (3, 0.9, DIVERGED), (4, 0.5, COMPLETED)]
    known = []
    for number, accuracy, status in ended:
        unit = begin(tmp_path, number)
        unit.finish(status, {"val_accuracy": accuracy})
        known.append((unit, unit.read()))
    rated = Unit(tmp_path / "units" / "evaluate" / "whole-ConvNet")
    known.append((rated, {"metrics": {"accuracy_mean": 0.99}}))
    found = {(n.name, n.step): n.value for n in records.summary_numbers(known, {})}
    best = {("best_val_accuracy", step): value for step, value in ((1, 0.25), (2, 0.75), (3, 0.75))}
    assert found == best | {("accuracy/whole-ConvNet", 0): 0.99}
    again = records.summary_numbers(known, {"best_val_accuracy": (2, 0.75), "accuracy/whole-ConvNet": (0, 0.5)})
    assert [(n.name, n.step) for n in again] == [("accuracy/whole-ConvNet", 1), ("best_val_accuracy", 3)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:word@host:5000/a", "http://host:5000/a"),
        ("https://token@host", "https://host"),
        (
            "postgresql+psycopg2://u:p@ss@db/x?password=abc&sslmode=on",
            "postgresql+psycopg2://db/x?password=***&sslmode=on",
        ),
        ("sqlite:////a/mlflow.db", "sqlite:////a/mlflow.db"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_addresses_lose_their_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_names_of_secrets_are_left_out() -> None:
    names = ["distill.lr_img", "AWS_SECRET_ACCESS_KEY", "hub.Token", "db_password", "api_key", "ipc"]
    assert list(records.public(dict.fromkeys(names, 1))) == ["distill.lr_img", "ipc"]
