// What happened between two looks at /status.

import { added, between } from "./histograms.js";

export const WINDOW = 10; // looks that the numbers are of
// What balancers, Prometheus and this page ask for is no load.
const WATCHING = new Set(["/", "/page/{name}", "/about", "/card", "/healthz", "/metrics", "/openapi.json", "/readyz", "/status"]);

export const isLoad = (route) => !WATCHING.has(route);

// The first and the last look of the window, and the seconds between them; null before there are two.
export function windowOf(looks) {
  if (looks.length < 2) return null;
  const first = looks[Math.max(looks.length - 1 - WINDOW, 0)];
  const last = looks.at(-1);
  return { before: first.status, after: last.status, seconds: last.at - first.at };
}

// Pairs of looks that follow each other, in the same form.
export function steps(looks) {
  return looks.slice(1).map((look, place) => ({ before: looks[place].status, after: look.status, seconds: look.at - looks[place].at }));
}

export function grown(before, after, keep = () => true) {
  return Object.entries(after)
    .filter(([name]) => keep(name))
    .reduce((sum, [name, count]) => sum + count - (before[name] ?? 0), 0);
}

export function requestsOf({ before, after }, keep) {
  return grown(before.requests, after.requests, (name) => keep(...split(name)));
}

export function secondsOf({ before, after }, keep) {
  const routes = Object.keys(after.seconds).filter(keep);
  return added(routes.map((route) => between(before.seconds[route], after.seconds[route])));
}

// "/recommend 200" is the route and the status.
function split(name) {
  const at = name.lastIndexOf(" ");
  return [name.slice(0, at), Number(name.slice(at + 1))];
}
