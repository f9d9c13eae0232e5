// The Markdown that cards are written in: headings, paragraphs, lists, tables, bold and code. All text stays text.

import { make } from "./dom.js";

// table(header, rows) may make something of its own of a table.
export function rendered(text, table = plainTable) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at].trim();
    if (!line) {
      at += 1;
    } else if (/^#{1,6} /.test(line)) {
      blocks.push(make("h4", {}, inline(line.replace(/^#+ /, ""))));
      at += 1;
    } else if (line.startsWith("|") && /^\|?[\s:|-]+\|?$/.test(lines[at + 1]?.trim() ?? "x")) {
      const end = endOf(lines, at, (one) => one.startsWith("|"));
      const [header, , ...rows] = lines.slice(at, end).map(cells);
      blocks.push(table(header, rows));
      at = end;
    } else if (/^[-*] /.test(line)) {
      const end = endOf(lines, at, (one) => /^[-*] /.test(one));
      blocks.push(make("ul", { class: "bullets" }, lines.slice(at, end).map((one) => make("li", {}, inline(one.trim().slice(2))))));
      at = end;
    } else {
      const end = Math.max(endOf(lines, at, (one) => one && !/^([-*] |#{1,6} |\|)/.test(one)), at + 1);
      blocks.push(make("p", {}, inline(lines.slice(at, end).join(" "))));
      at = end;
    }
  }
  return blocks;
}

export function plainTable(header, rows) {
  const row = (values, tag) => make("tr", {}, values.map((value) => make(tag, tag === "th" ? { scope: "col" } : {}, inline(value))));
  return make(
    "div",
    { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Table" },
    make("table", {}, make("thead", {}, row(header, "th")), make("tbody", {}, rows.map((values) => row(values, "td")))),
  );
}

function endOf(lines, start, belongs) {
  let end = start;
  while (end < lines.length && belongs(lines[end].trim())) end += 1;
  return end;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.replaceAll("\\|", "|").trim());
}

function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((part) => {
    if (/^\*\*[^*]+\*\*$/.test(part)) return make("strong", {}, part.slice(2, -2));
    return /^`[^`]+`$/.test(part) ? make("code", {}, part.slice(1, -1)) : part;
  });
}
