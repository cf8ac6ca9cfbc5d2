"""Answers of a model to a benchmark's questions, turn by turn, in three ways of giving it the history.

The dialogues of a pass are cut into groups that are answered together, always the same ones, and every finished group
is appended to a journal. So the answers do not depend on how many processes share the groups, nor on where an earlier
run was interrupted. This module does not score anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import ValidationError

from miras.dialogue.masks import area_px, decode, encode
from miras.dialogue.records import Dialogue, Frozen
from miras.errors import DataError
from miras.evaluate.benchmarks import BenchmarkSet
from miras.evaluate.records import History, PredictedMask, Prediction, PredictionKey
from miras.files import disk_errors, read_records, write_records
from miras.model.records import Request, Response

FINISHED = "finished.jsonl"
Answers = Mapping[PredictionKey, Prediction]


class Responds(Protocol):
    """Whatever answers questions about stored pictures."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; greedy."""
        ...


class Pass(Frozen):
    """One model over one benchmark with one kind of history."""

    benchmark: str
    model: str
    history: History


@dataclass(frozen=True)
class Ask:
    """One turn to answer."""

    dialogue: Dialogue
    turn: int


class Journal:
    """Finished predictions of one process on disk, one JSON line each, appended a batch at a time."""

    def __init__(self, path: Path, finished: Mapping[PredictionKey, Prediction]) -> None:
        """`finished`: what earlier runs answered."""
        self.path = path
        self.predictions = dict(finished)

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Keeps a finished batch."""
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as lines:
            lines.write("".join(prediction.model_dump_json() + "\n" for prediction in predictions))
        self.predictions.update({prediction.key: prediction for prediction in predictions})


def reopened(path: Path, finished: Mapping[PredictionKey, Prediction]) -> Journal:
    """The journal of a process that may have been ended and started again: what it had answered counts.

    Raises:
        DataError: it is damaged.
    """
    own = {p.key: p for p in _whole_lines(path)} if path.exists() else {}
    write_records(path, own.values())  # without a line that was cut off: the next one would be added to it
    return Journal(path, {**finished, **own})


def collect(folder: Path, *, fingerprint: Mapping[str, str]) -> dict[PredictionKey, Prediction]:
    """What the journals of the folder hold, joined into one; nothing when they were made from other inputs.

    No process may be writing there. A line that was cut off by an interruption is dropped.

    Raises:
        DataError: a journal is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp, joined = folder / "inputs.json", folder / FINISHED
    current = json.dumps(fingerprint, sort_keys=True)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != current:
        for path in folder.glob("*.jsonl"):
            path.unlink()
        stamp.write_text(current, encoding="utf-8")
    finished = {p.key: p for path in sorted(folder.glob("*.jsonl")) for p in _whole_lines(path)}
    write_records(joined, finished.values())
    for path in folder.glob("*.jsonl"):
        if path != joined:
            path.unlink()
    return finished


def read_finished(folder: Path) -> dict[PredictionKey, Prediction]:
    """What `collect` left."""
    return {prediction.key: prediction for prediction in read_records(folder / FINISHED, Prediction)}


def _whole_lines(path: Path) -> Iterator[Prediction]:
    whole = path.read_bytes()
    for number, line in enumerate(whole[: whole.rfind(b"\n") + 1].splitlines(), 1):
        try:
            yield Prediction.model_validate_json(line)
        except ValidationError as error:
            raise DataError(
                f"{path}:{number}: damaged ({error.errors()[0]['msg']}). Delete the file and run again: its questions "
                "are asked anew."
            ) from None


def groups(dialogues: Sequence[Dialogue], *, size: int) -> list[list[Dialogue]]:
    """Dialogues that are answered together: of like length, at most `size`."""
    by_length = sorted(dialogues, key=lambda dialogue: len(dialogue.turns))
    return [by_length[start : start + size] for start in range(0, len(by_length), size)]


def waves(dialogues: Sequence[Dialogue], history: History) -> Iterator[list[Ask]]:
    """Questions that can be asked together: turn by turn, or only each dialogue's last one."""
    if history == "none":
        yield [Ask(dialogue, len(dialogue.turns) - 1) for dialogue in dialogues]
        return
    for turn in range(max((len(dialogue.turns) for dialogue in dialogues), default=0)):
        yield [Ask(dialogue, turn) for dialogue in dialogues if turn < len(dialogue.turns)]


def count_questions(dialogues: Sequence[Dialogue], history: History) -> int:
    """How many answers a pass takes."""
    return sum(len(wave) for wave in waves(dialogues, history))


def predict(
    step: Pass, responder: Responds, dialogues: Sequence[Dialogue], *, data: BenchmarkSet, journal: Journal
) -> Iterator[int]:
    """Answers the questions of a group of dialogues; yields how many were finished, batch by batch.

    A group is kept when all of it is answered: what a turn leaves for the next one is not stored, and an answer must
    not depend on whether it was there.
    """
    rounds = list(waves(dialogues, step.history))
    if all(_key(step, ask) in journal.predictions for wave in rounds for ask in wave):
        yield sum(map(len, rounds))
        return
    answered: dict[PredictionKey, Prediction] = {}
    kept: dict[str, object] = {}
    for wave in rounds:
        requests = [
            replace(_request(step, ask, data, answered), kept=kept.get(ask.dialogue.dialogue_id)) for ask in wave
        ]
        responses = responder.respond(requests)
        for ask, response in zip(wave, responses, strict=True):
            kept[ask.dialogue.dialogue_id] = response.kept
            answered[_key(step, ask)] = _prediction(step, ask, response)
        yield len(wave)
    journal.append(list(answered.values()))


def _key(step: Pass, ask: Ask) -> PredictionKey:
    return step.benchmark, step.model, step.history, ask.dialogue.dialogue_id, ask.turn


def _request(step: Pass, ask: Ask, data: BenchmarkSet, answered: Answers) -> Request:
    dialogue, turns = ask.dialogue, ask.dialogue.turns
    history: tuple[tuple[str, str], ...] = ()
    asked = [ask] if step.history == "none" else [Ask(dialogue, number) for number in range(ask.turn + 1)]
    references = tuple(_references(step, each, data, answered) for each in asked)
    if step.history == "reference":
        history = tuple((turn.question, data.reference(turn)) for turn in turns[: ask.turn])
    elif step.history == "own":
        earlier = [_key(step, Ask(dialogue, number)) for number in range(ask.turn)]
        history = tuple((turns[number].question, answered[key].answer) for number, key in enumerate(earlier))
    return Request(
        image_id=dialogue.image_id, history=history, question=turns[ask.turn].question, references=references
    )


def _references(step: Pass, ask: Ask, data: BenchmarkSet, answered: Answers) -> tuple[np.ndarray, ...]:
    """The masks that a question speaks of: predicted ones with the model's own history, else true ones.

    What the person points at is always true; an earlier answer without a mask gives nothing to refer to.
    """
    dialogue, turn = ask.dialogue, ask.dialogue.turns[ask.turn]
    if step.history == "own":
        earlier = [_key(step, Ask(dialogue, number)) for number in turn.refers_to]
        codes = [predicted.mask for key in earlier for predicted in answered[key].masks]
        codes += [mask for region_id in turn.points_at if (mask := data.regions[region_id].mask)]
    else:
        codes = [mask for region_id in dialogue.references(ask.turn) if (mask := data.regions[region_id].mask)]
    return tuple(decode(code) for code in codes if area_px(code))


def _prediction(step: Pass, ask: Ask, response: Response) -> Prediction:
    return Prediction(
        benchmark=step.benchmark,
        model=step.model,
        history=step.history,
        dialogue_id=ask.dialogue.dialogue_id,
        turn=ask.turn,
        answer=response.answer,
        masks=tuple(PredictedMask(phrase=group.phrase, mask=encode(group.mask)) for group in response.groups),
        seconds=round(response.seconds, 4),
        is_cut=response.is_cut,
        raw=response.raw,
        error=response.error,
    )
