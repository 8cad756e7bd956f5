"""What to try next, asked of Optuna as a pure function of the trials so far.

No study is stored. For each suggestion one is built in memory from the ledger, its sampler seeded by the trial's
number, and asked. Trial n is shown the results of trials 0 … n − parallel and the settings, not the results, of those
after them, even where more is known by then; so suggestions depend neither on timing nor on the number of workers.

The objective ``seconds`` is read off a clock: searches for ``accuracy+seconds`` are the one kind that does not repeat.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED, read_json
from raydistill.config import Scalar
from raydistill.errors import ConfigError
from raydistill.search.definition import Budget, Choice, Distribution, Search
from raydistill.search.trials import TrialRecord, read_trials
from raydistill.seeding import derive

ATTEMPTS = 32
"Draws before settings that were tried already are tried again: equal settings give equal results."

MIN_COMPLETED = 4
"Fewer completed trials say nothing about which setting matters."
MOST_COMPLETED = 1000
"The cost of asking which setting matters grows with the square of them."


def suggest(search: Search, number: int, records: Sequence[TrialRecord]) -> dict[str, Scalar]:
    """The settings of trial ``number``.

    Trial 0 has the search's own values where they lie in the space. Completed trials count with their result, stopped
    ones rank below all completed, diverged ones below those, failed ones are left out.

    Args:
        search: what is searched, and the seed.
        number: of the trial, from 0.
        records: of the trials 0 … number − 1; what follows is ignored.

    Returns:
        Dotted path → value for every path whose condition holds.

    Raises:
        ConfigError: no draw gives settings that fit together.
    """
    earlier = sorted((r for r in records if r.number < number), key=lambda r: r.number)
    if [r.number for r in earlier] != list(range(number)):
        raise ValueError(f"trial {number} needs the records of all before it, got {[r.number for r in earlier]}")
    own = _own_values(search)
    if number == 0 and own is not None:
        return own
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = _sampler(search, derive(search.seed, "trial", number) % 2**32)
        study = optuna.create_study(directions=_directions(search.budget), sampler=sampler)
        for record in earlier:
            trial = _as_optuna(search, record, pending=record.number > number - search.budget.parallel)
            if trial is not None:
                study.add_trial(trial)
        tried = [dict(r.params) for r in earlier]
        valid: list[dict[str, Scalar]] = []
        wrong = ""
        for _ in range(ATTEMPTS):
            params = _fill(search, partial(_draw, study.ask()))
            try:
                _check(search, params)
            except ConfigError as error:
                wrong = str(error)
                continue
            if params not in tried:
                return params
            valid.append(params)
    if not valid:
        raise ConfigError(f"space: none of {ATTEMPTS} draws fits together; narrow it. The last: {wrong}")
    return valid[-1]


def _check(search: Search, params: Mapping[str, Scalar]) -> None:
    """Whether values that are each within the space fit together, in the trial and in a final distillation.

    Raises:
        ConfigError: they do not.
    """
    plain = search.without_space()
    plain.override(params)
    plain.override({**params, **search.final})


def importances(run: Path) -> dict[str, float]:
    """How much of the variance of validation accuracy each searched setting explains (fANOVA), largest first.

    Of more than ``MOST_COMPLETED`` trials every so-manieth counts. Settings that only some had are left out. Empty with fewer
    than four completed trials, or if nothing varied.

    Raises:
        ArtifactError: the folder holds no search.
    """
    search = Search.parse(read_json(run / "search.json"))
    accuracy = search.budget.model_copy(update={"objectives": "accuracy"})
    single = search.model_copy(update={"budget": accuracy})
    completed = [r for r in read_trials(run) if r.status == COMPLETED]
    completed = completed[:: max(1, -(-len(completed) // MOST_COMPLETED))]
    trials = [t for r in completed if (t := _as_optuna(single, r, pending=False)) is not None]
    if len(trials) < MIN_COMPLETED or len({t.value for t in trials}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    varied = [p for p in search.space if all(p in t.params for t in trials) and len({t.params[p] for t in trials}) > 1]
    if not varied:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=derive(search.seed, "importances") % 2**32)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied))


def _sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    budget = search.budget
    if budget.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if budget.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=_population(budget), seed=seed)
    conditional = any(d.when is not None for d in search.space.values())
    return optuna.samplers.TPESampler(
        n_startup_trials=budget.startup, multivariate=True, group=conditional, constant_liar=True, seed=seed
    )


def _directions(budget: Budget) -> list[StudyDirection]:
    both = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    return both[:1] if budget.objectives == "accuracy" else both


def _population(budget: Budget) -> int:
    return max(2, budget.startup)


def _as_optuna(search: Search, record: TrialRecord, pending: bool) -> FrozenTrial | None:
    space = {path: search.space[path] for path in record.params if path in search.space}
    if not all(_within(d, record.params[path]) for path, d in space.items()):
        return None
    told: dict[str, Any] = {
        "params": {path: record.params[path] for path in space},
        "distributions": {path: _distribution(d) for path, d in space.items()},
    }
    both = search.budget.objectives != "accuracy"
    if pending:
        return create_trial(state=TrialState.RUNNING, **told)
    if record.status == FAILED:
        return None
    if record.status == COMPLETED:
        told["values"] = [record.val_accuracy, record.seconds] if both else [record.val_accuracy]
        # Optuna's genetic samplers keep the generation in this attribute, which a stored study would carry.
        told["system_attrs"] = {"NSGAIISampler:generation": record.number // _population(search.budget)}
        return create_trial(state=TrialState.COMPLETE, **told)
    if record.status not in (STOPPED, DIVERGED):
        raise ValueError(f"trial {record.number} is {record.status}; a suggestion needs it settled")
    # Ranking pruned trials by intermediate values is defined for a single objective only.
    ranked = record.status == STOPPED and not both
    return create_trial(state=TrialState.PRUNED, intermediate_values=dict(record.values) if ranked else {}, **told)


def _distribution(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.values)
    if distribution.kind == "int":
        return IntDistribution(distribution.low, distribution.high, log=distribution.log)
    return FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def _draw(trial: optuna.Trial, path: str, distribution: Distribution) -> Scalar:
    if isinstance(distribution, Choice):
        value: Scalar = trial.suggest_categorical(path, distribution.values)
        return value
    if distribution.kind == "int":
        return trial.suggest_int(path, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_float(path, distribution.low, distribution.high, log=distribution.log)


def _own_values(search: Search) -> dict[str, Scalar] | None:
    own = search.without_space().flat()
    params = _fill(search, lambda path, _: own[path])
    return params if all(_within(search.space[path], value) for path, value in params.items()) else None


def _within(distribution: Distribution, value: Scalar) -> bool:
    if isinstance(distribution, Choice):
        return value in distribution.values
    whole = isinstance(value, int) or distribution.kind == "float"
    return whole and isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _fill(search: Search, draw: Callable[[str, Distribution], Scalar]) -> dict[str, Scalar]:
    own: Mapping[str, Scalar] = search.without_space().flat()
    drawn: dict[str, Scalar] = {}
    waiting = dict(search.space)
    while waiting:
        for path, distribution in list(waiting.items()):
            when = distribution.when
            if when is not None and when.path in waiting:
                continue
            del waiting[path]
            if when is None or drawn.get(when.path, own[when.path]) in when.values:
                drawn[path] = draw(path, distribution)
    return {path: drawn[path] for path in search.space if path in drawn}
