"""Rendered scenes: exact masks, the same bytes from the same seed, regions that can be pointed at."""

from itertools import combinations

import numpy as np
import pytest

from miras.dialogue import masks
from miras.sources.scenes import (
    ALL_PARTS,
    CATEGORIES,
    COLOURS,
    MAX_OBJECTS,
    MAX_PARTS,
    MIN_OBJECTS,
    PARTS,
    Scene,
    dense_labels,
    read,
    render_scene,
    scene_regions,
)

SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = render_scene(7), render_scene(7)
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.codes.tobytes() == second.codes.tobytes()
    assert first.objects == second.objects


def test_other_seeds_give_other_scenes(scenes: list[Scene]) -> None:
    assert len({scene.codes.tobytes() for scene in scenes}) == len(scenes)


def test_a_scene_does_not_depend_on_how_many_are_read() -> None:
    few = list(read(count=2, size_px=64, seed=3))
    many = list(read(count=4, size_px=64, seed=3))
    assert [picture.regions for picture in few] == [picture.regions for picture in many[:2]]
    assert [picture.pixels.tobytes() for picture in few] == [p.pixels.tobytes() for p in many[:2]]


def test_every_code_belongs_to_a_part_of_an_object(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert MIN_OBJECTS <= len(scene.objects) <= MAX_OBJECTS
        known = {code for item in scene.objects for code in item.parts.values()}
        assert set(np.unique(scene.codes)) <= known | {0}
        assert max(known) <= MAX_OBJECTS * MAX_PARTS


def test_parts_are_disjoint_and_make_up_their_object(scenes: list[Scene]) -> None:
    for scene in scenes:
        labels = dense_labels(scene)
        objects = [labels.instance == 1 + item.slot for item in scene.objects]
        assert not any((first & second).any() for first, second in combinations(objects, 2))
        for item, whole in zip(scene.objects, objects, strict=True):
            parts = [scene.codes == code for code in item.parts.values()]
            assert np.array_equal(np.logical_or.reduce(parts), whole)
            assert sum(part.sum() for part in parts) == whole.sum()


def test_region_masks_are_the_labelled_pixels() -> None:
    scene = render_scene(11)
    labels = dense_labels(scene)
    regions = scene_regions(scene, "x")
    for region in regions:
        assert region.mask is not None
        slot, _, part = region.region_id.removeprefix("x/").partition(".")
        expected = labels.instance == 1 + int(slot)
        if part:
            category = scene.objects[int(slot)].category
            expected &= labels.part == 1 + ALL_PARTS.index((category, part))
        assert np.array_equal(masks.decode(region.mask), expected)


def test_dense_labels_agree_with_the_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        labels = dense_labels(scene)
        for item in scene.objects:
            seen = labels.instance == 1 + item.slot
            assert set(labels.category[seen]) == {1 + CATEGORIES.index(item.category)}
            assert set(labels.colour[seen]) == {1 + COLOURS.index(item.colour)}
            assert {ALL_PARTS[index - 1][0] for index in np.unique(labels.part[seen])} == {item.category}
        background = scene.codes == 0
        assert not labels.part[background].any()
        assert not labels.category[background].any()


def test_objects_are_hardly_hidden(scenes: list[Scene]) -> None:
    for scene in scenes:
        for item in scene.objects:
            codes = list(item.parts.values())
            assert np.isin(scene.codes, codes).sum() >= 60


def test_an_object_looks_like_its_colour() -> None:
    """The mean pixel of red bodies is redder than that of blue ones: labels and pixels belong together."""
    means = {}
    for colour in ("red", "blue"):
        pixels = []
        for seed in range(150):
            scene = render_scene(seed)
            for item in scene.objects:
                if item.colour == colour and item.category == "car":
                    pixels.append(scene.pixels[scene.codes == item.parts["body"]])
        means[colour] = np.concatenate(pixels).mean(axis=0)
    assert means["red"][0] > means["blue"][0] + 60
    assert means["blue"][2] > means["red"][2] + 60


def test_twins_are_frequent_so_that_it_matters_which_one_is_meant(scenes: list[Scene]) -> None:
    with_twins = sum(len({item.category for item in s.objects}) < len(s.objects) for s in scenes)
    assert with_twins > len(scenes) / 2


def test_all_categories_parts_and_colours_occur() -> None:
    items = [item for seed in range(150) for item in render_scene(seed, size_px=64).objects]
    assert {item.category for item in items} == set(CATEGORIES)
    assert {item.colour for item in items} == set(COLOURS)
    assert all(tuple(item.parts) == PARTS[item.category] for item in items)


@pytest.mark.parametrize("size_px", [64, 96, 200])
def test_other_sizes_show_the_same_objects(size_px: int) -> None:
    scene, reference = render_scene(5, size_px=size_px), render_scene(5)
    assert scene.pixels.shape == (size_px, size_px, 3)
    assert [item.category for item in scene.objects] == [item.category for item in reference.objects]
    share = (scene.codes > 0).mean() / (reference.codes > 0).mean()
    assert 0.85 < share < 1.15  # edges are whole pixels


def test_text_is_stated_only_where_it_can_be_read(scenes: list[Scene]) -> None:
    for scene in scenes:
        regions = scene_regions(scene, "x")
        parts = {(region.parent_id, region.category) for region in regions if region.parent_id}
        for region in regions:
            if region.parent_id is None and region.category in ("sign", "bottle"):
                assert ("text" in region.attributes) == ((region.region_id, "text") in parts)
