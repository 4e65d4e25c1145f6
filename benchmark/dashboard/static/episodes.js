import { element } from "./common.js";

export async function show(root, params) {
  root.append(element("h1", {}, "episodes"));
}

export function hide() {}
