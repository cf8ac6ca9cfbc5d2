from __future__ import annotations

import re

import numpy as np

from miras.evaluate.charts import Mark, Series, bar_chart, line_chart, trade_off_chart


def test_charts_name_their_lines_and_escape_them() -> None:
    line = line_chart([Series("a < b", "#000", [(0, 1), (10, 3)])], x_label="x", y_label="y")
    assert "a &lt; b" in line
    assert "a < b" not in line
    assert line.count("<polyline") == 1
    bars = bar_chart([Series("one", "#000", [(0, 20), (1, 55)])], categories=("fine", "coarse"), y_label="y")
    assert bars.count("<g><title>one, ") == 2
    assert ">55</text>" in bars


def test_the_contours_of_the_trade_off_join_points_of_equal_f1() -> None:
    chart = trade_off_chart([Mark("m", "#000", "circle", 100, 100)], x_label="recall", y_label="precision")
    corner = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)
    origin = re.search(r'x2="[\d.]+" y1="([\d.]+)" y2="[\d.]+" class="axis"', chart)
    assert corner
    assert origin
    right, top, bottom, left = *map(float, corner.groups()), float(origin[1]), 50.0
    for points, score in re.findall(r'points="([^"]+)" class="contour"/><text[^>]*>F1 (\d+)<', chart):
        places = np.array([[float(part) for part in place.split(",")] for place in points.split()])
        recall, precision = (places[:, 0] - left) / (right - left), (bottom - places[:, 1]) / (bottom - top)
        assert np.allclose(200 * recall * precision / (recall + precision), int(score), atol=0.2)
