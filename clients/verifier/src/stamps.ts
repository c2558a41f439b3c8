// SPDX-License-Identifier: Apache-2.0
/** Which tokens are due over what, and when they say it was (sections 7 and 8). */
import { compare, Outside, readBase64, same, sha256, utf8, Wrong } from "./bytes.ts";
import type { Json } from "./json.ts";
import { get, items, str } from "./shape.ts";
import { authorityOf, checkToken, readToken, type Token } from "./token.ts";
import { type Authority, type Trust, within } from "./trust.ts";

export interface Stamped {
  /** What is wrong, or out of reach, about the tokens; null where they are as they should be. */
  error: Error | null;
  detail: string;
  /** The latest time that the tokens of `operator` prove; null where that operator didn't stamp everything. */
  time: number | null;
  operator: "self" | "external" | null;
  times: number[];
  /** Each good token's authority and time. */
  made: { authority: string; at: number }[];
  /** When outsiders whom nobody revoked as hostile had stamped all that is due; null where they didn't. */
  independent: number | null;
}

interface Target {
  name: string;
  hash: Uint8Array;
}

interface Good {
  target: Target;
  token: Token;
  authority: Authority;
}

function targets(file: Json): Target[] {
  if (str(file, "evidence_level") !== "full") return [{ name: "checkpoint", hash: sha256(utf8(str(file, "proof", "checkpoint"))) }];
  return ["qcos_signature", "ecdsa_p256_signature"].flatMap((name) => {
    const signature = get(file, "signatures", name);
    return typeof signature === "string" ? [{ name, hash: sha256(readBase64(signature)!.bytes) }] : [];
  });
}

export function checkTimestamps(file: Json, trust: Trust): Stamped {
  const due = targets(file);
  const good: Good[] = [];
  const trouble: Error[] = [];
  const place: { target: number; external: number; bytes: Uint8Array }[] = [];
  const strange = new Set<number>();
  let unknown = 0;
  for (const entry of items(file, "signatures", "timestamp_authority")) {
    const bytes = readBase64(str(entry, "token"))!.bytes;
    try {
      const token = readToken(bytes);
      const target = due.findIndex(({ hash }) => same(hash, token.imprint));
      if (target < 0) throw new Wrong("a token over nothing that needs one here");
      place.push({ target, external: str(entry, "operator") === "external" ? 1 : 0, bytes });
      strange.add(target);
      const authority = authorityOf(token, trust.authorities);
      strange.delete(target);
      if (authority.operator !== str(entry, "operator")) throw new Wrong(`${authority.name} is ${authority.operator}, not ${str(entry, "operator")}`);
      checkToken(token, authority);
      good.push({ target: due[target]!, token, authority });
      if (!within(authority, token.time)) throw new Wrong(`${authority.name} was not in use at that time`);
    } catch (error) {
      if (error instanceof Outside) unknown += 1;
      else trouble.push(error instanceof Error ? error : new Wrong(String(error)));
    }
  }
  for (let i = 1; i < place.length; i++) {
    const [a, b] = [place[i - 1]!, place[i]!];
    if ((a.target - b.target || a.external - b.external || compare(a.bytes, b.bytes)) >= 0) trouble.push(new Wrong("tokens out of order"));
  }
  trouble.push(...missing(due, good, trust, strange));
  const outside = unknown > 0 ? new Outside(`${unknown} tokens by authorities that the trust file does not know`) : null;
  return { ...times(due, good), error: trouble[0] ?? outside, detail: detail(due, good), made: good.map(({ authority, token }) => ({ authority: authority.name, at: token.time })), independent: independent(due, good, trust) };
}

/** Each authority in use stamps each target once; of a target that only strangers stamped nobody can say. */
function missing(due: Target[], good: Good[], trust: Trust, strange: Set<number>): Wrong[] {
  const latest = Math.max(...good.map(({ token }) => token.time));
  return due.flatMap((target, place) => {
    const over = good.filter((one) => one.target === target);
    if (over.length === 0) return strange.has(place) ? [] : [new Wrong(`no token over the ${target.name}`)];
    return trust.authorities.filter((one) => within(one, latest)).flatMap((authority) => {
      const count = over.filter((one) => one.authority === authority).length;
      return count === 1 ? [] : [new Wrong(`${count} tokens of ${authority.name} over the ${target.name}`)];
    });
  });
}

function times(due: Target[], good: Good[]): Pick<Stamped, "time" | "operator" | "times"> {
  const all = good.map(({ token }) => token.time);
  for (const operator of ["external", "self"] as const) {
    const own = good.filter(({ authority }) => authority.operator === operator);
    if (due.length > 0 && due.every((target) => own.some((one) => one.target === target))) return { time: Math.max(...own.map(({ token }) => token.time)), operator, times: all };
  }
  return { time: null, operator: null, times: all };
}

function independent(due: Target[], good: Good[], trust: Trust): number | null {
  const hostile = (name: string): boolean => trust.revoked.some((one) => one.id === name && one.hostile);
  const outside = good.filter(({ authority }) => authority.operator === "external" && !hostile(authority.name));
  const firsts = due.map((target) => Math.min(...outside.filter((one) => one.target === target).map(({ token }) => token.time)));
  const all = Math.max(...firsts);
  return due.length > 0 && Number.isFinite(all) ? all : null;
}

function detail(due: Target[], good: Good[]): string {
  const names = [...new Set(good.map(({ authority }) => authority.name))];
  return `${due.map(({ name }) => name).join(" and ")} by ${names.join(", ")}`;
}
