// The page: which view is shown (by the address's hash), light or dark, keys, and whether the server is there.

import { complain, element } from "./common.js";
import * as compare from "./compare.js";
import * as editor from "./editor.js";
import * as episodes from "./episodes.js";
import * as runs from "./runs.js";

// A view exports show(root, params), which fills an empty element, and hide(), which ends all that it has begun.
const VIEWS = { runs, compare, episodes, editor };
const KEYS = { 1: "runs", 2: "compare", 3: "episodes", 4: "editor" };
let shown = null;

async function route() {
  const [, name = "", words = ""] = location.hash.match(/^#\/([a-z]*)\??(.*)$/) || [];
  const view = name in VIEWS ? name : "runs";
  if (shown) VIEWS[shown].hide();
  shown = view;
  const root = element("div", { class: `view ${view}` });
  document.getElementById("view").replaceChildren(root);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector(`nav a[data-view=${view}]`).textContent} · NPP-RL`;
  try {
    await VIEWS[view].show(root, new URLSearchParams(words));
  } catch (error) {
    complain(error);
  }
}

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  dispatchEvent(new Event("theme")); // canvases draw themselves again
}

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  setTheme(dark ? "light" : "dark");
  localStorage.setItem("theme", dark ? "light" : "dark");
}

const EVERYWHERE = [["1 2 3 4", "Runs, Compare, Episodes, Level editor (not in the editor)"], ["d", "light or dark"],
  ["?", "this list"]];

// The keys of the view that is shown. A view may export `keys`, a list of [key, what it does].
function help() {
  const dialog = element("dialog", { class: "help", onclose: () => dialog.remove() }, element("h2", {}, "Keys"),
    element("table", {}, element("tbody", {}, [...(VIEWS[shown].keys || []), ...EVERYWHERE].map(([key, words]) =>
      element("tr", {}, element("th", { class: "w" }, element("kbd", {}, key)), element("td", { class: "w" }, words))))),
    element("button", { onclick: () => dialog.close() }, "Close"));
  document.body.append(dialog);
  dialog.showModal();
}

export const typing = (event) => event.target.closest?.("input:not([type=checkbox],[type=range]), select, textarea");

addEventListener("hashchange", route);
// While a dialog is open keys are its own: no view behind it is told of them.
addEventListener("keydown", (event) => document.querySelector("dialog[open]") && event.stopImmediatePropagation(), true);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event)) return;
  if (shown === "editor" && event.key !== "?") return; // the editor and its game have keys of their own
  if (KEYS[event.key]) location.hash = `#/${KEYS[event.key]}`;
  else if (event.key === "?") help();
  else if (event.key === "d") toggleTheme();
});
document.getElementById("help").addEventListener("click", help);
document.getElementById("theme").addEventListener("click", toggleTheme);
setTheme(localStorage.getItem("theme"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
route();
