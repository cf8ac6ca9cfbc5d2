"""An evaluation's folder with questions, predictions and pictures, and a judge that answers by what it reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from miras.evaluate.judge.config import JudgeConfig
from miras.evaluate.judge.records import Judged
from miras.evaluate.records import Prediction, Question
from miras.files import write_records
from miras.llm.config import ModelConfig, ServiceConfig
from tests.llm_server import LlmServer, question

JUDGED = Judged("dialogues", "stage2", "own")
NUM_PICTURES = 4
PER_PICTURE = 2
TURNS = 3


def dialogue_ids() -> list[str]:
    return [f"p{picture}-d{number}" for picture in range(NUM_PICTURES) for number in range(PER_PICTURE)]


def questions(ids: Iterable[str] | None = None, *, benchmark: str = "dialogues") -> list[Question]:
    """Three turns of each dialogue; the last one names the focus."""
    return [
        Question(
            benchmark=benchmark,
            dialogue_id=dialogue_id,
            turn=turn,
            image_id=dialogue_id.partition("-")[0],
            size=(24, 32),
            kind="prist",
            is_last=turn == TURNS - 1,
            asks_for_mask=turn == TURNS - 1,
            question=f"Question {turn} about {dialogue_id}?",
            reference=f"Right answer {turn}, [OBJ]red mug[SEG]." if turn == TURNS - 1 else f"Right answer {turn}.",
            focus="red mug",
        )
        for dialogue_id in (dialogue_ids() if ids is None else ids)
        for turn in range(TURNS)
    ]


def predictions(answers: dict[str, str] | None = None, *, model: str = "stage2") -> list[Prediction]:
    """The model's answers: "{word} answer <turn>", a word for each dialogue, "Wrong" unless told."""
    return [
        Prediction(
            benchmark="dialogues",
            model=model,
            dialogue_id=dialogue_id,
            turn=turn,
            answer=f"{(answers or {}).get(dialogue_id, 'Wrong')} answer {turn}.",
        )
        for dialogue_id in dialogue_ids()
        for turn in range(TURNS)
    ]


def make_folder(folder: Path, found: Iterable[Prediction]) -> Path:
    """A folder as an evaluation leaves it, with its pictures in `pictures`."""
    write_records(folder / "questions.jsonl", [*questions(["q1"], benchmark="queries"), *questions()])
    write_records(folder / "predictions.jsonl", [*predictions(model="stage1"), *found])
    (folder / "pictures").mkdir()
    for number in range(NUM_PICTURES):
        Image.new("RGB", (32, 24), (40 * number, 0, 0)).save(folder / "pictures" / f"p{number}.png")
    return folder


def config(**changes: Any) -> JudgeConfig:
    values: dict[str, Any] = {
        "model": model_config(),
        "dialogues": 100,
        "repeats": 3,
        "max_failed_share": 0.1,
        "bootstrap_rounds": 100,
        "seed": 0,
    }
    return JudgeConfig.model_validate(values | changes)


def model_config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "judge-2024-08-06",
        "temperature": 1.0,
        "seed": 7,
        "max_answer_tokens": 300,
        "max_repairs": 4,
        "schema_support": "json_schema",
    }
    return ModelConfig.model_validate(values | changes)


def service(server: LlmServer, **changes: Any) -> ServiceConfig:
    values: dict[str, Any] = {"base_url": server.url, "api_key_variable": "", "concurrency": 4, "timeout_s": 10.0}
    return ServiceConfig.model_validate(values | changes)


def form(request: dict[str, Any]) -> str:
    """What is asked for: ScoredDialogue or ComparedDialogues."""
    name: str = request["response_format"]["json_schema"]["name"]
    return name


def judge(request: dict[str, Any]) -> str:
    """A fair judge: right answers get 4 and a little, wrong ones 2; another reading a tenth more."""
    text = question(request)
    if form(request) == "ScoredDialogue":
        tenths = 0.1 * (request["seed"] - 7)
        base = 4.0 if "Right answer" in text else 2.0
        return json.dumps(
            {
                "remarks": "As it is.",
                "progression": base + tenths,
                "logical_coherence": base,
                "content_consistency": base + 0.5,
                "target_relevance": base - 1,
            }
        )
    first, _, second = text.partition("The second dialogue:")
    points = ["Right answer" in first, "Right answer" in second]
    better = "equal" if points[0] == points[1] else ("first" if points[0] else "second")
    return json.dumps({"remarks": "Compared.", "better": better})
