"""The card's figures as PNG, each with a text for those who cannot see it. The same numbers give the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from wordcloud import WordCloud

from miras.card.statistics import BINS_PER_OCTAVE, DataStatistics, PartStatistics
from miras.dialogue.masks import FINE_BELOW_PX, MEDIUM_BELOW_PX, SIZE_CLASSES, size_class
from miras.files import finished_file
from miras.quality.focus_classes import OTHER

DPI = 144
INK, MUTED, GRID, AXIS = "#1c2430", "#667080", "#e8edf3", "#b6c2d1"
KIND_COLOURS = {
    "prist": "#2563eb",
    "mrseg": "#0f766e",
    "referring": "#a855f7",
    "semantic": "#d97706",
    "vqa": "#94a3b8",
    "caption": "#e25526",
}
SIZE_COLOURS = {"fine": "#f59e0b", "medium": "#2563eb", "coarse": "#0f766e"}
RING_COLOURS = ("#2563eb", "#0f766e", "#d97706", "#a855f7", "#e25526")  # one more than there are classes
UNKNOWN_COLOUR = "#94a3b8"
MAX_BARS = 45  # of a histogram; what lies beyond is joined in the last one
LABEL_CHARACTERS = 18  # of a line beside a ring
SMALL_SHARE = 0.025  # a slice of a ring below this has no room for its name
MAX_SOURCES = 20


@dataclass(frozen=True)
class Drawn:
    """A figure that was written."""

    file: str
    title: str
    alt: str
    """What it shows, in words and numbers."""


def write_figures(folder: Path, found: DataStatistics, *, seed: int) -> list[Drawn]:
    """Fills the folder with the figures that there is data for."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if focused(found).focus_classes:
        drawn.append(_focus_ring(folder, focused(found)))
    if found.focus_words:
        drawn.append(_word_cloud(folder, found.focus_words, seed=seed))
    drawn.append(_lengths(folder, found))
    if found.whole.masks.area_px.count:
        drawn.append(_mask_sizes(folder, found.whole))
    return [*drawn, _sources(folder, found)]


def focused(found: DataStatistics) -> PartStatistics:
    """The part whose foci are shown: PRIST dialogues, or all that have a focus where there are none."""
    return found.part("kind", "prist") or found.whole


def _focus_ring(folder: Path, part: PartStatistics) -> Drawn:
    """Super classes inside, their sub classes around them (the paper's figure 3)."""
    supers: dict[str, list[tuple[str, int]]] = {}
    for item in part.focus_classes:
        supers.setdefault(item.super_class, []).append((item.sub_class, item.count))
    order = sorted(supers, key=lambda name: -sum(count for _, count in supers[name]))
    total = sum(item.count for item in part.focus_classes)
    figure = _figure(7.6, 5.6)
    axes = figure.add_axes((0.2, 0.02, 0.6, 0.84))
    inner = [sum(count for _, count in supers[name]) for name in order]
    colours = [UNKNOWN_COLOUR if name == OTHER else RING_COLOURS[place] for place, name in enumerate(order)]
    _title(figure, "What dialogues lead to", f"{total:,} foci by class (inside) and subclass (around)")
    wedges = axes.pie(inner, radius=0.68, colors=colours, startangle=90, counterclock=False, wedgeprops=_wedge(0.36))[0]
    for wedge, name, count in zip(wedges, order, inner, strict=True):
        if count >= 4 * SMALL_SHARE * total:  # a smaller wedge has no room for its name
            _inside(axes, wedge, f"{name.replace(' ', chr(10))}\n{100 * count / total:.0f} %", radius=0.5)
    outer = [(sub, count, number) for number, name in enumerate(order) for sub, count in supers[name]]
    shades = [_lighter(colours[number], 0.35) for _, _, number in outer]
    rings = axes.pie(
        [count for _, count, _ in outer],
        radius=1.0,
        colors=shades,
        startangle=90,
        counterclock=False,
        wedgeprops=_wedge(0.3),
    )[0]
    labels = [f"{textwrap.fill(sub, LABEL_CHARACTERS)} {100 * count / total:.0f} %" for sub, count, _ in outer]
    _around(axes, rings, labels)
    told = "; ".join(
        f"{name} {100 * count / total:.0f} % ({', '.join(f'{sub} {number}' for sub, number in supers[name])})"
        for name, count in zip(order, inner, strict=True)
    )
    return _saved(figure, folder, "focus.png", "Foci by class", f"Ring chart of {total} foci by class: {told}.")


def _around(axes: Axes, wedges: Sequence[object], labels: Sequence[str], *, gap: float = 0.115) -> None:
    """Labels outside of a ring, on each side kept apart by moving them up or down."""
    sides: dict[bool, list[tuple[float, float, str]]] = {True: [], False: []}
    for wedge, label in zip(wedges, labels, strict=True):
        angle = np.deg2rad((wedge.theta1 + wedge.theta2) / 2)  # type: ignore[attr-defined]
        x, y = float(np.cos(angle)), float(np.sin(angle))
        sides[x >= 0].append((y, x, label))
    for is_right, items in sides.items():
        items.sort(reverse=True)
        heights = _apart([1.12 * y for y, _, _ in items], gap=gap)
        for (y, x, label), height in zip(items, heights, strict=True):
            end = 1.2 if is_right else -1.2
            axes.annotate(
                label,
                xy=(x, y),
                xytext=(end, height),
                ha="left" if is_right else "right",
                va="center",
                fontsize=8.5,
                color=INK,
                arrowprops={"arrowstyle": "-", "color": AXIS, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 0},
                parse_math=False,
            )


def _apart(heights: Sequence[float], *, gap: float) -> list[float]:
    """Falling heights moved so that neighbours are at least `gap` apart, around their common middle."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - gap) if placed else height)
    drift = (sum(heights) - sum(placed)) / len(heights) if heights else 0.0
    return [height + drift for height in placed]


def _inside(axes: Axes, wedge: object, text: str, *, radius: float) -> None:
    angle = np.deg2rad((wedge.theta1 + wedge.theta2) / 2)  # type: ignore[attr-defined]
    place = (radius * np.cos(angle), radius * np.sin(angle))
    axes.text(*place, text, ha="center", va="center", color="white", fontsize=8, fontweight="bold", parse_math=False)


def _word_cloud(folder: Path, words: Sequence[tuple[str, int]], *, seed: int) -> Drawn:
    """The most frequent words of the foci, larger where more frequent (the paper's figure 5)."""
    palette = (*(KIND_COLOURS[name] for name in ("prist", "mrseg", "referring", "semantic")), INK)
    ranks = {word: rank for rank, (word, _) in enumerate(words)}
    cloud = WordCloud(
        font_path=font_manager.findfont("DejaVu Sans"),  # has Latin, Greek and Cyrillic letters
        width=1000,
        height=560,
        background_color="white",
        max_words=len(words),
        max_font_size=150,
        relative_scaling=0.4,
        prefer_horizontal=0.92,
        margin=8,
        random_state=seed,
        color_func=lambda word, **_: palette[ranks[word] % len(palette)],
    ).generate_from_frequencies(dict(words))
    figure = _figure(7.6, 4.9)
    _title(figure, "Words of the foci", f"the most frequent content words, {len(words):,} of them")
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.82))
    axes.imshow(cloud.to_array(), interpolation="bilinear")
    axes.axis("off")
    first = ", ".join(f"{word} {count}" for word, count in words[:20])
    return _saved(figure, folder, "words.png", "Words of the foci", f"Word cloud; the most frequent words: {first}.")


def _lengths(folder: Path, found: DataStatistics) -> Drawn:
    measures = (
        ("turns_per_dialogue", "turns of a dialogue", "dialogues"),
        ("words_per_dialogue", "words of a dialogue", "dialogues"),
        ("words_per_question", "words of a question", "questions"),
        ("words_per_answer", "words of an answer", "answers"),
    )
    figure = _figure(9.4, 6.4)
    is_cut = any(_num_bars(found.whole, measure) > MAX_BARS for measure, _, _ in measures)
    _title(figure, "Turns and lengths", "by kind of dialogue" + ("; a last bar holds all beyond" if is_cut else ""))
    kinds = sorted(found.along("kind"), key=lambda part: list(KIND_COLOURS).index(part.name))
    for number, (measure, label, counted) in enumerate(measures):
        column, row = number % 2, number // 2
        axes = figure.add_axes((0.08 + 0.49 * column, 0.53 - 0.435 * row, 0.41, 0.31))
        _stacked_histogram(axes, kinds, measure)
        _decorate(axes, x_label=label, y_label=counted)
    handles = [Patch(color=KIND_COLOURS[part.name], label=part.name) for part in kinds]
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.99, 0.985),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=MUTED,
    )
    spread = {name: found.whole.lengths[name] for name, _, _ in measures}
    told = "; ".join(
        f"{label}: mean {spread[name].mean:.1f}, median {spread[name].median:g}, {spread[name].least} to "
        f"{spread[name].most}"
        for name, label, _ in measures
    )
    return _saved(figure, folder, "lengths.png", "Turns and lengths", f"Four histograms by kind. {told}.")


def _num_bars(part: PartStatistics, measure: str) -> int:
    lengths = part.lengths[measure]
    return lengths.most // lengths.bin_width - lengths.least // lengths.bin_width + 1


def _stacked_histogram(axes: Axes, kinds: Sequence[PartStatistics], measure: str) -> None:
    found = {part.name: dict(part.lengths[measure].histogram) for part in kinds}
    width = kinds[0].lengths[measure].bin_width
    lows = [low for bins in found.values() for low in bins]
    first, last = min(lows), min(max(lows), min(lows) + width * (MAX_BARS - 1))
    edges = np.arange(first, last + width, width)
    bottom = np.zeros(len(edges))
    for part in kinds:
        heights = np.zeros(len(edges))
        for low, count in found[part.name].items():
            heights[(min(low, last) - first) // width] += count
        axes.bar(edges, heights, width=0.86 * width, bottom=bottom, color=KIND_COLOURS[part.name], align="edge")
        bottom += heights
    if width == 1:  # each bar is one number: it stands over it
        axes.set_xticks([edge + 0.43 for edge in edges], [str(edge) for edge in edges])
        if len(edges) > 12:
            axes.set_xticks(axes.get_xticks()[::2], [str(edge) for edge in edges[::2]])


def _mask_sizes(folder: Path, whole: PartStatistics) -> Drawn:
    figure = _figure(7.6, 4.1)
    sizes = whole.masks
    _title(figure, "Sizes of the targets' masks", "pixels on a canvas of 1024 × 1024, each target once")
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.68))
    places = [place for place, _ in sizes.by_half_octave]
    colours = [SIZE_COLOURS[size_class(2 ** ((place + 0.5) / BINS_PER_OCTAVE))] for place in places]
    axes.bar(places, [count for _, count in sizes.by_half_octave], width=0.9, align="edge", color=colours)
    for limit in (FINE_BELOW_PX, MEDIUM_BELOW_PX):
        axes.axvline(BINS_PER_OCTAVE * np.log2(limit), color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    ticks = [value for value in (10, 100, 1_000, 10_000, 100_000, 1_000_000) if min(places) - 1 <= _half_octave(value)]
    ticks = [value for value in ticks if _half_octave(value) <= max(places) + 2]
    axes.set_xticks([_half_octave(value) for value in ticks], [f"{value:,}" for value in ticks])
    _decorate(axes, x_label="area, px", y_label="targets")
    total = sizes.area_px.count
    handles = [
        Patch(color=SIZE_COLOURS[name], label=f"{name} {100 * getattr(sizes, name) / total:.0f} %")
        for name in SIZE_CLASSES
    ]
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.98, 0.98),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=MUTED,
    )
    told = ", ".join(f"{name} {getattr(sizes, name)}" for name in SIZE_CLASSES)
    return _saved(
        figure,
        folder,
        "mask_sizes.png",
        "Sizes of the masks",
        f"Histogram of {total} mask areas: {told}; median {sizes.area_px.median:,.0f} px, from "
        f"{sizes.area_px.least:,} to {sizes.area_px.most:,} px.",
    )


def _half_octave(area_px: float) -> float:
    return float(BINS_PER_OCTAVE * np.log2(area_px))


def _sources(folder: Path, found: DataStatistics) -> Drawn:
    sources = found.along("source")[:MAX_SOURCES]
    figure = _figure(7.6, 1.3 + 0.42 * len(sources))
    height = float(figure.get_size_inches()[1])
    hidden = len(found.along("source")) - len(sources)
    _title(figure, "Dialogues by source", "by kind" + (f"; {hidden} smaller sources are left out" if hidden else ""))
    axes = figure.add_axes((0.24, 0.5 / height, 0.64, 0.42 * len(sources) / height))
    left = np.zeros(len(sources))
    places = np.arange(len(sources))
    kinds = [kind for kind in KIND_COLOURS if kind in found.whole.kinds]
    for kind in kinds:
        counts = np.array([part.kinds.get(kind, 0) for part in sources], dtype=float)
        axes.barh(places, counts, left=left, height=0.66, color=KIND_COLOURS[kind], label=kind)
        left += counts
    for place, part in zip(places, sources, strict=True):
        axes.text(float(left[place]), int(place), f" {part.dialogues:,}", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(places, [f"{part.name}\n{part.pictures:,} pictures" for part in sources], fontsize=8.5)
    axes.invert_yaxis()
    _decorate(axes, x_label="dialogues", y_label="", grid="x")
    axes.set_xlim(0, 1.12 * left.max())
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="upper right",
        bbox_to_anchor=(0.99, 1 - 0.05 / height),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=MUTED,
    )
    told = "; ".join(f"{part.name}: {part.dialogues} dialogues about {part.pictures} pictures" for part in sources)
    return _saved(figure, folder, "sources.png", "Dialogues by source", f"Bars of dialogues by source. {told}.")


def _figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in), facecolor="white", dpi=DPI)


def _title(figure: Figure, title: str, subtitle: str) -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.02, 1 - 0.14 / height, title, va="top", color=INK, fontsize=12.5, fontweight="bold")
    figure.text(0.02, 1 - 0.42 / height, subtitle, va="top", color=MUTED, fontsize=9)


def _decorate(axes: Axes, *, x_label: str, y_label: str, grid: str = "y") -> None:
    """The report's look: grid lines behind the bars, no frame but the base line."""
    axes.set_axisbelow(True)
    axes.grid(axis="y" if grid == "y" else "x", color=GRID, linewidth=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(AXIS)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=8.5)
    axes.set_xlabel(x_label, color=MUTED, fontsize=9)
    axes.set_ylabel(y_label, color=MUTED, fontsize=9)


def _wedge(width: float) -> dict[str, object]:
    return {"width": width, "edgecolor": "white", "linewidth": 1.5}


def _lighter(colour: str, share: float) -> str:
    """The colour #rrggbb mixed with this share of white."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _saved(figure: Figure, folder: Path, file: str, title: str, alt: str) -> Drawn:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with finished_file(folder / file) as aside:
        drawn.save(aside, format="PNG", optimize=True)  # without matplotlib's own note of its version
    return Drawn(file=file, title=title, alt=alt)
