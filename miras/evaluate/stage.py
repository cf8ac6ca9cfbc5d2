"""Stage `evaluate`: both trained models and the baselines on the held-out pictures.

First predictions (resumable, in `work`), then scores, galleries and curves from the predictions alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

import miras
from miras.errors import DataError
from miras.evaluate.baselines import predict_baselines
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.curves import write_curves
from miras.evaluate.galleries import write_galleries
from miras.evaluate.held_out import HeldOutSet, load_held_out
from miras.evaluate.predict import Journal, Pass, Responds, count_questions, open_journal, predict
from miras.evaluate.records import Prediction
from miras.evaluate.tables import Scored, score_masks, scores_document
from miras.files import finished_folder, write_json, write_records
from miras.model.responder import Responder, StoredPicture
from miras.paths import Paths
from miras.progress import progress

log = logging.getLogger(__name__)

PASSES = (
    Pass("dialogues", "stage1", "reference"),
    Pass("dialogues", "stage1", "own"),
    Pass("dialogues", "stage1", "none"),
    Pass("queries", "stage1", "none"),
    Pass("dialogues", "stage2", "reference"),
    Pass("dialogues", "stage2", "own"),
    Pass("dialogues", "stage2", "none"),
    Pass("queries", "stage2", "none"),
    Pass("hard", "stage2", "none"),
    Pass("dialogues", "no-picture", "own"),
    Pass("queries", "no-picture", "none"),
)

# Model name -> loads it. Called once, when its first pass starts.
Models = Mapping[str, Callable[[], Responds]]


def run(*, paths: Paths, work: Path, evaluate: EvaluateConfig) -> None:
    """Writes predictions, scores, galleries and curves below `paths.evaluate`.

    Raises:
        DataError: the test split is empty or inconsistent, or weights are missing.
    """
    held_out = load_held_out(paths, evaluate)
    models = _trained_models(paths, held_out)
    evaluate_models(models, held_out=held_out, paths=paths, work=work, config=evaluate)


def evaluate_models(models: Models, *, held_out: HeldOutSet, paths: Paths, work: Path, config: EvaluateConfig) -> None:
    """The stage for given models; every model name in `PASSES` is a key.

    Raises:
        DataError: no chosen question points at a region with a mask.
    """
    journal = open_journal(work / "predictions.jsonl", fingerprint=fingerprint(paths, config))
    predictions = predict_all(models, held_out=held_out, journal=journal, batch_size=config.batch_size)
    cut = sum(prediction.is_cut for prediction in predictions)
    if cut:
        log.warning("answers cut off at the longest length allowed: %d of %d", cut, len(predictions))
    predictions += predict_baselines(held_out, seed=config.seed)
    scored = score_masks(predictions)
    if not scored:
        raise DataError(
            f"{paths.split_dialogues('test')}: none of the chosen questions points at a region with a mask. "
            "Masks are scored here; a source without masks cannot be evaluated."
        )
    _publish(scored, predictions, paths=paths, config=config)
    journal.path.unlink()


def predict_all(models: Models, *, held_out: HeldOutSet, journal: Journal, batch_size: int) -> list[Prediction]:
    """The predictions of every pass, in the order of `PASSES`; takes up where the journal ends."""
    sizes = {step: count_questions(held_out.benchmarks[step.benchmark], step.history) for step in PASSES}
    loaded: dict[str, Responds] = {}
    with progress(total=sum(sizes.values()), name="evaluate", unit="answers") as bar:
        for step in PASSES:
            if not sizes[step]:
                continue
            if step.model not in loaded:
                loaded = {step.model: models[step.model]()}  # one model in memory at a time
            for done in predict(step, loaded[step.model], held_out=held_out, journal=journal, batch_size=batch_size):
                bar.update(done)
            log.info(
                "predicted benchmark=%s model=%s history=%s answers=%d",
                step.benchmark,
                step.model,
                step.history,
                sizes[step],
            )
    order = {step: number for number, step in enumerate(PASSES)}
    return sorted(
        journal.predictions.values(),
        key=lambda p: (order[Pass(p.benchmark, p.model, p.history)], p.dialogue_id, p.turn),
    )


def fingerprint(paths: Paths, config: EvaluateConfig) -> dict[str, str]:
    """Hashes of all that decides a prediction: code, weights, data and the choice of questions."""
    package = Path(miras.__file__).parent
    return {
        "code": _hash_of([package / "model", package / "dialogue", package / "evaluate" / "predict.py"], "*.py"),
        "weights": _hash_of([Path(paths.backbones), Path(paths.stage1), Path(paths.stage2)], "*"),
        "data": _hash_of([paths.split_dialogues("test"), paths.checked_regions, paths.picture_table], "*"),
        "choice": config.model_dump_json(include={"max_dialogues", "max_queries", "batch_size", "seed"}),
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


def _publish(
    scored: Sequence[Scored], predictions: Sequence[Prediction], *, paths: Paths, config: EvaluateConfig
) -> None:
    """Writes every output aside, then moves it to its place; the scores come last."""
    scores = scores_document(scored, predictions, rounds=config.bootstrap_rounds, seed=config.seed)
    folder = Path(paths.evaluate)
    folder.mkdir(parents=True, exist_ok=True)
    write_records(paths.predictions, predictions)
    with finished_folder(folder / "galleries") as aside:
        write_galleries(aside, scored, predictions, paths=paths, config=config)
    with finished_folder(folder / "curves") as aside:
        write_curves(aside, scores["tables"], paths=paths)
    write_json(paths.scores, scores)
    log.info("scored predictions=%d masks=%d file=%s", len(predictions), len(scored), paths.scores)


def _trained_models(paths: Paths, held_out: HeldOutSet) -> Models:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures = {
        image_id: StoredPicture(paths.pictures / picture.file_name, picture.height, picture.width)
        for image_id, picture in held_out.pictures.items()
    }

    def load(weights: str) -> Responder:
        return Responder.load(
            Path(paths.backbones),
            Path(weights),
            features=Path(paths.features),
            pictures=pictures,
            device=device,
        )

    return {
        "stage1": lambda: load(paths.stage1),
        "stage2": lambda: load(paths.stage2),
        "no-picture": lambda: load(paths.stage2).without_picture(),
    }
