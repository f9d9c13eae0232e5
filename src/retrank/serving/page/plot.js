// A table of an evaluation as a plot: a bar per system, with its interval where the table has one.

import { make, makeSvg, replace } from "./dom.js";
import { plainTable } from "./markdown.js";

const ROW = 34;
const WIDTH = 600; // of the drawing's own units, which stretch with the page

// A cell such as "0.2746 (0.2597–0.2893)" or "0.2746"; null if it is no number.
export function measured(cell) {
  const found = /^(-?[\d.]+(?:e-?\d+)?)\s*(?:[([]\s*(-?[\d.]+(?:e-?\d+)?)\s*(?:–|-|to|,)\s*(-?[\d.]+(?:e-?\d+)?)\s*[)\]])?$/.exec(
    cell.replaceAll("**", ""),
  );
  if (!found || !Number.isFinite(Number(found[1]))) return null;
  const [value, low, high] = found.slice(1).map((text) => (text === undefined ? null : Number(text)));
  return { value, low, high, text: found[1] };
}

// The table itself if its columns are no numbers; else the plot of one column at a time, and the table to open.
export function evaluationTable(header, rows) {
  const columns = header.map((_, column) => column).filter((column) => column && rows.every((row) => measured(row[column] ?? "")));
  if (!columns.length || !rows.length) return plainTable(header, rows);
  const drawing = make("div", { class: "plot" });
  const show = (column) => {
    for (const button of choices.children) button.setAttribute("aria-pressed", String(button.dataset.column === String(column)));
    replace(drawing, bars(header[column], rows.map((row) => ({ name: row[0], ...measured(row[column]) }))));
  };
  const choices = make(
    "div",
    { class: "choices", role: "group", "aria-label": "Metric" },
    columns.map((column) =>
      make("button", { type: "button", class: "example", "data-column": column, onclick: () => show(column) }, header[column]),
    ),
  );
  show(columns[0]);
  return make(
    "figure",
    {},
    choices,
    drawing,
    make("details", {}, make("summary", {}, "The numbers as a table"), plainTable(header, rows)),
  );
}

function bars(metric, systems) {
  const highest = Math.max(...systems.map(({ value, high }) => Math.max(value, high ?? value, 0))) || 1;
  const best = Math.max(...systems.map(({ value }) => value));
  return make(
    "dl",
    { class: "bars", "aria-label": metric },
    systems.map(({ name, value, low, high, text }) => {
      const x = (number) => (Math.max(number, 0) / highest) * (WIDTH - 2); // room for the end of the longest interval
      const interval = low === null ? "" : `${low} to ${high}`;
      return make(
        "div",
        { class: value === best ? "best" : "" },
        make("dt", {}, name),
        make(
          "dd",
          { title: interval },
          makeSvg(
            "svg",
            { viewBox: `0 0 ${WIDTH} ${ROW}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
            makeSvg("rect", { x: 0, y: 9, width: x(value), height: ROW - 18, rx: 3, class: "value" }),
            low === null ? null : makeSvg("path", { d: `M${x(low)} ${ROW / 2}H${x(high)}M${x(low)} 11V${ROW - 11}M${x(high)} 11V${ROW - 11}`, class: "interval" }),
          ),
          make("span", { class: "number" }, text, make("span", { class: "hidden" }, interval ? `, interval ${interval}` : "")),
        ),
      );
    }),
  );
}
