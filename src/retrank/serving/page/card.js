// The card of the bundle: what a reader must know, and the plot of how good it is.

import { make } from "./dom.js";
import { rendered } from "./markdown.js";
import { evaluationTable } from "./plot.js";

const SECTIONS = { metrics: "How good it is", data: "Data", split: "Split", models: "Models", limits: "Limits" };

export function cardPanel({ card, bundle }) {
  const sections = Object.entries(SECTIONS)
    .filter(([name]) => card[name])
    .map(([name, title]) => make("section", { class: name }, make("h3", {}, title), rendered(card[name], evaluationTable)));
  const facts = Object.entries(card.facts ?? {});
  return [
    make("header", { class: "panel-head" }, make("div", {}, make("h2", { id: "card-title" }, card.title || "Card"), make("p", { class: "quiet" }, `The card of bundle ${bundle}`))),
    make("div", { class: "card" }, sections, facts.length ? make("section", {}, make("h3", {}, "Facts"), factList(facts)) : null),
  ];
}

function factList(facts) {
  const text = (value) => {
    if (Array.isArray(value)) return value.map(text).join(", ");
    if (typeof value !== "object" || value === null) return String(value);
    return Object.entries(value).map(([name, one]) => `${name} ${text(one)}`).join(", ");
  };
  return make("dl", { class: "facts-list" }, facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, text(value)))));
}
