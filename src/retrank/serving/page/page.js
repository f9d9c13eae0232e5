// Starts the page: what the service is, the two views, and the address that remembers what is shown.

import { get, usesKey, whenKeyIsWanted } from "./api.js";
import { describeBy } from "./catalogue.js";
import { byId } from "./dom.js";
import { showError } from "./notices.js";
import { Operations } from "./operations.js";
import { People } from "./people.js";
import { plural } from "./past.js";

const VIEWS = ["people", "operations"];

whenKeyIsWanted((wasRefused) => {
  const dialog = byId("key-dialog");
  byId("key-error").textContent = wasRefused ? "The service does not know this key." : "";
  byId("key").value = "";
  if (!dialog.open) dialog.showModal();
  dialog.oncancel = (event) => event.preventDefault(); // nothing can be shown without a key
  return new Promise((resolve) => {
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      dialog.close();
      resolve(byId("key").value.trim());
    };
  });
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says who is shown
  byId("main").focus();
});

// Say what is served; titles are those of the bundle that is served now.
function describe(about) {
  describeBy(about);
  const title = about.title || "Recommendations";
  byId("title").textContent = title;
  byId("subtitle").textContent =
    `retrank · ${plural(about.candidate.count, "candidate")} · ${plural(about.query.count, "user")} · bundle ${about.bundle}`;
  document.title = `${title} · retrank`;
  byId("kept").textContent = about.logs_impressions
    ? "Lists shown here are kept as impressions, and likes and hides as events, like those of any other client."
    : "Likes and hides are kept as events, like those of any other client.";
}

async function start() {
  const about = await get("about");
  describe(about);
  byId("links").hidden = usesKey(); // a link sends none
  const people = new People(about, {
    moved: (who) => remember(who),
    reloaded: async () => describe(await get("about")),
  });
  const operations = new Operations();
  const view = { people, operations };

  function remember(who) {
    const parameters = new URLSearchParams();
    if (who.user) parameters.set("user", who.user);
    if (who.session) {
      parameters.set("mode", "session");
      for (const key of who.session) parameters.append("item", key);
    }
    history.pushState(null, "", `#${parameters}`);
  }

  function open(name) {
    for (const one of VIEWS) {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", String(one === name));
      tab.tabIndex = one === name ? 0 : -1;
      byId(one).hidden = one !== name;
    }
    view.operations.run(name === "operations");
  }

  function follow() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    if (parameters.get("view") === "operations") return open("operations");
    open("people");
    const session = parameters.get("mode") === "session" ? parameters.getAll("item") : null;
    return people.show({ user: parameters.get("user"), session });
  }

  for (const [place, name] of VIEWS.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => {
      if (name === "operations") location.hash = "view=operations";
      else if (people.isSession) (remember({ session: people.session.map((item) => String(item.key)) }), open("people"));
      else (remember({ user: people.user }), people.user === null ? follow() : open("people"));
    });
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = byId(`tab-${VIEWS[(place + 1) % VIEWS.length]}`);
      other.focus();
      other.click();
    });
  }
  window.addEventListener("popstate", follow);
  await follow();
}

start().catch(showError);
