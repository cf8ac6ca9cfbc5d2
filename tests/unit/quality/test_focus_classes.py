"""The classes of foci: the head of the phrase decides, and most of the published foci are known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from miras.quality.focus_classes import CLASS_OF, CLASSES, OTHER, SUBCLASSES, focus_class


def test_there_are_four_classes_with_three_subclasses_each() -> None:
    assert [len(subs) for subs in CLASSES.values()] == [3, 3, 3, 3]
    assert len(SUBCLASSES) == 13
    assert set(CLASS_OF) == set(SUBCLASSES)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("TISSOT logo on the watch and advertisement", "brand"),
        ("The text 'Fragmin' and 'Pfizer' on the box", "lettering"),
        ("Graffiti on the wall", "lettering"),
        ("Jersey number 29", "number"),
        ("2007", "number"),
        ("Camera on a tripod", "machine"),
        ("Three green bottles", "food"),
        ("Leather watch strap", "article"),
        ("Star symbol with the emblem", "emblem"),
        ("Black and yellow checkered stripe", "surface"),
        ("Logo placement on the back of the phone", "layout"),
        ("The child's smile", "person"),
        ("Surrounding grass", "nature"),
        ("Entrance on the right side of the facade", "place"),
        ("'Rue de la Liberte'", "lettering"),
        ("BLACK TUESDAY", "lettering"),
        ("handle of the left red mug", "article"),
        ("labels on bottles", "brand"),
        ("qwertyuiop", OTHER),
        ("", OTHER),
        ("...", OTHER),
        ("'", OTHER),
    ],
)
def test_a_focus_has_the_class_of_its_head(phrase: str, expected: str) -> None:
    assert focus_class(phrase) == expected


def test_the_rules_know_nearly_all_published_foci_and_use_every_class(shared_data: Path) -> None:
    records = json.loads((shared_data / "prist" / "test.json").read_text("utf-8"))
    found = Counter(focus_class(record["focus"]) for record in records)
    assert found[OTHER] / len(records) < 0.02
    assert all(found[name] >= 5 for name in SUBCLASSES if name != OTHER)
