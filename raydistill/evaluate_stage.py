"""The evaluate stage: students of the set and of what stands beside it, as units, judged on the test images.

A unit is an arm, a network and a table; its history has a line a student. One that another run in the same place has done
is taken from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill import artifacts, rates, results, reuse
from raydistill.artifacts import COMPLETED, Unit
from raydistill.data.distilled import DistilledSet
from raydistill.data.load import TrainData, load_test
from raydistill.display import Display, noted
from raydistill.evaluate import arms
from raydistill.models.flops import training_flops
from raydistill.runtime.base import Runtime, threads
from raydistill.search.definition import Search
from raydistill.seeding import derive


class EvaluateStage:
    """The stage of one run; the arguments are ``stages.Experiment``'s."""

    def __init__(
        self,
        search: Search,
        run: Path,
        data: TrainData,
        runtime: Runtime,
        display: Display,
        data_root: Path | None = None,
    ) -> None:
        self.search, self.run, self.data = search, run, data
        self.runtime, self.display, self.data_root = runtime, display, data_root

    def do(self, path: Path, distilled: DistilledSet) -> None:
        """Train and judge the students that are not done yet.

        Args:
            path: where the set is; what it began with lies beside it.
            distilled: the set.
        """
        self.test = load_test(self.search.data, self.data_root)
        todo = self._evaluations(distilled)
        items = [item for part in todo.values() for item in part]
        open_items = [item for item in items if not self._student_done(item)]
        self.display.stage("evaluate", len(items), "students", len(items) - len(open_items))
        for part in todo.values():  # a kill may have come between the last student and the conclusion
            self._conclude(self._evaluation(part[0]), part)
        if open_items:
            self._rate(path, distilled, todo, items, open_items)
        self._annotate(path, distilled)

    def _rate(
        self,
        path: Path,
        distilled: DistilledSet,
        todo: Mapping[str, Sequence[arms.Item]],
        items: Sequence[arms.Item],
        open_items: Sequence[arms.Item],
    ) -> None:
        initial = DistilledSet.load(path.parent / "initial")
        seed = derive(self.search.seed, "evaluate")
        share = self.search.budget.of("evaluate")
        wanted = {item.arm for item in open_items}
        for arm in ("kcenter", "herding"):
            if arm in wanted:
                self.display.note(f"choosing the real images of {arm}, with a network trained for that")
        with threads(share.cpus):  # what k-center chooses depends on how sums are split
            sets = arms.sets_of(self.search.evaluate, distilled, initial, self.data, seed, wanted)
        costs = {item: self._operations(item, distilled, len(self.test)) for item in items}
        open_items = sorted(open_items, key=lambda item: -costs[item])  # so that workers end together
        shared = {
            "sets": sets,
            "data": self.data,
            "test": self.test,
            "config": self.search.evaluate,
            "seed": seed,
        }
        chosen = rates.choose(self.search, self.run, open_items, shared, self.runtime, self.display)
        plain = [item._asdict() | {"lr": chosen.get(item.name)} for item in open_items]
        told = noted(self.display, lambda index: self._evaluation(open_items[index]))
        every, left = sum(costs.values()), sum(costs[item] for item in open_items)
        for index, result in self.runtime.map(arms.rate_item, plain, shared, *share, told=told):
            item = open_items[index]
            unit = self._evaluation(item)
            unit.log(item.student, result)
            left -= costs[item]
            text = f"{item.arm} on {item.network}: {100 * result['accuracy']:.2f} %"
            self.display.advance("evaluate", 1, text, 1 - left / every)
            self._conclude(unit, todo[unit.name])

    def _operations(self, item: arms.Item, distilled: DistilledSet, tests: int) -> float:
        """Of a student's training and test, for the time that is left: networks differ by hundreds of times."""
        train = self.data.train
        images = len(train) if item.arm == "whole" else len(distilled)
        passes = arms.protocol_of(item.arm, self.search.evaluate, item.table).epochs
        each = training_flops(item.network, train.shape, train.num_classes)
        return each * (passes * images + tests / 3)  # of a training step two thirds are the way back

    def _annotate(self, path: Path, distilled: DistilledSet) -> None:
        """Tell the set itself what it was measured to be worth."""
        found = arms.rated(self.run)
        done = {unit.name: unit.read()["metrics"] for unit in found if unit.status == COMPLETED}
        if distilled.manifest.get("accuracies") != done:
            DistilledSet.annotate(path, accuracies=done)

    def _evaluations(self, distilled: DistilledSet) -> dict[str, list[arms.Item]]:
        """Unit name → its students; units of another set or protocol are begun anew, or taken from a run that has them."""
        parts: dict[str, list[arms.Item]] = {}
        taken: list[str] = []
        for item in arms.items(self.search.evaluate, arms.distilled_with(self.run)["network"]):
            parts.setdefault(self._evaluation(item).name, []).append(item)
        for part in parts.values():
            unit, arm = self._evaluation(part[0]), part[0].arm
            protocol = arms.protocol_of(arm, self.search.evaluate, part[0].table)
            about: dict[str, Any] = {
                "protocol": protocol.to_json(),
                "network": part[0].network,
                "seed": self.search.seed,
            }
            about |= {"data": self.search.data.to_json(), "test": self.test.digest(), "arm": arm}
            of_run = arm in ("distilled", "initial")
            if arm == "whole":  # no ipc changes it, but what is done already has the search's
                about["set"] = self.search.distill.ipc
            else:
                about["set"] = distilled.manifest["checksums"] if of_run else arms.ipc_of(distilled)
            if part[0].table:
                table = self.search.evaluate.also[part[0].table]
                about |= {"labels": table.labels, "rates": arms.rates_of(part[0], self.search.evaluate)}
                if arm in ("kcenter", "herding"):  # chosen by the main table's
                    about["augment"] = self.search.evaluate.protocol.augment
            fingerprint = artifacts.fingerprint_of(results.canonical(about))
            if unit.read().get("fingerprint") != fingerprint:
                artifacts.remove(unit.directory)
                params = {"set": arm, "network": part[0].network, **protocol.flat()}
                chosen = arms.rates_of(part[0], self.search.evaluate)
                if of_run and distilled.student_lr is not None and not chosen:
                    params["lr"] = "its own"
                unit.begin(fingerprint, params, results.tags(self.search))
                if not of_run and (other := reuse.taken(unit, self.run)):
                    taken.append(other)
        if taken:
            self.display.note(reuse.told(taken, "evaluations"))
        return parts

    def _evaluation(self, item: arms.Item) -> Unit:
        return Unit(self.run / "units" / "evaluate" / item.name)

    def _student_done(self, item: arms.Item) -> bool:
        return any(line["step"] == item.student for line in self._evaluation(item).history())

    def _conclude(self, unit: Unit, part: Sequence[arms.Item]) -> None:
        runs = {line["step"]: line for line in unit.history()}
        if any(item.student not in runs for item in part) or unit.read().get("students") == len(part):
            return
        students = [runs[item.student] for item in part]
        metrics = arms.summary(students)
        protocol = arms.protocol_of(part[0].arm, self.search.evaluate, part[0].table)
        unit.finish(
            COMPLETED,
            metrics,
            set=part[0].arm,
            network=part[0].network,
            protocol=protocol.name,
            epochs=protocol.epochs,
            students=len(students),
            runs=[run["accuracy"] for run in students],
            seconds=metrics["seconds"],
            **({"classes": list(self.data.train.classes)} if "recall_0" in metrics else {}),
            **({"lr": students[0]["lr"], "lr_is": "learned"} if "lr" in students[0] else {}),
            **({"diverged": diverged} if (diverged := sum("diverged" in run for run in students)) else {}),
            **rates.about(self.search, self.run, part[0]),
        )
