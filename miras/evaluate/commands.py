"""What `miras questions`, `miras score` and `miras evaluate` do: scores outside the pipeline, of any model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.config import Section, parse_sections, read_yaml
from miras.errors import ConfigError, DataError
from miras.evaluate.asked_model import SERVED, STAGES, check_model
from miras.evaluate.asking import AskingPlan
from miras.evaluate.box_model import BoxModelConfig
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.galleries import PictureShelf
from miras.evaluate.judge.command import CACHE
from miras.evaluate.models import ExportedModel, Model, ServedModel, StageModel
from miras.evaluate.public_sets import public_paths, read_public_set
from miras.evaluate.records import Question
from miras.evaluate.report import write_evaluation_page
from miras.evaluate.scoring import MISSING, Problems, pair, read_predictions, score_masks
from miras.evaluate.stage import encode_pictures, evaluate_models
from miras.evaluate.tables import Row, scores_document
from miras.files import finished_folder, read_records, write_json, write_records
from miras.launch.profiles import Launch, read_launch
from miras.llm.config import read_service
from miras.paths import Paths
from miras.pretrained import DESCRIPTION
from miras.registry_address import PREFIX, fetch

SHOWN = {"num_examples": 6, "num_failures": 6}  # cases on the page
OWN = "test"  # the data set's own test split, where a benchmark is named


@dataclass(frozen=True)
class Settings:
    """Of a parameter file, what an evaluation needs."""

    paths: Paths
    config: EvaluateConfig

    @classmethod
    def read(cls, params: Path) -> Settings:
        """Raises ConfigError naming every mistake."""
        kinds: dict[str, type[Section]] = {"paths": Paths, "evaluate": EvaluateConfig}
        values = {name: section for name, section in read_yaml(params).items() if name in kinds}
        sections = parse_sections(values, kinds, source=str(params))
        return cls(sections["paths"], sections["evaluate"])


def open_benchmark(name: str, settings: Settings, *, work: Path) -> AskingPlan:
    """The questions of the test split or of one of `evaluate.benchmarks`, read when they were not.

    Raises:
        ConfigError: no such benchmark.
    """
    if name == OWN:
        return AskingPlan(paths=settings.paths, config=settings.config, public="", models={}, passes=())
    if name not in settings.config.benchmarks:
        known = ", ".join((OWN, *settings.config.benchmarks))
        raise ConfigError(
            f"benchmark {name!r}: unknown; there are {known}. Add it to evaluate.benchmarks of the parameter file: "
            f"`{name}: {{reader: ..., ...}}`."
        )
    paths = public_paths(settings.paths, work)
    read_public_set(name, paths, settings.config, work=work)
    return AskingPlan(paths=paths, config=settings.config, public=name, models={}, passes=())


def write_questions(name: str, into: Path, settings: Settings) -> int:
    """Writes `questions.jsonl` and `pictures/`, for models that are asked elsewhere; returns how many questions."""
    work = _work_of(into)
    try:
        plan = open_benchmark(name, settings, work=work)
        data = plan.data()
        with finished_folder(_new(into)) as folder:
            count = write_records(folder / "questions.jsonl", data.questions())
            (folder / "pictures").mkdir()
            for picture in data.pictures.values():
                shutil.copyfile(plan.paths.pictures / picture.file_name, folder / "pictures" / picture.file_name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return count


def score_file(
    questions: Path, predictions: Path, into: Path, config: EvaluateConfig, *, is_incomplete: bool
) -> list[Row]:
    """Scores anyone's predictions and writes questions, predictions and scores; returns the rows of masks.

    Args:
        questions: as `write_questions` or the stage `evaluate` wrote them.
        predictions: a file of `Prediction` records.
        into: folder to write, new or empty.
        config: how it is scored.
        is_incomplete: whether unanswered questions are borne; they are counted beside the scores.

    Raises:
        DataError: something is wrong with the predictions (all of it is named, nothing is written), or there is nothing
            to score.
    """
    asked = list(read_records(questions, Question))
    if not asked:
        raise DataError(f"{questions}: an empty benchmark: no question. Write it again with `miras questions`.")
    problems = Problems()
    answered = pair(asked, read_predictions(predictions, problems), problems)
    missing = problems.found.pop(MISSING, []) if is_incomplete else []
    if problems:
        raise DataError(
            f"{predictions}: does not fit {questions}; nothing was scored.\n{problems.text()}\n"
            "Correct the file. Questions that a model really did not answer can be borne with --incomplete."
        )
    scored = score_masks(answered)
    if not scored:
        raise DataError(
            f"{predictions}: none of its {len(answered)} predictions answers a question that can be scored."
        )
    scores: dict[str, Any] = {**scores_document(answered, scored, config), "unanswered": len(missing)}
    with finished_folder(_new(into)) as folder:
        write_records(folder / "questions.jsonl", asked)
        write_records(folder / "predictions.jsonl", [item.prediction for item in answered])
        write_json(folder / "scores.json", scores)
        pictures = questions.parent / "pictures"
        shelf = PictureShelf.of_folder(pictures) if pictures.is_dir() else None
        write_evaluation_page(folder, shelf, title=f"Scores of {predictions.name}", seed=config.seed, **SHOWN)
    rows: list[Row] = scores["tables"]["masks"]
    return rows


def evaluate_model(model: str, names: Sequence[str], into: Path, settings: Settings, launch: Launch) -> dict[str, Path]:
    """Asks a model the questions of benchmarks and scores it; returns the folder of each.

    Interrupted, it goes on where it was: what is unfinished lies in `.<into>.work` beside.

    Args:
        model: stage1 or stage2 of the parameter file, a directory that `miras export` wrote, or `served:<file>`, a YAML
            file with `box` (`BoxModelConfig`): a model behind the server that infra/teacher.yaml names.
        names: `test` or of `evaluate.benchmarks`.
        into: folder to write, new or empty, or unfinished.
        settings: of the parameter file.
        launch: how many processes answer.

    Raises:
        ConfigError: no such model or benchmark, or `into` is not empty.
    """
    check_model(model)
    work = _work_of(into)
    if not work.exists():
        _new(into)
    described, is_own = _described(model, settings.paths)
    if isinstance(described, ServedModel):
        here = launch if launch.place == "local" else read_launch("local")
        launch = here.model_copy(update={"shares": 1})  # its calls run side by side in one process
    done = {}
    for name in names:
        plan = open_benchmark(name, settings, work=work / name)
        paths = plan.paths.model_copy(update={"evaluate": str(into / name)})
        if not isinstance(described, ServedModel) and (name != OWN or not is_own):
            own = {"backbones": described.backbones, "features": str(work / name / "features")}
            paths = paths.model_copy(update=own)
            encode_pictures(paths, work / name, launch)
        evaluate_models(
            {Path(model).name: described},
            paths=paths,
            work=work / name / "answers",
            config=settings.config,
            launch=launch,
            public=plan.public,
        )
        shelf = PictureShelf.of_data_set(paths)
        title = f"{Path(model).name} on {name}"
        write_evaluation_page(into / name, shelf, title=title, seed=settings.config.seed, **SHOWN)
        done[name] = into / name
    shutil.rmtree(work)
    return done


def _described(model: str, paths: Paths) -> tuple[Model, bool]:
    """The model, and whether the features of the pipeline are of its encoders."""
    if model in STAGES:
        return StageModel(backbones=paths.backbones, weights=getattr(paths, model)), True
    if model.startswith(SERVED):
        file = Path(model.removeprefix(SERVED))
        box = parse_sections(read_yaml(file), {"box": BoxModelConfig}, source=str(file))["box"]
        return ServedModel(box=box, service=read_service(), answers=str(CACHE)), True
    if model.startswith(PREFIX):
        return ExportedModel(folder=str(fetch(model, holds=DESCRIPTION))), False
    return ExportedModel(folder=model), False


def _new(into: Path) -> Path:
    if into.exists() and any(into.iterdir()):
        raise ConfigError(f"{into}: not empty. Name a new folder, or remove what is there.")
    return into


def _work_of(into: Path) -> Path:
    return into.with_name(f".{into.name}.work")
