// A sheet with the candidates that are most like one; each leads on to its own.

import { post } from "./api.js";
import { titleOf } from "./catalogue.js";
import { byId, make, replace } from "./dom.js";
import { itemRow, shares } from "./items.js";

const LENGTH = 10;

// actions: what else can be done with an item of the sheet.
export async function showSimilar(item, actions = () => []) {
  const sheet = byId("similar");
  const list = make("ol", { class: "items", role: "list", "aria-labelledby": "similar-title" });
  const note = make("p", { class: "quiet", role: "status" }, "Looking…");
  const close = make("button", { type: "button", class: "close", onclick: () => sheet.close() }, "Close");
  replace(
    sheet,
    make(
      "header",
      { class: "panel-head" },
      make("div", {}, make("h2", { id: "similar-title" }, `Similar to ${titleOf(item)}`), note),
      close,
    ),
    list,
  );
  if (!sheet.open) sheet.showModal();
  close.focus();
  try {
    const { answer, browser } = await post("similar", { candidate: item.key, k: LENGTH, details: true });
    const bars = shares(answer.items.map((one) => one.score));
    note.textContent = answer.items.length
      ? `As retrieval sees it, the most similar first · ${browser.toFixed(1)} ms`
      : "There is nothing like it.";
    replace(
      list,
      answer.items.map((one, place) =>
        itemRow(one, {
          place: place + 1,
          share: bars.of(one.score),
          scoreNote: bars.note,
          actions: [
            ...actions(one),
            { name: "similar", label: "Similar", icon: "similar", run: () => showSimilar(one, actions) },
          ],
        }),
      ),
    );
  } catch (error) {
    note.textContent = error.message;
  }
}
