"""What asking will cost: the same prompts as the run, answers that are there for nothing, sums that the user sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from miras.dialogue.records import Region
from miras.errors import ConfigError, DataError
from miras.files import write_records
from miras.generate.config import GenerateConfig
from miras.generate.written import cost
from miras.generate.written.cost import RunCost, as_text, estimate_run
from miras.generate.written.elements import picture_elements, show
from miras.generate.written.typical import typical_elements
from miras.generate.written.writing import PictureAndRegions
from miras.llm.asking import open_model
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.estimating import prompt_tokens
from miras.llm.records import Prompt
from miras.llm.wire import make_request
from miras.paths import Paths
from tests.llm_server import LlmServer, question
from tests.unit.generate.conftest import CONFIG
from tests.unit.generate.written.conftest import ScriptedModel, Texts, picture_of

MODEL = ModelConfig(
    provider="openai",
    model="scripted",
    temperature=0.0,
    seed=1,
    max_answer_tokens=800,
    max_repairs=0,
    schema_support="json_schema",
)
SERVICE = ServiceConfig(usd_per_million_prompt_tokens=1000.0, usd_per_million_answer_tokens=5000.0)

Estimated = Callable[..., RunCost]


@pytest.fixture
def estimated(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estimated:
    """The estimate for settings and what is in `cache`."""

    def run(*, most_pictures: int = 1000, service: ServiceConfig = SERVICE, **changes: Any) -> RunCost:
        config = GenerateConfig(**(dict(CONFIG) | {"teacher": "model", "model": MODEL} | changes))
        write_params(tmp_path / "params.yaml", paths, config)
        monkeypatch.setattr(cost, "read_service", lambda: service)
        found = estimate_run(tmp_path / "params.yaml", cache=tmp_path / "cache", most_pictures=most_pictures)
        assert found is not None
        return found

    return run


def write_params(path: Path, paths: Paths, config: GenerateConfig) -> None:
    with path.open("w") as file:
        YAML().dump({"paths": paths.model_dump(), "generate": config.model_dump(), "other": {"a": 1}}, file)


def prompts(found: RunCost) -> dict[str, int]:
    return {name: step.prompts for name, step in found.steps.items()}


def test_before_the_first_call_all_steps_are_foreseen(estimated: Estimated, tmp_path: Path) -> None:
    found = estimated()
    assert prompts(found) == {"prist/elements": 3, "prist/questions": 3, "prist/tree": 3, "prist/dialogue": 9}
    assert all(step.calls == step.prompts for step in found.steps.values())
    assert 0 < found.cost_usd < sum(step.most_usd for step in found.steps.values())
    assert not (tmp_path / "cache").exists()
    assert prompts(estimated(dialogues_per_picture=1))["prist/dialogue"] == 3
    assert prompts(estimated(dialogues_per_picture=0)) == {}


def test_typical_answers_pass_the_checks_of_their_prompts(
    estimated: Estimated, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    look = cost.Estimator.look

    def checked(self: Any, prompt: Prompt, *, typical: Any) -> Any:
        if prompt.check is not None:
            prompt.check(typical)
        seen.append(prompt.name)
        return look(self, prompt, typical=typical)

    monkeypatch.setattr(cost.Estimator, "look", checked)
    for dialogues, least, most in ((3, 3, 7), (4, 3, 4), (4, 5, 5), (2, 2, 2), (1, 4, 12)):
        estimated(dialogues_per_picture=dialogues, min_turns=least, max_turns=most)
    estimated(polish=True, mrseg_per_picture=2)
    assert len(set(seen)) == 6


def test_answers_that_are_there_cost_nothing_and_the_rest_is_asked_as_foreseen(
    estimated: Estimated, texts: Texts, write: Callable[..., Any], tmp_path: Path
) -> None:
    script = ScriptedModel(texts)
    write(script)
    by_text = {prompt.text: texts[prompt.name, prompt.key] for prompt in script.prompts}
    with LlmServer(lambda request: by_text[question(request)]) as server:
        service = ServiceConfig(base_url=server.url, api_key_variable="")
        some = [prompt for prompt in script.prompts if prompt.name in ("prist/elements", "prist/questions")]
        list(open_model(MODEL, service, cache=tmp_path / "cache").ask(some))
        found = estimated()
        assert {name: step.cached for name, step in found.steps.items()} == {
            "prist/elements": 3,
            "prist/questions": 3,
            "prist/tree": 0,
            "prist/dialogue": 0,
        }
        assert prompts(found)["prist/dialogue"] == 8, "the questions that are there were not all worth keeping"
        list(open_model(MODEL, service, cache=tmp_path / "cache").ask(script.prompts))
        assert estimated().cost_usd == 0
        attempts = server.attempts
    assert attempts == len(script.prompts)
    assert estimated().spent.tokens > 0


def test_foreseen_tokens_are_near_those_of_the_real_prompts(
    estimated: Estimated, texts: Texts, write: Callable[..., Any]
) -> None:
    script = ScriptedModel(texts)
    write(script)
    for name, step in estimated().steps.items():
        real = [prompt for prompt in script.prompts if prompt.name == name]
        requests = [make_request(prompt, MODEL, max_answer_tokens=800) for prompt in real]
        each = sum(prompt_tokens(request) for request in requests) / len(real)
        assert step.prompt_tokens / step.prompts == pytest.approx(each, rel=0.25)


def test_of_many_pictures_some_are_looked_at(
    estimated: Estimated, paths: Paths, scenes: tuple[PictureAndRegions, ...]
) -> None:
    picture = scenes[0][0]
    write_records(paths.picture_table, [picture.model_copy(update={"image_id": f"p{n:03d}"}) for n in range(100)])
    write_records(paths.region_table, list[Region]())
    whole, part = estimated(), estimated(most_pictures=30)
    assert (part.looked_at, part.pictures) == (25, 100)
    assert prompts(part) == prompts(whole)
    assert part.cost_usd == pytest.approx(whole.cost_usd, rel=0.01)
    assert "Looked at 25 of them" in as_text(part)
    assert "Looked at" not in as_text(whole)


def test_polishing_is_foreseen_in_both_passes(estimated: Estimated) -> None:
    found = prompts(estimated(teacher="annotated", polish=True, mrseg_per_picture=2))
    assert set(found) == {"mrseg/polish", "mrseg/same_meaning"}
    assert found["mrseg/polish"] == found["mrseg/same_meaning"] > 6


def test_the_text_has_the_sum_and_what_is_left_of_the_budget(estimated: Estimated) -> None:
    rich = estimated(service=SERVICE.model_copy(update={"budget_usd": 1000.0, "budget_tokens": 10}))
    text = as_text(rich)
    assert text.splitlines()[0].split() == " ".join(cost.HEAD).split()
    assert [line.split()[0] for line in text.splitlines()[1:6]] == [*rich.steps, "sum"]
    assert f"{rich.cost_usd:,.2f}" in text.splitlines()[5]
    assert "Left of the budget: 1,000.00 of 1,000.00 USD: enough." in text
    assert "Left of the budget: 10 of 10 tokens: not enough; raise budget_tokens." in text
    assert "No prices" in as_text(estimated(service=ServiceConfig()))


def test_a_missing_picture_is_told(estimated: Estimated, paths: Paths) -> None:
    write_records(paths.picture_table, [picture_of("gone")])
    write_records(paths.region_table, list[Region]())
    found = estimated()
    assert {name: step.impossible for name, step in found.steps.items()} == {"prist/elements": 1}
    assert "1 prompts cannot be asked" in as_text(found)


def test_nothing_to_ask_and_mistakes_of_the_user(paths: Paths, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    write_params(params, paths, CONFIG)
    assert estimate_run(params, cache=tmp_path, most_pictures=10) is None
    params.write_text("paths: {}")
    with pytest.raises(ConfigError, match="generate: this section is missing"):
        estimate_run(params, cache=tmp_path, most_pictures=10)
    config = CONFIG.model_copy(update={"teacher": "model", "model": MODEL})
    write_params(params, paths.model_copy(update={"ingest": str(tmp_path / "nowhere")}), config)
    with pytest.raises(DataError, match="run the stage that makes it"):
        estimate_run(params, cache=tmp_path, most_pictures=10)


def test_typical_elements_take_outlined_regions_first(scenes: tuple[PictureAndRegions, ...], tmp_path: Path) -> None:
    picture, regions = scenes[0]
    shown = show(picture, regions, folder=tmp_path, seed=0)
    typical = typical_elements(shown)
    assert [element.region for element in typical.elements][:2] == ["r1", "r2"]
    assert len(picture_elements(typical, shown).elements) == len(typical.elements)
