"""The stage `card`: statistics, figures, a gallery and the data set card, for people and for Hugging Face.

Run as `python -m tasks.run card`. Writes into one folder README.md (the card, with YAML front matter), statistics.json
(numbers on top, tables below), figures/, examples.jsonl (`ShownDialogue`) and gallery.html, which shows these. Nothing
in them depends on when or where they were made.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from miras.annotate.config import AnnotateConfig
from miras.card.config import CardConfig
from miras.card.gallery import draw_examples, shown
from miras.card.page import CardFacts, render_card, render_gallery
from miras.card.section import EXAMPLES, STATISTICS, line_of
from miras.card.shelf import RecordShelf, temporary_index
from miras.card.statistics import statistics
from miras.card.tables import as_json
from miras.dialogue.records import Picture, Region
from miras.files import finished_folder, write_json, write_records
from miras.generate.config import GenerateConfig
from miras.paths import Paths
from miras.quality.config import CheckConfig, SplitConfig

log = logging.getLogger(__name__)

CARD, GALLERY, FIGURES = "README.md", "gallery.html", "figures"


def run(
    *,
    paths: Paths,
    work: Path,
    card: CardConfig,
    generate: GenerateConfig,
    annotate: AnnotateConfig,
    check: CheckConfig,
    split: SplitConfig,
) -> None:
    """Writes the card's folder.

    Args:
        paths: of all stages.
        work: for temporary files.
        card: what the card shows.
        generate: how the data was made, for the card to tell; the same of annotate, check and split.
        annotate: see there.
        check: see there.
        split: see there.

    Raises:
        DataError: a table is missing or broken, a picture of the gallery is gone, or there is no dialogue.
    """
    from miras.card.figures import write_figures  # matplotlib takes seconds to load

    found = statistics(paths, work=work, num_focus_words=card.num_cloud_words)
    numbers = as_json(found)
    chosen = draw_examples(paths, count=card.num_examples, seed=card.seed)
    with finished_folder(Path(paths.card)) as folder, temporary_index(work) as index:
        write_json(folder / STATISTICS, numbers)
        figures = write_figures(folder / FIGURES, found, seed=card.seed)
        examples = list(
            shown(
                chosen,
                paths,
                pictures=RecordShelf(index, paths.picture_table, Picture, key="image_id"),
                regions=RecordShelf(index, paths.checked_regions, Region, key="region_id"),
            )
        )
        write_records(folder / EXAMPLES, examples)
        if examples:
            page = render_gallery(card.name, line_of(numbers, source=folder / STATISTICS), examples)
            (folder / GALLERY).write_text(page, encoding="utf-8")
        facts = CardFacts(
            card=card,
            found=found,
            figures=figures,
            num_examples=len(examples),
            generate=generate,
            annotate=annotate,
            check=check,
            split=split,
            version=hashlib.sha256((folder / STATISTICS).read_bytes()).hexdigest()[:12],
        )
        (folder / CARD).write_text(render_card(facts), encoding="utf-8")
    log.info("card dialogues=%d pictures=%d folder=%s", found.whole.dialogues, found.whole.pictures, paths.card)
