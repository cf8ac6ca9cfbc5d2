"""What the language model will cost: `miras estimate-cost`. Nothing is asked, and nothing is written.

Prompts are those that the stage would ask. Where an answer is in the cache it is taken, and asking it costs nothing;
where none is, one of typical length stands for it, so that the later prompts are as long as they will be. Repairs are
not foreseen. What a picture will turn out to be (silent, refused) is not known: each is taken for a talkative one.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miras.config import parse_sections, read_yaml
from miras.dialogue.records import Dialogue
from miras.files import count_lines
from miras.generate import stage
from miras.generate.config import GenerateConfig
from miras.generate.polish import Comparison, RewrittenTurn, comparison_prompt, rewrite_prompt
from miras.generate.written.dialogues import dialogue_prompt
from miras.generate.written.elements import ShownPicture, elements_prompt, picture_elements, show
from miras.generate.written.questions import choose_targets, picture_questions, questions_prompt
from miras.generate.written.tree import kept_questions, reasoning_tree, tree_prompt
from miras.generate.written.typical import typical_dialogue, typical_elements, typical_questions, typical_tree
from miras.llm.budget import Amount, Ledger
from miras.llm.config import ModelConfig, ServiceConfig, read_service
from miras.llm.estimating import Estimate, Estimator
from miras.paths import Paths

HEAD = ("step", "prompts", "paid for", "calls", "prompt tokens", "answer tokens", "USD", "USD at most")


@dataclass(frozen=True)
class RunCost:
    """What the stage `generate` will ask for."""

    pictures: int
    looked_at: int
    """Of them; the rest is taken to be like these."""
    steps: dict[str, Estimate]
    """By name of the prompt."""
    spent: Amount
    """So far, on the same cache folder."""
    service: ServiceConfig

    @property
    def cost_usd(self) -> float:
        """Of all steps."""
        return sum(step.cost_usd for step in self.steps.values())


class _Steps:
    """An estimator for each name of a prompt, made when it is needed."""

    def __init__(self, model: ModelConfig, service: ServiceConfig, cache: Path) -> None:
        self._made: defaultdict[str, Estimator] = defaultdict(lambda: Estimator(model, service, cache=cache))

    def __getitem__(self, name: str) -> Estimator:
        return self._made[name]

    def estimates(self, factor: float) -> dict[str, Estimate]:
        return {name: made.estimate().times(factor) for name, made in self._made.items()}


def estimate_run(params: Path, *, cache: Path, most_pictures: int) -> RunCost | None:
    """What the stage `generate` will ask for about the ingested pictures; None where it asks no language model.

    Args:
        params: the parameter file.
        cache: folder of the answers paid for.
        most_pictures: of more, so many are looked at, evenly spread.

    Raises:
        ConfigError: the file is wrong.
        DataError: the pictures have not been ingested.
    """
    values = {name: section for name, section in read_yaml(params).items() if name in ("paths", "generate")}
    parsed = parse_sections(values, {"paths": Paths, "generate": GenerateConfig}, source=str(params))
    paths, generate = parsed["paths"], parsed["generate"]
    if generate.model is None or generate.model.provider == "replay":
        return None
    service = read_service()
    pictures = count_lines(paths.picture_table)
    every = -(-pictures // most_pictures) or 1
    steps, looked_at = _Steps(generate.model, service, cache), set()
    for number, (picture, regions) in enumerate(stage.pictures_with_regions(paths)):
        if number % every:
            continue
        looked_at.add(picture.image_id)
        if generate.teacher == "model" and generate.dialogues_per_picture:
            _look_at(show(picture, regions, folder=paths.pictures, seed=generate.seed), generate, steps)
    if generate.polish:
        _look_at_turns(_dialogues_about(looked_at, paths, generate), steps)
    return RunCost(
        pictures=pictures,
        looked_at=len(looked_at),
        steps=steps.estimates(pictures / max(1, len(looked_at))),
        spent=Ledger(cache).spent() if (cache / Ledger.NAME).exists() else Amount(0, 0.0),
        service=service,
    )


def _look_at(picture: ShownPicture, config: GenerateConfig, steps: _Steps) -> None:
    """All steps about a picture, as far as it is known that they will be asked."""
    prompt = elements_prompt(picture)
    listed = steps[prompt.name].look(prompt, typical=typical_elements(picture))
    if listed is None:
        return
    elements = picture_elements(listed, picture)
    targets = choose_targets(elements, wanted=config.dialogues_per_picture, seed=config.seed)
    if not targets:
        return
    prompt = questions_prompt(picture, elements, targets)
    asked = steps[prompt.name].look(prompt, typical=typical_questions(targets))
    if asked is None:
        return
    questions = picture_questions(asked, elements, most=config.dialogues_per_picture)
    labels = list(kept_questions(elements, questions))
    if not labels:
        return
    fewest, most = config.min_turns - 1, config.max_turns - 1
    prompt = tree_prompt(picture, elements, questions, fewest=fewest, most=most)
    grown = steps[prompt.name].look(prompt, typical=typical_tree(labels, fewest=fewest, most=most))
    if grown is None:
        return
    tree = reasoning_tree(grown, elements, questions)
    for path in tree.paths:
        prompt = dialogue_prompt(picture, elements, tree, path, max_turns=config.max_turns)
        steps[prompt.name].look(prompt, typical=typical_dialogue(path.focus, len(path.nodes) - 1))


def _dialogues_about(image_ids: set[str], paths: Paths, config: GenerateConfig) -> Iterator[Dialogue]:
    """What the annotated teacher writes about these pictures; its tables go nowhere."""
    with tempfile.TemporaryDirectory() as nowhere:
        written = stage.dialogues_from_regions(Path(nowhere), paths, config, Counter())
        yield from (dialogue for dialogue in written if dialogue.image_id in image_ids)


def _look_at_turns(dialogues: Iterable[Dialogue], steps: _Steps) -> None:
    """Both passes of polishing."""
    for dialogue in dialogues:
        if dialogue.kind != "mrseg":
            continue
        for number, turn in enumerate(dialogue.turns):
            if turn.points_at:
                continue
            key = f"{dialogue.dialogue_id}/{number}"
            prompt = rewrite_prompt(key, turn)
            as_it_is = RewrittenTurn(question=turn.question, answer=turn.answer)
            new = steps[prompt.name].look(prompt, typical=as_it_is)
            if new is not None:
                prompt = comparison_prompt(key, turn, new)
                steps[prompt.name].look(prompt, typical=Comparison(difference="none", is_same=True))


def as_text(cost: RunCost) -> str:
    """A table by step with its sum, and what is left of the budget."""
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [_row(name, [step]) for name, step in cost.steps.items()]
    rows.append(_row("sum", list(cost.steps.values())))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    missing = sum(step.impossible for step in cost.steps.values())
    if missing:
        lines.append(f"{missing:,} prompts cannot be asked: their picture is missing or no picture.")
    lines += _notes(cost)
    return "\n".join(lines)


def _row(name: str, steps: list[Estimate]) -> tuple[str, ...]:
    counts = [
        sum(getattr(step, field) for step in steps)
        for field in ("prompts", "cached", "calls", "prompt_tokens", "answer_tokens")
    ]
    money = [sum(step.cost_usd for step in steps), sum(step.most_usd for step in steps)]
    return (name, *(f"{count:,}" for count in counts), *(f"{usd:,.2f}" for usd in money))


def _notes(cost: RunCost) -> list[str]:
    service = cost.service
    notes = [f"{cost.pictures:,} pictures; nothing was asked. Tokens are approximate, repairs are not foreseen."]
    if cost.looked_at < cost.pictures:
        notes.append(f"Looked at {cost.looked_at:,} of them, evenly spread; the rest is taken to be like these.")
    if not service.usd_per_million_prompt_tokens and not service.usd_per_million_answer_tokens:
        notes.append("No prices: set usd_per_million_prompt_tokens and usd_per_million_answer_tokens.")
    notes.append(f"Spent so far: {cost.spent.usd:,.2f} USD, {cost.spent.tokens:,} tokens.")
    if service.budget_usd is not None:
        left = service.budget_usd - cost.spent.usd
        verdict = "enough" if cost.cost_usd <= left else "not enough; raise budget_usd"
        notes.append(f"Left of the budget: {left:,.2f} of {service.budget_usd:,.2f} USD: {verdict}.")
    if service.budget_tokens is not None:
        left_tokens = service.budget_tokens - cost.spent.tokens
        needed = sum(step.prompt_tokens + step.answer_tokens for step in cost.steps.values())
        verdict = "enough" if needed <= left_tokens else "not enough; raise budget_tokens"
        notes.append(f"Left of the budget: {left_tokens:,} of {service.budget_tokens:,} tokens: {verdict}.")
    return notes
