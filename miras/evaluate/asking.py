"""Who is asked what: the passes of an evaluation, shared out over processes.

A process alone: `python -m miras.evaluate.asking plan.json 0 2` answers every second group of dialogues of the plan.
Each process computes on one thread unless the launch profile says otherwise: the same bits whatever their number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from miras.dialogue.records import Dialogue, Frozen
from miras.evaluate.benchmarks import QUERY_KINDS, TOLD_KINDS, BenchmarkSet, own_benchmarks
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.models import Model, ServedModel, stored_pictures
from miras.evaluate.predict import (
    Journal,
    Pass,
    Responds,
    collect,
    count_questions,
    groups,
    predict,
    read_finished,
    reopened,
)
from miras.evaluate.public_sets import public_benchmark
from miras.evaluate.records import BLIND, History, Prediction
from miras.evaluate.templates import reworded
from miras.launch.job import JobSpec, refuse_job_elsewhere, run_job
from miras.launch.process import share_main, something_is_kept
from miras.launch.profiles import Launch, open_place
from miras.model.devices import cpu_threads
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.progress import progress

log = logging.getLogger(__name__)

# Model name -> opens it. Called once, when its first group is answered.
Openers = Mapping[str, Callable[[], Responds]]


class AskingPlan(Frozen):
    """All that a process needs to do its share."""

    paths: Paths
    """Of the data set."""
    config: EvaluateConfig
    public: str
    """Which of `config.benchmarks`; empty: the data set's own test split."""
    models: dict[str, Model]
    passes: tuple[Pass, ...]

    def data(self) -> BenchmarkSet:
        """The benchmarks, with the questions in other wordings."""
        found = public_benchmark(self.public, self.paths) if self.public else own_benchmarks(self.paths, self.config)
        return with_templates(found, self.config)

    def openers(self, data: BenchmarkSet) -> Openers:
        """How each model is opened over this data set."""
        pictures = stored_pictures(data.pictures, self.paths.pictures)

        def opener(model: Model) -> Callable[[], Responds]:
            return lambda: model.open(self.paths.features, pictures)

        return {name: opener(model) for name, model in self.models.items()}


def with_templates(data: BenchmarkSet, config: EvaluateConfig) -> BenchmarkSet:
    """The benchmarks of single questions once more in the wording of each family, as `<name>-<family>`."""
    found: dict[str, tuple[Dialogue, ...]] = dict(data.benchmarks)
    for name, dialogues in data.benchmarks.items():
        if dialogues and all(d.kind in QUERY_KINDS and len(d.turns) == 1 for d in dialogues):
            found |= {f"{name}-{family}": tuple(reworded(dialogues, family)) for family in config.templates}
    return BenchmarkSet(found, data.regions, data.pictures)


def passes(data: BenchmarkSet, models: Iterable[str], config: EvaluateConfig) -> tuple[Pass, ...]:
    """Which model is asked which benchmark with which history, model by model.

    What needs the second stage's training (rounds, the hard split) and the other wordings are asked of the final model
    alone; without picture only the headline's histories are.
    """
    wordings = tuple(f"-{family}" for family in config.templates)
    found = []
    for model in models:
        for name, dialogues in data.benchmarks.items():
            kinds = {dialogue.kind for dialogue in dialogues}
            is_single = all(len(dialogue.turns) == 1 for dialogue in dialogues)
            histories: tuple[History, ...] = ("none",)
            if not is_single:
                histories = ("own", "reference", "none") if kinds & set(TOLD_KINDS) else ("own", "reference")
            if model == BLIND:
                histories = histories[:1]
            is_late = name.endswith(wordings) if wordings else False
            is_late = is_late or not kinds & {*TOLD_KINDS, *QUERY_KINDS}
            if dialogues and (not is_late or model not in ("stage1", BLIND)):
                found += [Pass(benchmark=name, model=model, history=history) for history in histories]
    return tuple(found)


def predict_all(
    plan: AskingPlan,
    data: BenchmarkSet,
    *,
    openers: Openers,
    launch: Launch | None,
    fingerprint: Mapping[str, str],
    work: Path,
) -> list[Prediction]:
    """The predictions of every pass, in their order; takes up where an earlier run ended.

    Without a launch profile they are made in this process.
    """
    total = sum(count_questions(data.benchmarks[step.benchmark], step.history) for step in plan.passes)
    folder = work / "predictions"
    processes = launch.number_of_shares() if launch else 1
    threads = launch.threads if launch and launch.threads else 1
    with progress(total=total, name="evaluate", unit="answers") as bar:
        if launch is None or (launch.place == "local" and processes == 1):
            refuse_job_elsewhere(work, here="local")
            finished = collect(folder, fingerprint=fingerprint)
            with cpu_threads(threads):
                for done in answer_share(plan, data, openers, Journal(folder / "0.jsonl", finished)):
                    bar.update(done)
        else:
            request = work / "asking.json"
            request.write_text(plan.model_dump_json(), "utf-8")

            def watch() -> None:
                bar.update(sum(map(_count_lines, folder.glob("*.jsonl"))) - bar.n)

            reads = _places(plan)
            spec = JobSpec("evaluate", "miras.evaluate.asking", request, "shares", processes, threads, reads)
            # Not while processes of a job that is followed still write there.
            run_job(
                spec,
                open_place(launch),
                prepare=lambda: collect(folder, fingerprint=fingerprint),
                watch=watch,
            )
    order = {step: number for number, step in enumerate(plan.passes)}
    return sorted(
        collect(folder, fingerprint=fingerprint).values(),
        key=lambda p: (order[Pass(benchmark=p.benchmark, model=p.model, history=p.history)], p.dialogue_id, p.turn),
    )


def _places(plan: AskingPlan) -> tuple[Path, ...]:
    """What a process reads: the data set and the models."""
    paths = plan.paths
    data = [paths.ingest, paths.check, paths.split, paths.features, *([paths.evaluate] if plan.public else [])]
    models = [place for model in plan.models.values() for place in model.folders]
    trained = (model for model in plan.models.values() if not isinstance(model, ServedModel))
    weights = [place for model in trained for place in Backbones(Path(model.backbones)).places()]
    return tuple(dict.fromkeys([*map(Path, [*data, *models]), *weights]))


def answer_share(
    plan: AskingPlan, data: BenchmarkSet, openers: Openers, journal: Journal, *, share: int = 0, processes: int = 1
) -> Iterator[int]:
    """Answers the groups of one process, one model in memory at a time; yields how many questions were finished."""
    opened: dict[str, Responds] = {}
    for number, (step, group) in enumerate(_groups(plan, data)):
        if number % processes != share:
            continue
        if step.model not in opened:
            opened = {step.model: openers[step.model]()}
        yield from predict(step, opened[step.model], group, data=data, journal=journal)


def _groups(plan: AskingPlan, data: BenchmarkSet) -> Iterator[tuple[Pass, Sequence[Dialogue]]]:
    for step in plan.passes:
        for group in groups(data.benchmarks[step.benchmark], size=plan.config.batch_size):
            yield step, group


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def make_share(request: Path, share: int, processes: int) -> None:
    """Answers one process's share of a stored plan."""
    plan = AskingPlan.model_validate_json(request.read_text("utf-8"))
    data = plan.data()
    if torch.cuda.is_available():
        torch.cuda.set_device(share % torch.cuda.device_count())
    folder = request.with_name("predictions")
    journal = reopened(folder / f"{share}.jsonl", read_finished(folder))
    for _ in answer_share(plan, data, plan.openers(data), journal, share=share, processes=processes):
        something_is_kept()


if __name__ == "__main__":
    share_main(make_share)
