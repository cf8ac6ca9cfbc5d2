"""Polishing keeps what a turn means: two passes of a recorded model, and checks that refuse what got lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from miras.dialogue.records import Dialogue, Turn
from miras.generate.polish import RewrittenTurn, UnpolishedTurn, check_rewritten, names_in, polish
from miras.llm.records import Prompt
from tests.unit.generate.written.conftest import ScriptedModel

FIRST = Turn(question="Could you please pick out the left mug?", answer="Found: the {target}.", targets=("a",))
SECOND = Turn(
    question="Outline the clock that is above it, please.",
    answer="This mask shows the {target}.",
    targets=("b",),
    refers_to=(0,),
)
HARD = Turn(question="Segment the other mug.", answer="Sure, the {target}.", targets=("a",), points_at=("b",))

RECORDED = {
    ("mrseg/polish", "p-mrseg-0/0"): {"question": "Can you show me the left mug?", "answer": "Here is the {target}."},
    ("mrseg/same_meaning", "p-mrseg-0/0"): {"difference": "none", "is_same": True},
    ("mrseg/polish", "p-mrseg-0/1"): {
        "question": "And where is the clock above it? Please mark that.",
        "answer": "You see the {target} in the mask.",
    },
    ("mrseg/same_meaning", "p-mrseg-0/1"): {"difference": "the second asks where it is", "is_same": False},
}


def dialogue(*turns: Turn, kind: str = "mrseg", number: int = 0) -> Dialogue:
    return Dialogue.model_validate(
        {"dialogue_id": f"p-mrseg-{number}", "image_id": "p", "kind": kind, "focus": "mug", "turns": turns}
    )


def run(
    dialogues: list[Dialogue], script: Callable[[Prompt], str | None] | None = None
) -> tuple[list[Dialogue], Counter[str], list[UnpolishedTurn], ScriptedModel]:
    texts = {key: json.dumps(value) for key, value in RECORDED.items()}
    model = ScriptedModel(script or texts)
    counts: Counter[str] = Counter()
    told: list[UnpolishedTurn] = []
    return list(polish(dialogues, model=model, counts=counts, tell=told.append)), counts, told, model


def test_only_turns_that_still_mean_the_same_are_rewritten() -> None:
    (polished,), counts, told, _ = run([dialogue(FIRST, SECOND)])
    assert polished.turns[0].question == "Can you show me the left mug?"
    assert polished.turns[0].answer == "Here is the {target}."
    assert polished.turns[0].targets == ("a",)
    assert polished.turns[1] == SECOND
    assert counts == Counter({"turns": 2, "polished": 1, "other meaning": 1})
    assert "asks where it is" in told[0].reason
    assert told[0].where.startswith("p-mrseg-0/1")


def test_what_is_not_answered_keeps_its_words_and_is_told() -> None:
    (polished,), counts, told, _ = run([dialogue(FIRST, SECOND)], lambda _: None)
    assert polished == dialogue(FIRST, SECOND)
    assert counts == Counter({"turns": 2, "unanswered": 2})
    assert len(told) == 2


def test_garbage_and_lost_slots_are_refused_before_anybody_is_asked_whether_they_mean_the_same() -> None:
    answers = iter(["no json at all", json.dumps({"question": "Show me the left mug.", "answer": "Here it is."})])
    (polished,), counts, told, model = run([dialogue(FIRST, SECOND)], lambda _: next(answers))
    assert polished.turns == (FIRST, SECOND)
    assert counts["unanswered"] == 2
    assert len(told) == 2
    assert {prompt.name for prompt in model.prompts} == {"mrseg/polish"}


def test_the_same_words_again_are_no_polish() -> None:
    same = json.dumps({"question": FIRST.question, "answer": FIRST.answer})
    (polished,), counts, told, model = run([dialogue(FIRST)], lambda _: same)
    assert polished.turns == (FIRST,)
    assert counts == Counter({"turns": 1, "unchanged": 1})
    assert told == []
    assert len(model.prompts) == 1


def test_hard_pairs_and_other_kinds_are_not_touched() -> None:
    others = [dialogue(HARD), dialogue(FIRST, kind="referring", number=1)]
    polished, counts, _, model = run(others)
    assert polished == others
    assert model.prompts == []
    assert counts["turns"] == 0


def test_order_and_number_stay_over_many_batches() -> None:
    many = [dialogue(FIRST, number=number) for number in range(600)]

    def script(prompt: Prompt) -> str | None:
        number = int(prompt.key.split("-")[2].split("/")[0])
        if prompt.name == "mrseg/same_meaning":
            return json.dumps({"difference": "none", "is_same": number % 2 == 0})
        return json.dumps({"question": "Can you show me the left mug?", "answer": "Here is the {target}."})

    polished, counts, _, _ = run(many, script)
    assert [each.dialogue_id for each in polished] == [each.dialogue_id for each in many]
    assert counts == Counter({"turns": 600, "polished": 300, "other meaning": 300})
    assert all((each.turns != (FIRST,)) == (number % 2 == 0) for number, each in enumerate(polished))


def test_names_are_the_words_that_no_pattern_of_ours_has() -> None:
    assert names_in('Could you please pick out the red mug saying "GO" left of the alarm clock?') == (
        "alarm",
        "clock",
        "mug",
        "red",
        "saying",
    )


@pytest.mark.parametrize(
    ("turn", "question", "answer", "lost"),
    [
        (FIRST, "Can you show me the left mug?", "Here it is.", "target"),
        (FIRST, "Can you show me the {target}?", "Here is the {target}.", "never"),
        (FIRST, "Can you show me the right mug?", "Here is the {target}.", "place"),
        (FIRST, "Can you show me the mug?", "Here is the {target}.", "place"),
        (FIRST, "Can you show me the left cup?", "Here is the {target}.", "mug"),
        (FIRST, "Can you show me the other left mug?", "Here is the {target}.", "another"),
        (SECOND, "Please outline the clock above the mug.", "Here is the {target}.", "pointing"),
        (FIRST, "Can you show me the left mug [SEG]?", "Here is the {target}.", "SEG"),
        (FIRST, "Zeig mir bitte mal schnell die linke mug left hier!", "Da ist die Tasse, der {target}.", "English"),
    ],
)
def test_what_must_survive(turn: Turn, question: str, answer: str, lost: str) -> None:
    with pytest.raises(ValueError, match=lost):
        check_rewritten(turn, RewrittenTurn(question=question, answer=answer))


def test_quoted_names_and_numbers_of_answers_must_survive() -> None:
    turn = Turn(
        question='Mark the sign saying "GO" below the thing in your second answer.',
        answer="Sure, the {target}.",
        targets=("a",),
        refers_to=(1,),
    )
    good = 'Would you mark the sign saying "GO" that is below the thing from your second answer?'
    check_rewritten(turn, RewrittenTurn(question=good, answer="Of course, the {target}."))
    for before, after in (('"GO"', '"STOP"'), ("second", "first"), ('saying "GO" ', "")):
        with pytest.raises(ValueError, match=r"quote|numbers|keep"):
            check_rewritten(turn, RewrittenTurn(question=good.replace(before, after), answer="Sure, the {target}."))
