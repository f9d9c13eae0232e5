// What went wrong, kindly; and what happened, with a way back.

import { announce, byId, make, replace } from "./dom.js";

const SECONDS = 8;
let timer = 0;

export function showError(error) {
  replace(byId("notices"), make("p", { class: "notice bad" }, error.message));
}

export function clearError() {
  replace(byId("notices"));
}

// undo: what the button does, or null.
export function toast(text, undo = null) {
  const box = byId("toast");
  const close = () => {
    clearTimeout(timer);
    box.hidden = true;
  };
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(close, SECONDS * 1000);
  };
  const button =
    undo &&
    make("button", { type: "button", id: "undo", onclick: () => (close(), undo()) }, "Undo");
  replace(box, make("span", {}, text), button);
  box.hidden = false;
  box.onpointerenter = box.onfocusin = () => clearTimeout(timer);
  box.onpointerleave = box.onfocusout = wait;
  wait();
  announce(`${text}.`);
}
