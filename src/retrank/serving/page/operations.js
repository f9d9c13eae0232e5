// The view of operations: how the service does, from what /status says every two seconds.

import { get } from "./api.js";
import { cardPanel } from "./card.js";
import { byId, make, replace } from "./dom.js";
import { clearError, showError } from "./notices.js";
import { statePanel } from "./state.js";
import { routesPanel } from "./routes.js";
import { tiles } from "./tiles.js";

const EVERY = 2; // seconds
const KEPT = 61; // looks: two minutes

export class Operations {
  constructor() {
    this.looks = []; // {at, status}, the latest last
    this.timer = 0;
    this.isRunning = false;
    this.bundle = null;
    this.parts = {
      tiles: make("div", { class: "tiles" }),
      routes: make("section", { class: "panel", "aria-labelledby": "routes-title" }),
      state: make("section", { class: "panel", "aria-labelledby": "state-title" }),
      card: make("section", { class: "panel", "aria-labelledby": "card-title" }),
    };
    const { tiles: top, routes, state, card } = this.parts;
    replace(byId("operations"), top, make("div", { class: "columns" }, routes, state), card);
    document.addEventListener("visibilitychange", () => this.#look());
  }

  // Look every two seconds, or no more.
  run(isRunning) {
    this.isRunning = isRunning;
    if (isRunning) this.#look();
    else clearTimeout(this.timer);
  }

  async #look() {
    clearTimeout(this.timer);
    if (!this.isRunning || document.hidden) return;
    try {
      const status = await get("status");
      this.#keep(status);
      this.#show();
      if (this.bundle !== status.bundle) {
        replace(this.parts.card, cardPanel(await get("card")));
        this.bundle = status.bundle;
      }
      clearError();
    } catch (error) {
      showError(error);
    }
    clearTimeout(this.timer); // another look may have begun meanwhile
    if (this.isRunning) this.timer = setTimeout(() => this.#look(), EVERY * 1000);
  }

  #keep(status) {
    const last = this.looks.at(-1);
    const isSmaller = last && Object.entries(last.status.requests).some(([name, count]) => (status.requests[name] ?? 0) < count);
    if (isSmaller) this.looks = []; // the service has started anew
    this.looks = [...this.looks, { at: performance.now() / 1000, status }].slice(-KEPT);
  }

  #show() {
    const { status } = this.looks.at(-1);
    replace(this.parts.tiles, tiles(this.looks, KEPT - 1));
    replace(this.parts.routes, routesPanel(this.looks));
    replace(this.parts.state, statePanel(status));
  }
}
