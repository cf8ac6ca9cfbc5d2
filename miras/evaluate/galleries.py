"""Galleries: picture, truth and prediction side by side, as PNG files for MLflow and for a quick look."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from miras.dialogue.records import Picture
from miras.dialogue.rendering import phrases_in, plain_text
from miras.errors import DataError
from miras.evaluate.baselines import BASELINES
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.lineup import Lineup, slug
from miras.evaluate.overlays import PREDICTION_RGB, TRUTH_RGB, overlay
from miras.evaluate.records import BLIND, Prediction
from miras.evaluate.scoring import Answered, Scored
from miras.files import finished_file, read_records
from miras.paths import Paths
from miras.sources.pictures import open_picture

PANEL_IN = 2.0  # side of one picture
GAP_IN = 0.14
CAPTION_IN = 0.82
TITLE_IN = 0.68
TEXT_COLUMN_IN = 5.0
LINE_IN = 0.155
DPI = 96
INK, MUTED = "#1c2430", "#667080"
MAX_MEGAPIXELS = 178  # where Pillow itself refuses
CHOICES = ("best", "median", "worst", "random")


@dataclass(frozen=True)
class PictureShelf:
    """Opens stored pictures by id."""

    files: Mapping[str, Path]
    """Image id -> file."""

    @classmethod
    def of_data_set(cls, paths: Paths) -> PictureShelf:
        """The pictures of a data set of the pipeline."""
        table = read_records(paths.picture_table, Picture)
        return cls({picture.image_id: paths.pictures / picture.file_name for picture in table})

    @classmethod
    def of_folder(cls, folder: Path) -> PictureShelf:
        """The files of a folder, named `<image_id>.<png|jpg>` as `miras questions` and the stage ingest write them.

        Raises:
            DataError: there is no such folder.
        """
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Give the folder that holds the benchmark's pictures.")
        return cls({file.stem: file for file in sorted(folder.iterdir()) if file.is_file()})

    def open(self, image_id: str) -> Image.Image:
        """The picture, RGB.

        Raises:
            DataError: it is not there, or cannot be read.
        """
        file = self.files.get(image_id)
        if file is None:
            raise DataError(f"picture {image_id}: not among the {len(self.files)} pictures given.")
        return open_picture(file, max_megapixels=MAX_MEGAPIXELS)


def write_galleries(
    folder: Path,
    scored: Sequence[Scored],
    answered: Sequence[Answered],
    *,
    paths: Paths,
    config: EvaluateConfig,
) -> None:
    """Fills the folder with PNGs, one per model, benchmark in its own wording and choice of examples.

    The first benchmark gets every choice and a board of whole dialogues, the others random examples. Each model is
    shown with its first history (its own answers, where dialogues were asked).
    """
    shelf = PictureShelf.of_data_set(paths)
    shown = _shown_groups(scored, config)
    for number, (benchmark, model, history) in enumerate(shown):
        group = {"benchmark": benchmark, "model": model, "history": history}
        items = [item for item in scored if item.group == group]
        is_first = benchmark == shown[0][0]
        picked = pick(items, count=config.gallery_examples, seed=config.seed)
        for choice in CHOICES if is_first else ("random",):
            if picked[choice]:
                title = f"{model} · {benchmark} · {choice} of {len(items)}"
                file = folder / f"{slug(benchmark)}_{slug(model)}_{choice}.png"
                save(example_board(picked[choice], shelf, title=title), file)
        if number == 0 and history == "own" and picked["random"]:
            board = dialogue_board(picked["random"], turns_of(answered), shelf)
            save(board, folder / f"{slug(benchmark)}_{slug(model)}_turns.png")


def _shown_groups(scored: Sequence[Scored], config: EvaluateConfig) -> list[tuple[str, str, str]]:
    """(benchmark, model, history) of the groups that get pictures; the final model of the first benchmark first."""
    wordings = tuple(f"-{family}" for family in config.templates)
    rows = list({tuple(item.group.values()): item.group for item in scored}.values())
    lineup = Lineup.of(rows)
    own_wording = [row for row in rows if not (wordings and row["benchmark"].endswith(wordings))]
    found: dict[tuple[str, str], str] = {}
    for benchmark in dict.fromkeys(row["benchmark"] for row in own_wording):
        for row in lineup.sorted([row for row in own_wording if row["benchmark"] == benchmark]):
            if row["model"] not in (*BASELINES, BLIND):
                found.setdefault((benchmark, row["model"]), row["history"])
    return [(benchmark, model, history) for (benchmark, model), history in found.items()]


def pick(items: Sequence[Scored], *, count: int, seed: int) -> dict[str, list[Scored]]:
    """Examples with a target: the best, those around the median, the worst, and random ones."""
    ranked = sorted(
        (item for item in items if item.sample.target_px),
        key=lambda item: (-item.sample.iou, -item.sample.target_px, item.question.dialogue_id, item.question.turn),
    )
    if not ranked:
        return {"best": [], "median": [], "worst": [], "random": []}
    middle = max(0, (len(ranked) - count) // 2)
    return {
        "best": ranked[:count],
        "median": ranked[middle : middle + count],
        "worst": sorted(ranked[-count:], key=lambda item: item.sample.iou),
        "random": random.Random(seed).sample(ranked, min(count, len(ranked))),
    }


Turns = Mapping[tuple[str, str, str, str], Sequence[Answered]]


def turns_of(answered: Sequence[Answered]) -> dict[tuple[str, str, str, str], list[Answered]]:
    """Answered turns in order, by (benchmark, model, history, dialogue id)."""
    turns: dict[tuple[str, str, str, str], list[Answered]] = {}
    for item in answered:
        turns.setdefault(talk_key(item), []).append(item)
    return {key: sorted(group, key=lambda item: item.question.turn) for key, group in turns.items()}


def talk_key(item: Answered) -> tuple[str, str, str, str]:
    """Of the dialogue as one model held it: the key in `turns_of`."""
    prediction = item.prediction
    return prediction.benchmark, prediction.model, prediction.history, prediction.dialogue_id


def panels(item: Scored, shelf: PictureShelf, *, side_px: int) -> list[Image.Image]:
    """Picture, truth, prediction."""
    picture = shelf.open(item.question.image_id)
    truth = [item.question.target] if item.question.target else []
    said = [predicted.mask for predicted in item.prediction.masks]
    return [
        overlay(picture, [], colour=TRUTH_RGB, side_px=side_px),
        overlay(picture, truth, colour=TRUTH_RGB, side_px=side_px),
        overlay(picture, said, colour=PREDICTION_RGB, side_px=side_px),
    ]


def said_phrase(prediction: Prediction) -> str:
    """What the answer points at, in words."""
    return ", ".join(phrases_in(prediction.answer)) or "(no mask)"


def example_board(examples: Sequence[Scored], shelf: PictureShelf, *, title: str) -> Figure:
    """Two examples per row, each with its question, both phrases and its IoU."""
    width = 2 * (3 * PANEL_IN + 2 * GAP_IN) + 3 * GAP_IN * 2
    rows = -(-len(examples) // 2)
    row_height = PANEL_IN + CAPTION_IN + GAP_IN
    figure = _figure(width, TITLE_IN + rows * row_height, title=title)
    for number, item in enumerate(examples):
        left = 2 * GAP_IN + (number % 2) * (3 * PANEL_IN + 4 * GAP_IN)
        top = TITLE_IN + (number // 2) * row_height
        _draw_panels(figure, item, shelf, left=left, top=top)
        captions = [
            (item.question.question, MUTED),
            (f"truth: {', '.join(item.question.targets)}", _hex(TRUTH_RGB)),
            (f"answer: {said_phrase(item.prediction)} · IoU {100 * item.sample.iou:.1f}", _hex(PREDICTION_RGB)),
        ]
        for line, (text, colour) in enumerate(captions):
            _text(
                figure,
                textwrap.shorten(text, 92),
                left,
                top + PANEL_IN + 0.08 + line * LINE_IN * 1.2,
                colour=colour,
            )
    return figure


def dialogue_board(examples: Sequence[Scored], turns: Turns, shelf: PictureShelf) -> Figure:
    """One dialogue per row: its turns as text, then picture, truth and prediction."""
    texts = [_turn_lines(turns[talk_key(item)]) for item in examples]
    heights = [max(PANEL_IN + 0.45, len(lines) * LINE_IN) + 0.3 for lines in texts]
    width = TEXT_COLUMN_IN + 3 * PANEL_IN + 6 * GAP_IN
    model = examples[0].prediction.model
    figure = _figure(width, TITLE_IN + sum(heights), title=f"{model} · dialogues with its own answers as history")
    top = TITLE_IN
    for item, lines, height in zip(examples, texts, heights, strict=True):
        for number, (text, colour) in enumerate(lines):
            _text(figure, text, 2 * GAP_IN, top + number * LINE_IN, colour=colour)
        left = TEXT_COLUMN_IN + 2 * GAP_IN
        _draw_panels(figure, item, shelf, left=left, top=top)
        truth = textwrap.shorten(f"truth: {', '.join(item.question.targets)}", 80)
        said = textwrap.shorten(f"answer: {said_phrase(item.prediction)} · IoU {100 * item.sample.iou:.1f}", 80)
        _text(figure, truth, left, top + PANEL_IN + 0.08, colour=_hex(TRUTH_RGB))
        _text(figure, said, left, top + PANEL_IN + 0.08 + 1.2 * LINE_IN, colour=_hex(PREDICTION_RGB))
        top += height
    return figure


def _turn_lines(turns: Sequence[Answered]) -> list[tuple[str, str]]:
    lines = []
    for turn in turns:
        lines += [(line, MUTED) for line in textwrap.wrap(f"Q  {turn.question.question}", 72, subsequent_indent="    ")]
        answer = textwrap.wrap(f"A  {plain_text(turn.prediction.answer)}", 72, subsequent_indent="    ")
        lines += [(line, INK) for line in answer]
    return lines


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; the same figure gives the same bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with finished_file(path) as aside:
        drawn.save(aside, format="PNG", optimize=True)


def _figure(width_in: float, height_in: float, *, title: str) -> Figure:
    figure = Figure(figsize=(width_in, height_in), facecolor="white", dpi=DPI)
    _text(figure, title, 2 * GAP_IN, 0.16, colour=INK, size=12, weight="bold")
    return figure


def _draw_panels(figure: Figure, item: Scored, shelf: PictureShelf, *, left: float, top: float) -> None:
    drawn = panels(item, shelf, side_px=round(PANEL_IN * DPI * 1.5))
    for number, (panel, name) in enumerate(zip(drawn, ("picture", "truth", "prediction"), strict=True)):
        axes = _axes(figure, left + number * (PANEL_IN + GAP_IN), top)
        axes.imshow(panel, interpolation="antialiased")
        _text(figure, name, left + number * (PANEL_IN + GAP_IN), top - 0.13, colour=MUTED, size=6.5)


def _axes(figure: Figure, left: float, top: float) -> Axes:
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, 1 - (top + PANEL_IN) / height, PANEL_IN / width, PANEL_IN / height), frameon=False
    )
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _text(
    figure: Figure,
    text: str,
    left: float,
    top: float,
    *,
    colour: str,
    size: float = 8,
    weight: str = "normal",
) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        left / width,
        1 - top / height,
        text,
        color=colour,
        fontsize=size,
        fontweight=weight,
        va="top",
        parse_math=False,  # a dollar sign in a question is a dollar sign
    )


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
