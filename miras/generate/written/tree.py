"""PRIST step 2-2: a language model takes the questions of a picture apart into one reasoning tree.

Source: PRIST paper, section 3.2.2 (equation 3): every node below the root is a question with its answer, elements are
the leaves, no node has more than three children. The record is the annotated teacher's; here a node's `clue` has the
keys `question` and `answer`, and its `candidates` are the targets of the paths through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from miras.generate.elements import PictureElements
from miras.generate.tree import MAX_CHILDREN, ReasoningTree, TreeNode, TreePath
from miras.generate.written.elements import ShownPicture
from miras.generate.written.inventory import label_of, listing
from miras.generate.written.prompts import render
from miras.generate.written.records import PictureQuestions
from miras.generate.written.texts import (
    MAX_ANSWER_WORDS,
    ModelAnswer,
    check_english,
    check_question,
    check_text,
    tidy,
)
from miras.llm.records import Prompt

ROOT = 0  # the scene; not written by the model


class Step(ModelAnswer):
    """A node of the tree: a small question with its answer."""

    node: int
    """Number, from 1."""
    parent: int
    """Number of the node that it follows from; 0 for the scene."""
    question: str
    answer: str


class PathEnd(ModelAnswer):
    """Where the path of an element ends."""

    element: str
    """Label of the element."""
    last_node: int
    """Number of its last node."""


class ReasoningSteps(ModelAnswer):
    """The tree."""

    nodes: list[Step]
    paths: list[PathEnd]


def tree_prompt(
    picture: ShownPicture, elements: PictureElements, questions: PictureQuestions, *, fewest: int, most: int
) -> Prompt:
    """Asks for the tree of the kept questions; its paths have `fewest` to `most` nodes below the root."""
    asked = kept_questions(elements, questions)

    def check(answer: Any) -> None:
        check_tree(answer, list(asked), fewest=fewest, most=most)

    texts = render(
        "tree",
        elements=listing(elements),
        questions=[{"label": label, "question": question} for label, question in asked.items()],
        fewest=fewest,
        most=most,
        children=MAX_CHILDREN,
    )
    return Prompt(
        name="prist/tree",
        key=picture.image_id,
        system=texts.system,
        text=texts.text,
        answer=ReasoningSteps,
        picture=picture.path,
        check=check,
    )


def kept_questions(elements: PictureElements, questions: PictureQuestions) -> dict[str, str]:
    """Label of an element -> its question, of those that are kept, in the order of the elements."""
    kept = {question.target: question.question for question in questions.questions if question.is_kept}
    labels = {element.region_id: label_of(position) for position, element in enumerate(elements.elements)}
    return {labels[target]: question for target, question in kept.items()}


def check_tree(answer: ReasoningSteps, labels: Sequence[str], *, fewest: int, most: int) -> None:
    """Refuses what is no tree, has crowded or idle nodes, or paths that are missing, too short or too long.

    Raises:
        ValueError: with a sentence for the model.
    """
    _check_nodes(answer.nodes)
    ends = [path.element for path in answer.paths]
    if sorted(ends) != sorted(labels):
        found = ", ".join(ends) or "none"
        raise ValueError(f"there are paths for: {found}; expected exactly one for each of {', '.join(labels)}")
    parents = {step.node: step.parent for step in answer.nodes}
    inner = set(parents.values())
    used: set[int] = set()
    for path in answer.paths:
        if path.last_node not in parents:
            raise ValueError(f"the path of {path.element} ends at node {path.last_node}, which does not exist")
        if path.last_node in inner:
            raise ValueError(f"the path of {path.element} ends at node {path.last_node}, which has children")
        chain = chain_to(path.last_node, parents)
        if not fewest <= len(chain) <= most:
            raise ValueError(f"the path of {path.element} has {len(chain)} nodes; expected {fewest} to {most}")
        used.update(chain)
    if len({path.last_node for path in answer.paths}) < len(answer.paths):
        raise ValueError("two paths end at the same node; each ends at a node of its own")
    if idle := sorted(set(parents) - used):
        raise ValueError(f"node {idle[0]} is on no path; leave it out, or lead a path through it")


def _check_nodes(nodes: Sequence[Step]) -> None:
    """That they form a tree with short enough rows of children and proper texts."""
    numbers = [step.node for step in nodes]
    if ROOT in numbers:
        raise ValueError(f"node {ROOT} is the scene and is not written down; number the nodes from 1")
    if len(set(numbers)) < len(numbers):
        raise ValueError("two nodes have the same number")
    parents = {step.node: step.parent for step in nodes}
    for step in nodes:
        if step.parent != ROOT and step.parent not in parents:
            raise ValueError(f"the parent of node {step.node} is {step.parent}, which does not exist")
        check_question(step.question, what=f"the question of node {step.node}")
        check_text(step.answer, what=f"the answer of node {step.node}", max_words=MAX_ANSWER_WORDS)
    for node, count in Counter(parents.values()).items():
        if count > MAX_CHILDREN:
            raise ValueError(f"node {node} has {count} children; at most {MAX_CHILDREN} are allowed")
    for step in nodes:
        chain_to(step.node, parents)
    check_english({f"node {step.node}": f"{step.question} {step.answer}" for step in nodes})


def chain_to(node: int, parents: Mapping[int, int]) -> tuple[int, ...]:
    """The nodes from the root (left out) to this one.

    Raises:
        ValueError: the node follows from itself.
    """
    chain = [node]
    while (parent := parents[chain[-1]]) != ROOT:
        if parent in chain:
            raise ValueError(f"node {parent} follows from itself; a tree has no circles")
        chain.append(parent)
    return tuple(reversed(chain))


def reasoning_tree(answer: ReasoningSteps, elements: PictureElements, questions: PictureQuestions) -> ReasoningTree:
    """The checked answer as a record: nodes level by level from the root, paths in the order of the elements."""
    parents = {step.node: step.parent for step in answer.nodes}
    by_label = {label_of(position): element for position, element in enumerate(elements.elements)}
    last_node = {path.element: path.last_node for path in answer.paths}
    chains = {label: chain_to(last_node[label], parents) for label in by_label if label in last_node}
    targets = {label: by_label[label].region_id for label in chains}
    asked = {question.target: question.question for question in questions.questions}
    number = _by_level(answer.nodes)
    paths = tuple(
        TreePath(
            path=path,
            target=targets[label],
            focus=by_label[label].caption,
            nodes=(ROOT, *(number[node] for node in chain)),
            dialogue_id=f"{elements.image_id}-prist-{path}",
            reasoning_question=asked[targets[label]],
        )
        for path, (label, chain) in enumerate(chains.items())
    )
    parts = {element.region_id for element in elements.elements if element.part_of is not None}
    root = TreeNode(
        node=ROOT,
        parent=None,
        level="scene",
        clue={},
        candidates=tuple(targets.values()),
        paths=tuple(range(len(paths))),
        overlap=len(paths) > 1,
    )
    ordered = sorted(answer.nodes, key=lambda step: number[step.node])
    return ReasoningTree(
        image_id=elements.image_id, nodes=(root, *(_node(step, number, paths, parts) for step in ordered)), paths=paths
    )


def _by_level(nodes: Sequence[Step]) -> dict[int, int]:
    """The model's number of a node -> ours, which counts level by level; the order of the answer among siblings."""
    children: dict[int, list[int]] = {}
    for step in nodes:
        children.setdefault(step.parent, []).append(step.node)
    ordered = [ROOT]
    for node in ordered:  # grows while it is read
        ordered.extend(children.get(node, ()))
    return {node: position for position, node in enumerate(ordered)}


def _node(step: Step, number: Mapping[int, int], paths: Sequence[TreePath], parts: set[str]) -> TreeNode:
    through = [path for path in paths if number[step.node] in path.nodes]
    is_end = through[0].nodes[-1] == number[step.node]
    level = "part" if is_end and through[0].target in parts else "object"
    return TreeNode(
        node=number[step.node],
        parent=number[step.parent],
        level="group" if len(through) > 1 else level,
        clue={"question": tidy(step.question), "answer": tidy(step.answer)},
        candidates=tuple(path.target for path in through),
        paths=tuple(path.path for path in through),
        overlap=len(through) > 1,
    )
