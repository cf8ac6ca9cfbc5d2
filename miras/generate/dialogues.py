"""PRIST step 3: a dialogue for every path of the reasoning tree, from the scene to the mask of its target.

The clues of the path become questions in their order; turns about what has been found stretch the
dialogue to its length; the last turn asks for the mask and says nothing about its target.
"""

from __future__ import annotations

import random

from miras.dialogue.records import Dialogue, Turn
from miras.generate import wording
from miras.generate.clues import lead_to
from miras.generate.config import GenerateConfig
from miras.generate.paths import PathWriter
from miras.generate.tree import ReasoningTree, TreePath, grow, store
from miras.generate.view import View


def prist_dialogues(
    view: View, image_id: str, config: GenerateConfig, dice: random.Random
) -> tuple[list[Dialogue], ReasoningTree]:
    """The dialogues of one picture and the tree they follow; fewer than asked for where too little is told apart."""
    leaves = grow(view, config.dialogues_per_picture, config.max_turns - 1, dice)
    dialogues, paths = [], []
    for number_of_path, leaf in enumerate(leaves):
        target = leaf.things[0]
        clues = [node.clue for node in leaf.chain() if node.clue is not None]
        assert lead_to(view, clues, target.region_id), "a path must end at its target alone"
        dialogue_id = f"{image_id}-prist-{number_of_path}"
        texts = PathWriter(view, leaf, dice).write(config.min_turns, config.max_turns)
        turns = [Turn.model_construct(question=question, answer=answer) for question, answer in texts]
        turns.append(
            Turn.model_construct(
                question=dice.choice(wording.REQUESTS),
                answer=dice.choice(wording.REQUEST_ANSWERS),
                targets=(target.region_id,),
            )
        )
        dialogues.append(
            Dialogue.model_construct(
                dialogue_id=dialogue_id,
                image_id=image_id,
                kind="prist",
                focus=target.phrase,
                turns=tuple(turns),
            )
        )
        paths.append(
            TreePath.model_construct(
                path=number_of_path,
                target=target.region_id,
                focus=target.phrase,
                nodes=(),
                dialogue_id=dialogue_id,
                reasoning_question=f"Which pixels show the {target.phrase}, and how can one tell?",
            )
        )
    return dialogues, store(leaves, image_id, paths)
