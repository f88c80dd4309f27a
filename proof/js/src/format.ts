import { fromLooseUTF8 } from "./bytes.js";

export const bundleFormat = "zhenglian-proof/1";
const bundlePrefix = "zhenglian-proof/";

const maxDepth = 10_000;
const space = /[ \t\n\r]*/y;
const stringToken = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const otherToken = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/**
 * Reports whether data is any JSON object that names another release's format. A
 * later release may spell its bundles in ways that the canonical reader refuses,
 * so this looks at the name only. As the last of several names counts, and in
 * any case of letters, a reader cannot be made to see one format and another to
 * see the next.
 */
export function hasUnknownFormat(data: Uint8Array): boolean {
  const format = formatName(fromLooseUTF8(data));
  return format !== undefined && format.startsWith(bundlePrefix) && format !== bundleFormat;
}

// Walks any valid JSON without recursion, so that depth costs nothing but memory,
// and answers the string that the outermost object has as its format.
function formatName(text: string): string | undefined {
  let at = 0;
  let format: string | undefined;
  const open: ("{" | "[")[] = [];
  const next = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    at += found?.length ?? 0;
    return found;
  };
  const take = (c: string): boolean => {
    next(space);
    if (text[at] !== c) return false;
    at++;
    return true;
  };
  let naming = false; // the value that follows is the outermost object's format
  const name = (): boolean => {
    next(space);
    const token = next(stringToken);
    if (token === undefined || !take(":")) return false;
    naming = open.length === 1 && /^format$/i.test(JSON.parse(token) as string);
    return true;
  };

  next(space);
  if (text[at] !== "{") return undefined;
  for (;;) {
    // A value.
    let closed = false;
    const named = naming;
    naming = false;
    if (take("{") || take("[")) {
      if (named) return undefined;
      const bracket = text[at - 1] as "{" | "[";
      open.push(bracket);
      if (open.length > maxDepth) return undefined;
      if (!take(bracket === "{" ? "}" : "]")) {
        if (bracket === "{" && !name()) return undefined;
        continue;
      }
      closed = true;
    } else {
      const token = next(stringToken) ?? next(otherToken);
      if (token === undefined) return undefined;
      if (named && token !== "null") {
        if (!token.startsWith('"')) return undefined;
        format = JSON.parse(token) as string;
      }
    }
    // What may follow a value.
    for (;;) {
      if (closed) open.pop();
      closed = false;
      const inside = open[open.length - 1];
      if (inside === undefined) {
        next(space);
        return at === text.length ? format : undefined;
      }
      if (take(",")) {
        if (inside === "{" && !name()) return undefined;
        break;
      }
      if (!take(inside === "{" ? "}" : "]")) return undefined;
      closed = true;
    }
  }
}
