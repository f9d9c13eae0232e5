// The numbers at a glance, each with its last two minutes.

import { make } from "./dom.js";
import { between, mean, quantile, total } from "./histograms.js";
import { grown, isLoad, requestsOf, secondsOf, steps, windowOf } from "./rates.js";
import { sparkline } from "./sparkline.js";

export const NONE = "–";

export function tiles(looks, length) {
  const now = windowOf(looks);
  const over = steps(looks);
  const seconds = (step) => secondsOf(step, isLoad);
  const rate = (step) => requestsOf(step, isLoad) / step.seconds;
  const events = (step) => grown(step.before.events, step.after.events) / step.seconds;
  const failed = (step) => requestsOf(step, (route, status) => isLoad(route) && status >= 400) / step.seconds;
  const batch = (step) => mean(between(step.before.batch_size, step.after.batch_size));
  const { waiting, queue } = looks.at(-1).status;
  const tile = (title, number, unit, step, note) =>
    make(
      "section",
      { class: "panel tile" },
      make("h2", {}, title),
      make("p", { class: "big" }, number, " ", make("span", { class: "unit" }, unit)),
      sparkline(over.map(step), length),
      make("p", { class: "quiet" }, note),
    );
  const share = (step, part) => quantile(seconds(step), part);
  const found = now && seconds(now);
  return [
    tile("Throughput", now ? number(rate(now)) : NONE, "requests/s", rate, found && total(found) ? `${total(found).toLocaleString("en")} in ${now.seconds.toFixed(0)} s` : "no requests just now"),
    tile(
      "Latency, p95",
      milliseconds(now && share(now, 0.95)),
      "ms",
      (step) => share(step, 0.95),
      `p50 ${milliseconds(now && share(now, 0.5))} · p99 ${milliseconds(now && share(now, 0.99))} ms`,
    ),
    tile("Queue", number(waiting), "waiting", (step) => step.after.waiting, `room for ${queue.toLocaleString("en")}`),
    tile("Batch size", now ? number(batch(now)) : NONE, "answers together", batch, now && batch(now) ? `${milliseconds(mean(between(now.before.batch_seconds, now.after.batch_seconds)))} ms a batch` : "no batches just now"),
    tile("Events", now ? number(events(now)) : NONE, "kept/s", events, `${grown({}, looks.at(-1).status.events).toLocaleString("en")} since the start`),
    tile("Refused or failed", now ? number(failed(now)) : NONE, "requests/s", failed, "status 400 and above"),
  ];
}

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 1 : 0 });
}

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds === Infinity) return "> 2,500";
  return (seconds * 1e3).toLocaleString("en", { maximumFractionDigits: seconds < 0.1 ? 1 : 0 });
}
