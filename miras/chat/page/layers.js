// Masks as coloured layers: decoded once, drawn at the screen's own resolution, found under the pointer.

export const COLOURS = ["#e5484d", "#2f6fed", "#12a150", "#f5a524", "#8e4ec6", "#05a2c2", "#d6409f", "#6e7f0e"];

export const colourOf = (number) => COLOURS[number % COLOURS.length];

export const keyOf = ({ model, turn, target }) => `${model}:${turn}:${target}`;

/** A target's mask in pixels of the view: {box, width, height, bits (1 where set), outline (Path2D), fill (canvas)}. */
export async function decodeMask(target, colour) {
  if (!target.png) return null;
  const image = new Image();
  image.src = `data:image/png;base64,${target.png}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  const { width, height } = image;
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const pixels = pen.getImageData(0, 0, width, height);
  const bits = new Uint8Array(width * height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  for (let at = 0; at < bits.length; at++) {
    bits[at] = pixels.data[4 * at] > 127 ? 1 : 0;
    pixels.data.set([red, green, blue, bits[at] * 255], 4 * at);
  }
  pen.putImageData(pixels, 0, 0);
  return { box: target.box, width, height, bits, fill: canvas, outline: outlineOf(bits, width, height, target.box), area: target.area };
}

/** The border between set and clear pixels, straight runs as single lines. */
function outlineOf(bits, width, height, [left, top]) {
  const path = new Path2D();
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : bits[y * width + x]);
  const runs = (long, short, differs, line) => {
    for (let across = 0; across <= short; across++) {
      let start = -1;
      for (let along = 0; along <= long; along++) {
        const isEdge = along < long && differs(along, across);
        if (isEdge && start < 0) start = along;
        if (!isEdge && start >= 0) { line(start, along, across); start = -1; }
      }
    }
  };
  runs(width, height, (x, y) => at(x, y) !== at(x, y - 1), (x0, x1, y) => { path.moveTo(left + x0, top + y); path.lineTo(left + x1, top + y); });
  runs(height, width, (y, x) => at(x, y) !== at(x - 1, y), (y0, y1, x) => { path.moveTo(left + x, top + y0); path.lineTo(left + x, top + y1); });
  return path;
}

export function covers(mask, x, y) {
  const column = Math.floor(x) - mask.box[0], row = Math.floor(y) - mask.box[1];
  return column >= 0 && row >= 0 && column < mask.width && row < mask.height && mask.bits[row * mask.width + column] === 1;
}

/** Draws layers over a picture. `layers`: [{mask, colour, isHovered, isChosen}], back to front. */
export function draw(canvas, view, layers, opacity) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const pen = canvas.getContext("2d"), scale = width / view.width;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.setTransform(scale, 0, 0, height / view.height, 0, 0);
  pen.imageSmoothingEnabled = scale < 1;
  layers.sort((one, other) => (one.isHovered || one.isChosen) - (other.isHovered || other.isChosen));
  const someHovered = layers.some((layer) => layer.isHovered);
  for (const { mask, isHovered } of layers) {
    pen.globalAlpha = isHovered ? Math.min(1, opacity + 0.2) : someHovered ? opacity * 0.35 : opacity;
    pen.drawImage(mask.fill, mask.box[0], mask.box[1]);
  }
  for (const { mask, colour, isHovered, isChosen } of layers) {
    pen.globalAlpha = someHovered && !isHovered ? 0.45 : 1;
    if (isHovered || isChosen) {
      pen.strokeStyle = "#fff";
      pen.lineWidth = (5 * ratio) / scale;
      pen.stroke(mask.outline);
    }
    pen.strokeStyle = colour;
    pen.lineWidth = ((isHovered || isChosen ? 2.5 : 1.6) * ratio) / scale;
    pen.stroke(mask.outline);
  }
  pen.globalAlpha = 1;
}
