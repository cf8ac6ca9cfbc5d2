"""The mixture: shares, coverage, determinism."""

from __future__ import annotations

from collections import Counter

from miras.dialogue.records import Dialogue, DialogueKind, Turn
from miras.train.mixture import Mixture


def dialogue(number: int, kind: DialogueKind, picture: int) -> Dialogue:
    turn = Turn(question="what?", answer="this.")
    return Dialogue(
        dialogue_id=f"{kind}-{picture}-{number}", image_id=f"p{picture}", kind=kind, focus="", turns=(turn,)
    )


DIALOGUES = [dialogue(n, kind, p) for kind in ("prist", "vqa", "referring") for p in range(10) for n in range(3)]


def make(seed: int = 0) -> Mixture:
    return Mixture(
        DIALOGUES, weights={"prist": 3, "vqa": 1, "referring": 0}, dialogues_per_row=2, aligned_share=1.0, seed=seed
    )


def test_kinds_come_in_their_shares_and_weight_zero_never() -> None:
    kinds = Counter(make().row(number).dialogues[0].kind for number in range(2000))
    assert set(kinds) == {"prist", "vqa"}
    assert 0.7 < kinds["prist"] / 2000 < 0.8


def test_a_row_is_about_one_picture_without_repeats() -> None:
    for row in make().rows(range(200)):
        assert len({d.image_id for d in row.dialogues}) == 1
        assert len({d.dialogue_id for d in row.dialogues}) == len(row.dialogues) == 2


def test_every_picture_is_visited_before_any_comes_again() -> None:
    only = Mixture(DIALOGUES, weights={"prist": 1}, dialogues_per_row=1, aligned_share=1.0, seed=0)
    assert len({row.image_id for row in only.rows(range(10))}) == 10
    assert [row.image_id for row in only.rows(range(10))] != [row.image_id for row in only.rows(range(10, 20))]


def test_every_picture_of_each_of_several_kinds_is_visited_before_any_comes_again() -> None:
    first: dict[str, list[str]] = {"prist": [], "vqa": []}
    for row in make().rows(range(3000)):
        first[row.dialogues[0].kind].append(row.image_id)
    for pictures in first.values():
        for start in range(0, 500, 10):
            assert len(set(pictures[start : start + 10])) == 10


def test_a_row_depends_on_seed_and_number_alone() -> None:
    assert make().row(17) == make().row(17)
    assert make().row(5000) == make().rows(range(4990, 5010))[10]
    assert [make(0).row(n) for n in range(20)] != [make(1).row(n) for n in range(20)]


def test_half_of_the_rows_use_the_alignment_where_half_is_asked_for() -> None:
    half = Mixture(DIALOGUES, weights={"prist": 1}, dialogues_per_row=1, aligned_share=0.5, seed=0)
    assert 0.45 < sum(row.is_aligned for row in half.rows(range(1000))) / 1000 < 0.55
    assert all(row.is_aligned for row in make().rows(range(100)))


def test_dialogues_without_picture_never_share_a_row() -> None:
    turn = Turn(question="what?", answer="this.")
    texts = [Dialogue(dialogue_id=f"t{n}", image_id="", kind="vqa", focus="", turns=(turn,)) for n in range(5)]
    mixture = Mixture(texts, weights={"vqa": 1}, dialogues_per_row=3, aligned_share=1.0, seed=0)
    assert all(len(row.dialogues) == 1 for row in mixture.rows(range(20)))
    assert len({row.dialogues[0].dialogue_id for row in mixture.rows(range(5))}) == 5
