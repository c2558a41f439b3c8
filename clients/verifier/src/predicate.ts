// SPDX-License-Identifier: Apache-2.0
/** The file (section 6) and the record in it (section 5): its closed shape, the Statement, and what is signed. */
import { base64 as bytesOf, concat, readBase64, utf8 } from "./bytes.ts";
import { canonical, isObject, type Json, type Members } from "./json.ts";
import {
  amount, base64, bool, count, get, hash, items, list, map, name, object, one, orNull, pattern, str, text, time, uuid, whole,
} from "./shape.ts";

const actor = pattern(/^(user|service):[^@\s]+@[^@\s]+$/, "an actor");
const vouched = one("asserted", "observed", "recomputed");
const words = orNull(name);

export const scope = object({ profile: one("dev", "saas", "dedicated", "onprem", "airgapped"), plane: name, tenant: name });

const predicate = {
  version: one(1),
  bundle_id: uuid,
  job_id: name,
  scope,
  evidence_level: one("full", "standard", "sealed"),
  state: one("COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"),
  partial: words,
  error: orNull(object({ code: name, detail: text })),
  input_hash: hash,
  output_hash: orNull(hash),
  execution_metadata: object({
    backend: words, provider: words, region: words, compliance_zone: words, start_time: orNull(time), end_time: orNull(time),
    seed: orNull(whole), method: words, shots_executed: count, queue_time_ms: count, attempt: count,
  }),
  governance_record: object({
    actor, team: words, department: words, cost_center: words,
    justification: orNull(text), project: name, classification: name, purpose: name, policies_applied: list(name),
    policy_decisions: list(one("allow", "deny"), 1), decision_id: uuid, policy_revision: name, policy_engine: name,
    reasons: list(object({ code: name, message: text })),
  }),
  submission: object({ submitted_at: time, format: one("QASM2", "QASM3", "QPY"), compiler_version: words, shots: count, retention_days: count }),
  cost: orNull(object({
    amount, currency: pattern(/^[A-Z]{3}$/, "a currency"), rate_card: hash,
    lines: list(object({ meter: name, quantity: amount, unit: name, rate: amount, amount, source: name })),
  })),
  history: list(object({ seq: count, state: name, at: time })),
  route: list(object({ backend: name, verdict: one("chosen", "not_chosen", "excluded"), reason: text })),
  environment: map(text),
  artefacts: list(object({ name, media_type: name, sha256: hash, size: count, carried: bool, source: vouched }), 0, 256),
  provenance: map(vouched),
  gaps: list(object({ field: name, reason: name })),
  "delegation?": list(object({ delegation: name, by: name, to: name }), 1, 8),
  "approval?": object({
    state: one("preparing", "requested", "granted", "used", "rejected", "expired", "refused"), reasons: list(name, 1),
    wait_until: time, requested_at: orNull(time), sources: list(hash), compiled: orNull(hash), target: orNull(hash), backend: words,
    answer: orNull(object({ by: actor, reason: name, at: time, decision_id: uuid, expires_at: orNull(time) })), used_at: orNull(time),
  }),
  "envelope?": object({
    form: one("jose", "cose"), alg: one("Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"),
    key_id: pattern(/^[A-Za-z0-9_-]{43}$/, "a thumbprint"), enrolled: uuid,
  }),
};

export const signatures = object({
  qcos_signature: orNull(base64), ecdsa_p256_signature: orNull(base64),
  timestamp_authority: list(object({ operator: one("self", "external"), token: base64 })),
});
export const proof = object({
  leaf: base64, path: list(base64, 0, 64), checkpoint: text, statement_salt: base64,
  "fold?": object({ record: base64, index: count, path: list(base64, 0, 64) }),
  "cosignatures?": list(name, 1, 16),
  "enrolment?": object({ leaf: base64, path: list(base64, 0, 64) }),
});

/** The predicate's own members: what `provenance` may speak of. */
export const FIELDS = new Set(Object.keys(predicate).map((key) => key.replace(/\?$/, "")));

export const closed = object({ ...predicate, signatures, proof, contents: map(base64) });

/** Whether each base64 of the file is in its one form: part of the file being the one byte string of its content. */
export function exactBase64(file: Members): boolean {
  const all = [str(file, "proof", "leaf"), str(file, "proof", "statement_salt"), ...items(file, "proof", "path").map(String)];
  const fold = (get(file, "proof") as Members).get("fold");
  if (fold !== undefined) all.push(str(fold, "record"), ...items(fold, "path").map(String));
  const enrolment = (get(file, "proof") as Members).get("enrolment");
  if (enrolment !== undefined) all.push(str(enrolment, "leaf"), ...items(enrolment, "path").map(String));
  for (const which of ["qcos_signature", "ecdsa_p256_signature"]) {
    const signature = get(file, "signatures", which);
    if (typeof signature === "string") all.push(signature);
  }
  for (const token of items(file, "signatures", "timestamp_authority")) all.push(str(token, "token"));
  const contents = file.get("contents");
  if (isObject(contents)) for (const content of contents.values()) all.push(String(content));
  const method = file.get("method");
  if (typeof method === "string") all.push(method);
  return all.every((written) => readBase64(written)?.exact === true);
}

/** The in-toto Statement that is committed and signed, as canonical JSON. */
export function statement(file: Members): Uint8Array {
  const record: Members = new Map([...file].filter(([key]) => FIELDS.has(key)));
  const subjects = ["input", "output"].flatMap((which): [string, string][] => {
    const found = get(file, `${which}_hash`);
    return typeof found === "string" ? [[which, found]] : [];
  });
  return inTotoStatement("urn:qcos:evidence:v1", subjects, record);
}

/** An in-toto Statement v1 over these subjects: a name and a hash as section 1 writes it, each. */
export function inTotoStatement(type: string, subjects: [string, string][], predicate: Members): Uint8Array {
  const subject = subjects.map(([name, hash]): Json => new Map<string, Json>([["name", name], ["digest", new Map([["sha256", hash.slice(7)]])]]));
  return canonical(new Map<string, Json>([
    ["_type", "https://in-toto.io/Statement/v1"], ["predicateType", type], ["subject", subject], ["predicate", predicate],
  ]));
}

/** DSSE v1 pre-authentication encoding. */
export function pae(payload: Uint8Array): Uint8Array {
  const type = "application/vnd.in-toto+json";
  return concat(utf8(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload);
}

/** A carried artefact's bytes, or null where it is not carried. */
export function carried(file: Json, artefact: string): Uint8Array | null {
  const content = (get(file, "contents") as Members).get(artefact);
  return typeof content === "string" ? bytesOf(content, artefact) : null;
}
