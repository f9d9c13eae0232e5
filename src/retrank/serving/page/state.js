// What serves, and from where.

import { make } from "./dom.js";

const STORES = { Sqlite: "SQLite", Postgres: "PostgreSQL" };

export function statePanel(status) {
  const { store, index } = status;
  const lag = store.answers ? store.position - store.known : 0;
  const rows = [
    ["Bundle", make("code", {}, status.bundle)],
    ["Stages", status.stages.join(" → ")],
    ["Candidates", count(status.num_candidates)],
    ["Known users", count(status.num_queries)],
    ["Events known", count(status.num_events)],
    ["Index", index ? indexed(index) : "none: a baseline"],
    ["Store", pill(store.answers, `${STORES[store.kind] ?? store.kind}, ${store.answers ? "answers" : "does not answer"}`)],
    ["Position", store.answers ? `${count(store.position)}${lag > 0 ? `, ${count(lag)} to come in with the next answer` : ""}` : count(store.known)],
    ["Workers", count(status.workers)],
    ["Reloads", counters(status.reloads) || "none"],
    ...(status.reload_error ? [["Last reload", pill(false, status.reload_error)]] : []),
    ["Events kept", counters(status.events) || "none"],
    ["Changes that do not fit", count(store.refused_changes)],
    ["Impressions lost", count(status.lost_impressions)],
    ["retrank", status.version],
  ];
  return [
    make("header", { class: "panel-head" }, make("h2", { id: "state-title" }, "State")),
    make("dl", { class: "facts-list" }, rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
  ];
}

function count(value) {
  return value.toLocaleString("en");
}

// "Faiss IVF1024,SQ8, approximate: recall@10 0.995, recall@100 0.984"
function indexed(index) {
  const name = [index.kind, index.factory].filter(Boolean).join(" ");
  if (index.is_exact) return name;
  const recalls = Object.entries(index).filter(([fact]) => fact.startsWith("recall@"));
  return `${name}, approximate${recalls.length ? ": " : ""}${recalls.map(([fact, value]) => `${fact} ${value.toFixed(3)}`).join(", ")}`;
}

function counters(values) {
  return Object.entries(values)
    .map(([name, value]) => `${count(value)} ${name}`)
    .join(", ");
}

function pill(isGood, text) {
  return make("span", { class: isGood ? "state good" : "state bad" }, text);
}
