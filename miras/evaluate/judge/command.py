"""What `miras judge` does: an evaluation's dialogues before the judge, or what that would cost.

    miras judge reports/evaluate --pictures data/ingest/pictures [--dry-run] [--human scores.csv]

The folder holds questions.jsonl and predictions.jsonl; results go to its folder `judge`, one folder for each
benchmark, model and history.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from miras.errors import ConfigError
from miras.evaluate.judge.config import JudgeConfig
from miras.evaluate.judge.judging import judge_dialogues, judge_questions
from miras.evaluate.judge.people import read_peoples_scores
from miras.evaluate.judge.prompts import ComparedDialogues, ScoredDialogue
from miras.evaluate.judge.reading import Chosen, find_pictures, read_judged
from miras.evaluate.judge.records import DIMENSIONS, Agreement, Asked, Judged, JudgeScores, Mean, SideScores, WinRate
from miras.evaluate.judge.rows import FOLDER
from miras.evaluate.records import History
from miras.llm.asking import open_model
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.estimating import Estimate, Estimator

QUESTIONS, PREDICTIONS = "questions.jsonl", "predictions.jsonl"
HISTORIES: tuple[History, ...] = ("own", "reference", "none")
"""Those of which a dialogue is made; a baseline's answers (`any`) are none."""
_REMARKS = "x" * 280  # assumed: two sentences
_SCORED = ScoredDialogue(
    remarks=_REMARKS, progression=3.5, logical_coherence=3.5, content_consistency=3.5, target_relevance=3.5
)
TYPICAL: dict[Asked, BaseModel] = {
    "model": _SCORED,
    "reference": _SCORED,
    "comparison": ComparedDialogues(remarks=_REMARKS, better="first"),
}
"""Answers of the length that is reckoned with."""


CACHE = Path("work/generate/store")  # the teacher's: one cache, one budget


@dataclass(frozen=True)
class _Prepared:
    chosen: Chosen
    pictures: dict[str, Path]
    judge: ModelConfig


def whose(benchmark: str, model: str, history: str) -> Judged:
    """What a command line names.

    Raises:
        ConfigError: no such kind of history.
    """
    for known in HISTORIES:
        if known == history:
            return Judged(benchmark, model, known)
    raise ConfigError(f"history {history!r}: expected one of {', '.join(HISTORIES)}.")


def check_folder(folder: Path) -> None:
    """Lets the folder of an evaluation pass.

    Raises:
        ConfigError: it is not there, or is no such folder.
    """
    missing = [name for name in (QUESTIONS, PREDICTIONS) if not (folder / name).is_file()]
    if not missing:
        return
    what = f"holds no {' and no '.join(missing)}" if folder.is_dir() else "no such folder"
    raise ConfigError(
        f"{folder}: {what}. Name the folder of an evaluation, with {QUESTIONS} and {PREDICTIONS}: reports/evaluate, or "
        "one that `miras evaluate` or `miras score` wrote."
    )


def judge_folder(
    folder: Path,
    *,
    judged: Judged,
    pictures: Path,
    config: JudgeConfig,
    service: ServiceConfig,
    cache: Path,
    human: Path | None = None,
) -> JudgeScores:
    """Judges one model's dialogues of an evaluation and writes `results_folder`.

    The caller has still to `check_complete`: scores of a selected part are written, too, and say so.

    Args:
        folder: of the evaluation.
        judged: whose predictions.
        pictures: folder of the benchmark's picture files, named by their image ids.
        config: who judges, how much.
        service: where the judge is asked.
        cache: folder of all answers paid for; the teacher's own, so that one budget covers both.
        human: CSV or JSON Lines of people's scores.

    Raises:
        ConfigError: no such folder, or there is no judge, or it cannot be asked so.
        DataError: a file is missing or broken, or has nothing of what is to be judged.
        MirasError: the budget is spent or the service is away; what was answered is kept.
    """
    people = None if human is None else read_peoples_scores(human)  # before anything is paid for
    prepared = _prepare(folder, judged, pictures, config)
    return judge_dialogues(
        prepared.chosen,
        judged=judged,
        pictures=prepared.pictures,
        config=config,
        model=open_model(prepared.judge, service, cache=cache),
        judge=prepared.judge,
        into=results_folder(folder, judged),
        people=people,
    )


def estimate_folder(
    folder: Path, *, judged: Judged, pictures: Path, config: JudgeConfig, service: ServiceConfig, cache: Path
) -> Estimate:
    """What `judge_folder` would still cost; nothing is asked. Arguments and errors are its own."""
    prepared = _prepare(folder, judged, pictures, config)
    estimator = Estimator(prepared.judge, service, cache=cache)
    for question in judge_questions(prepared.chosen.dialogues, pictures=prepared.pictures, repeats=config.repeats):
        estimator.look(question.prompt, typical=TYPICAL[question.asked])
    return estimator.estimate()


def results_folder(folder: Path, judged: Judged) -> Path:
    """Where the results of one benchmark, model and history go; any name of a model gives a folder of its own."""
    name = f"{judged.benchmark}-{judged.model}-{judged.history}"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    if plain != name:
        plain += f"-{hashlib.sha256(str(judged).encode()).hexdigest()[:8]}"
    return folder / FOLDER / plain


def as_text(scores: JudgeScores) -> str:
    """The scores for a terminal; what is missing stands beside every figure."""
    model, reference = scores.sides["model"], scores.sides["reference"]
    lines = [
        f"{scores.benchmark}, {scores.model}, history {scores.history}: {scores.dialogues} of {scores.available} "
        f"dialogues, {scores.pictures} pictures",
        f"judge {scores.judge}, temperature {_or(scores.temperature, 'of the server')}, prompts "
        f"{scores.prompt_version}, {scores.repeats} readings each",
        scores.baseline,
        f"{'0 to 5':<22}{'model':>24}{'reference':>24}",
        *(f"{name:<22}{_shown(model.scores[name]):>24}{_shown(reference.scores[name]):>24}" for name in DIMENSIONS),
        f"{'mean':<22}{_shown(model.mean):>24}{_shown(reference.mean):>24}",
        f"{'readings':<22}{_readings(model):>24}{_readings(reference):>24}",
        f"model - reference: {_shown(scores.difference)}",
        f"win rate, both orders agree: {_wins(scores.pairwise)}, {scores.pairwise.split} of the ties for want of "
        "agreement",
        f"win rate, by total scores:   {_wins(scores.by_total)}",
    ]
    if scores.silent_turns:
        lines.append(f"turns without the model's answer: {scores.silent_turns}, in {scores.silent_dialogues} dialogues")
    if scores.human is not None:
        lines.append(f"beside people's scores of {scores.human.dialogues} dialogues:")
        measures: dict[str, Agreement] = {name: scores.human.dimensions[name] for name in DIMENSIONS}
        measures["mean"] = scores.human.mean
        lines += [
            f"  {name:<20} Pearson {_or(each.pearson)}, Spearman {_or(each.spearman)}, "
            f"mean absolute difference {_or(each.mean_absolute_difference)}"
            for name, each in measures.items()
        ]
    return "\n".join(lines)


def estimate_as_text(found: Estimate) -> str:
    """The estimate for a terminal."""
    return (
        f"{found.prompts:,} questions: {found.cached:,} answered before, {found.calls:,} calls to make, "
        f"{found.impossible:,} impossible (picture missing)\n"
        f"about {found.prompt_tokens:,} tokens of questions and {found.answer_tokens:,} of answers: "
        f"{found.cost_usd:.2f} USD, at most {found.most_usd:.2f} USD without repairs"
    )


def _prepare(folder: Path, judged: Judged, pictures: Path, config: JudgeConfig) -> _Prepared:
    check_folder(folder)
    if config.model is None:
        raise ConfigError(
            "judge.model: null, so there is no judge; expected the settings of a language model, with the keys that "
            "generate.model has. The comment beside judge.model in presets/tiny.yaml shows them."
        )
    chosen = read_judged(folder / QUESTIONS, folder / PREDICTIONS, judged=judged, config=config)
    return _Prepared(chosen, find_pictures(pictures, chosen.dialogues), config.model)


def _shown(mean: Mean) -> str:
    if mean.value is None:
        return "unscored"
    return f"{mean.value:.2f}" + ("" if mean.low is None else f" [{mean.low:.2f}, {mean.high:.2f}]")


def _readings(side: SideScores) -> str:
    missing = sum(side.unanswered.values())
    return f"{side.readings}" + (f" ({missing} missing)" if missing else "")


def _wins(rate: WinRate) -> str:
    return (
        f"{_shown(rate.win_percent)} % ({rate.wins} wins, {rate.ties} ties, {rate.losses} losses, "
        f"{rate.unscored} unscored)"
    )


def _or(value: float | None, otherwise: str = "undefined") -> str:
    return otherwise if value is None else f"{value:.2f}"
