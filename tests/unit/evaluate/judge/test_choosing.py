"""The choice against a plain version that holds everything."""

from __future__ import annotations

import hashlib
import random

import pytest

from miras.evaluate.judge.choosing import Chooser


def plain_choice(pairs: set[tuple[str, str]], *, limit: int, seed: int) -> list[str]:
    place = {pair: hashlib.sha256(f"{seed}/judge/{pair[0]}".encode()).hexdigest() for pair in pairs}
    rounds: dict[str, int] = {}
    ranked = []
    for pair in sorted(pairs, key=place.__getitem__):
        rounds[pair[1]] = rounds.get(pair[1], -1) + 1
        ranked.append((rounds[pair[1]], place[pair], pair[0]))
    return [dialogue_id for _, _, dialogue_id in sorted(ranked)[:limit]]


@pytest.mark.parametrize("number", range(40))
def test_it_chooses_what_a_plain_version_chooses_in_whatever_order_turns_come(number: int) -> None:
    dice = random.Random(number)
    limit, pictures = dice.randint(1, 12), dice.randint(1, 30)
    pairs = {(f"d{each}", f"p{dice.randrange(pictures)}") for each in range(dice.randint(1, 80))}
    turns = [pair for pair in sorted(pairs) for _ in range(3)]
    dice.shuffle(turns)
    chooser = Chooser(limit=limit, seed=number)
    for dialogue_id, image_id in turns:
        chooser.add(dialogue_id, image_id=image_id)
    expected = plain_choice(pairs, limit=limit, seed=number)
    assert [choice.dialogue_id for choice in chooser.chosen()] == expected


def test_every_picture_has_its_turn_before_any_has_a_second() -> None:
    chooser = Chooser(limit=6, seed=1)
    for picture in range(4):
        for number in range(50):
            chooser.add(f"p{picture}-{number}", image_id=f"p{picture}")
    images = [choice.image_id for choice in chooser.chosen()]
    assert sorted(images[:4]) == ["p0", "p1", "p2", "p3"]
    assert len(set(images[4:])) == 2


def test_memory_does_not_grow_with_the_benchmark() -> None:
    chooser = Chooser(limit=5, seed=0)
    for number in range(20_000):
        chooser.add(f"d{number}", image_id=f"p{number // 2}")
    assert len(chooser._of_picture) == 5
    assert len(chooser._lasts) < 50
    one_picture = Chooser(limit=5, seed=0)
    for number in range(20_000):
        one_picture.add(f"d{number}", image_id="p")
    assert len(one_picture._of_picture["p"]) == 5
