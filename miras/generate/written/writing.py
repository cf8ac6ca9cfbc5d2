"""The written recipe over a stream of pictures: four requests deep, in the order of the pictures, in flat memory.

One stream of prompts goes to the language model: as soon as an answer is there, the prompt of its picture's next step
joins the stream, ahead of new pictures. So a picture waits for its own answers only, and no more pictures are held than
the model reads ahead.

Writes into a folder: elements.jsonl (`PictureElements`), questions.jsonl (`PictureQuestions`), trees.jsonl
(`ReasoningTree`), dialogues.jsonl (`Dialogue`), regions.jsonl (`Region` without mask, for people to outline),
answers.jsonl (`RawAnswer`: what the model wrote for each of these records), unanswered.jsonl (`UnansweredRequest`) and
silent.jsonl (`SilentPicture`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, get_args

from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import MirasError
from miras.generate.config import GenerateConfig
from miras.generate.elements import PictureElements
from miras.generate.tree import ReasoningTree
from miras.generate.written.dialogues import WrittenDialogue, dialogue_prompt, written_dialogue
from miras.generate.written.elements import ShownPicture, VisibleElements, elements_prompt, picture_elements, show
from miras.generate.written.questions import AskedQuestions, choose_targets, picture_questions, questions_prompt
from miras.generate.written.records import (
    PictureQuestions,
    RawAnswer,
    SilentPicture,
    Step,
    UnansweredRequest,
    advice,
)
from miras.generate.written.tree import ReasoningSteps, reasoning_tree, tree_prompt
from miras.llm.records import Answered, Prompt, Unanswered, WhyUnanswered
from miras.sources.pictures import printable

if TYPE_CHECKING:  # it brings the client of the service along
    from miras.llm.asking import LanguageModel

TABLES = ("elements", "questions", "trees", "dialogues", "regions", "answers", "unanswered", "silent")

PictureAndRegions = tuple[Picture, tuple[Region, ...]]


@dataclass(frozen=True)
class Counts:
    """What became of the pictures; `pictures` is the sum of those with dialogues, silent and unanswered ones."""

    pictures: int
    with_dialogues: int
    silent: dict[str, int]
    """Reason -> pictures."""
    unanswered: dict[str, int]
    """"step: cause" -> pictures that have no dialogue for want of an answer."""
    dialogues: int
    unanswered_requests: dict[str, int]
    """"step: cause" -> requests; also single dialogues of pictures that have others."""
    new_regions: int
    """Targets that people have to outline."""
    answers: int
    answers_from_cache: int
    repairs: int


@dataclass
class _Job:
    """A picture on its way."""

    picture: ShownPicture
    elements: PictureElements | None = None
    questions: PictureQuestions | None = None
    tree: ReasoningTree | None = None
    dialogues: dict[int, Dialogue] = field(default_factory=dict)
    raw: dict[tuple[Step, int], RawAnswer] = field(default_factory=dict)
    unanswered: dict[int, UnansweredRequest] = field(default_factory=dict)
    """By path; 0 in the steps before the paths."""
    silent: SilentPicture | None = None
    open_paths: int = 0
    is_done: bool = False

    def close_path(self) -> None:
        """One of the paths has its dialogue, or has none for good."""
        self.open_paths -= 1
        self.is_done = self.open_paths == 0

    def new_regions(self) -> list[Region]:
        """Targets that have not been outlined yet, in the order of their dialogues."""
        outlined = {region.element.region_id for region in self.picture.regions}
        elements = self.elements.elements if self.elements is not None else ()
        names = {element.region_id: element.name for element in elements}
        targets = {self.dialogues[path].turns[-1].targets[0]: self.dialogues[path] for path in sorted(self.dialogues)}
        return [
            Region(
                region_id=target, image_id=dialogue.image_id, phrase=dialogue.focus, mask=None, category=names[target]
            )
            for target, dialogue in targets.items()
            if target not in outlined
        ]

    def records(self) -> Iterator[tuple[str, BaseModel]]:
        """Everything there is to write, with its table."""
        steps = {"elements": self.elements, "questions": self.questions, "trees": self.tree, "silent": self.silent}
        yield from ((table, record) for table, record in steps.items() if record is not None)
        yield from (("dialogues", self.dialogues[path]) for path in sorted(self.dialogues))
        yield from (("regions", region) for region in self.new_regions())
        yield from (("answers", answer) for _, answer in sorted(self.raw.items(), key=_by_step))
        yield from (("unanswered", self.unanswered[path]) for path in sorted(self.unanswered))


def _by_step(item: tuple[tuple[Step, int], RawAnswer]) -> tuple[int, int]:
    (step, path), _ = item
    return get_args(Step).index(step), path


@dataclass(frozen=True)
class _Request:
    """A prompt, and what its answer is for."""

    job: _Job
    step: Step
    prompt: Prompt
    path: int = 0


def write_dialogues(
    pictures: Iterable[PictureAndRegions],
    *,
    model: LanguageModel,
    model_name: str,
    config: GenerateConfig,
    folder: Path,
    into: Path,
) -> Counts:
    """Writes the dialogues about all pictures and everything that led to them; see the module for the files.

    The files follow from the answers alone: a second run with the same answers gives the same bytes, whether they
    come from the cache or not.

    Args:
        pictures: each with all of its regions; read as far ahead as the model asks.
        model: answers the prompts.
        model_name: stored beside each raw answer.
        config: `dialogues_per_picture` (0 asks nothing), `min_turns`, `max_turns`, `seed`.
        folder: of the picture files.
        into: an open folder for the files, which must not be there.

    Raises:
        MirasError: of the model, such as a spent budget or a service that is away; its cache keeps what was answered,
            and the same call goes on from there. The tables of what was not answered and of silent pictures then hold
            all that is known.
    """
    with ExitStack() as files:
        tables = {name: files.enter_context((into / f"{name}.jsonl").open("x", encoding="utf-8")) for name in TABLES}
        run = _Run(model_name=model_name, config=config, folder=folder, tables=tables)
        try:
            run.ask_about(pictures, model)
        except MirasError:
            run.write_what_came_to_nothing()
            raise
        return run.counts()


class _Run:
    """The state between prompts and answers."""

    def __init__(self, *, model_name: str, config: GenerateConfig, folder: Path, tables: Mapping[str, TextIO]) -> None:
        self._model_name = model_name
        self._config = config
        self._folder = folder
        self._tables = tables
        self._waiting: deque[_Request] = deque()  # next steps of pictures on their way
        self._asked: deque[_Request] = deque()  # in the order of the answers to come
        self._jobs: deque[_Job] = deque()  # in the order of the pictures, until they are written
        self._tally: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
        self._unanswered_requests: Counter[str] = Counter()
        self._steps: dict[Step, Callable[[_Request, Answered], None]] = {
            "elements": self._on_elements,
            "questions": self._on_questions,
            "tree": self._on_tree,
            "dialogue": self._on_dialogue,
        }

    def ask_about(self, pictures: Iterable[PictureAndRegions], model: LanguageModel) -> None:
        """Asks until nothing is left to ask.

        The stream ends whenever all that is known has been asked; the answers that were still to come then start the
        next one.
        """
        rest = iter(pictures)
        while True:
            for answer in model.ask(self._prompts(rest)):
                self._take(self._asked.popleft(), answer)
            assert not self._asked, "a language model answers every prompt"
            if not self._waiting:
                break
        self._write_finished()
        assert not self._jobs, "every picture comes to an end"

    def _prompts(self, rest: Iterator[PictureAndRegions]) -> Iterator[Prompt]:
        """Prompts of pictures on their way first, so that few pictures are on their way."""
        while True:
            if not self._waiting:
                item = next(rest, None)
                if item is None:
                    return
                self._begin(*item)
                self._write_finished()
                continue
            request = self._waiting.popleft()
            self._asked.append(request)
            yield request.prompt

    def _begin(self, picture: Picture, regions: tuple[Region, ...]) -> None:
        job = _Job(show(picture, regions, folder=self._folder, seed=self._config.seed))
        self._tally["pictures"] += 1
        self._jobs.append(job)
        if self._config.dialogues_per_picture == 0:
            self._fall_silent(job, "generate.dialogues_per_picture is 0")
        else:
            self._waiting.append(_Request(job, "elements", elements_prompt(job.picture)))

    def _take(self, request: _Request, answer: Answered | Unanswered) -> None:
        """The answer to a request: on to the next step, or to the end of the picture."""
        assert answer.prompt.key == request.prompt.key, "answers come in the order of the prompts"
        if isinstance(answer, Unanswered):
            self._fail(request, cause=answer.reason, detail=answer.detail, raw=answer.raw)
        else:
            self._tally["answers"] += 1
            self._tally["answers from cache"] += answer.is_cached
            self._tally["repairs"] += answer.repairs
            request.job.raw[request.step, request.path] = RawAnswer(
                step=request.step,
                key=request.prompt.key,
                prompt=request.prompt.name,
                model=self._model_name,
                raw=printable(answer.raw),
                repairs=answer.repairs,
            )
            self._steps[request.step](request, answer)
        self._write_finished()

    # --- the steps

    def _on_elements(self, request: _Request, answer: Answered) -> None:
        job = request.job
        assert isinstance(answer.value, VisibleElements)
        job.elements = picture_elements(answer.value, job.picture)
        targets = choose_targets(job.elements, wanted=self._config.dialogues_per_picture, seed=self._config.seed)
        if not targets:
            self._fall_silent(job, "fewer than two elements are visible")
            return
        self._waiting.append(_Request(job, "questions", questions_prompt(job.picture, job.elements, targets)))

    def _on_questions(self, request: _Request, answer: Answered) -> None:
        job = request.job
        assert job.elements is not None
        assert isinstance(answer.value, AskedQuestions)
        most = self._config.dialogues_per_picture
        job.questions = picture_questions(answer.value, job.elements, most=most)
        if not any(question.is_kept for question in job.questions.questions):
            self._fall_silent(job, "no question takes any reasoning")
            return
        prompt = tree_prompt(
            job.picture,
            job.elements,
            job.questions,
            fewest=self._config.min_turns - 1,
            most=self._config.max_turns - 1,
        )
        self._waiting.append(_Request(job, "tree", prompt))

    def _on_tree(self, request: _Request, answer: Answered) -> None:
        job = request.job
        assert job.elements is not None
        assert job.questions is not None
        assert isinstance(answer.value, ReasoningSteps)
        job.tree = reasoning_tree(answer.value, job.elements, job.questions)
        job.open_paths = len(job.tree.paths)
        for path in job.tree.paths:
            prompt = dialogue_prompt(job.picture, job.elements, job.tree, path, max_turns=self._config.max_turns)
            self._waiting.append(_Request(job, "dialogue", prompt, path.path))

    def _on_dialogue(self, request: _Request, answer: Answered) -> None:
        job = request.job
        assert job.tree is not None
        assert isinstance(answer.value, WrittenDialogue)
        path = job.tree.paths[request.path]
        job.dialogues[request.path] = written_dialogue(
            answer.value, path, image_id=job.picture.image_id, seed=self._config.seed
        )
        job.close_path()

    # --- the ends

    def _fall_silent(self, job: _Job, reason: str) -> None:
        job.silent = SilentPicture(where=printable(job.picture.image_id), reason=reason)
        job.is_done = True

    def _fail(self, request: _Request, *, cause: WhyUnanswered, detail: str, raw: tuple[str, ...]) -> None:
        job = request.job
        job.unanswered[request.path] = UnansweredRequest(
            where=printable(f"{request.prompt.key}: {request.prompt.name}"),
            reason=printable(f"{cause}: {detail}; {advice(cause)}"),
            image_id=job.picture.image_id,
            step=request.step,
            key=request.prompt.key,
            cause=cause,
            raw=tuple(printable(text) for text in raw),
        )
        if request.step == "dialogue":
            job.close_path()
        else:
            job.is_done = True

    def _write_finished(self) -> None:
        """Writes the pictures that are done, up to the first that is not."""
        while self._jobs and self._jobs[0].is_done:
            job = self._jobs.popleft()
            for name, record in job.records():
                self._tables[name].write(record.model_dump_json() + "\n")
            self._count(job)

    def write_what_came_to_nothing(self) -> None:
        """Of the pictures that are still on their way, because the run ends here."""
        for job in self._jobs:
            for name, record in job.records():
                if name in ("unanswered", "silent"):
                    self._tables[name].write(record.model_dump_json() + "\n")

    def _count(self, job: _Job) -> None:
        failures = [f"{failure.step}: {failure.cause}" for _, failure in sorted(job.unanswered.items())]
        self._unanswered_requests.update(failures)
        self._tally["dialogues"] += len(job.dialogues)
        self._tally["new regions"] += len(job.new_regions())
        if job.dialogues:
            self._tally["with dialogues"] += 1
        elif job.silent is not None:
            self._silent[job.silent.reason] += 1
        else:
            self._unanswered[failures[0]] += 1

    def counts(self) -> Counts:
        """What became of the pictures, once all of them are done."""
        return Counts(
            pictures=self._tally["pictures"],
            with_dialogues=self._tally["with dialogues"],
            silent=dict(sorted(self._silent.items())),
            unanswered=dict(sorted(self._unanswered.items())),
            dialogues=self._tally["dialogues"],
            unanswered_requests=dict(sorted(self._unanswered_requests.items())),
            new_regions=self._tally["new regions"],
            answers=self._tally["answers"],
            answers_from_cache=self._tally["answers from cache"],
            repairs=self._tally["repairs"],
        )
