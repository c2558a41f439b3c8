// SPDX-License-Identifier: Apache-2.0
/** What the file says of the signed envelope that asked for the job, and of the enrolment of its key (section 14). */
import { base64, readBase64, same, toBase64, Wrong } from "./bytes.ts";
import { ALGORITHMS, asked, checkKey, checkSignature, parse, thumbprint } from "./envelope.ts";
import { leafOf } from "./entry.ts";
import { canonical, isObject, type Json, type Members, Num, read } from "./json.ts";
import { leafHash, rootOf } from "./merkle.ts";
import type { Checkpoint } from "./note.ts";
import { carried } from "./predicate.ts";
import { artefact } from "./recompute.ts";
import { any, bool, get, instant, int, items, object, orNull, str, text } from "./shape.ts";

const SLACK_S = 300;
const CLOCKS = 5_000;
const DEEPEST = 32;
const ENROLLED = "identity:signing_key:enrolled";
const DECIMAL = /^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/;
const bodyShape = object({ spec: any, "idempotency_key?": orNull(text), "dry_run?": bool });

/** What the plane fills in where a spec says nothing, by member. */
const DEFAULTS: Record<string, string> = {
  backend_constraints: "{}", evidence_requirements: '{"level":"full","retention_days":365}', level: '"full"', observables: "[]", parameters: "[]",
  retention_days: "365",
};

const enrolment = (file: Members): Json | undefined => (get(file, "proof") as Members).get("enrolment");

/** Whether the file says anything of an envelope. */
export const concerned = (file: Members): boolean => file.has("envelope") || enrolment(file) !== undefined || artefact(file, "envelope") !== undefined;

export function checkEnvelope(file: Members): string {
  const said = file.get("envelope");
  if (said === undefined || artefact(file, "envelope") === undefined) throw new Wrong("record and artefact go together");
  const [alg, keyId] = [str(said, "alg"), str(said, "key_id")];
  const key = keyOf(file, alg, keyId);
  const bytes = carried(file, "envelope");
  if (bytes === null) return `${alg} ${keyId}; not_carried`;
  const found = parse(str(said, "form"), bytes);
  if (found.alg !== alg || found.keyId !== keyId) throw new Wrong("the envelope names another algorithm or key");
  checkSignature(found, key);
  const at = instant(str(file, "submission", "submitted_at")) / 1000;
  const audience = `urn:qcos:plane:${str(file, "scope", "plane")}:${str(file, "scope", "tenant")}`;
  const body = asked(found.payload, audience, at, SLACK_S);
  bodyShape(body, "body");
  if (body.get("dry_run") === true) throw new Wrong("it asked for advice, not for a job");
  return `${alg} ${keyId}, ${checkSpec(file, get(body, "spec"))}`;
}

function keyOf(file: Members, alg: string, keyId: string): Uint8Array {
  const shown = enrolment(file);
  if (shown === undefined) throw new Wrong("nothing shows the key");
  const body = get(leafOf(base64(str(shown, "leaf"), "leaf")), "body");
  const written = str(body, "public");
  const read = readBase64(written);
  if (read === null || !ALGORITHMS.includes(alg)) throw new Wrong("the enrolment shows no key");
  checkKey(alg, read.bytes);
  if (toBase64(read.bytes) !== written || thumbprint(alg, read.bytes) !== keyId) throw new Wrong("key_id is not the thumbprint of the key that was enrolled");
  return read.bytes;
}

/** Who asked had enrolled the key before: an entry of theirs, earlier and under the same checkpoint, says so. */
export function checkEnrolment(file: Members, leaf: Members, actor: string, checkpoint: Checkpoint): string {
  const [said, shown] = [file.get("envelope"), enrolment(file)];
  if (said === undefined || shown === undefined) throw new Wrong("a record of an envelope and the enrolment of its key go together");
  const bytes = base64(str(shown, "leaf"), "leaf");
  const entry = leafOf(bytes);
  if (str(entry, "kind") !== ENROLLED || str(entry, "entry_id") !== str(said, "enrolled")) throw new Wrong("another entry than the enrolment that the record names");
  if ((get(entry, "body") as Members).get("key_id") !== str(said, "key_id")) throw new Wrong("the enrolment is of another key");
  if (str(entry, "tenant") !== str(file, "scope", "tenant") || str(entry, "actor") !== actor) throw new Wrong("somebody else enrolled the key");
  const index = int(entry, "index");
  if (index >= int(leaf, "index")) throw new Wrong("the key was enrolled after the job");
  if (instant(str(entry, "time")) > instant(str(file, "submission", "submitted_at")) + CLOCKS) throw new Wrong("the key was enrolled after the submission");
  const path = items(shown, "path").map((one) => base64(String(one), "path"));
  if (!same(rootOf(leafHash(bytes), index, checkpoint.size, path), checkpoint.root)) throw new Wrong("the path does not lead to the checkpoint's root");
  return `entry ${index}`;
}

function checkSpec(file: Members, wanted: Json): string {
  const bytes = carried(file, "spec");
  if (bytes === null) return "spec not_carried";
  const held = read(bytes);
  if (!isObject(wanted) || !isObject(held)) throw new Wrong("a spec is an object");
  const theirs = new Map(held);
  if (typeof wanted.get("job_id") !== "string" && typeof held.get("job_id") === "string") theirs.delete("job_id"); // the plane's to make
  agree(wanted, theirs, "spec", 0);
  return "the spec is the job's";
}

/** That `held`, as accepted, is what was `wanted`, with defaults filled in. */
function agree(wanted: Json, held: Json, path: string, depth: number): void {
  if (depth > DEEPEST) throw new Wrong(`${path}: nested deeper than ${DEEPEST}`);
  if (isObject(wanted) && isObject(held)) agreeMembers(wanted, held, path, depth);
  else if (Array.isArray(wanted) && Array.isArray(held) && wanted.length === held.length) wanted.forEach((one, i) => agree(one, held[i]!, `${path}[${i}]`, depth + 1));
  else if (typeof wanted === "boolean" || typeof wanted === "string") {
    if (wanted !== held) unlike(path);
  } else if (!isNumber(wanted) || double(wanted, path) !== double(held, path)) unlike(path);
}

function agreeMembers(wanted: Members, held: Members, path: string, depth: number): void {
  for (const [name, value] of wanted) {
    if (value === null) continue;
    const theirs = held.get(name);
    if (theirs === undefined) unlike(`${path}.${name}`);
    (name === "parameters" ? agreeParameters : agree)(value, theirs, `${path}.${name}`, depth + 1);
  }
  for (const [name, value] of held) {
    if ((wanted.get(name) ?? null) !== null) continue;
    const filled = Object.hasOwn(DEFAULTS, name) ? DEFAULTS[name] : undefined;
    if (filled === undefined || new TextDecoder().decode(canonical(value)) !== filled) throw new Wrong(`${path}.${name}: nobody asked for it`);
  }
}

/** A set {name: number} is held as a list of {name, value}; of a program there are several. */
function agreeParameters(wanted: Json, held: Json, path: string, depth: number): void {
  if (Array.isArray(wanted) && Array.isArray(held) && wanted.length === held.length) {
    wanted.forEach((one, i) => (isObject(one) ? agreeParameters(one, held[i]!, path, depth + 1) : unlike(path)));
    return;
  }
  if (!isObject(wanted) || !Array.isArray(held) || held.length !== wanted.size) unlike(path);
  const found = new Map<string, Json>();
  for (const pair of held as Json[]) {
    const name = isObject(pair) && pair.size === 2 && pair.has("value") ? pair.get("name") : undefined;
    if (typeof name !== "string") unlike(path);
    found.set(name, get(pair, "value"));
  }
  if (found.size !== (wanted as Members).size) unlike(path);
  for (const [name, value] of wanted as Members) {
    if (!isNumber(value) || !found.has(name)) unlike(path);
    agree(value, found.get(name)!, path, depth + 1);
  }
}

const isNumber = (value: Json): value is number | Num => typeof value === "number" || value instanceof Num;

/** The double that a number, or a decimal that stands for one, means. */
function double(value: Json, path: string): number {
  const written = value instanceof Num ? value.written : typeof value === "string" && DECIMAL.test(value) ? value : null;
  const found = typeof value === "number" ? value : written === null ? NaN : Number(written);
  return Number.isFinite(found) ? found : unlike(path);
}

function unlike(path: string): never {
  throw new Wrong(`${path}: not what was asked for`);
}
