// Requests to the service: JSON in and out, errors as sentences, time measured here and told by the server.

import { parse, stringify } from "./json.js";

const STORED = "retrank-key";
let askForKey = async () => null;
let asking = null; // while the person is asked: requests that were refused together ask once

export class ServiceError extends Error {
  constructor(status, details = {}) {
    super(sentence(status, details));
    this.status = status;
    this.details = details;
  }
}

// Say how a key is got from the person; the function takes whether the last one was refused.
export function whenKeyIsWanted(callback) {
  askForKey = callback;
}

export function usesKey() {
  return sessionStorage.getItem(STORED) !== null;
}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  return (await request(query ? `${path}?${query}` : path, { signal })).answer;
}

export async function post(path, message, signal = undefined) {
  return request(path, {
    method: "POST",
    body: stringify(message),
    headers: { "content-type": "application/json" },
    signal,
  });
}

// An id that makes it safe to send an event again; works where the page was not loaded over TLS, too.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(path, options) {
  for (;;) {
    const key = sessionStorage.getItem(STORED);
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    const started = performance.now();
    const response = await reached(path, { ...options, headers });
    const text = await response.text();
    const browser = performance.now() - started;
    if (response.status === 401) {
      asking ??= askForKey(key !== null).finally(() => (asking = null));
      sessionStorage.setItem(STORED, await asking);
      continue;
    }
    if (!response.ok) throw new ServiceError(response.status, detailsOf(text));
    const server = /app;dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "")?.[1];
    return { answer: parse(text), browser, server: server === undefined ? null : Number(server) };
  }
}

async function reached(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0);
  }
}

function detailsOf(text) {
  try {
    return parse(text).error ?? {};
  } catch {
    return {};
  }
}

function sentence(status, { message, expected, got, where, fix }) {
  if (status === 0) return "The service cannot be reached. Is it still running?";
  if (status === 503) return "The service is busy, or its store does not answer. Try again in a moment.";
  if (status === 504) return "The answer took too long. Try again in a moment.";
  if (status >= 500) return "Something went wrong in the service; its logs say what.";
  if (!expected) return capital(message ?? `The service answered ${status}.`);
  return `${capital(where)}: expected ${expected}, got ${got}.${fix ? ` ${capital(fix)}.` : ""}`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
