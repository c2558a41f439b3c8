// SPDX-License-Identifier: Apache-2.0
/**
 * A job of a network: its plan, whom it was sent to, and each node's own signed words (section 5).
 *
 * Every check is a function of what the two artefacts `plan` and `network` say, and of the record.
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { base64, concat, hex, same, sha256, utf8, Wrong } from "./bytes.ts";
import { readResult } from "./counts.ts";
import { add, compareDecimals, decimal, multiply, written } from "./decimal.ts";
import { canonical, isObject, type Json, type Members, Num, read } from "./json.ts";
import { carried } from "./predicate.ts";
import { any, base64 as base64Shape, get, having, int, items, list, map, members, orNull, str, text, whole } from "./shape.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PEER_HEAD = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);
/** Why an attempt may hold an answer that is not signed, or answers nothing: it was refused for just that. */
const REFUSED_FOR = ["signature", "answer", "request"];

const attempt = having({
  node_id: text, epoch: whole, status: text, code: orNull(text),
  requests: list(base64Shape), answers: list(having({ node_id: text, body: base64Shape, signature: base64Shape })),
});
const networkShape = having({
  run: having({ token: text, fragments: list(having({ fragment_id: text, status: text, node_id: orNull(text), attempts: list(attempt) })) }),
  shots: whole, bits: whole, rows: base64Shape,
});
const offer = having({ service: text, reported_ppm: orNull(whole), verified_ppm: orNull(whole) });
const planShape = having({
  allowed: list(text),
  program: map(any),
  config: orNull(having({ min_fidelity_ppm: map(whole), default_min_fidelity_ppm: whole })),
  snapshot: having({ nodes: list(having({ node_id: text, offers: list(offer), price_per_fragment: text, price_per_shot: text })) }),
  plan: having({
    plan_id: text, program_sha256: text, snapshot_sha256: text, config_sha256: text,
    fragments: list(having({ fragment_id: text, services: list(text), bits_read: list(whole), bits_written: list(whole) })),
    assignments: list(having({ fragment_id: text, primary: text, fallbacks: list(text) })),
  }),
});

/** The artefacts as far as the checks need them; each throws where it is not of that form. */
export function readPlan(plan: Json): Members {
  planShape(plan, "plan");
  return members(plan);
}

export function readNetwork(network: Json): Members {
  networkShape(network, "network");
  return members(network);
}

export interface Network {
  plan: Members;
  network: Members;
}

interface Attempt {
  fragment: string;
  node: string;
  epoch: number;
  status: string;
  code: Json;
  requests: Uint8Array[];
  answers: { node: string; body: Uint8Array; signature: Uint8Array }[];
}

export function attempts({ network }: Network): Attempt[] {
  return items(network, "run", "fragments").flatMap((fragment) => items(fragment, "attempts").map((one) => ({
    fragment: str(fragment, "fragment_id"),
    node: str(one, "node_id"),
    epoch: int(one, "epoch"),
    status: str(one, "status"),
    code: get(one, "code"),
    requests: items(one, "requests").map((bytes) => base64(String(bytes), "request")),
    answers: items(one, "answers").map((answer) => ({
      node: str(answer, "node_id"), body: base64(str(answer, "body"), "answer"), signature: base64(str(answer, "signature"), "signature of an answer"),
    })),
  })));
}

const hashOf = (value: Json): string => hex(sha256(canonical(value, true)));

export function checkPlan(whole: Members): string {
  const plan = members(whole, "plan");
  const others = new Map([...plan].filter(([key]) => key !== "plan_id"));
  if (hashOf(others) !== str(plan, "plan_id")) throw new Wrong("plan_id is not the hash of the plan");
  for (const part of ["program", "snapshot", "config"]) {
    const value = get(whole, part);
    if (part === "config" && value === null) continue;
    if (hashOf(value) !== str(plan, `${part}_sha256`)) throw new Wrong(`${part}_sha256 is not the hash of ${part}`);
  }
  return `${str(plan, "plan_id").slice(0, 16)}, ${items(plan, "fragments").length} fragments`;
}

/** The least fidelity a service must have, in ppm; 0 where the configuration is unknown. */
function threshold(whole: Members, service: string): number {
  const config = get(whole, "config");
  if (config === null) return 0;
  const own = members(config, "min_fidelity_ppm").get(service);
  return typeof own === "number" ? own : int(config, "default_min_fidelity_ppm");
}

const named = (assignment: Json): string[] => [str(assignment, "primary"), ...items(assignment, "fallbacks").map(String)];

export function checkNodes(both: Network): string {
  const { plan: whole } = both;
  const plan = members(whole, "plan");
  const planned = items(plan, "fragments").map((one) => str(one, "fragment_id"));
  const assigned = new Map(items(plan, "assignments").map((one) => [str(one, "fragment_id"), named(one)]));
  if (!sameSet(planned, items(plan, "assignments").map((one) => str(one, "fragment_id")))) throw new Wrong("plan: a fragment without a node, or twice");
  const ran = items(both.network, "run", "fragments").map((one) => str(one, "fragment_id"));
  if (!sameSet(planned, ran)) throw new Wrong("the run's fragments are not the plan's");
  const allowed = items(whole, "allowed");
  for (const fragment of items(plan, "fragments")) {
    for (const node of assigned.get(str(fragment, "fragment_id")) ?? []) {
      if (!allowed.includes(node)) throw new Wrong(`${node} is named, and was not allowed`);
      checkFidelity(whole, fragment, node);
    }
  }
  const all = attempts(both);
  const epochs = new Map<string, number>();
  for (const one of all) {
    if (!(assigned.get(one.fragment) ?? []).includes(one.node)) throw new Wrong(`${one.node} was sent ${one.fragment}, and the plan does not name it for that`);
    const epoch = (epochs.get(one.fragment) ?? 0) + 1;
    if (one.epoch !== epoch) throw new Wrong(`epoch ${epoch} of ${one.fragment} is missing`);
    epochs.set(one.fragment, epoch);
  }
  return `${new Set(all.map(({ node }) => node)).size} received something, in ${all.length} attempts`;
}

/** The same names, each once in both. */
function sameSet(a: string[], b: string[]): boolean {
  return a.length === b.length && new Set(a).size === a.length && new Set(b).size === b.length && a.every((one) => b.includes(one));
}

function checkFidelity(whole: Members, fragment: Json, node: string): void {
  const entry = items(whole, "snapshot", "nodes").find((one) => str(one, "node_id") === node);
  if (entry === undefined) throw new Wrong(`${node} does not stand in the snapshot`);
  for (const service of items(fragment, "services").map(String)) {
    const offer = items(entry, "offers").find((one) => str(one, "service") === service);
    if (offer === undefined) throw new Wrong(`${node} does not offer ${service}`);
    // What nobody reported or verified is as good as nothing.
    const seen = [get(offer, "reported_ppm"), get(offer, "verified_ppm")].map((ppm) => (typeof ppm === "number" ? ppm : 0));
    if (Math.min(...seen) < threshold(whole, service)) throw new Wrong(`${node}: ${service} lies below its threshold`);
  }
}

/** The Ed25519 key in a peer id. */
export function peerKey(peer: string): Uint8Array {
  if (peer.length > 64) throw new Wrong("a malformed peer id");
  let value = 0n;
  for (const letter of peer) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) throw new Wrong("a malformed peer id");
    value = value * 58n + BigInt(digit);
  }
  // 0x00 at the head is the leading "1" of base58.
  const digits = value.toString(16).padStart(2 * 37, "0");
  const bytes = concat(Uint8Array.of(0), Uint8Array.from(digits.match(/../g)!, (pair) => parseInt(pair, 16)));
  if (!peer.startsWith("1") || bytes.length !== 38 || !same(bytes.subarray(0, 6), PEER_HEAD)) throw new Wrong("a peer id without an Ed25519 key");
  return bytes.subarray(6);
}

const OPENING = utf8("qcos-node-v1\n");

function answersItsRequest(one: Attempt, answer: Attempt["answers"][number], token: string): void {
  if (answer.node !== one.node || !ed25519.verify(answer.signature, concat(OPENING, answer.body), peerKey(one.node), { zip215: false })) throw new Wrong("an answer that it did not sign");
  const body = read(answer.body);
  if (!isObject(body) || str(body, "node_id") !== one.node) throw new Wrong("an answer in another's name");
  const request = one.requests.find((bytes) => hex(sha256(bytes)) === str(body, "request_sha256"));
  if (request === undefined) throw new Wrong("an answer to something that it was not sent");
  checkRequest(one, request, token);
}

function checkRequest(one: Attempt, bytes: Uint8Array, token: string): void {
  const request = read(bytes);
  if (str(request, "fragment_id") !== one.fragment || int(request, "epoch") !== one.epoch || str(request, "token") !== token) throw new Wrong("a request of another run, fragment or epoch");
}

export function checkNode(both: Network, node: string): string {
  const token = hex(sha256(utf8("qcos-run\0"), utf8(str(both.network, "run", "token")))).slice(0, 32);
  let good = 0;
  let refused = 0;
  const ran: string[] = [];
  const vain: string[] = [];
  for (const one of attempts(both).filter((attempt) => attempt.node === node)) {
    (one.status === "accepted" ? ran : vain).push(one.fragment);
    for (const request of one.requests) checkRequest(one, request, token);
    for (const answer of one.answers) {
      try {
        answersItsRequest(one, answer, token);
        good += 1;
      } catch (error) {
        if (one.status !== "refused" || !REFUSED_FOR.includes(String(one.code))) throw error;
        refused += 1;
      }
    }
  }
  const parts = [ran.length > 0 ? `ran ${ran.join(", ")}` : "", vain.length > 0 ? `received ${vain.join(", ")} in vain` : ""].filter((part) => part !== "");
  return `${parts.join("; ")}; ${good} answers, each signed by it${refused > 0 ? `; ${refused} refused` : ""}`;
}

/** The rows of each accepted answer, joined shot by shot, are the run's; and counted the result. */
export function checkFragments(file: Json, both: Network): string {
  const { plan: whole, network } = both;
  const [shots, bits] = [int(network, "shots"), int(network, "bits")];
  const width = Math.ceil(bits / 8);
  const rows = base64(str(network, "rows"), "rows");
  if (rows.length !== shots * width) throw new Wrong("rows of another length than shots and bits want");
  const joined = new Uint8Array(rows.length);
  const fragments = items(whole, "plan", "fragments");
  const all = attempts(both);
  for (const fragment of fragments) {
    const id = str(fragment, "fragment_id");
    const run = items(network, "run", "fragments").find((one) => str(one, "fragment_id") === id);
    if (run === undefined) throw new Wrong(`fragment ${id} did not run`);
    const accepted = all.filter((one) => one.fragment === id && one.status === "accepted");
    if (accepted.length !== 1 || get(run, "status") !== "completed" || get(run, "node_id") !== accepted[0]!.node) throw new Wrong(`${id} has not one accepted attempt`);
    join(whole, fragment, accepted[0]!, joined, shots, width);
  }
  if (!same(joined, rows)) throw new Wrong("the nodes' rows, joined, are not the run's");
  const result = carried(file, "result");
  if (result !== null) compareCounts(rows, shots, bits, members(readResult(result), "counts"));
  return `${fragments.length} joined shot by shot give the counts of ${shots} shots`;
}

function join(whole: Members, fragment: Json, attempt: Attempt, joined: Uint8Array, shots: number, width: number): void {
  const executed = attempt.answers.map(({ body }) => read(body)).filter((body) => isObject(body) && body.get("type") === "executed");
  const body = executed.at(-1);
  if (body === undefined) throw new Wrong(`${attempt.fragment}: accepted without an answer`);
  if (get(body, "fragment_id") !== attempt.fragment || get(body, "epoch") !== attempt.epoch) throw new Wrong(`${attempt.fragment}: the accepted answer is of something else`);
  const own = base64(str(body, "rows"), "rows");
  const [taken, given] = [items(fragment, "bits_read"), items(fragment, "bits_written")];
  const bits = [...new Set([...taken, ...given].map(Number))].sort((a, b) => a - b);
  const step = Math.ceil(bits.length / 8);
  if (own.length !== shots * step) throw new Wrong(`${attempt.fragment}: rows of another length`);
  for (let shot = 0; shot < shots; shot++) {
    bits.forEach((bit, i) => {
      const value = (own[shot * step + (i >> 3)]! >> (i & 7)) & 1;
      if (!given.includes(bit)) return;
      const at = shot * width + (bit >> 3);
      joined[at] = (joined[at]! & ~(1 << (bit & 7))) | (value << (bit & 7));
    });
  }
  for (const [service, fidelity] of members(body, "fidelities")) {
    const own = fidelity instanceof Num ? Number(fidelity.written) : fidelity;
    if (typeof own !== "number" || own * 1e6 < threshold(whole, service)) throw new Wrong(`${attempt.fragment}: ${service} lies below its threshold by the node's own word`);
  }
}

function compareCounts(rows: Uint8Array, shots: number, bits: number, counts: Members): void {
  const width = Math.ceil(bits / 8);
  const found = new Map<string, number>();
  for (let shot = 0; shot < shots; shot++) {
    let outcome = "";
    for (let bit = bits - 1; bit >= 0; bit--) outcome += (rows[shot * width + (bit >> 3)]! >> (bit & 7)) & 1;
    found.set(outcome, (found.get(outcome) ?? 0) + 1);
  }
  const bare = new Map([...counts].map(([outcome, n]) => [outcome.replaceAll(" ", ""), n]));
  if (bare.size !== found.size || [...found].some(([outcome, n]) => bare.get(outcome) !== n)) throw new Wrong("the rows, counted, are not the result");
}

export function checkFees(file: Json, both: Network): string {
  const cost = get(file, "cost");
  const lines = cost === null ? [] : items(cost, "lines").filter((line) => str(line, "meter") === "node_fees");
  const paid = lines.reduce((sum, line) => add(sum, decimal(str(line, "amount"))), decimal("0"));
  const nodes = new Map(items(both.plan, "snapshot", "nodes").map((one) => [str(one, "node_id"), one]));
  const shots = decimal(String(int(both.plan, "plan", "shots")));
  const asked = attempts(both).filter(({ status }) => status === "accepted").reduce((sum, { node }) => {
    const entry = nodes.get(node);
    if (entry === undefined) throw new Wrong(`${node} does not stand in the snapshot`);
    const price = (member: string): ReturnType<typeof decimal> => decimal(str(entry, member));
    return add(sum, add(price("price_per_fragment"), multiply(price("price_per_shot"), shots)));
  }, decimal("0"));
  if (compareDecimals(paid, asked) > 0) throw new Wrong(`${written(paid)} were paid, and the accepted nodes ask for ${written(asked)}`);
  return `${written(paid)} of the ${written(asked)} that the accepted nodes ask for`;
}
