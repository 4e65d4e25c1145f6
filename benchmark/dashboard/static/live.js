// The rows of all runs, kept up to date by server-sent events while the page is seen.

import { api, complain } from "./common.js";

export const rows = new Map(); // id -> row
export const about = { folders: [], problems: [], loaded: false };
const listeners = new Set();
let version = 0;
let source = null;
let loading = null;

function take(news) {
  for (const id of news.gone || []) rows.delete(id);
  for (const row of news.rows) rows.set(row.id, row);
  version = news.version;
  about.problems = news.problems || [];
  if (news.folders) about.folders = news.folders;
  for (const listener of listeners) listener(new Set(news.rows.map((row) => row.id)));
}

function status(text) {
  document.getElementById("live").textContent = text;
}

function connect() {
  if (source || document.hidden || !about.loaded) return;
  source = new EventSource(`api/events?since=${version}`);
  source.onopen = () => status("live");
  source.addEventListener("runs", (event) => take(JSON.parse(event.data)));
  source.onerror = () => {
    // A browser would ask again from the old version: a new source asks from the one that is known now.
    source.close();
    source = null;
    status("not connected");
    setTimeout(reconnect, 3000);
  };
}

async function reconnect() {
  if (source || document.hidden) return;
  try {
    const news = await api("runs");
    if (news.version < version) rows.clear(); // the server has been started anew
    take({ ...news, gone: [...rows.keys()].filter((id) => !news.rows.some((row) => row.id === id)) });
    connect();
  } catch {
    setTimeout(reconnect, 5000);
  }
}

// Calls the listener with the ids of rows that have changed, until the function that is returned is called.
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Waits until the rows are there.
export async function load() {
  if (about.loaded) return connect();
  loading ||= api("runs").then(
    (news) => {
      about.loaded = true;
      take(news);
      connect();
    },
    (error) => {
      loading = null;
      complain(error);
      throw error;
    },
  );
  await loading;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && source) {
    source.close();
    source = null;
    status("");
  } else if (!document.hidden && about.loaded) reconnect();
});

// How people call a run, without what all of `others` have in common.
export function nameOf(row, others = [row]) {
  const differs = (key) => others.some((other) => other[key] !== row[key]);
  const words = [row.architecture];
  if (row.label) words.push(row.label);
  if (row.condition === "with_pretrain") words.push("+ BC");
  if (row.condition === "pretraining") words.push("pretraining");
  if (differs("experiment")) words.push(row.experiment);
  words.push(`seed ${row.seed}`);
  const name = words.join(" ");
  const same = others.filter((o) => o !== row && o.architecture === row.architecture && o.label === row.label &&
    o.condition === row.condition && o.experiment === row.experiment && o.seed === row.seed);
  return same.length ? `${name} (${row.place})` : name;
}
