"""The dialogues to judge, out of an evaluation's questions and predictions: both files are read line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from miras.dialogue.rendering import plain_text
from miras.errors import DataError
from miras.evaluate.judge.choosing import Choice, Chooser
from miras.evaluate.judge.config import JudgeConfig
from miras.evaluate.judge.records import Judged, JudgedDialogue, TurnText
from miras.evaluate.records import Prediction, Question
from miras.files import read_records
from miras.llm.pictures import MEDIA_TYPES

SUFFIXES = (".png", ".jpg", *(f".{kind.lower()}" for kind in MEDIA_TYPES if kind != "PNG"))
MAX_NAMED = 10  # things listed in a message


@dataclass(frozen=True)
class Chosen:
    """What is judged, and out of how many."""

    dialogues: tuple[JudgedDialogue, ...]
    available: int
    """Dialogues of the benchmark."""


def read_judged(questions: Path, predictions: Path, *, judged: Judged, config: JudgeConfig) -> Chosen:
    """The chosen dialogues with the model's and the reference's answers.

    A turn without prediction, or with an empty one, is a turn without an answer: it is judged, and counted.

    Args:
        questions: JSONL of `Question`.
        predictions: JSONL of `Prediction`; those of other benchmarks, models and histories are passed over.
        judged: whose predictions.
        config: how many dialogues, which seed; the share of them that may lack any prediction.

    Raises:
        DataError: a file is broken or repeats an entry; it has nothing of the benchmark or the model; or too many of
            the chosen dialogues have no prediction at all.
    """
    choices, available = _choose(questions, judged, config)
    turns = _read_turns(questions, judged, choices)
    answers = _read_answers(predictions, judged, turns)
    without = [dialogue_id for dialogue_id in turns if not answers.get(dialogue_id)]
    if len(without) > config.max_failed_share * len(turns):
        raise DataError(
            f"{predictions}: {len(without)} of the {len(turns)} chosen dialogues have no prediction of {judged} "
            f"(such as {without[0]!r}). Predict the whole benchmark, or raise judge.max_failed_share "
            f"({config.max_failed_share:g})."
        )
    dialogues = tuple(
        _dialogue(choice, turns[choice.dialogue_id], answers.get(choice.dialogue_id, {})) for choice in choices
    )
    return Chosen(dialogues, available)


def find_pictures(folder: Path, dialogues: tuple[JudgedDialogue, ...]) -> dict[str, Path]:
    """Where the picture of each image id should lie: the questions' own file name, else `<image id>.<png|jpg|...>`.

    Some may be missing: what the judge is asked about them stays unanswered, and is counted.

    Raises:
        DataError: none is there.
    """
    names = {dialogue.image_id: dialogue.file_name for dialogue in dialogues if dialogue.image_id}
    found = {image_id: _picture(folder, image_id, name) for image_id, name in sorted(names.items())}
    if found and not any(path.is_file() for path in found.values()):
        expected = next(iter(found.values())).name
        raise DataError(
            f"{folder}: none of the {len(found)} pictures is there; expected files such as {expected}. Name the folder "
            "that holds the benchmark's pictures."
        )
    return found


def _picture(folder: Path, image_id: str, file_name: str) -> Path:
    names = [file_name] if file_name else [f"{image_id}{suffix}" for suffix in SUFFIXES]
    inside = [folder / name for name in names if ".." not in Path(name).parts and not Path(name).is_absolute()]
    existing = [path for path in inside if path.is_file()]
    return existing[0] if existing else folder / names[0].replace("/", "_")


def _choose(questions: Path, judged: Judged, config: JudgeConfig) -> tuple[tuple[Choice, ...], int]:
    chooser = Chooser(limit=config.dialogues, seed=config.seed)
    available, others = 0, Counter[str]()
    for question in read_records(questions, Question):
        if question.benchmark != judged.benchmark:
            others[question.benchmark] += 1
            continue
        available += question.is_last
        chooser.add(question.dialogue_id, image_id=question.image_id)
    choices = chooser.chosen()
    if not choices:
        raise DataError(
            f"{questions}: no question of benchmark {judged.benchmark!r}; there are: {_listed(others)}. "
            "Name one of them."
        )
    return choices, available


def _read_turns(questions: Path, judged: Judged, choices: tuple[Choice, ...]) -> dict[str, dict[int, Question]]:
    """Dialogue id -> turn -> its question, in the order of the choice."""
    turns: dict[str, dict[int, Question]] = {choice.dialogue_id: {} for choice in choices}
    for question in read_records(questions, Question):
        if question.benchmark == judged.benchmark and question.dialogue_id in turns:
            of_dialogue = turns[question.dialogue_id]
            if question.turn in of_dialogue:
                raise DataError(
                    f"{questions}: turn {question.turn} of dialogue {question.dialogue_id!r} of benchmark "
                    f"{judged.benchmark!r} is there twice. Write the file again."
                )
            of_dialogue[question.turn] = question
    return turns


def _read_answers(
    predictions: Path, judged: Judged, turns: Mapping[str, Mapping[int, Question]]
) -> dict[str, dict[int, str]]:
    """Dialogue id -> turn -> the model's answer; dialogues without any prediction are left out."""
    answers: dict[str, dict[int, str]] = {}
    others = Counter[str]()
    has_any = False
    for prediction in read_records(predictions, Prediction):
        whose = Judged(prediction.benchmark, prediction.model, prediction.history)
        if whose != judged:
            others[str(whose)] += 1
            continue
        has_any = True
        if prediction.turn not in turns.get(prediction.dialogue_id, {}):
            continue
        of_dialogue = answers.setdefault(prediction.dialogue_id, {})
        if prediction.turn in of_dialogue:
            raise DataError(
                f"{predictions}: turn {prediction.turn} of dialogue {prediction.dialogue_id!r} ({judged}) is there "
                "twice; which one counts cannot be told. Keep one."
            )
        of_dialogue[prediction.turn] = prediction.answer
    if not has_any:
        raise DataError(f"{predictions}: no prediction of {judged}; there are: {_listed(others)}. Name one of them.")
    return answers


def _dialogue(choice: Choice, turns: Mapping[int, Question], answers: Mapping[int, str]) -> JudgedDialogue:
    asked = [turns[number] for number in sorted(turns)]
    said = [plain_text(answers.get(question.turn, "")) for question in asked]
    questions = [plain_text(question.question) for question in asked]
    references = [plain_text(question.reference) for question in asked]
    return JudgedDialogue(
        dialogue_id=choice.dialogue_id,
        image_id=choice.image_id,
        file_name=asked[0].file_name,
        focus=plain_text(next((question.focus for question in asked if question.focus), "")),
        turns={
            "model": tuple(map(TurnText, questions, said)),
            "reference": tuple(map(TurnText, questions, references)),
        },
        silent_turns=sum(not text for text in said),
    )


def _listed(counts: Counter[str]) -> str:
    names = [f"{name} ({count})" for name, count in counts.most_common(MAX_NAMED)]
    more = len(counts) - len(names)
    return ("; ".join(names) or "none") + (f"; and {more} more" if more > 0 else "")
