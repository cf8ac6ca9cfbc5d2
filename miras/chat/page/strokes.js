// How the editor draws: masks with a person's strokes, the polygon that is open, the pointer.

/** A mask with its edits as a canvas of the size of `like`. `scale`: pixels of the picture per pixel of the canvas. */
export function layerOf(target, like, { colour, scale }) {
  const layer = document.createElement("canvas");
  layer.width = like.width;
  layer.height = like.height;
  const brush = layer.getContext("2d");
  brush.fillStyle = brush.strokeStyle = colour;
  brush.lineCap = brush.lineJoin = "round";
  if (target.start) {
    brush.drawImage(target.start.fill, target.start.box[0], target.start.box[1]);
    brush.globalCompositeOperation = "source-in"; // its layer's colour may have been another
    brush.fillRect(0, 0, layer.width, layer.height);
  }
  for (const edit of target.edits) apply(brush, edit, scale);
  return layer;
}

function apply(brush, edit, scale) {
  brush.globalCompositeOperation = edit.adds ? "source-over" : "destination-out";
  const points = edit.points.map(([x, y]) => [x / scale, y / scale]);
  trace(brush, points);
  if (edit.tool === "polygon") { brush.closePath(); brush.fill(); return; }
  if (points.length === 1) brush.lineTo(points[0][0] + 0.01, points[0][1]);
  brush.lineWidth = (2 * edit.radius) / scale;
  brush.stroke();
}

function trace(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
}

/** A polygon on its way to the pointer; its first corner, which closes it, is a circle. `pixel`: one of the screen's. */
export function drawOpenPolygon(pen, points, cursor, pixel) {
  trace(pen, [...points, [cursor.x, cursor.y]]);
  pen.lineWidth = 2 * pixel;
  pen.strokeStyle = "#fff";
  pen.stroke();
  pen.setLineDash([5 * pixel, 5 * pixel]);
  pen.strokeStyle = "#111";
  pen.stroke();
  pen.setLineDash([]);
  pen.beginPath();
  pen.arc(points[0][0], points[0][1], 6 * pixel, 0, 7);
  pen.fillStyle = "#fff";
  pen.fill();
  pen.stroke();
}

export function drawCursor(pen, { x, y }, radius, pixel) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2.5 * pixel;
  pen.stroke();
  pen.strokeStyle = "#111";
  pen.lineWidth = pixel;
  pen.stroke();
}
