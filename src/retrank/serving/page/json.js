// JSON whose integers may be keys of 64 bits, which a number of JavaScript cannot hold: those become BigInts.

export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const isLarge = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isLarge && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
  });
}

export function stringify(value) {
  return JSON.stringify(value, (_, one) => (typeof one === "bigint" ? raw(String(one)) : one));
}

// From what someone typed to a key. Text that is no key of the type goes as it is: the service says what is wrong.
export function asKey(text, type) {
  if (type === "integer" && /^-?\d+$/.test(text)) {
    return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
  }
  if (type === "boolean" && (text === "true" || text === "false")) return text === "true";
  return text;
}

// A browser that cannot write such a number sends text, which the service refuses with its reason.
function raw(text) {
  return JSON.rawJSON ? JSON.rawJSON(text) : text;
}
