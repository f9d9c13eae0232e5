// Why candidates are in a list, and what the rules have left out of it, as the service explains it.

import { learnTitles, titleOfKey } from "./catalogue.js";
import { make, replace } from "./dom.js";
import { formatScore } from "./items.js";

const MOST = 12; // of what was left out
const RULES = {
  seen: "seen already",
  deny: "hidden",
  allow: "not among the allowed",
  where: "by the condition",
  unavailable: "unavailable",
  caps: "by the cap",
  diversity: "by diversity",
  boosts: "by boosts",
};

// Look up the titles that the reasons need.
export async function prepare(explanation, signal) {
  if (!explanation) return;
  const reasons = explanation.candidates.flatMap((candidate) => candidate.reasons.map((reason) => reason.key));
  const removed = explanation.removed.slice(0, MOST).map((one) => one.key);
  await learnTitles([...removed, ...reasons], signal);
}

// What one item's row says: which part of the past speaks for it, and in a line to open, the score of each stage.
export function reasonsOf(item, explanation) {
  const found = explanation?.candidates.find((candidate) => String(candidate.key) === String(item.key));
  if (!found) return [];
  const scores = [
    found.retrieval_score === null ? null : ["Retrieval", formatScore(found.retrieval_score)],
    found.ranking_score === null ? null : ["Ranking", formatScore(found.ranking_score)],
    item.score === (found.ranking_score ?? found.retrieval_score) ? null : ["In the list", formatScore(item.score)],
    ["Popularity", `number ${found.popularity_rank.toLocaleString("en")}`],
  ].filter(Boolean);
  const reasons = found.reasons.map(({ key, value }) => [titleOfKey(key), formatScore(value)]);
  const stages = make("div", { class: "stages", hidden: true }, numbers("Scores", scores), numbers("Reasons", reasons));
  const toggle = make(
    "button",
    {
      type: "button",
      class: "why",
      "aria-expanded": "false",
      "data-action": "why",
      onclick: () => {
        stages.hidden = !stages.hidden;
        toggle.setAttribute("aria-expanded", String(!stages.hidden));
      },
    },
    because(found.reasons),
  );
  return [toggle, stages];
}

function numbers(title, pairs) {
  if (!pairs.length) return null;
  const chips = pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  return make("div", { class: "chips" }, make("span", { class: "caption" }, title), make("dl", {}, chips));
}

function because(reasons) {
  if (!reasons.length) return "Scores";
  const names = reasons.map(({ key }) => make("strong", {}, titleOfKey(key)));
  return ["because of ", ...names.flatMap((name, place) => (place ? [place === names.length - 1 ? " and " : ", ", name] : [name]))];
}

// Below a list: what would be in it if there were no rules.
export function showLeftOut(box, explanation) {
  const counts = Object.entries(explanation?.left_out ?? {}).filter(([, count]) => count);
  box.hidden = !counts.length;
  if (box.hidden) return;
  const told = counts.map(([rule, count]) => `${count.toLocaleString("en")} ${RULES[rule] ?? rule}`).join(", ");
  const removed = explanation.removed.slice(0, MOST);
  const wasOpen = box.open;
  replace(
    box,
    make("summary", {}, `Left out: ${told}`),
    make("p", { class: "quiet" }, removed.length ? "The best of it, which would have come into question:" : "Nothing of it would have come into question."),
    make(
      "ul",
      { class: "removed" },
      removed.map(({ key, rules }) =>
        make(
          "li",
          {},
          titleOfKey(key),
          " ",
          counts.length > 1 ? make("span", { class: "tag" }, rules.map((rule) => RULES[rule] ?? rule).join(", ")) : null,
        ),
      ),
    ),
    explanation.removed.length > removed.length
      ? make("p", { class: "quiet" }, `and ${(explanation.removed.length - removed.length).toLocaleString("en")} more`)
      : null,
  );
  box.open = wasOpen;
}
