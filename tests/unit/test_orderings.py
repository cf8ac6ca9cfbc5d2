"""The questions of `benchmarks.orderings` that are its own."""

from __future__ import annotations

from benchmarks import lettered
from miras.sources.limits import ReadLimits
from miras.sources.scenes import ScenesSource


def test_lettered_questions_need_reading() -> None:
    source = ScenesSource(reader="scenes", count=12, size_px=128, seed=3)
    pictures = list(lettered.read(source, limits=ReadLimits(10**6, 100, ())))
    assert len(pictures) == 12
    for picture in pictures:
        objects = {region.region_id: region for region in picture.regions if region.parent_id is None}
        for dialogue in picture.dialogues:
            turn = dialogue.turns[0]
            if dialogue.kind == "referring":
                target = objects[turn.targets[0]]
                assert f'"{target.attributes["text"]}"' in turn.question
                twins = [other for other in objects.values() if other.category == target.category]
                assert [other for other in twins if other.attributes.get("text") == target.attributes["text"]] == [
                    target
                ]
                assert len(twins) > 1
            else:
                assert '"' not in turn.question
                assert turn.answer.split('"')[1] in {region.attributes.get("text") for region in objects.values()}


def test_held_out_wordings_are_other_ones() -> None:
    assert not set(lettered.READING) & set(lettered.READING_HELD_OUT)
    assert not set(lettered.TELLING) & set(lettered.TELLING_HELD_OUT)
