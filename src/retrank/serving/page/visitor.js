// What is known of an anonymous visitor beside the session: features, at first those of a typical user.

import { byId, make, replace } from "./dom.js";

export class Visitor {
  // features: {name: {type, typical}}; changed: called when the person has changed one.
  constructor(features, changed) {
    this.features = features;
    this.form = byId("visitor");
    replace(
      this.form,
      Object.entries(features).map(([name, { type, typical }]) =>
        make(
          "label",
          {},
          name,
          make("input", { name, type: "text", value: typical ?? "", placeholder: type, spellcheck: "false", autocapitalize: "off" }),
        ),
      ),
    );
    this.form.addEventListener("change", changed);
    this.form.addEventListener("submit", (event) => (event.preventDefault(), changed()));
  }

  show(isShown) {
    this.form.hidden = !isShown || !Object.keys(this.features).length;
  }

  // By column name; blank ones are left out, and what is no number is left to the service to refuse.
  values() {
    const found = {};
    for (const [name, { type }] of Object.entries(this.features)) {
      const text = this.form.elements[name].value.trim();
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
