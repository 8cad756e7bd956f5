"""What a distilled set is worth, asked outside of any run: `raydistill evaluate`."""

from pathlib import Path
from statistics import fmean
from typing import Any

from raydistill.data.distilled import DistilledSet
from raydistill.data.load import DataConfig, load_test, source_class
from raydistill.display import Display
from raydistill.errors import ArtifactError, ConfigError
from raydistill.evaluate.protocol import protocol as named
from raydistill.evaluate.scores import TWO_CLASS, as_fields, by_class, interval, possible
from raydistill.evaluate.students import judged
from raydistill.models import build
from raydistill.precision import Precision
from raydistill.report.texts import beside_text, percent
from raydistill.runtime.base import Runtime


class Appraisal:
    """Students to be trained on a set and tested; everything is checked before the first begins.

    Args:
        path: a distilled set's folder, or a run's.
        network: the students' architecture; ``None``: the one distilled with.
        students: how many.
        protocol: ``seed``, ``field`` or ``fast``.
        precision: what the students are trained in.
        source: data source to test on; ``None``: the set's own.
        seed: names the students' draws.
        data_root: where real data are looked for first.

    Raises:
        ArtifactError: no such set, or it does not say which data it is of.
        ConfigError: the network or the data do not fit the set.
    """

    def __init__(
        self,
        path: Path,
        network: str | None,
        students: int,
        protocol: str,
        precision: Precision,
        source: str | None,
        seed: int,
        data_root: Path | None,
    ) -> None:
        self.images = images = DistilledSet.load(path)
        if source:
            data = DataConfig(source=source)
        elif recorded := images.manifest.get("data"):
            data = DataConfig.parse(recorded)
        else:
            raise ArtifactError(f"{path} does not say which data it is of; name them with --data")
        config = images.manifest.get("config", {})
        augment = config.get("augment", source_class(data.source).augment)
        network = network or config.get("network", "ConvNetD3")
        self.protocol = named(protocol, augment=augment, precision=precision)
        self.network, self.students, self.seed = network, students, seed
        shape, classes = (images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3]), len(images.classes)
        build(network, shape, classes, 0)
        self.test = load_test(data, data_root)
        if (self.test.shape, self.test.num_classes) != (shape, classes):
            there, here = (
                f"{n} classes of {'x'.join(map(str, s))} pixels"
                for n, s in ((self.test.num_classes, self.test.shape), (classes, shape))
            )
            raise ConfigError(f"{data.source} has {there}, the set {here}; leave out --data, or name the set's own")

    def run(self, runtime: Runtime, display: Display) -> dict[str, Any]:
        """Train and test the students; who they were, their ``accuracy`` (mean, ci95, runs), and ``as_fields``."""
        display.stage("evaluate", self.students, "students")
        shared = {
            "images": self.images,
            "on": self.test,
            "network": self.network,
            "protocol": self.protocol,
            "students": 1,
        }
        items = [{"seed": self.seed * 1000 + i} for i in range(self.students)]
        found: dict[int, dict[str, float]] = {}
        for index, (student,) in runtime.map(scores, items, shared):
            found[index] = student
            display.advance("evaluate", 1, f"{percent(student['accuracy'])} %")
        each = [found[i] for i in range(self.students)]
        runs = [one["accuracy"] for one in each]
        about = {"mean": fmean(runs), "ci95": list(interval(runs)) if len(runs) > 1 else None, "runs": runs}
        beside = {name: fmean(one[name] for one in each) for name in TWO_CLASS if name in each[0]}
        return {
            "network": self.network,
            "protocol": self.protocol.name,
            "precision": self.protocol.precision,
            "students": self.students,
            "accuracy": about,
            **as_fields(by_class(beside, self.test.classes)),
        }

    def sentence(self, found: dict[str, Any]) -> str:
        """The result for a person."""
        accuracy = found["accuracy"]
        spread = ""
        if accuracy["ci95"]:
            low, high = (100 * bound for bound in possible(*accuracy["ci95"]))
            spread = f" (95 % interval {low:.2f} to {high:.2f})"
        return (
            f"{100 * accuracy['mean']:.2f} %{spread}: {self.students} x {self.network}, "
            f"protocol {self.protocol.name}, {len(self.test)} test images{beside_text(found)}"
        )


def scores(**how: Any) -> list[dict[str, float]]:
    """``Trained.scores`` of the students that ``students.judged`` gives."""
    return [one.scores() for one in judged(**how)]
