"""What may be shortened, and that nothing else is."""

from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import EvaluateConfig, Further, protocol
from raydistill.nas.space import NASConfig
from raydistill.search.definition import Float, Search
from raydistill.search.lengths import lengths, shortened, with_lengths

SEARCH = Search(
    name="tiny",
    distill=DataDAM.Config(iterations=100),
    evaluate=EvaluateConfig(
        students=5, baselines=("random",), also={"cross": Further(protocol=protocol("seed"), students=2)}
    ),
)
WITH_ALL = SEARCH.override(
    {"evaluate.also.cross.baselines": ["whole"], "evaluate.whole_epochs": 6, "evaluate.whole_students": 1}
)


def test_every_length_by_its_path() -> None:
    own = {"distill.iterations": 100, "evaluate.students": 5, "evaluate.also.cross.students": 2}
    assert lengths(SEARCH) == own
    assert lengths(WITH_ALL) == {**own, "evaluate.whole_students": 1, "evaluate.whole_epochs": 6}
    nas = SEARCH.model_copy(
        update={"nas": NASConfig(confirm=1, confirm_epochs=4, baselines=("whole",), whole_epochs=3)}
    )
    assert lengths(nas) == {**own, "nas.whole_epochs": 3, "nas.confirm_epochs": 4}
    assert lengths(nas.override({"nas.confirm": 0, "nas.baselines": []})) == own


def test_the_final_length_is_the_one_that_counts() -> None:
    space = {"distill.lr_img": Float(low=0.1, high=1)}
    longer = SEARCH.model_copy(update={"space": space, "final": {"distill.iterations": 2000, "distill.lr_img": 1.0}})
    assert lengths(longer)["final.distill.iterations"] == 2000
    found = shortened(longer, 0.25)
    assert (found.distill.iterations, found.final) == (100, {"distill.iterations": 500, "distill.lr_img": 1.0})


def test_a_share_is_rounded_up_and_nothing_falls_to_zero() -> None:
    half = shortened(WITH_ALL, 0.5)
    assert list(lengths(half).values()) == [50, 3, 1, 1, 3]
    assert with_lengths(half, lengths(WITH_ALL)) == WITH_ALL == shortened(WITH_ALL, 1)
    assert set(lengths(shortened(WITH_ALL, 0)).values()) == {1}
