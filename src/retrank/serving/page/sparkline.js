// A small line of the last values; gaps where there were none. The number beside it says what counts.

import { makeSvg } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 36;
const MARGIN = 3;

export function sparkline(values, length) {
  const highest = Math.max(...values.filter((value) => Number.isFinite(value)), 0) || 1;
  const x = (place) => WIDTH - MARGIN - ((values.length - 1 - place) / (length - 1)) * (WIDTH - 2 * MARGIN);
  const y = (value) => HEIGHT - MARGIN - (Math.min(value, highest) / highest) * (HEIGHT - 2 * MARGIN);
  const lines = runs(values).map((points) => {
    const path = points.map(([place, value]) => `${x(place).toFixed(1)},${y(value).toFixed(1)}`);
    const [first, last] = [x(points[0][0]).toFixed(1), x(points.at(-1)[0]).toFixed(1)];
    return [
      makeSvg("polygon", { points: [`${first},${HEIGHT - MARGIN}`, ...path, `${last},${HEIGHT - MARGIN}`].join(" "), class: "area" }),
      makeSvg("polyline", { points: path.join(" "), class: "line" }),
    ];
  });
  const last = values.at(-1);
  const dot = Number.isFinite(last) ? makeSvg("circle", { cx: x(values.length - 1), cy: y(last), r: 2.5, class: "dot" }) : null;
  return makeSvg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "sparkline", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    makeSvg("line", { x1: MARGIN, x2: WIDTH - MARGIN, y1: HEIGHT - MARGIN, y2: HEIGHT - MARGIN, class: "base" }),
    lines,
    dot,
  );
}

// The stretches without gaps, as [place, value].
function runs(values) {
  const found = [];
  let run = [];
  values.forEach((value, place) => {
    if (Number.isFinite(value)) run.push([place, value]);
    else if (run.length) {
      found.push(run);
      run = [];
    }
  });
  return run.length ? [...found, run] : found;
}
