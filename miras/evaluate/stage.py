"""Stage `evaluate`: the trained models and the baselines on the held-out pictures, and on public data sets.

First the questions, then predictions (resumable, in `work`), then scores, galleries and curves from both alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import miras
from miras.errors import DataError
from miras.evaluate import public_sets
from miras.evaluate.asking import AskingPlan, Openers, passes, predict_all
from miras.evaluate.baselines import predict_baselines
from miras.evaluate.benchmarks import BenchmarkSet
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.curves import write_curves
from miras.evaluate.galleries import write_galleries
from miras.evaluate.models import Model, StageModel
from miras.evaluate.records import BLIND, FINAL, Prediction
from miras.evaluate.scoring import Answered, Problems, Scored, pair, score_masks
from miras.evaluate.tables import scores_document
from miras.files import finished_folder, write_json, write_records
from miras.launch.profiles import Launch, read_launch
from miras.model import features
from miras.model.config import FeaturesConfig
from miras.paths import Paths

log = logging.getLogger(__name__)


def run(*, paths: Paths, work: Path, evaluate: EvaluateConfig) -> None:
    """Writes questions, predictions, scores, galleries and curves below `paths.evaluate`.

    Raises:
        DataError: the test split is empty or inconsistent, weights are missing, or a public data set is not on disk or
            not whole.
    """
    launch = read_launch()
    models: dict[str, Model] = {
        "stage1": StageModel(backbones=paths.backbones, weights=paths.stage1),
        FINAL: StageModel(backbones=paths.backbones, weights=paths.stage2),
        BLIND: StageModel(backbones=paths.backbones, weights=paths.stage2, is_blind=True),
    }
    public = {name: public_sets.public_paths(paths, work / "benchmarks" / name) for name in evaluate.benchmarks}
    for name, places in public.items():  # first all that can be wrong with them
        public_sets.read_public_set(name, places, evaluate, work=work / "benchmarks" / name)
    evaluate_models(models, paths=paths, work=work, config=evaluate, launch=launch)
    with finished_folder(paths.public_evaluations) as aside:
        for name, places in public.items():
            folder = work / "benchmarks" / name
            encode_pictures(places, folder, launch)
            into = places.model_copy(update={"evaluate": str(aside / name)})
            trained = {model: models[model] for model in ("stage1", FINAL)}
            evaluate_models(trained, paths=into, work=folder, config=evaluate, launch=launch, public=name)


def encode_pictures(paths: Paths, work: Path, launch: Launch) -> None:
    """Runs the frozen encoders over a public data set's pictures; what is there is not made again."""
    work = work / "encoding"
    work.mkdir(parents=True, exist_ok=True)
    features.build(paths=paths, work=work, config=FeaturesConfig(batch_size=8, shard_size=64), launch=launch)


def evaluate_models(
    models: dict[str, Model],
    *,
    paths: Paths,
    work: Path,
    config: EvaluateConfig,
    launch: Launch,
    public: str = "",
    openers: Openers | None = None,
) -> None:
    """Asks the models the benchmarks of one data set and writes everything about it below `paths.evaluate`.

    Args:
        models: by name.
        paths: of the data set and the output.
        work: for what is resumable.
        config: of the evaluation.
        launch: how many processes answer.
        public: which of `config.benchmarks`; empty: the data set's own test split.
        openers: models that are here already, by name (then one process asks).

    Raises:
        DataError: no chosen question points at a region with a mask.
    """
    work.mkdir(parents=True, exist_ok=True)
    plan = AskingPlan(paths=paths, config=config, public=public, models=models, passes=())
    data = plan.data()
    plan = plan.model_copy(update={"passes": passes(data, openers or models, config)})
    found = predict_all(
        plan,
        data,
        openers=openers or plan.openers(data),
        launch=None if openers else launch,
        fingerprint=fingerprint(plan),
        work=work,
    )
    own_wording = [name for name in data.benchmarks if not name.endswith(tuple(f"-{f}" for f in config.templates))]
    found += predict_baselines(data, own_wording, seed=config.seed)
    publish(data, found, paths=paths, config=config, public=public)


def publish(
    data: BenchmarkSet, predictions: Sequence[Prediction], *, paths: Paths, config: EvaluateConfig, public: str
) -> None:
    """Scores the predictions and writes every output; the scores come last."""
    answered, scored = score(data, predictions, where=str(paths.split_dialogues("test")))
    cut = sum(item.prediction.is_cut for item in answered)
    if cut:
        log.warning("answers cut off at the longest length allowed: %d of %d", cut, len(answered))
    scores = scores_document(answered, scored, config)
    if public:
        scores |= {"left_out": len(public_sets.left_out(paths))}
    folder = Path(paths.evaluate)
    folder.mkdir(parents=True, exist_ok=True)
    write_records(paths.questions, data.questions())
    write_records(paths.predictions, predictions)
    with finished_folder(folder / "galleries") as aside:
        write_galleries(aside, scored, answered, paths=paths, config=config)
    if not public:
        with finished_folder(folder / "curves") as aside:
            write_curves(aside, scores["tables"], paths=paths)
    write_json(paths.scores, scores)
    log.info("scored predictions=%d masks=%d file=%s", len(predictions), len(scored), paths.scores)


def score(data: BenchmarkSet, predictions: Sequence[Prediction], *, where: str) -> tuple[list[Answered], list[Scored]]:
    """Our own predictions with their questions and pixel counts.

    Raises:
        DataError: nothing can be scored, or the predictions do not fit the questions.
    """
    problems = Problems()
    answered = pair(data.questions(), predictions, problems)
    if problems:
        raise DataError(f"{where}: predictions and questions do not fit:\n{problems.text()}")
    scored = score_masks(answered)
    if not scored:
        raise DataError(
            f"{where}: none of the chosen questions points at a region with a mask. Masks are scored here; a source "
            "without masks cannot be evaluated."
        )
    return answered, scored


def fingerprint(plan: AskingPlan) -> dict[str, str]:
    """Hashes of all that decides a prediction: code, weights, data and the choice of questions."""
    package, paths = Path(miras.__file__).parent, plan.paths
    code = [package / "model", package / "dialogue"]
    code += [
        package / "evaluate" / f"{name}.py" for name in ("predict", "benchmarks", "templates", "models", "box_model")
    ]
    weights = {place for model in plan.models.values() for place in model.folders}
    choice = {"max_dialogues", "max_rounds", "max_queries", "templates", "batch_size", "seed"}
    return {
        "code": _hash_of(code, "*.py"),
        "weights": _hash_of([Path(place) for place in sorted(weights)], "*"),
        "data": _hash_of([paths.split_dialogues("test"), paths.checked_regions, paths.picture_table], "*"),
        "choice": plan.config.model_dump_json(include=choice),
        "models": str(sorted((name, model.model_dump_json()) for name, model in plan.models.items())),
    }


def _hash_of(places: Iterable[Path], pattern: str) -> str:
    digest = hashlib.sha256()
    for place in places:
        files = [place] if place.is_file() else sorted(place.rglob(pattern))
        for file in files:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
