"""What may be asked about a picture: targets, names, pairs, and what is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from miras.generate.language import is_plural, is_uncounted, plural
from miras.generate.names import may_be_called, names_a_side
from miras.generate.phrases import descriptions, may_have_colour
from miras.generate.view import Thing, View

_MOST_NAMES = 5  # of a thing, besides its phrase


class Facts:
    """What the questions of MRSeg dialogues may be about.

    Args:
        view: the picture.
        classes: classes of objects that are absent where no thing shows them; see `absent_classes`.
        parts: class -> names of parts that the data set has on it.
    """

    def __init__(self, view: View, classes: Sequence[str], parts: Mapping[str, frozenset[str]]) -> None:
        self.view = view
        self.things = {thing.region_id: thing for thing in view.things}
        self.targets = {thing.region_id: thing for thing in view.things if view.is_target(thing)}
        self.objects = [thing for thing in view.objects if thing.category]
        self.of_class: dict[str, list[Thing]] = defaultdict(list)
        for thing in view.things:
            self.of_class[thing.category].append(thing)
        absent = sorted(absent_classes(view, classes)), absent_in_colour(view)
        self.absent = [nouns for nouns in absent if nouns]  # lists to choose from
        self._phrases = {thing.region_id: thing.phrase for thing in view.things if thing.phrase}
        self._parts = parts
        self._all_parts = sorted({name for names in parts.values() for name in names})
        self._names: dict[str, list[str]] = {}

    def are_targets(self, things: Iterable[Thing]) -> bool:
        """Whether all of them may be asked for."""
        return all(thing.region_id in self.targets for thing in things)

    def names(self, thing: Thing) -> list[str]:
        """The thing's phrase and other words that fit it alone."""
        if thing.region_id not in self._names:
            others = islice(descriptions(self.view, thing, self._phrases), _MOST_NAMES)
            self._names[thing.region_id] = list(dict.fromkeys([thing.phrase, *others]))
        return self._names[thing.region_id]

    def pair_of(self, thing: Thing) -> list[Thing]:
        """The thing and the other one, where its class has exactly two objects here that may be targets; else none.

        "The other car" would be a question of taste beside a "sports car" or a "group of cars".
        """
        noun = thing.category
        group = self.of_class[noun]
        if len(group) != 2 or not self.are_targets(group) or not are_single_objects(group):
            return []
        if len(self.view.called(noun)) > 2 or not self.view.are_all_outlined(noun):
            return []
        words = f" {noun} ", f" {plural(noun)} "
        return [] if any(word in f" {other} " for other in self.of_class if other != noun for word in words) else group

    def are_all(self, noun: str) -> bool:
        """Whether the things of a class are all that may be called so: no group or kind of them, none not outlined."""
        return self.view.are_all_outlined(noun) and len(self.view.called(noun)) == len(self.of_class[noun])

    def missing_parts(self, thing: Thing) -> list[str]:
        """Names of parts that no thing of its class has anywhere in the data set; none that speaks of a side."""
        known = self._parts.get(thing.category)
        return [name for name in self._all_parts if name not in known and not names_a_side(name)] if known else []


def are_single_objects(group: Sequence[Thing]) -> bool:
    """Whether "the other one" can be said of them: of mugs, but neither of grass nor of wheels nor of parts."""
    return all(thing.whole is None and is_one_of_a_count(thing) for thing in group)


def is_one_of_a_count(thing: Thing) -> bool:
    """Whether "there is one" can be said of it: one mug, but neither grass nor shoes nor all cars in one mask."""
    noun = thing.category
    return not (thing.is_class or thing.is_group or is_plural(noun) or is_uncounted(noun))


def is_single_part(view: View, noun: str) -> bool:
    """Whether nobody would say "all" or count them: a car has one front left light, and one hood."""
    return names_a_side(noun) or (view.own_sides and len(view.called(noun)) < 2)


def absent_classes(view: View, classes: Iterable[str]) -> set[str]:
    """Those of the classes that nothing in the picture may be called by, not even a part.

    The classes must be such that the picture would show a region of each that is there: those of its own source, if
    that outlines all of them, or those that the source states to be absent (`Picture.absent`).
    """
    shown = {name for thing in view.things for name in (thing.category, thing.class_name, *thing.synonyms)}
    groups = [name for name in shown if name.startswith("group of ")]
    return {
        name
        for name in classes
        if name not in shown
        and not name.startswith("group of ")
        and not any(may_be_called(other, name) for other in (*groups, *(kind for kind in shown if kind.endswith(name))))
    }


def absent_in_colour(view: View) -> list[str]:
    """Classes of objects in a colour that no object of the class has ("blue mug"), sorted; only known colours tell."""
    return sorted(
        f"{colour} {category}"
        for colour in known_colours(view)
        for category in {thing.category for thing in view.objects}
        if view.are_all_outlined(category)
        and not any(may_have_colour(thing, colour) for thing in view.called(category))
    )


def known_colours(view: View) -> set[str]:
    """The objects' colours; none where that of one is not known."""
    colours = {thing.colour for thing in view.objects}
    return set() if "" in colours else colours
