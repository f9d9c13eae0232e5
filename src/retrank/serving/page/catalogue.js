// What the catalogue says of a candidate, in the order in which a person reads it.

import { get } from "./api.js";

const MOST = 100; // keys in one request
let about = null;
let titles = new Map(); // by key as text

export function describeBy(found) {
  about = found;
  titles = new Map();
}

// Look up what candidates are called that are only known by their keys.
export async function learnTitles(keys, signal) {
  const unknown = [...new Set(keys.map(String))].filter((key) => !titles.has(key));
  for (let at = 0; at < unknown.length; at += MOST) {
    const some = unknown.slice(at, at + MOST).map((key) => ["key", key]);
    const { items } = await get("items", some, signal);
    for (const item of items) titles.set(String(item.key), titleOf(item));
  }
}

export function titleOfKey(key) {
  return titles.get(String(key)) ?? String(key);
}

export function titleOf({ key, details }) {
  const title = about.title_column === null ? null : details?.[about.title_column];
  return title === null || title === undefined || title === "" ? String(key) : title;
}

// The other columns, without blanks and without what only says the title again.
export function factsOf(item) {
  const title = titleOf(item);
  return Object.entries(item.details ?? {})
    .filter(([name]) => name !== about.title_column)
    .map(([name, value]) => ({ name, text: textOf(value) }))
    .filter(({ text }) => text !== "" && text !== title && !text.startsWith(`${title} `));
}

function textOf(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(textOf).filter(Boolean).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(4);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
