// A row per route that was asked for: how often, how fast.

import { make } from "./dom.js";
import { quantile, total } from "./histograms.js";
import { requestsOf, secondsOf, windowOf } from "./rates.js";
import { milliseconds, NONE, number } from "./tiles.js";

const HEADER = ["Route", "Requests/s", "p50", "p95", "p99", "Since the start"];

export function routesPanel(looks) {
  const now = windowOf(looks);
  const { seconds } = looks.at(-1).status;
  const routes = Object.keys(seconds).sort((one, other) => total(seconds[other]) - total(seconds[one]) || (one < other ? -1 : 1));
  return [
    make(
      "header",
      { class: "panel-head" },
      make("div", {}, make("h2", { id: "routes-title" }, "Routes"), make("p", { class: "quiet" }, now ? `The last ${now.seconds.toFixed(0)} s, in milliseconds` : "In milliseconds")),
    ),
    make(
      "div",
      { class: "wide-table", tabindex: 0, role: "region", "aria-labelledby": "routes-title" },
      make(
        "table",
        {},
        make("thead", {}, make("tr", {}, HEADER.map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, routes.map((route) => row(route, now, seconds[route]))),
      ),
    ),
  ];
}

function row(route, now, ever) {
  const found = now && secondsOf(now, (name) => name === route);
  const rate = now ? requestsOf(now, (name) => name === route) / now.seconds : null;
  const shares = [0.5, 0.95, 0.99].map((share) => milliseconds(found && quantile(found, share)));
  const values = [rate ? number(rate) : NONE, ...shares, total(ever).toLocaleString("en")];
  return make("tr", {}, make("th", { scope: "row" }, route.replace(":path", "")), values.map((value) => make("td", {}, value)));
}
