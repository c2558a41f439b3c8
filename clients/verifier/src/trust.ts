// SPDX-License-Identifier: Apache-2.0
/** The trust file (section 9): what is trusted, and when. A file that isn't sound throws `Unusable`. */
import { base64, readBase64, Unusable, Wrong } from "./bytes.ts";
import { type Certificate, readCertificate } from "./x509.ts";
import { type Json, readCanonical } from "./json.ts";
import { type Algorithm, rawKey } from "./keys.ts";
import { base64 as base64Shape, get, instant, int, items, list, name, object, one, orNull, str, text, time, count } from "./shape.ts";

export interface Window {
  from: number;
  until: number | null;
}

export interface TrustedKey extends Window {
  id: string;
  algorithm: Algorithm;
  raw: Uint8Array;
}

export interface Authority extends Window {
  name: string;
  operator: "self" | "external";
  certificates: Certificate[];
}

/** From `at` on the id proves nothing; a hostile one may have the plane's other keys and its clock too. */
export interface Revocation {
  id: string;
  at: number;
  hostile: boolean;
}

/** Keys that follow keys: `ended` speak up to `size` of the log under `origin`, `begun` above it. */
export interface Rotation {
  origin: string;
  size: number;
  ended: string[];
  begun: string[];
}

export interface Trust {
  version: number;
  issuedAt: string;
  expires: string;
  profile: string;
  plane: string;
  tenants: string[] | null;
  /** The log's own origin and those before it, under the same keys. */
  origins: string[];
  logKeys: TrustedKey[];
  evidence: TrustedKey[];
  authorities: Authority[];
  revoked: Revocation[];
  rotations: Rotation[];
  /** `name` is the one on their lines. */
  witnesses: (TrustedKey & { name: string })[];
}

const key = object({ id: name, alg: name, public: base64Shape, valid_from: time, valid_until: orNull(time) });
const certificates = list(base64Shape, 1, 8);
const shape = object({
  type: one("urn:qcos:trust:v1", "urn:qcos:trust:v2", "urn:qcos:trust:v3"),
  version: count,
  issued_at: time,
  expires: time,
  scope: object({ profile: one("dev", "saas", "dedicated", "onprem", "airgapped"), plane: name, tenants: orNull(list(name)) }),
  log: object({ origin: name, keys: list(key), "earlier?": list(name, 1) }),
  evidence: list(key),
  tsa: list(object({ operator: one("self", "external"), name, certificates, valid_from: time, valid_until: orNull(time) })),
  revoked: list(object({ id: name, at: time, reason: text })),
  "witnesses?": list(object({ id: name, name, alg: one("ml-dsa-44"), public: base64Shape, valid_from: time, valid_until: orNull(time) }), 1),
  "rotations?": list(object({ origin: name, size: count, ended: list(name, 1), begun: list(name, 1) }), 1),
  "documents?": list(object({ name, certificates, valid_from: time, valid_until: orNull(time) }), 1),
});

const LOG: Algorithm[] = ["ed25519", "ml-dsa-65"];
const EVIDENCE: Algorithm[] = ["ml-dsa-65", "ecdsa-p256"];

export function readTrust(bytes: Uint8Array): Trust {
  try {
    return parse(bytes);
  } catch (error) {
    throw new Unusable(`trust file: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parse(bytes: Uint8Array): Trust {
  const file = readCanonical(bytes, "trust file");
  shape(file, "$");
  const earlier = optional(get(file, "log"), "earlier");
  const [witnesses, documents] = [optional(file, "witnesses"), optional(file, "documents")];
  const rotations = optional(file, "rotations");
  const due = witnesses.length + documents.length + rotations.length > 0 ? "v3" : earlier.length > 0 ? "v2" : "v1";
  if (str(file, "type") !== `urn:qcos:trust:${due}`) throw new Wrong(`a file of this content is of version ${due}`);
  const trust: Trust = {
    version: int(file, "version"),
    issuedAt: str(file, "issued_at"),
    expires: str(file, "expires"),
    profile: str(file, "scope", "profile"),
    plane: str(file, "scope", "plane"),
    tenants: get(file, "scope", "tenants") === null ? null : items(file, "scope", "tenants").map((tenant) => String(tenant)),
    origins: [str(file, "log", "origin"), ...earlier.map(String)],
    logKeys: items(file, "log", "keys").map((item) => readKey(item, LOG)),
    evidence: items(file, "evidence").map((item) => readKey(item, EVIDENCE)),
    authorities: items(file, "tsa").map(readAuthority),
    revoked: items(file, "revoked").map((item) => ({ id: str(item, "id"), at: instant(str(item, "at")), hostile: !MILD.includes(firstWord(str(item, "reason"))) })),
    rotations: rotations.map((item) => ({
      origin: str(item, "origin"), size: int(item, "size"), ended: items(item, "ended").map(String), begun: items(item, "begun").map(String),
    })),
    witnesses: witnesses.map((item) => ({ ...readKey(item, ["ml-dsa-44"]), name: str(item, "name") })),
  };
  instant(trust.issuedAt);
  instant(trust.expires);
  // Documents are chains for PDF files, which are not read here; that they are sound is part of the file being sound.
  documents.forEach((item) => [window(item), ...chain(item)]);
  const keys = [...trust.logKeys, ...trust.evidence, ...trust.witnesses].map(({ id }) => id);
  const ids = [...keys, ...trust.authorities.map((one) => one.name), ...documents.map((one) => str(one, "name"))];
  if (new Set(ids).size !== ids.length) throw new Wrong("an id or name that stands for two");
  checkRotations(trust);
  return trust;
}

/** Reasons after which nobody else has the key. */
const MILD = ["superseded", "ceased"];

const firstWord = (reason: string): string => reason.split(":")[0]!.trim();

function checkRotations({ rotations, origins, logKeys, evidence }: Trust): void {
  const sets = [logKeys, evidence].map((keys) => new Set(keys.map(({ id }) => id)));
  for (const one of rotations) {
    const both = [...one.ended, ...one.begun];
    if (!origins.includes(one.origin)) throw new Wrong("a rotation under an unknown origin");
    if (new Set(both).size !== both.length || !sets.some((ids) => both.every((id) => ids.has(id)))) throw new Wrong("a rotation of keys that are not of one kind, or in both lists");
  }
  for (const list of [rotations.flatMap(({ ended }) => ended), rotations.flatMap(({ begun }) => begun)]) {
    if (new Set(list).size !== list.length) throw new Wrong("a key that ends or begins twice");
  }
}

/** Whether a key may speak for that position of the log under that origin. */
export function speaks(key: { id: string }, { rotations, origins }: Pick<Trust, "rotations" | "origins">, origin: string, position: number): boolean {
  const age = (one: string): number => (one === origins[0] ? origins.length : origins.indexOf(one));
  return rotations.every((one) => {
    const place = age(origin) < age(one.origin) ? 0 : position;
    return !(one.ended.includes(key.id) && place > one.size) && !(one.begun.includes(key.id) && place <= one.size);
  });
}

const optional = (value: Json, member: string): Json[] => (value instanceof Map && value.has(member) ? items(value, member) : []);

const chain = (item: Json): Certificate[] => items(item, "certificates").map((one) => readCertificate(readBase64(String(one))!.bytes));

function window(item: Json): Window {
  const until = get(item, "valid_until");
  return { from: instant(str(item, "valid_from")), until: until === null ? null : instant(String(until)) };
}

function readKey(item: Json, allowed: Algorithm[]): TrustedKey {
  const algorithm = allowed.find((one) => one === str(item, "alg"));
  if (algorithm === undefined) throw new Wrong(`key ${str(item, "id")} is of an algorithm that has no place there`);
  return { id: str(item, "id"), algorithm, raw: rawKey(base64(str(item, "public"), "public"), algorithm), ...window(item) };
}

function readAuthority(item: Json): Authority {
  const operator = str(item, "operator") === "self" ? "self" : "external";
  return { name: str(item, "name"), operator, certificates: chain(item), ...window(item) };
}

/** Whether that moment lies in the window; the end is outside of it. */
export const within = (window: Window, at: number, slack = 0): boolean =>
  window.from - slack <= at && (window.until === null || at < window.until + slack);
