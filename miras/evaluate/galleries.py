"""Galleries: picture, truth and prediction side by side, as PNG files for MLflow and for a quick look."""

from __future__ import annotations

import itertools
import random
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from miras.dialogue.records import Picture
from miras.dialogue.rendering import phrases_in, plain_text
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.overlays import PREDICTION_RGB, TRUTH_RGB, overlay
from miras.evaluate.records import Benchmark, History, Prediction
from miras.evaluate.tables import Scored
from miras.files import finished_file, read_records
from miras.paths import Paths

PANEL_IN = 2.0  # side of one picture
GAP_IN = 0.14
CAPTION_IN = 0.82
TITLE_IN = 0.68
TEXT_COLUMN_IN = 5.0
LINE_IN = 0.155
DPI = 96
INK, MUTED = "#1c2430", "#667080"
MODELS = ("stage1", "stage2")
# Benchmark, history, and which choices of examples get a gallery.
SHOWN: tuple[tuple[Benchmark, History, tuple[str, ...]], ...] = (
    ("dialogues", "own", ("best", "median", "worst", "random")),
    ("queries", "none", ("random",)),
)


class PictureShelf:
    """Opens the stored pictures by id."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.pictures
        self._names = {picture.image_id: picture.file_name for picture in read_records(paths.picture_table, Picture)}

    def open(self, image_id: str) -> Image.Image:
        """The picture, RGB."""
        with Image.open(self._folder / self._names[image_id]) as opened:
            return opened.convert("RGB")


def write_galleries(
    folder: Path,
    scored: Sequence[Scored],
    predictions: Sequence[Prediction],
    *,
    paths: Paths,
    config: EvaluateConfig,
) -> None:
    """Fills the folder with one PNG per model and choice of examples, and one of whole dialogues."""
    shelf = PictureShelf(paths)
    for model, (benchmark, history, choices) in itertools.product(MODELS, SHOWN):
        group = {"benchmark": benchmark, "model": model, "history": history}
        items = [item for item in scored if item.group == group]
        for choice, examples in pick(items, count=config.gallery_examples, seed=config.seed).items():
            if examples and choice in choices:
                title = f"{model} · {benchmark} · {choice} of {len(items)}"
                save(example_board(examples, shelf, title=title), folder / f"{benchmark}_{model}_{choice}.png")
    told = [item for item in scored if item.group == {"benchmark": "dialogues", "model": "stage2", "history": "own"}]
    examples = pick(told, count=config.gallery_examples, seed=config.seed)["random"]
    if examples:
        save(dialogue_board(examples, turns_of(predictions), shelf), folder / "dialogues_stage2_turns.png")


def pick(items: Sequence[Scored], *, count: int, seed: int) -> dict[str, list[Scored]]:
    """Examples with a target: the best, those around the median, the worst, and random ones."""
    ranked = sorted(
        (item for item in items if item.sample.target_px),
        key=lambda item: (-item.sample.iou, -item.sample.target_px, item.prediction.dialogue_id),
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


Turns = Mapping[tuple[str, str, str], Sequence[Prediction]]


def turns_of(predictions: Sequence[Prediction]) -> dict[tuple[str, str, str], list[Prediction]]:
    """Answered turns in order, by (model, history, dialogue id), of the benchmark `dialogues`."""
    turns: dict[tuple[str, str, str], list[Prediction]] = {}
    for prediction in predictions:
        if prediction.benchmark == "dialogues":
            key = (prediction.model, prediction.history, prediction.dialogue_id)
            turns.setdefault(key, []).append(prediction)
    return {key: sorted(group, key=lambda prediction: prediction.turn) for key, group in turns.items()}


def panels(item: Scored, shelf: PictureShelf, *, side_px: int) -> list[Image.Image]:
    """Picture, truth, prediction."""
    prediction, picture = item.prediction, shelf.open(item.prediction.image_id)
    truth = [prediction.target] if prediction.target else []
    said = [group.mask for group in prediction.groups]
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
        prediction = item.prediction
        captions = [
            (prediction.question, MUTED),
            (f"truth: {', '.join(prediction.targets)}", _hex(TRUTH_RGB)),
            (f"answer: {said_phrase(prediction)} · IoU {100 * item.sample.iou:.1f}", _hex(PREDICTION_RGB)),
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
    texts = [
        _turn_lines(turns[item.prediction.model, item.prediction.history, item.prediction.dialogue_id])
        for item in examples
    ]
    heights = [max(PANEL_IN + 0.45, len(lines) * LINE_IN) + 0.3 for lines in texts]
    width = TEXT_COLUMN_IN + 3 * PANEL_IN + 6 * GAP_IN
    figure = _figure(width, TITLE_IN + sum(heights), title="stage2 · dialogues with its own answers as history")
    top = TITLE_IN
    for item, lines, height in zip(examples, texts, heights, strict=True):
        for number, (text, colour) in enumerate(lines):
            _text(figure, text, 2 * GAP_IN, top + number * LINE_IN, colour=colour)
        left = TEXT_COLUMN_IN + 2 * GAP_IN
        _draw_panels(figure, item, shelf, left=left, top=top)
        truth = textwrap.shorten(f"truth: {', '.join(item.prediction.targets)}", 80)
        said = textwrap.shorten(f"answer: {said_phrase(item.prediction)} · IoU {100 * item.sample.iou:.1f}", 80)
        _text(figure, truth, left, top + PANEL_IN + 0.08, colour=_hex(TRUTH_RGB))
        _text(figure, said, left, top + PANEL_IN + 0.08 + 1.2 * LINE_IN, colour=_hex(PREDICTION_RGB))
        top += height
    return figure


def _turn_lines(turns: Sequence[Prediction]) -> list[tuple[str, str]]:
    lines = []
    for turn in turns:
        lines += [(line, MUTED) for line in textwrap.wrap(f"Q  {turn.question}", 72, subsequent_indent="    ")]
        answer = textwrap.wrap(f"A  {plain_text(turn.answer)}", 72, subsequent_indent="    ")
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
