"""PRIST step 2: the reasoning tree of a picture, whose paths lead from the scene to one target each.

Every node below the root is a clue and what it leaves of the picture. Paths share nodes as far as their
clues agree; no node has more than three children (PRIST paper, section 3.2.2 and figure 7b).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from miras.dialogue.records import Frozen
from miras.generate.clues import Clue, narrow
from miras.generate.knowledge import uses_of
from miras.generate.phrases import EXTREME_WORDS, tells_relation
from miras.generate.view import RELATIONS, Extreme, Thing, View

MAX_CHILDREN = 3
MAX_OBJECT_CLUES = 3  # from the scene to one object; longer chains read like a riddle
OBJECT_FIRST_SHARE = 0.15  # of the objects are targets before their parts; PRIST's targets are mostly small
AGREEING_SHARE = 0.6  # of the telling clues are those of the target's phrase, where they can be


@dataclass(eq=False, slots=True)
class Node:
    """A step of the reasoning: a clue, and what it leaves."""

    clue: Clue | None
    """None at the root."""
    things: list[Thing]
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    paths: list[int] = field(default_factory=list)
    """Numbers of the paths that run through it."""

    def chain(self) -> list[Node]:
        """The nodes from the root (left out) to this one."""
        return [] if self.parent is None else [*self.parent.chain(), self]


class TreeNode(Frozen):
    """A node as stored."""

    node: int
    """Position in `ReasoningTree.nodes`; the root is 0."""
    parent: int | None
    level: str
    """scene, group (several objects), object or part."""
    clue: dict[str, str]
    """kind, value and anchor; empty at the root."""
    candidates: tuple[str, ...]
    """Region ids that are still meant."""
    paths: tuple[int, ...]
    overlap: bool
    """Whether several paths share it."""


class TreePath(Frozen):
    """A path as stored: one dialogue."""

    path: int
    target: str
    """Region id."""
    focus: str
    nodes: tuple[int, ...]
    dialogue_id: str
    reasoning_question: str
    """The question that the dialogue takes apart (step 2-1)."""


class ReasoningTree(Frozen):
    """The tree of one picture."""

    image_id: str
    nodes: tuple[TreeNode, ...]
    paths: tuple[TreePath, ...]


def grow(view: View, count: int, max_clues: int, dice: random.Random) -> list[Node]:
    """The ends of up to `count` paths to different targets, in a common tree.

    A target is left out where no clues of ours lead to it alone, where that takes more than `max_clues`,
    or where its path would give a node a fourth child.
    """
    root = Node(clue=None, things=list(view.objects))
    leaves: list[Node] = []
    for target in _targets(view, dice):
        if len(leaves) == count:
            break
        leaf = _grow_path(view, root, target, max_clues, dice)
        if leaf is not None:
            for node in (root, *leaf.chain()):
                node.paths.append(len(leaves))
            leaves.append(leaf)
    return leaves


def _targets(view: View, dice: random.Random) -> Iterator[Thing]:
    """Objects and parts that may be targets, different objects first."""
    families = []
    for thing in view.objects:
        family = [each for each in _family(thing) if view.is_target(each)]
        dice.shuffle(family)
        if thing in family and dice.random() < OBJECT_FIRST_SHARE:
            family.remove(thing)
            family.insert(0, thing)
        families.append(family)
    dice.shuffle(families)
    for position in range(max(map(len, families), default=0)):
        for family in families:
            if position < len(family):
                yield family[position]


def _family(thing: Thing) -> list[Thing]:
    return [thing, *(each for part in thing.parts for each in _family(part))]


def _grow_path(view: View, root: Node, target: Thing, max_clues: int, dice: random.Random) -> Node | None:
    """Adds the path to a target; the tree is unchanged where that fails."""
    lineage = [target]
    while lineage[0].whole is not None:
        lineage.insert(0, lineage[0].whole)
    node: Node | None = root
    added: list[Node] = []
    for depth, goal in enumerate(lineage):
        node = _reach(view, node, goal, depth, dice, added)
        if node is None:
            break
    if node is None or len(node.chain()) > max_clues:
        _prune(added)
        return None
    return node


def _reach(
    view: View, node: Node | None, goal: Thing, depth: int, dice: random.Random, added: list[Node]
) -> Node | None:
    """From a node on, the node where only `goal` is left, with as few new nodes as dice and margins allow."""
    steps = 0
    while node is not None and (node.things != [goal]):
        if steps == MAX_OBJECT_CLUES:
            return None
        node = _step(view, node, goal, depth, steps, dice, added)
        steps += 1
    if node is not None and node.clue is None:  # a picture of one object: say what it is all the same
        return _step(view, node, goal, depth, steps, dice, added)
    return node


def _step(
    view: View, node: Node, goal: Thing, depth: int, step: int, dice: random.Random, added: list[Node]
) -> Node | None:
    options = _options(view, node, goal, depth, step, dice)
    if step == MAX_OBJECT_CLUES - 1:
        options = [(clue, left) for clue, left in options if left == [goal]]
    shared = [child for child in node.children if any(child.clue == clue for clue, _ in options)]
    if shared and (dice.random() < 0.6 or len(node.children) == MAX_CHILDREN):
        return dice.choice(shared)
    if not options or len(node.children) == MAX_CHILDREN:
        return None
    clue, left = next(
        ((clue, left) for clue, left in options if all(child.clue != clue for child in node.children)),
        (None, []),
    )
    if clue is None:
        return shared[0]
    child = Node(clue=clue, things=left, parent=node)
    node.children.append(child)
    added.append(child)
    return child


def _prune(added: Sequence[Node]) -> None:
    for node in reversed(added):
        assert node.parent is not None
        node.parent.children.remove(node)


def _options(
    view: View, node: Node, goal: Thing, depth: int, step: int, dice: random.Random
) -> list[tuple[Clue, list[Thing]]]:
    """Clues that keep the goal and say something new, in the order in which they are to be tried."""
    if step == 0 and depth > 0:
        proposals = [Clue("part", goal.category)]
    elif step == 0:
        proposals = _opening_clues(goal, dice)
    else:
        proposals = _telling_clues(view, node, goal, dice)
    options = []
    for clue in proposals:
        left = narrow(view, node.things, clue)
        news = clue.kind in ("use", "category", "part") and step == 0
        if left is not None and goal in left and (news or len(left) < len(node.things)):
            options.append((clue, left))
    return options


def _opening_clues(goal: Thing, dice: random.Random) -> list[Clue]:
    uses = [Clue("use", use.name) for use in uses_of(goal.category)]
    dice.shuffle(uses)
    name = Clue("category", goal.category)
    return [*uses, name] if dice.random() < 0.65 else [name, *uses]


def _telling_clues(view: View, node: Node, goal: Thing, dice: random.Random) -> list[Clue]:
    """Clues that tell apart what is left: class, colour, lettering, place, size, neighbours."""
    extremes: list[Extreme] = ["left", "right", "top", "bottom", *dice.choice(_SIZES_SOMETIMES)]
    clues = [Clue("extreme", which) for which in extremes]
    if goal.colour and goal.whole is None:
        clues += [Clue("colour", goal.colour)] * 3
    if goal.whole is None and goal.text and sum(thing.text == goal.text for thing in node.things) == 1:
        clues.append(Clue("text", goal.text))
    if goal.whole is None:
        anchors = [
            thing
            for thing in view.objects
            if thing.phrase and thing not in node.things and not tells_relation(thing.phrase)
        ]
        for anchor in dice.sample(anchors, min(2, len(anchors))):
            clues += [Clue("relation", relation, anchor.region_id) for relation in RELATIONS]
    dice.shuffle(clues)
    if dice.random() < AGREEING_SHARE:
        clues.sort(key=lambda clue: not _agrees(clue, goal.phrase))
    kinds = {thing.category for thing in node.things}
    return [Clue("category", goal.category), *clues] if len(kinds) > 1 and dice.random() < 0.7 else clues


_SIZES_SOMETIMES: tuple[tuple[Extreme, ...], ...] = ((), ("large", "small"))


def _agrees(clue: Clue, phrase: str) -> bool:
    """Whether a clue says in other words what the phrase of the target says."""
    words = phrase.split()
    if clue.kind == "extreme":
        return not EXTREME_WORDS[cast(Extreme, clue.value)].isdisjoint(words)
    return clue.kind in ("colour", "text") and (clue.value in words or f'"{clue.value}"' in words)


def store(root_of: Sequence[Node], image_id: str, paths: Sequence[TreePath]) -> ReasoningTree:
    """The tree that these leaves end, as a record; `paths` carry everything but their node numbers."""
    if not root_of:
        return ReasoningTree.model_construct(image_id=image_id, nodes=(), paths=())
    root = root_of[0]
    while root.parent is not None:
        root = root.parent
    ordered = [root]
    for node in ordered:  # grows while it is read: level by level
        ordered.extend(node.children)
    number = {id(node): position for position, node in enumerate(ordered)}
    nodes = tuple(_stored_node(node, number) for node in ordered)
    chains = [(0, *(number[id(node)] for node in leaf.chain())) for leaf in root_of]
    done = [path.model_copy(update={"nodes": chain}) for path, chain in zip(paths, chains, strict=True)]
    return ReasoningTree.model_construct(image_id=image_id, nodes=nodes, paths=tuple(done))


def _stored_node(node: Node, number: dict[int, int]) -> TreeNode:
    clue = node.clue
    return TreeNode.model_construct(
        node=number[id(node)],
        parent=None if node.parent is None else number[id(node.parent)],
        level=level_of(node),
        clue={} if clue is None else {"kind": clue.kind, "value": clue.value, "anchor": clue.anchor},
        candidates=tuple(thing.region_id for thing in node.things),
        paths=tuple(node.paths),
        overlap=len(node.paths) > 1,
    )


def level_of(node: Node) -> str:
    """How far a node has narrowed the picture: scene, group, object or part."""
    if node.clue is None:
        return "scene"
    if node.things[0].whole is not None:
        return "part"
    return "object" if len(node.things) == 1 else "group"
