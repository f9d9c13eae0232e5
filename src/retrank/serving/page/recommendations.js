// The list of recommendations, with what it says of itself.

import { announce, byId, make, replace } from "./dom.js";
import { reasonsOf, showLeftOut } from "./explanation.js";
import { itemRow, shares, showRows } from "./items.js";
import { titleOf } from "./catalogue.js";
import { plural } from "./past.js";

const STAGES = {
  ranking: "ordered by the ranking model",
  retrieval: "as retrieval found them",
  popularity: "the popular ones",
};

// found: {answer, browser, server}; who: text, null for a session; actions(item): what can be done with an item.
export function showRecommendations({ answer, browser, server }, { who, isKnown, isEmptySession, actions }) {
  const bars = shares(answer.items.map((item) => item.score));
  const rows = answer.items.map((item, place) =>
    itemRow(item, {
      place: place + 1,
      share: bars.of(item.score),
      scoreNote: bars.note,
      reasons: reasonsOf(item, answer.explanation),
      actions: actions(item),
    }),
  );
  showRows(byId("list"), rows);
  byId("list").setAttribute("aria-busy", "false");
  showLeftOut(byId("left-out"), answer.explanation);
  const inside = server === null ? "" : `, ${server.toFixed(1)} ms of them in the service`;
  const whole = answer.explanation ? " with reasons" : "";
  replace(
    byId("list-facts"),
    `${plural(answer.items.length, "item")}, ${answer.explanation?.says ?? STAGES[answer.stage] ?? answer.stage} · `,
    make("span", { id: "latency" }, `${browser.toFixed(1)} ms${whole}${inside}`),
  );
  showNote(noteOf(answer, who, isKnown, isEmptySession), answer.degraded ? "warn" : "");
  replace(byId("list-empty"), rows.length ? null : make("p", {}, "No candidate is left under these rules."));
  const first = answer.items[0];
  announce(
    first ? `${plural(answer.items.length, "recommendation")}${who === null ? "" : ` for ${who}`}. First: ${titleOf(first)}.` : "No recommendations.",
  );
}

export function showNote(text, kind = "") {
  const note = byId("list-note");
  note.hidden = !text;
  note.textContent = text;
  note.className = `note ${kind}`;
}

function noteOf(answer, who, isKnown, isEmptySession) {
  if (answer.degraded?.includes("store")) {
    return "The store of events does not answer. Lists go on without what happened since; likes and hides cannot be kept.";
  }
  if (answer.stage !== "popularity") return "";
  if (isEmptySession) return "Nothing is in the session yet, so this is what is popular.";
  if (who === null) return "The session says too little, so this is what is popular.";
  return isKnown ? `Too little is known of “${who}”, so this is what is popular.` : `“${who}” is new here, so this is what is popular.`;
}
