// SPDX-License-Identifier: Apache-2.0
/** The leaf, the record that speaks (the leaf itself or one folded under it), and where they stand (section 1, section 10 step 3). */
import { base64, hashText, same, sha256, Wrong } from "./bytes.ts";
import { canonical, isObject, type Json, type Members, read } from "./json.ts";
import { leafHash, rootOf } from "./merkle.ts";
import type { Checkpoint } from "./note.ts";
import { any, count, get, hash, having, int, items, map, members, name, object, one, orNull, pattern, type Shape, str, time, uuid } from "./shape.ts";

const kind = pattern(/^[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*){1,3}$/, "a kind");
const bounded = (shape: Shape, most: number): Shape => (value, at) => {
  shape(value, at);
  if (typeof value === "string" && [...value].length > most) throw new Wrong(`${at}: more than ${most} characters`);
};
const named = bounded(name, 200);
const schema: Shape = (value, at) => {
  count(value, at);
  if (value === 0) throw new Wrong(`${at}: a version from 1 on`);
};
const commitments: Shape = (value, at) => {
  map(hash)(value, at);
  if (isObject(value)) for (const key of value.keys()) named(key, at);
};
const written = { entry_id: uuid, tenant: named, kind: bounded(kind, 100), schema, actor: named, time, body: map(any), commitments };
const leafShape = object({ v: one(1), type: one("entry"), ...written, index: count, tenant_index: count, tenant_prev: orNull(hash), "prev_checkpoint?": hash });
const recordShape = object(written);
const foldShape = having({ count, root: hash });

export const FOLDED = "ledger:entries:folded";

function parse(bytes: Uint8Array, shape: typeof leafShape, what: string): Members {
  const value = read(bytes);
  shape(value, what);
  if (!isObject(value) || !same(canonical(value), bytes)) throw new Wrong(`${what}: not in canonical form`);
  return value;
}

export const leafOf = (bytes: Uint8Array): Members => parse(bytes, leafShape, "leaf");
export const readLeaf = (file: Json): Members => leafOf(base64(str(file, "proof", "leaf"), "leaf"));

/** The record that speaks. */
export function speaking(file: Json, leaf: Members): Members {
  const fold = members(file, "proof").get("fold");
  const folds = str(leaf, "kind") === FOLDED;
  if (fold === undefined) {
    if (folds) throw new Wrong("a folded entry, and no record of it");
    return leaf;
  }
  if (!folds) throw new Wrong(`an entry of kind ${str(leaf, "kind")} folds nothing`);
  const body = get(leaf, "body");
  foldShape(body, "leaf.body");
  const bytes = base64(str(fold, "record"), "record");
  const path = items(fold, "path").map((one) => base64(String(one), "path"));
  const root = rootOf(leafHash(bytes), int(fold, "index"), int(body, "count"), path);
  if (hashText(root) !== str(body, "root")) throw new Wrong("the inner path does not lead to the root of the folded entry");
  const record = parse(bytes, recordShape, "record");
  if (str(record, "tenant") !== str(leaf, "tenant")) throw new Wrong("a record of another tenant than its entry");
  return record;
}

export function checkCommitment(file: Json, record: Members, statement: Uint8Array): string {
  const salt = base64(str(file, "proof", "statement_salt"), "salt");
  if (salt.length !== 32) throw new Wrong(`a salt of ${salt.length} bytes`);
  const committed = hashText(sha256(salt, statement));
  if (members(record, "commitments").get("statement") !== committed) throw new Wrong("the entry commits to another statement");
  return committed;
}

export function checkRecord(file: Json, leaf: Members, record: Members): string {
  if (str(record, "tenant") !== str(file, "scope", "tenant")) throw new Wrong("the entry belongs to another tenant");
  const body = get(record, "body");
  const evidence = isObject(body) ? body.get("evidence") : undefined;
  const named = isObject(evidence) && evidence.size === 2 && evidence.get("bundle_id") === str(file, "bundle_id") && evidence.get("level") === str(file, "evidence_level");
  if (!named) throw new Wrong("the entry names another bundle or level");
  const job = isObject(body) ? body.get("job_id") : undefined;
  if (job !== undefined && job !== str(file, "job_id")) throw new Wrong("the entry names another job");
  return `entry ${int(leaf, "index")}, ${str(record, "kind")}`;
}

export function checkInclusion(file: Json, leaf: Members, checkpoint: Checkpoint): string {
  const path = items(file, "proof", "path").map((one) => base64(String(one), "path"));
  const index = int(leaf, "index");
  const root = rootOf(leafHash(base64(str(file, "proof", "leaf"), "leaf")), index, checkpoint.size, path);
  if (!same(root, checkpoint.root)) throw new Wrong("the path does not lead to the checkpoint's root");
  return `entry ${index} of ${checkpoint.size}`;
}
