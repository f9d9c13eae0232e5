// The view of people: who asks, what they get, what they did; likes and hides change the list at once.

import { get, newId, post } from "./api.js";
import { titleOf } from "./catalogue.js";
import { combobox } from "./combobox.js";
import { announce, byId, make, replace } from "./dom.js";
import { prepare } from "./explanation.js";
import { Filters } from "./filters.js";
import { asKey } from "./json.js";
import { clearError, showError, toast } from "./notices.js";
import { plural, showHistory, showNobody, showSession } from "./past.js";
import { showNote, showRecommendations } from "./recommendations.js";
import { showSimilar } from "./similar.js";
import { Visitor } from "./visitor.js";

const PAST = 50;
const SUGGESTIONS = 8;
const SESSION = "session"; // whose features are said

export class People {
  // moved: called with {user} or {session} when another one asks, to be kept in the address; reloaded: called when
  // another bundle answers than before.
  constructor(about, { moved, reloaded }) {
    this.about = about;
    this.moved = moved;
    this.reloaded = reloaded;
    this.bundle = about.bundle;
    this.user = null; // as text
    this.session = [];
    this.isSession = false;
    this.listId = null;
    this.asked = null;
    const typeWith = (effect, preferred) => {
      const names = Object.keys(about.event_types).filter((name) => about.event_types[name] === effect);
      return names.includes(preferred) ? preferred : (names[0] ?? null);
    };
    this.types = {
      like: typeWith("interaction", "like"),
      hide: typeWith("hide", "hide"),
      unhide: typeWith("unhide", "unhide"),
    };
    this.filters = new Filters(about, () => this.refresh());
    this.visitor = new Visitor(about.features, () => this.refresh());
    this.input = byId("who-text");
    this.choices = combobox(this.input, byId("who-options"), {
      suggest: (text, signal) => (this.isSession ? this.#items(text, signal) : this.#users(text, signal)),
      choose: (value, isTyped) => this.#choose(value, isTyped),
    });
    for (const id of ["who-text", "who-submit", "filters-toggle"]) byId(id).disabled = false; // now they do something
    byId("who").addEventListener("submit", (event) => {
      event.preventDefault();
      this.choices.close();
      this.#choose(this.input.value, true);
    });
    byId("who").addEventListener("change", (event) => {
      if (event.target.name === "mode") this.#switch(event.target.value === "session");
    });
  }

  // Show who is in the address: {user} or {session: keys as text}; null for nobody.
  async show({ user = null, session = null }) {
    this.#mark(session !== null);
    if (session !== null) {
      this.session = await Promise.all(session.map((text) => this.#known(text)));
    } else {
      this.user = user;
      this.input.value = user ?? "";
    }
    await this.refresh();
  }

  async refresh() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    if (!this.isSession && this.user === null) return this.#showSuggestions(signal);
    byId("list").setAttribute("aria-busy", "true");
    try {
      if (this.isSession) await this.#refreshSession(signal);
      else await this.#refreshUser(signal);
      clearError();
      this.filters.explain(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      byId("list").setAttribute("aria-busy", "false");
      if (!this.filters.explain(error)) showError(error);
    }
  }

  async #refreshUser(signal) {
    const said = this.visitor.valuesOf(`user ${this.user}`);
    const query = Object.keys(said).length ? { [this.about.query.column]: this.#key(), ...said } : this.#key();
    const message = { query, ...this.filters.message(), details: true };
    const [found, history] = await Promise.all([
      post("recommend", message, signal),
      get(`users/${encodeURIComponent(this.user)}/history`, { limit: PAST }, signal),
    ]);
    await this.#prepare(found.answer, signal);
    this.listId = found.answer.list_id;
    const isDescribed = Object.keys(history.features).some((name) => name in this.about.features);
    if (isDescribed) this.visitor.close();
    else this.visitor.open(`user ${this.user}`);
    showRecommendations(found, {
      who: this.user,
      isKnown: history.is_known,
      actions: (item) => [
        this.types.like && this.#likes(item),
        this.types.hide && this.#hides(item),
        this.#similar(item),
      ].filter(Boolean),
    });
    showHistory(history, {
      similar: (item) => this.#similar(item),
      show: this.types.unhide && ((item) => ({ name: "show", label: "Show again", icon: "show", run: () => this.#unhide(item) })),
    });
  }

  async #refreshSession(signal) {
    showSession(this.session, {
      similar: (item) => this.#similar(item),
      remove: (place) => ({
        name: "remove",
        label: "Remove from the session",
        icon: "remove",
        run: () => this.#setSession(this.session.toSpliced(place, 1)),
      }),
      clear: () => this.#setSession([]),
    });
    const history = this.session.map((item) => item.key);
    const message = { history, features: this.visitor.valuesOf(SESSION), ...this.filters.message(), details: true };
    const found = await post("session/recommend", message, signal);
    await this.#prepare(found.answer, signal);
    showRecommendations(found, {
      who: null,
      isEmptySession: !history.length,
      actions: (item) => [this.#adds(item), this.#similar(item)],
    });
  }

  // Get what the list needs beside itself.
  async #prepare({ bundle, explanation }, signal) {
    if (bundle !== this.bundle) {
      this.bundle = bundle;
      await this.reloaded();
    }
    await prepare(explanation, signal);
  }

  #likes(item) {
    const run = async () => {
      if (await this.#send(this.types.like, item)) toast(`Liked ${titleOf(item)}: it counts from now on`);
    };
    return { name: "like", label: "Like", icon: "like", run };
  }

  #hides(item) {
    const run = async () => {
      if (!(await this.#send(this.types.hide, item))) return;
      toast(`Hidden: ${titleOf(item)}`, this.types.unhide && (() => this.#unhide(item)));
    };
    return { name: "hide", label: "Hide", icon: "hide", run };
  }

  #adds(item) {
    const run = () => this.#setSession([...this.session, item]);
    return { name: "add", label: "Add to the session", icon: "add", run };
  }

  #similar(item) {
    const more = this.isSession ? (one) => [this.#adds(one)] : (one) => (this.types.like ? [this.#likes(one)] : []);
    return { name: "similar", label: "Similar", icon: "similar", run: () => showSimilar(item, more) };
  }

  async #unhide(item) {
    if (await this.#send(this.types.unhide, item)) toast(`${titleOf(item)} may be recommended again`);
  }

  // Keep an event, and show what it changes; false if it was not kept.
  async #send(type, item) {
    const event = { query: this.#key(), candidate: item.key, type, id: newId(), list_id: this.listId };
    try {
      await post("events", { events: [event] });
    } catch (error) {
      showError(error);
      return false;
    }
    await this.refresh();
    return true;
  }

  #setSession(items) {
    this.session = items;
    announce(`${plural(items.length, "item")} in the session`);
    this.moved({ session: items.map((item) => String(item.key)) });
    return this.refresh();
  }

  #key() {
    return asKey(this.user, this.about.query.type);
  }

  async #users(prefix, signal) {
    const { keys } = await get("users", { prefix, limit: SUGGESTIONS }, signal);
    return keys.map((key) => ({ label: String(key), value: String(key) }));
  }

  async #items(search, signal) {
    const { items } = await get("items", { search, limit: SUGGESTIONS }, signal);
    return items.map((item) => ({ label: titleOf(item), note: String(item.key), value: item }));
  }

  async #known(text) {
    try {
      const { key, features } = await get(`items/${encodeURIComponent(text)}`);
      return { key, details: features };
    } catch {
      return { key: asKey(text, this.about.candidate.type), details: null };
    }
  }

  async #choose(value, isTyped) {
    if (!this.isSession) {
      if (value === "") return;
      this.user = value;
      this.input.value = value;
      this.moved({ user: value });
      await this.refresh();
    } else if (!isTyped) {
      this.input.value = "";
      await this.#setSession([...this.session, value]);
    } else if (value.trim()) {
      try {
        const [first] = await this.#items(value, undefined);
        if (!first) return showNote(`Nothing here is called “${value}”.`, "warn");
        this.input.value = "";
        await this.#setSession([...this.session, first.value]);
      } catch (error) {
        showError(error);
      }
    }
  }

  #switch(isSession) {
    this.#mark(isSession);
    this.input.value = isSession ? "" : (this.user ?? "");
    this.moved(isSession ? { session: this.session.map((item) => String(item.key)) } : { user: this.user });
    return this.refresh();
  }

  #mark(isSession) {
    this.isSession = isSession;
    if (isSession) this.visitor.open(SESSION);
    else this.visitor.close();
    byId("who").elements.mode.value = isSession ? "session" : "user";
    byId("who-label").textContent = isSession ? "Add to the session" : this.about.query.column;
    byId("who-submit").textContent = isSession ? "Add" : "Recommend";
    this.input.placeholder = isSession ? "what the visitor looked at" : "type a key, or choose one";
  }

  // Nobody has been chosen: name some who are known.
  async #showSuggestions(signal) {
    showNobody();
    this.visitor.close();
    showNote("");
    replace(byId("list"));
    replace(byId("list-facts"));
    byId("left-out").hidden = true;
    try {
      const users = await this.#users("", signal);
      const buttons = users.map(({ label }) =>
        make("button", { type: "button", class: "example", onclick: () => this.#choose(label, false) }, label),
      );
      replace(
        byId("list-empty"),
        make("p", {}, `Who should get recommendations? ${plural(this.about.query.count, "user")} known.`),
        make("p", { class: "examples" }, buttons),
      );
    } catch (error) {
      if (error.name !== "AbortError") showError(error);
    }
  }
}
