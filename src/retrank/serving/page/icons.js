// Small drawings for buttons, which have their words beside them for those who cannot see them.

import { makeSvg } from "./dom.js";

const PATHS = {
  like: "M12 20.5 4.6 13a4.8 4.8 0 0 1 6.8-6.8l.6.6.6-.6a4.8 4.8 0 0 1 6.8 6.8z",
  hide: "M3 3l18 18M10.6 6.2A9.6 9.6 0 0 1 12 6c5 0 8.5 4.2 9.5 6-.4.8-1.3 2-2.6 3.2M6.5 8A14 14 0 0 0 2.5 12c1 1.8 4.5 6 9.5 6a9 9 0 0 0 4.2-1M9.9 10a3 3 0 0 0 4.2 4.2",
  similar: "M9 16a6 6 0 1 1 0-12 6 6 0 0 1 0 12zM15 20a6 6 0 1 1 0-12 6 6 0 0 1 0 12z",
  add: "M12 5v14M5 12h14",
  remove: "M6 6l12 12M18 6 6 18",
  show: "M2.5 12c1-1.8 4.5-6 9.5-6s8.5 4.2 9.5 6c-1 1.8-4.5 6-9.5 6s-8.5-4.2-9.5-6zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  why: "M9.3 9.2a2.8 2.8 0 1 1 4.1 2.6c-.9.5-1.4 1-1.4 2.1M12 17.5v.1M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z",
};

export function icon(name) {
  return makeSvg(
    "svg",
    { viewBox: "0 0 24 24", width: 20, height: 20, class: "icon", "aria-hidden": "true", focusable: "false" },
    makeSvg("path", { d: PATHS[name] }),
  );
}
