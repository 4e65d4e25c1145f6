import { element } from "./common.js";

export async function show(root, params) {
  root.append(element("h1", {}, "editor"));
}

export function hide() {}
