// A text field with suggestions, by mouse and by keyboard (the combobox pattern of WAI-ARIA).

import { make, replace } from "./dom.js";

const PATIENCE = 120; // milliseconds after the last key

// suggest(text, signal) returns options {label, note?, value}; choose(value, isTyped) takes one, or the text itself.
export function combobox(input, listbox, { suggest, choose }) {
  let options = [];
  let active = -1;
  let timer = 0;
  let asked = null;

  function close() {
    clearTimeout(timer);
    asked?.abort();
    listbox.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    options = [];
    active = -1;
  }

  function mark(place) {
    active = place;
    [...listbox.children].forEach((option, other) => option.setAttribute("aria-selected", String(other === place)));
    if (place < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", listbox.children[place].id);
    listbox.children[place].scrollIntoView({ block: "nearest" });
  }

  function take(place) {
    const { value } = options[place];
    close();
    choose(value, false);
  }

  async function open() {
    clearTimeout(timer);
    asked?.abort();
    asked = new AbortController();
    try {
      options = await suggest(input.value, asked.signal);
    } catch (error) {
      if (error.name !== "AbortError") close();
      return;
    }
    if (document.activeElement !== input) return close();
    replace(
      listbox,
      options.map(({ label, note }, place) =>
        make(
          "li",
          {
            role: "option",
            id: `${listbox.id}-${place}`,
            "aria-selected": "false",
            onpointerdown: (event) => event.preventDefault(), // the field keeps the focus
            onclick: () => take(place),
          },
          make("span", {}, label),
          note ? make("span", { class: "quiet" }, note) : null,
        ),
      ),
    );
    listbox.hidden = !options.length;
    input.setAttribute("aria-expanded", String(options.length > 0));
    mark(-1);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(open, PATIENCE);
  });
  input.addEventListener("blur", close);
  input.addEventListener("click", open);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (listbox.hidden) return open();
      const step = event.key === "ArrowDown" ? 1 : -1;
      mark(active < 0 && step < 0 ? options.length - 1 : (active + step + options.length) % options.length);
    } else if (event.key === "Escape" && !listbox.hidden) {
      event.preventDefault();
      close();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (active >= 0) return take(active);
      const text = input.value;
      close();
      choose(text, true);
    }
  });
  return { close };
}
