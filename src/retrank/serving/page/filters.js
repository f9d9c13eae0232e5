// The rules of a list: its length, what was seen, a condition, diversity and caps.

import { byId, make, replace } from "./dom.js";

const NONE = "";

export class Filters {
  // changed: called when the person has changed a rule.
  constructor(about, changed) {
    this.about = about;
    this.changed = changed;
    this.form = byId("filters");
    this.toggle = byId("filters-toggle");
    this.#build();
    this.toggle.addEventListener("click", () => {
      this.form.hidden = !this.form.hidden;
      this.toggle.setAttribute("aria-expanded", String(!this.form.hidden));
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#tell();
    });
    this.form.addEventListener("change", () => this.#tell());
  }

  // The rules as the service takes them; those that change nothing are left out.
  message() {
    const { k, seen, reasons, where, diversity, capColumn, capNumber } = this.form.elements;
    const length = Math.min(Math.max(Math.trunc(Number(k.value)) || 10, 1), this.about.max_k);
    const caps = capColumn.value === NONE ? {} : { [capColumn.value]: Math.max(Math.trunc(Number(capNumber.value)) || 1, 1) };
    const isReranked = Number(diversity.value) > 0 || capColumn.value !== NONE;
    return {
      k: length,
      ...(seen.checked ? { exclude_seen: false } : {}),
      ...(reasons.checked ? { explain: true } : {}),
      ...(where.value.trim() ? { where: where.value.trim() } : {}),
      ...(isReranked ? { rerank: { diversity: Number(diversity.value), caps } } : {}),
    };
  }

  // Say at its field what the service does not take; true if the error is one of these.
  explain(error) {
    const field = this.form.elements.where;
    const isHere = Boolean(error && field.value.trim() && error.status === 422 && /where/.test(error.details.where ?? ""));
    field.setAttribute("aria-invalid", String(isHere));
    byId("where-error").textContent = isHere ? error.message : "";
    if (isHere) {
      this.form.hidden = false;
      this.toggle.setAttribute("aria-expanded", "true");
    }
    return isHere;
  }

  #tell() {
    const { diversity, capColumn, capNumber } = this.form.elements;
    byId("diversity-value").textContent = Number(diversity.value).toFixed(1);
    capNumber.disabled = capColumn.value === NONE;
    const { exclude_seen: seen, where, rerank } = this.message();
    const count = [seen === false, where, rerank?.diversity, Object.keys(rerank?.caps ?? {}).length].filter(Boolean).length;
    this.toggle.textContent = count ? `Filters · ${count}` : "Filters";
    this.changed();
  }

  #build() {
    const { about } = this;
    const where = make("input", {
      id: "where", name: "where", type: "text", maxlength: 2000, spellcheck: "false", autocapitalize: "off",
      placeholder: about.conditions[0] ?? "a condition on the columns, in SQL", "aria-describedby": "where-error where-examples",
    });
    const examples = about.conditions.map((condition) =>
      make("button", { type: "button", class: "example", onclick: () => ((where.value = condition), this.#tell()) }, condition),
    );
    const groups = about.group_columns.map((name) => make("option", { value: name }, name));
    replace(
      this.form,
      labelled("Length", "k", make("input", { id: "k", name: "k", type: "number", min: 1, max: about.max_k, value: 10 })),
      make(
        "div",
        { class: "wide" },
        make("label", { for: "where" }, "Only where"),
        where,
        make("p", { id: "where-error", class: "error", role: "alert" }),
        make("p", { id: "where-examples", class: "examples" }, examples),
      ),
      make(
        "div",
        { hidden: !about.has_diversity }, // a baseline cannot tell how alike candidates are
        make("label", { for: "diversity" }, "Diversity ", make("output", { id: "diversity-value", for: "diversity" }, "0.0")),
        make("input", { id: "diversity", name: "diversity", type: "range", min: 0, max: 1, step: 0.1, value: 0 }),
      ),
      make(
        "fieldset",
        { class: "cap" },
        make("legend", {}, "At most"),
        make("input", { name: "capNumber", type: "number", min: 1, max: about.max_k, value: 2, disabled: true, "aria-label": "At most so many of one value" }),
        make("select", { name: "capColumn", "aria-label": "of one value of the column" }, make("option", { value: NONE }, "no cap"), groups),
      ),
      make(
        "div",
        { class: "checks" },
        make("label", { class: "check" }, make("input", { name: "seen", type: "checkbox" }), "Include what was seen"),
        make("label", { class: "check" }, make("input", { name: "reasons", type: "checkbox", checked: true }), "Say why"),
      ),
    );
  }
}

function labelled(text, id, input) {
  return make("div", {}, make("label", { for: id }, text), input);
}
