// Elements made of data. Text is set as text and never parsed, so that no title or key can become markup.

const SVG = "http://www.w3.org/2000/svg";

// make("li", { class: "item", "aria-label": "…", onclick: () => … }, "text", element, null)
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

export const byId = (id) => document.getElementById(id);

// Tell a screen reader; what comes together is told together, and the same words again are told again.
let said = [];
let timer = 0;

export function announce(text) {
  said = [...said, text];
  byId("announcer").textContent = "";
  clearTimeout(timer);
  timer = setTimeout(() => {
    byId("announcer").textContent = said.join(" ");
    said = [];
  }, 100);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}
