// What someone did: the history of a known user, or what an anonymous session holds so far.

import { byId, make, replace } from "./dom.js";
import { itemRow, showRows } from "./items.js";

// history: what GET /users/KEY/history says; run: similar(item) and show(item), which lets a hidden item in again.
export function showHistory(history, { similar, show }) {
  const { items, hidden, num_events: count, features } = history;
  byId("past-title").textContent = "History";
  byId("past-clear").hidden = true;
  byId("past-facts").textContent = count ? `${plural(count, "event")}, the newest first` : "";
  const told = Object.entries(features).filter(([, value]) => value !== null && !Array.isArray(value));
  byId("features").hidden = !told.length;
  replace(
    byId("features"),
    told.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))),
  );
  showRows(
    byId("past"),
    together(items).map(({ item, times }) =>
      itemRow(item, { tag: times > 1 ? `${times} times` : null, actions: item.details === null ? [] : [similar(item)] }),
    ),
  );
  const more = count - items.length;
  replace(
    byId("past-empty"),
    count ? null : make("p", {}, "No events yet. What they like will be here, and will count at once."),
    more > 0 ? make("p", { class: "quiet" }, `and ${plural(more, "earlier event")}`) : null,
  );
  byId("hidden").hidden = !hidden.length;
  byId("hidden-title").textContent = `Hidden (${hidden.length})`;
  showRows(byId("hidden-list"), hidden.map((item) => itemRow(item, { actions: show ? [show(item)] : [] })));
}

// items: the oldest first, shown the newest first.
export function showSession(items, { similar, remove, clear }) {
  byId("past-title").textContent = "Session";
  byId("past-facts").textContent = items.length ? `${plural(items.length, "item")}, the latest first` : "";
  byId("features").hidden = true;
  byId("hidden").hidden = true;
  const button = byId("past-clear");
  button.hidden = !items.length;
  button.onclick = clear;
  showRows(byId("past"), items.map((item, place) => itemRow(item, { actions: [similar(item), remove(place)] })).reverse());
  replace(
    byId("past-empty"),
    items.length ? null : make("p", {}, "Add what a visitor looks at: from the list, or by its name above."),
  );
}

export function showNobody() {
  byId("past-title").textContent = "History";
  byId("past-facts").textContent = "";
  for (const id of ["features", "hidden", "past-clear"]) byId(id).hidden = true;
  replace(byId("past"));
  replace(byId("past-empty"), make("p", {}, "What they did, the newest first."));
}

// Neighbours that are the same item, once.
function together(items) {
  const found = [];
  for (const item of items) {
    const last = found.at(-1);
    if (last && String(last.item.key) === String(item.key)) last.times += 1;
    else found.push({ item, times: 1 });
  }
  return found;
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
