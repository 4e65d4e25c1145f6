// What all views use: elements, requests, messages, numbers as people write them. Text from files only becomes text:
// `element` sets textContent, never markup.

// An element. props: attributes; `on...` are listeners, `data` an object of data-..., `value`, `checked` properties.
export function element(tag, props = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(found.dataset, value);
    else if (name === "value" || name === "checked") found[name] = value;
    else found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return found;
}

// Puts children into a place, in the stead of what is there. What is null or false is left out, as in `element`.
export const fill = (place, ...children) =>
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The JSON answer of a request. query: an object or a list of [name, value]; body: sent as JSON by POST, or as it is
// where it is an ArrayBuffer. Throws ApiError with a line for people.
export async function api(path, query = {}, { body, signal, kind = "json" } = {}) {
  const pairs = Array.isArray(query) ? query : Object.entries(query);
  const words = new URLSearchParams(pairs.filter(([, value]) => value !== undefined && value !== null)).toString();
  const options = { signal, cache: "no-cache" };
  if (body !== undefined) {
    const raw = body instanceof ArrayBuffer || ArrayBuffer.isView(body);
    options.method = "POST";
    options.body = raw ? body : JSON.stringify(body);
    options.headers = { "content-type": raw ? "application/octet-stream" : "application/json" };
  }
  let answer;
  try {
    answer = await fetch(`api/${path}${words ? `?${words}` : ""}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The dashboard does not answer: has it been stopped?", 0);
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new ApiError(said.error || `The dashboard answered with ${answer.status}.`, answer.status);
  }
  return kind === "json" ? answer.json() : kind === "bytes" ? answer.arrayBuffer() : answer.text();
}

let hiding;
// A line at the bottom of the page, for some seconds.
export function say(text, seconds = 6) {
  const place = document.getElementById("message");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (place.hidden = true), seconds * 1000);
}

// Reports an error of a view: an aborted request is none.
export function complain(error) {
  if (error && error.name === "AbortError") return;
  say(error instanceof ApiError ? error.message : `${error}`, 12);
}

// Writes parameters into the address, so that a link restores the view, without showing the view again.
export function setParams(view, params) {
  const words = new URLSearchParams(
    [...(params instanceof URLSearchParams ? params : Object.entries(params))].filter(([, v]) => v !== "" && v !== null),
  ).toString();
  history.replaceState(null, "", `#/${view}${words ? `?${words}` : ""}`);
}

// Goes to a view.
export function go(view, params = {}) {
  const words = new URLSearchParams(params).toString();
  location.hash = `#/${view}${words ? `?${words}` : ""}`;
}

export const missing = "–";
export const percent = (value, digits = 1) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)}%` : missing);
export function short(value, digits = 3) {
  if (!Number.isFinite(value)) return missing;
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(digits))}${letter}`;
  return `${Number(value.toPrecision(digits))}`;
}
export function duration(minutes) {
  if (!Number.isFinite(minutes)) return missing;
  if (minutes < 1) return `${Math.round(60 * minutes)} s`;
  if (minutes < 120) return `${minutes < 10 ? minutes.toFixed(1) : Math.round(minutes)} min`;
  return minutes < 2880 ? `${(minutes / 60).toFixed(1)} h` : `${(minutes / 1440).toFixed(1)} d`;
}

// Saves bytes or text as a file of the browser's downloads.
export function download(name, content, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A colour of the theme by its name, such as "ink" or "c0".
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
