// What someone is like of whom the service knows no features: an anonymous visitor, or a user who is new.

import { byId, make, replace } from "./dom.js";

export class Visitor {
  // features: {name: {type, typical}}; changed: called when the person has changed one.
  constructor(features, changed) {
    this.features = features;
    this.form = byId("visitor");
    this.owner = null;
    this.form.addEventListener("change", changed);
    this.form.addEventListener("submit", (event) => (event.preventDefault(), changed()));
  }

  // Let the features of someone be said; the same one keeps what was said.
  open(owner) {
    this.form.hidden = !Object.keys(this.features).length;
    if (owner === this.owner) return;
    this.owner = owner;
    replace(
      this.form,
      Object.entries(this.features).map(([name, { typical }]) =>
        make(
          "label",
          {},
          name,
          make("input", {
            name, type: "text", spellcheck: "false", autocapitalize: "off",
            placeholder: typical === null ? null : `e.g. ${typical}`,
          }),
        ),
      ),
    );
  }

  close() {
    this.owner = null;
    this.form.hidden = true;
    replace(this.form);
  }

  // What was said of someone, by column name; blank ones are left out, and what is no number the service refuses.
  valuesOf(owner) {
    const found = {};
    if (owner !== this.owner) return found;
    for (const [name, { type }] of Object.entries(this.features)) {
      const text = this.form.elements.namedItem(name).value.trim();
      if (text !== "") found[name] = valueOf(text, type);
    }
    return found;
  }
}

function valueOf(text, type) {
  if (/^(U?Int|Float|Decimal)/.test(type) && Number.isFinite(Number(text))) return Number(text);
  if (type === "Boolean" && (text === "true" || text === "false")) return text === "true";
  return text;
}
