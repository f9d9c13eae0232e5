// A candidate as a row: what it is, its score as a bar, why it is there, and what can be done with it.

import { factsOf, titleOf } from "./catalogue.js";
import { byId, make } from "./dom.js";
import { icon } from "./icons.js";

// actions: [{name, label, icon, run}]; share: of the bar, 0 to 1; reasons: elements below the facts.
export function itemRow(item, { place = null, share = null, scoreNote = "", actions = [], reasons = [], tag = null } = {}) {
  const title = titleOf(item);
  const facts = factsOf(item).map(({ name, text }) => make("span", { title: name }, text));
  const row = make(
    "li",
    { class: "item" },
    place === null ? null : make("span", { class: "place", "aria-hidden": "true" }, String(place)),
    make(
      "div",
      { class: "what" },
      make("p", { class: "name" }, title, tag ? make("span", { class: "tag" }, tag) : null),
      facts.length ? make("p", { class: "facts quiet" }, facts) : null,
      reasons,
    ),
    share === null ? null : scoreBar(item.score, share, scoreNote),
    make(
      "div",
      { class: "actions" },
      actions.map(({ name, label, icon: drawing, run, pressed }) =>
        make(
          "button",
          {
            type: "button",
            class: "round",
            title: label,
            "aria-label": `${label}: ${title}`,
            "aria-expanded": pressed,
            "data-action": name,
            onclick: run,
          },
          icon(drawing),
        ),
      ),
    ),
  );
  row.dataset.key = String(item.key);
  return row;
}

function scoreBar(score, share, note) {
  const fill = make("span", { class: "fill" });
  fill.style.setProperty("--share", String(share));
  return make(
    "div",
    { class: "score", title: note },
    make("span", { class: "bar", "aria-hidden": "true" }, fill),
    make("span", { class: "number" }, make("span", { class: "hidden" }, "score "), formatScore(score)),
  );
}

export function formatScore(score) {
  if (Number.isInteger(score)) return score.toLocaleString("en"); // a count
  return Math.abs(score) >= 1000 ? score.toFixed(0) : Math.abs(score) >= 100 ? score.toFixed(1) : score.toFixed(3);
}

// Bars begin at zero where no score is below it, and else at the lowest score of the list.
export function shares(scores) {
  const low = Math.min(0, ...scores) < 0 ? Math.min(...scores) : 0;
  const span = Math.max(...scores) - low;
  const least = low < 0 ? 0.04 : 0; // else the last of the list would have none
  return {
    of: (score) => (span > 0 ? least + (1 - least) * ((score - low) / span) : 1),
    note: low < 0 ? "The bar runs from the lowest to the highest score of this list" : "The bar begins at a score of 0",
  };
}

// Put rows into a list without losing the focus: it stays on the same button, or goes to the one that took its place.
export function showRows(list, rows) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const action = focused?.dataset.action;
  const old = focused?.closest(".item");
  const place = old ? [...list.children].indexOf(old) : -1;
  list.replaceChildren(...rows);
  if (!focused) return;
  const same = rows.find((row) => row.dataset.key === old?.dataset.key);
  const row = same ?? rows[Math.min(place, rows.length - 1)];
  (row?.querySelector(`[data-action="${action}"]`) ?? row?.querySelector("button") ?? byId("main")).focus();
}
