"""Three rendered scenes, and a language model that answers from texts we have written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue.records import Picture, Region
from miras.files import write_records
from miras.generate.written.writing import Counts, PictureAndRegions, write_dialogues
from miras.llm.mending import Faulty, read_answer
from miras.llm.records import Answered, Outcome, Prompt, Unanswered, Usage
from miras.paths import Paths
from miras.sources.scenes import read
from tests.unit.generate.conftest import CONFIG, with_phrases

ANSWERS = Path(__file__).with_name("answers.json")
NOTHING = Usage(prompt_tokens=0, answer_tokens=0, cost_usd=0.0)
SIZE_PX = 256

Texts = dict[tuple[str, str], str]


class ScriptedModel:
    """Answers each prompt from a script, reading `window` prompts ahead; what it cannot read is not repaired."""

    def __init__(
        self, script: Callable[[Prompt], str | None] | Mapping[tuple[str, str], str], *, window: int = 4
    ) -> None:
        self._script = script if callable(script) else lambda prompt: script.get((prompt.name, prompt.key))
        self._window = window
        self.prompts: list[Prompt] = []
        """Everything that was asked, in order."""
        self.is_cached = False

    def ask(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        rest = iter(prompts)
        ahead = list(islice(rest, self._window))
        while ahead:
            yield self._answer(ahead.pop(0))
            ahead += islice(rest, self._window - len(ahead))

    def _answer(self, prompt: Prompt) -> Outcome:
        self.prompts.append(prompt)
        text = self._script(prompt)
        if text is None:
            return Unanswered(prompt, "failed", "nothing was recorded", (), 0)
        value = read_answer(prompt, text)
        if isinstance(value, Faulty):
            return Unanswered(prompt, value.reason, value.message, (text,), int(self.is_cached))
        return Answered(prompt, value, text, NOTHING, int(not self.is_cached), int(self.is_cached))


@pytest.fixture(scope="session")
def recorded() -> dict[str, dict[str, Any]]:
    """Prompt name -> key -> answer as JSON value."""
    loaded: dict[str, dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))
    return loaded


@pytest.fixture
def texts(recorded: dict[str, dict[str, Any]]) -> Texts:
    """(prompt name, key) -> answer as text; a test may change it."""
    return {(name, key): json.dumps(value) for name, answers in recorded.items() for key, value in answers.items()}


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for scene in read(count=3, size_px=SIZE_PX, seed=21):
        scene.pixels.save(folder / f"{scene.image_id}.png")
    return folder


@pytest.fixture(scope="session")
def scenes() -> tuple[PictureAndRegions, ...]:
    """Three pictures with their regions."""
    return tuple(
        (picture_of(scene.image_id), tuple(with_phrases(list(scene.regions))))
        for scene in read(count=3, size_px=SIZE_PX, seed=21)
    )


@pytest.fixture
def paths(scenes: tuple[PictureAndRegions, ...], pictures_folder: Path, tmp_path: Path) -> Paths:
    """The scenes as the stage `ingest` leaves them."""
    found = Paths(**{name: str(tmp_path / name) for name in Paths.model_fields})
    write_records(found.picture_table, [picture for picture, _ in scenes])
    write_records(found.region_table, [region for _, regions in scenes for region in regions])
    write_records(found.source_dialogues, [])
    found.pictures.symlink_to(pictures_folder)
    return found


def picture_of(image_id: str) -> Picture:
    return Picture(image_id=image_id, file_name=f"{image_id}.png", height=SIZE_PX, width=SIZE_PX, sha256="0")


@pytest.fixture
def write(pictures_folder: Path, scenes: tuple[PictureAndRegions, ...], tmp_path: Path) -> Callable[..., Counts]:
    """Runs the recipe on the scenes, or on other pictures, into a folder of `tmp_path`."""

    def run(
        model: ScriptedModel,
        *,
        name: str = "out",
        pictures: Iterable[tuple[Picture, tuple[Region, ...]]] = scenes,
        **changes: Any,
    ) -> Counts:
        into = tmp_path / name
        into.mkdir()
        config = CONFIG.model_copy(update=changes)
        return write_dialogues(
            pictures, model=model, model_name="scripted", config=config, folder=pictures_folder, into=into
        )

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def assert_adds_up(counts: Counts) -> None:
    """in = out + silent + unanswered."""
    assert counts.pictures == counts.with_dialogues + sum(counts.silent.values()) + sum(counts.unanswered.values())
