// What the catalogue says of a candidate, in the order in which a person reads it.

let about = null;

export function describeBy(found) {
  about = found;
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
