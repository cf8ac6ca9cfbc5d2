"""Small English."""

import pytest

from miras.generate.language import counted, is_plural, is_uncounted, listed, number, plural, with_article


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("mug", "mugs"),
        ("fish", "fish"),
        ("wine glass", "wine glasses"),
        ("bus", "buses"),
        ("body", "bodies"),
        ("key", "keys"),
        ("person", "people"),
        ("wheels", "wheels"),
        ("front left light", "front left lights"),
        ("bench", "benches"),
        ("group of people", "groups of people"),
        ("TV monitor", "TV monitors"),
        ("scarf", "scarves"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many


def test_plural_names_are_seen_as_such() -> None:
    assert is_plural("wheels")
    assert not is_plural("glass")
    assert not is_plural("bus")


def test_articles() -> None:
    assert with_article("orange umbrella") == "an orange umbrella"
    assert with_article("mug") == "a mug"
    assert with_article("wheels") == "wheels"


def test_counts_and_lists() -> None:
    assert counted("red mug", 1) == "a red mug"
    assert counted("red mug", 3) == "three red mugs"
    assert number(40) == "40"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_what_is_not_counted_has_no_article_and_pairs_are_counted_as_such() -> None:
    assert with_article("skin") == "some skin"
    assert with_article("sky") == "the sky"
    assert with_article("unicycle") == "a unicycle"
    assert counted("trousers", 2) == "two pairs of trousers"
    assert is_uncounted("cat hair")
    assert not is_uncounted("glass of water")
    assert not is_plural("group of cars")
