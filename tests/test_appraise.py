"""What ``raydistill evaluate`` tells a person; how it computes is tested with the command."""

from types import SimpleNamespace

from raydistill.appraise import Appraisal


def test_the_sentences_interval_stays_within_what_an_accuracy_can_be() -> None:
    appraisal = SimpleNamespace(students=2, network="ConvNetD3", protocol=SimpleNamespace(name="fast"), test=range(50))
    found = {"accuracy": {"mean": 0.98, "ci95": [0.9, 1.06], "runs": [0.97, 0.99]}}
    assert "98.00 % (95 % interval 90.00 to 100.00)" in Appraisal.sentence(appraisal, found)  # type: ignore[arg-type]
