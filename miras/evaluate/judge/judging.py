"""Asks the judge about every chosen dialogue, and writes what it said and what that comes to.

Writes into a folder: verdicts.jsonl (`Verdict`), preferences.jsonl (`Preference`), unanswered.jsonl
(`UnansweredQuestion`), scores.json (`JudgeScores`) and service.json (calls and money of this run). All but the last
follow from the judge's answers alone: a second run, also after a kill, takes them from the cache and gives the same
bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from miras.errors import MirasError
from miras.evaluate.judge.config import JudgeConfig
from miras.evaluate.judge.people import PeoplesScores, agreement
from miras.evaluate.judge.prompts import (
    ComparedDialogues,
    ScoredDialogue,
    compare_prompt,
    prompt_version,
    score_prompt,
)
from miras.evaluate.judge.reading import Chosen
from miras.evaluate.judge.records import (
    ORDERS,
    SIDES,
    Asked,
    Judged,
    JudgedDialogue,
    JudgeScores,
    Preference,
    Side,
    UnansweredQuestion,
    Verdict,
)
from miras.evaluate.judge.statistics import Bootstrap, by_total, dialogue_scores, difference, pairwise, side_scores
from miras.files import finished_folder, write_json, write_records
from miras.llm.config import ModelConfig
from miras.llm.records import Answered, Outcome, Prompt, Unanswered

if TYPE_CHECKING:  # it brings the client of the service along
    from miras.llm.asking import CountingModel

SCORES = "scores.json"
BASELINE = "The reference dialogue stands in for the human answers: those of the paper are not public."


class SelectedPartError(MirasError):
    """Too many of the judge's answers are missing: the means are of a selected part."""


@dataclass(frozen=True)
class JudgeQuestion:
    """What is asked about a dialogue, and what its answer is for."""

    dialogue: JudgedDialogue
    asked: Asked
    number: int
    """Of the reading, or of the order."""
    prompt: Prompt


@dataclass
class Answers:
    """All that came back; `questions` = verdicts + preferences + unanswered."""

    questions: Counter[Asked] = field(default_factory=Counter)
    verdicts: list[Verdict] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    unanswered: list[UnansweredQuestion] = field(default_factory=list)

    def failed_shares(self) -> dict[Asked, float]:
        """Of the answers of each kind, the share that is missing."""
        missing = Counter(question.asked for question in self.unanswered)
        return {asked: missing[asked] / count for asked, count in self.questions.items()}


def judge_dialogues(
    chosen: Chosen,
    *,
    judged: Judged,
    pictures: Mapping[str, Path],
    config: JudgeConfig,
    model: CountingModel,
    judge: ModelConfig,
    into: Path,
    people: PeoplesScores | None = None,
) -> JudgeScores:
    """Scores of the chosen dialogues and of their references, and win rates; see the module for the files.

    Args:
        chosen: what is judged.
        judged: whose predictions these are, for the results.
        pictures: image id -> file, of every dialogue with a picture.
        config: readings, limits, seed.
        model: answers the questions.
        judge: its settings, for the results.
        into: the folder to write; an earlier one is replaced.
        people: their scores of the model's dialogues.

    Raises:
        MirasError: of the model, such as a spent budget or a service that is away; its cache keeps what was answered,
            nothing is written, and the same call goes on from there.
    """
    answers = ask_about(chosen.dialogues, pictures=pictures, repeats=config.repeats, model=model)
    scores = _scores(chosen, answers, judged=judged, config=config, judge=judge, people=people)
    with finished_folder(into) as aside:
        write_records(aside / "verdicts.jsonl", answers.verdicts)
        write_records(aside / "preferences.jsonl", answers.preferences)
        write_records(aside / "unanswered.jsonl", answers.unanswered)
        write_json(aside / "service.json", model.counts().model_dump())
        write_json(aside / SCORES, scores.model_dump(mode="json"))
    return scores


def judge_questions(
    dialogues: Sequence[JudgedDialogue], *, pictures: Mapping[str, Path], repeats: int
) -> Iterator[JudgeQuestion]:
    """Everything that is asked, dialogue by dialogue."""
    for dialogue in dialogues:
        picture = pictures[dialogue.image_id] if dialogue.image_id else None
        for side in SIDES:
            for reading in range(repeats):
                prompt = score_prompt(dialogue, side, reading=reading, picture=picture)
                yield JudgeQuestion(dialogue, side, reading, prompt)
        for number, order in enumerate(ORDERS):
            yield JudgeQuestion(dialogue, "comparison", number, compare_prompt(dialogue, order, picture=picture))


def ask_about(
    dialogues: Sequence[JudgedDialogue], *, pictures: Mapping[str, Path], repeats: int, model: CountingModel
) -> Answers:
    """Everything that the judge says about the dialogues."""
    answers = Answers()
    waiting: deque[JudgeQuestion] = deque()

    def prompts() -> Iterator[Prompt]:
        for question in judge_questions(dialogues, pictures=pictures, repeats=repeats):
            waiting.append(question)
            yield question.prompt

    for outcome in model.ask(prompts()):
        _take(waiting.popleft(), outcome, answers)
    assert not waiting, "a language model answers every prompt"
    return answers


def check_complete(scores: JudgeScores) -> None:
    """Refuses scores of a selected part.

    Raises:
        SelectedPartError: too many of the judge's answers are missing.
    """
    if scores.is_complete:
        return
    shares = ", ".join(f"{asked} {share:.1%}" for asked, share in scores.failed_shares.items())
    raise SelectedPartError(
        f"{scores.benchmark}, {scores.model}: too many answers of the judge are missing ({shares}; at most "
        f"{scores.max_failed_share:.1%} may be): the means are of the dialogues that it could judge. The "
        "causes are in unanswered.jsonl. Calls that failed are made again by the same command; for faulty answers "
        "allow more repairs (judge.model.max_repairs), longer ones (max_answer_tokens), or name another judge."
    )


def _take(question: JudgeQuestion, outcome: Outcome, answers: Answers) -> None:
    answers.questions[question.asked] += 1
    if isinstance(outcome, Unanswered):
        answers.unanswered.append(_unanswered(question, outcome))
    elif question.asked == "comparison":
        answers.preferences.append(_preference(question, outcome))
    else:
        answers.verdicts.append(_verdict(question, question.asked, outcome))


def _verdict(question: JudgeQuestion, side: Side, answer: Answered) -> Verdict:
    value = answer.value
    assert isinstance(value, ScoredDialogue)
    return Verdict(
        dialogue_id=question.dialogue.dialogue_id,
        image_id=question.dialogue.image_id,
        side=side,
        reading=question.number,
        scores=value.scores(),
        remarks=value.remarks,
        repairs=answer.repairs,
        raw=answer.raw,
    )


def _preference(question: JudgeQuestion, answer: Answered) -> Preference:
    value = answer.value
    assert isinstance(value, ComparedDialogues)
    order = ORDERS[question.number]
    shown: tuple[Side, Side] = ("model", "reference") if order == "model first" else ("reference", "model")
    return Preference(
        dialogue_id=question.dialogue.dialogue_id,
        image_id=question.dialogue.image_id,
        order=order,
        better="equal" if value.better == "equal" else shown[value.better == "second"],
        remarks=value.remarks,
        repairs=answer.repairs,
        raw=answer.raw,
    )


def _unanswered(question: JudgeQuestion, outcome: Unanswered) -> UnansweredQuestion:
    what = f"order {ORDERS[question.number]}" if question.asked == "comparison" else f"reading {question.number}"
    return UnansweredQuestion(
        where=f"{question.dialogue.dialogue_id}: {question.asked}, {what}",
        reason=f"{outcome.reason}: {outcome.detail}",
        dialogue_id=question.dialogue.dialogue_id,
        asked=question.asked,
        number=question.number,
        cause=outcome.reason,
        raw=outcome.raw,
    )


def _scores(
    chosen: Chosen,
    answers: Answers,
    *,
    judged: Judged,
    config: JudgeConfig,
    judge: ModelConfig,
    people: PeoplesScores | None,
) -> JudgeScores:
    dialogues, verdicts, unanswered = chosen.dialogues, answers.verdicts, answers.unanswered
    bootstrap = Bootstrap(rounds=config.bootstrap_rounds, seed=config.seed)
    shares = answers.failed_shares()
    return JudgeScores(
        benchmark=judged.benchmark,
        model=judged.model,
        history=judged.history,
        judge=judge.model,
        temperature=judge.temperature,
        judge_seed=judge.seed,
        prompt_version=prompt_version(),
        repeats=config.repeats,
        baseline=BASELINE,
        available=chosen.available,
        dialogues=len(dialogues),
        pictures=len({dialogue.image_id for dialogue in dialogues}),
        silent_dialogues=sum(dialogue.silent_turns > 0 for dialogue in dialogues),
        silent_turns=sum(dialogue.silent_turns for dialogue in dialogues),
        sides={
            side: side_scores(verdicts, unanswered, side, dialogues=dialogues, bootstrap=bootstrap) for side in SIDES
        },
        difference=difference(verdicts, dialogues, bootstrap),
        pairwise=pairwise(answers.preferences, unanswered, dialogues=dialogues, bootstrap=bootstrap),
        by_total=by_total(verdicts, dialogues, bootstrap),
        failed_shares=shares,
        max_failed_share=config.max_failed_share,
        is_complete=max(shares.values()) <= config.max_failed_share,
        human=agreement(people, dialogue_scores(verdicts, "model")) if people is not None else None,
    )
