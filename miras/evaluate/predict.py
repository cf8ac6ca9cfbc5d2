"""Answers of a model to the test questions, turn by turn, in three ways of giving it the history.

Every finished batch is appended to a journal; a second run over the same journal asks only what is missing.
This module does not score anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from miras.dialogue.masks import area_px, decode, encode
from miras.dialogue.records import Dialogue
from miras.evaluate.held_out import HeldOutSet
from miras.evaluate.records import Benchmark, History, PredictedMask, Prediction
from miras.files import disk_errors
from miras.model.records import Request, Response

Key = tuple[str, str, str, str, int]


class Responds(Protocol):
    """Whatever answers questions about stored pictures."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; greedy."""
        ...


@dataclass(frozen=True)
class Pass:
    """One model over one benchmark with one kind of history."""

    benchmark: Benchmark
    model: str
    history: History


@dataclass(frozen=True)
class Question:
    """One turn to answer."""

    dialogue: Dialogue
    turn: int


class Journal:
    """Finished predictions on disk: one JSON line each, appended a batch at a time.

    A line cut off by an interruption is dropped on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.predictions: dict[Key, Prediction] = {}
        if path.exists():
            whole = path.read_bytes()
            complete = whole[: whole.rfind(b"\n") + 1]
            for line in complete.splitlines():
                prediction = Prediction.model_validate_json(line)
                self.predictions[prediction.key] = prediction
            if len(complete) < len(whole):
                path.write_bytes(complete)

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Keeps a finished batch."""
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as lines:
            lines.write("".join(prediction.model_dump_json() + "\n" for prediction in predictions))
        self.predictions.update({prediction.key: prediction for prediction in predictions})


def open_journal(path: Path, *, fingerprint: Mapping[str, str]) -> Journal:
    """The journal at `path`, emptied when it was made from other inputs than `fingerprint` states."""
    stamp = path.with_suffix(".inputs.json")
    current = json.dumps(fingerprint, sort_keys=True)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != current:
        path.unlink(missing_ok=True)
        stamp.write_text(current, encoding="utf-8")
    return Journal(path)


def waves(dialogues: Sequence[Dialogue], history: History) -> Iterator[list[Question]]:
    """Questions that can be asked together: turn by turn, or only each dialogue's last one."""
    if history == "none":
        yield [Question(dialogue, len(dialogue.turns) - 1) for dialogue in dialogues]
        return
    for turn in range(max((len(dialogue.turns) for dialogue in dialogues), default=0)):
        yield [Question(dialogue, turn) for dialogue in dialogues if turn < len(dialogue.turns)]


def count_questions(dialogues: Sequence[Dialogue], history: History) -> int:
    """How many answers a pass takes."""
    return sum(len(wave) for wave in waves(dialogues, history))


def predict(
    step: Pass, responder: Responds, *, held_out: HeldOutSet, journal: Journal, batch_size: int
) -> Iterator[int]:
    """Answers every question of the pass; yields how many were finished, batch by batch.

    Batches are cut alike whether or not some of them were finished before, so an interrupted run ends with
    the same answers as an uninterrupted one.
    """
    for wave in waves(held_out.benchmarks[step.benchmark], step.history):
        for start in range(0, len(wave), batch_size):
            batch = wave[start : start + batch_size]
            if not all(_key(step, question) in journal.predictions for question in batch):
                requests = [_request(step, question, held_out, journal) for question in batch]
                responses = responder.respond(requests)
                journal.append(
                    [
                        _prediction(step, question, response, held_out)
                        for question, response in zip(batch, responses, strict=True)
                    ]
                )
            yield len(batch)


def _key(step: Pass, question: Question) -> Key:
    return step.benchmark, step.model, step.history, question.dialogue.dialogue_id, question.turn


def _request(step: Pass, question: Question, held_out: HeldOutSet, journal: Journal) -> Request:
    dialogue, turns = question.dialogue, question.dialogue.turns
    history: tuple[tuple[str, str], ...] = ()
    asked = [question] if step.history == "none" else [Question(dialogue, n) for n in range(question.turn + 1)]
    references = tuple(_references(step, each, held_out, journal) for each in asked)
    if step.history == "reference":
        history = tuple((turn.question, held_out.reference(turn)) for turn in turns[: question.turn])
    elif step.history == "own":
        earlier = [_key(step, Question(dialogue, number)) for number in range(question.turn)]
        history = tuple((turns[number].question, journal.predictions[key].answer) for number, key in enumerate(earlier))
    return Request(
        image_id=dialogue.image_id, history=history, question=turns[question.turn].question, references=references
    )


def _references(step: Pass, question: Question, held_out: HeldOutSet, journal: Journal) -> tuple[np.ndarray, ...]:
    """The masks that a question speaks of: predicted ones with the model's own history, else true ones.

    What the person points at is always true; an earlier answer without a mask gives nothing to refer to.
    """
    dialogue, turn = question.dialogue, question.dialogue.turns[question.turn]
    if step.history == "own":
        earlier = [_key(step, Question(dialogue, number)) for number in turn.refers_to]
        codes = [group.mask for key in earlier for group in journal.predictions[key].groups]
        codes += [mask for region_id in turn.points_at if (mask := held_out.regions[region_id].mask)]
    else:
        codes = [mask for region_id in dialogue.references(question.turn) if (mask := held_out.regions[region_id].mask)]
    return tuple(decode(code) for code in codes if area_px(code))


def _prediction(step: Pass, question: Question, response: Response, held_out: HeldOutSet) -> Prediction:
    dialogue = question.dialogue
    turn = dialogue.turns[question.turn]
    return Prediction(
        benchmark=step.benchmark,
        model=step.model,
        history=step.history,
        dialogue_id=dialogue.dialogue_id,
        image_id=dialogue.image_id,
        kind=dialogue.kind,
        turn=question.turn,
        is_last=question.turn == len(dialogue.turns) - 1,
        question=turn.question,
        reference=held_out.reference(turn),
        answer=response.answer,
        groups=tuple(PredictedMask(phrase=group.phrase, mask=encode(group.mask)) for group in response.groups),
        targets=held_out.target_phrases(turn),
        target=held_out.target_mask(turn),
        seconds=round(response.seconds, 4),
        is_cut=response.is_cut,
    )
