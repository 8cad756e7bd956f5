"""What a piece of each stage's work has of a machine."""

import pytest

from raydistill.errors import ConfigError
from raydistill.nas.space import NASConfig
from raydistill.runtime.base import Share
from raydistill.search.definition import Budget, Choice, Float, Int, Resources, Search, When, corners
from tests.search.fakes import make_search


def test_without_more_words_all_stages_have_the_same_but_the_final_distillation_its_own_cores() -> None:
    budget = Budget(cpus=2, gpus=0.5, final_cpus=3)
    assert budget.of("experts") == budget.of("search") == budget.of("evaluate") == budget.of("nas") == Share(2, 0.5)
    assert budget.of("distill") == Share(3, 0.5)


def test_a_stage_differs_where_it_says_so() -> None:
    given = {"nas": Resources(gpus=0.25), "distill": Resources(cpus=8, accelerator="A100"), "search": Resources(gpus=0)}
    budget = Budget(gpus=1, accelerator="H100", final_cpus=2, resources=given)
    assert budget.of("nas") == Share(1, 0.25, "H100")
    assert budget.of("distill") == Share(8, 1, "A100")
    assert budget.of("search") == Share(1, 0, None)
    assert str(budget.of("nas")) == "cpus=1 gpus=0.25 accelerator=H100"


def test_it_can_be_said_on_the_command_line_and_a_search_of_before_still_reads() -> None:
    search = make_search()
    changed = search.override({"budget.resources": '{"nas": {"gpus": 0.25}}'})
    assert changed.budget.of("nas") == Share(1, 0.25)
    assert type(search).parse(changed.to_json()) == changed
    stored = search.to_json()
    del stored["budget"]["resources"], stored["budget"]["accelerator"]
    assert type(search).parse(stored) == search


@pytest.mark.parametrize(
    ("budget", "workers", "expected"),
    [
        (Budget(cpus=1, gpus=0, final_cpus=3), 1, Share(3, 0)),
        (Budget(cpus=1, gpus=0, final_cpus=3), 2, Share(1, 0)),
        (Budget(gpus=0, final_cpus=3, resources={"nas": Resources(cpus=2)}), 1, Share(2, 0)),
        (Budget(cpus=2, gpus=0.125, final_cpus=3), 1, Share(2, 1)),
        (Budget(gpus=0.125, accelerator="H100"), 4, Share(1, 1, "H100")),
        (Budget(gpus=2), 1, Share(1, 2)),
    ],
)
def test_what_confirms_a_network_shares_no_gpu_and_alone_has_the_cores_there_are(
    budget: Budget, workers: int, expected: Share
) -> None:
    search = make_search().model_copy(update={"budget": budget, "nas": NASConfig(workers=workers)})
    assert search.confirming() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": 0, "accelerator": "H100"}, "Budget: accelerator='H100' needs gpus above 0"),
        (
            {"gpus": 0, "resources": {"nas": {"accelerator": "H100"}}},
            r"Budget: resources\.nas\.accelerator='H100' needs gpus above 0",
        ),
        ({"resources": {"nsa": {"gpus": 1}}}, "input should be 'experts', 'search', 'distill', 'evaluate' or 'nas'"),
        ({"resources": {"nas": {"gpu": 1}}}, r"Resources: unknown setting 'gpu'; did you mean 'gpus'\?"),
        ({"resources": {"nas": {"cpus": 0}}}, "greater than 0"),
    ],
)
def test_what_would_have_no_effect_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Budget.parse(given)


def test_settings_that_need_each_other_can_be_searched() -> None:
    space = {
        "distill.window": Int(low=2, high=10, when=When(path="distill.gradient", values=("window",))),
        "distill.gradient": Choice(values=("adjoint", "window")),
    }
    search = Search.parse(
        {"name": "pad", "distill": {"method": "PAD"}, "space": {n: d.to_json() for n, d in space.items()}}
    )
    assert list(corners(search)) == [
        {"distill.window": 2, "distill.gradient": "window"},
        {"distill.window": 10, "distill.gradient": "window"},
        {"distill.gradient": "adjoint"},
        {"distill.gradient": "window", "distill.window": 2},
    ]
    with pytest.raises(ConfigError, match="the one needs the other"):
        search.override({"space": {"distill.gradient": Choice(values=("adjoint", "window")).to_json()}})


def test_a_condition_on_nothing_lets_in_what_stands_on_nothing() -> None:
    fresh = When(path="distill.network_pool", values=(None,))
    space = {"distill.lr_img": Float(low=0.1, high=1, when=fresh), "distill.ipc": Int(low=1, high=2)}
    search = Search.parse(
        {"name": "dam", "distill": {"method": "DataDAM"}, "space": {n: d.to_json() for n, d in space.items()}}
    )
    assert {"distill.ipc": 1} in list(corners(search))
