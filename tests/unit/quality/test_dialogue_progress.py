"""Progress: the focus is named before the request, later turns take up earlier ones; unrelated turns do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.dialogue.records import Dialogue, Rejected, Turn
from miras.quality.content_words import content_stems
from miras.quality.dialogue_progress import Progress, progress_of
from miras.sources.prist import read_prist

REQUEST = Turn(question="Please segment it.", answer="{target}.", targets=("r",))
MUG = Turn(question="What stands there?", answer="A red mug.")
HANDLE = Turn(question="Where does one hold the mug?", answer="At its handle.")
WEATHER = Turn(question="Will it rain tomorrow?", answer="Probably.")


def progress(*turns: Turn, focus: str = "handle of the red mug") -> Progress:
    dialogue = Dialogue(dialogue_id="d", image_id="p", kind="prist", focus=focus, turns=(*turns, REQUEST))
    return progress_of(dialogue, {"r": "handle of the red mug"})


def test_a_dialogue_that_leads_to_its_focus_names_all_of_it() -> None:
    assert progress(MUG, HANDLE) == Progress(focus_named=1.0, turns_linked=1.0)


def test_words_of_the_request_do_not_count() -> None:
    assert progress(MUG, WEATHER).focus_named == pytest.approx(2 / 3)  # red, mug; not the handle of the last answer


def test_a_turn_about_something_else_is_not_linked() -> None:
    assert progress(MUG, WEATHER, HANDLE).turns_linked == 0.5


@pytest.mark.parametrize(("turns", "focus"), [((MUG,), "mug"), ((), "mug")])
def test_with_one_turn_or_none_there_is_nothing_to_link(turns: tuple[Turn, ...], focus: str) -> None:
    assert progress(*turns, focus=focus).turns_linked is None


def test_a_focus_without_content_words_is_not_measured() -> None:
    assert progress(MUG, focus="the other one").focus_named is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("labels", "label"), ("batteries", "battery"), ("glasses", "glass"), ("player’s", "player"), ("Holding", "hold"),
     ("stopped", "stop"), ("bottles", "bottle")],
)  # fmt: skip
def test_forms_of_a_word_have_one_stem(one: str, other: str) -> None:
    assert content_stems(one) == content_stems(other)


def test_published_dialogues_pass_and_the_same_dialogues_with_turns_of_others_do_not(shared_data: Path) -> None:
    read = [item for item in read_prist(shared_data / "prist" / "test.json") if not isinstance(item, Rejected)]
    dialogues = [item.dialogue for item in read]

    def passed(some: list[Dialogue]) -> float:
        phrases = {item.region.region_id: item.region.phrase for item in read}
        found = [progress_of(dialogue, phrases) for dialogue in some]
        return sum((item.focus_named or 0) >= 0.6 and (item.turns_linked or 0) >= 0.75 for item in found) / len(some)

    half = len(dialogues) // 2
    mixed = [
        one.model_copy(update={"turns": (one.turns[0], *other.turns[1:-1], one.turns[-1])})
        for one, other in zip(dialogues, dialogues[half:] + dialogues[:half], strict=True)
    ]
    assert passed(dialogues) > 0.96
    assert passed(mixed) < 0.3
