// SPDX-License-Identifier: Apache-2.0
/** What follows from other members or from what is carried, computed again (section 10, step 2). */
import { checkBill, second } from "./billed.ts";
import { hashText, readBase64, sha256, Wrong } from "./bytes.ts";
import { add, decimal, type Decimal, equal, multiply, round, type Rounding, written } from "./decimal.ts";
import { isObject, type Json, type Members, read } from "./json.ts";
import { carried, FIELDS } from "./predicate.ts";
import { amount, get, having, int, items, list, members, one, str, text } from "./shape.ts";

export function artefact(file: Json, name: string): Json | undefined {
  return items(file, "artefacts").find((entry) => str(entry, "name") === name);
}

/** A carried artefact as JSON that need not be canonical; null where it isn't carried. */
export function readArtefact(file: Json, name: string): Json | null {
  const bytes = carried(file, name);
  if (bytes === null) return null;
  try {
    return read(bytes);
  } catch {
    throw new Wrong(`${name}: not JSON`);
  }
}

/** `input_hash` and `output_hash`: the hash of `spec` and `result`, which are artefacts. */
export function checkNamedHash(file: Json, member: "input_hash" | "output_hash", name: "spec" | "result"): string {
  const found = artefact(file, name);
  const hash = get(file, member);
  if (hash === null && found === undefined) return "no result";
  if (hash === null || found === undefined || str(found, "sha256") !== hash) throw new Wrong(`${member} is not the hash of the artefact ${name}`);
  return checkArtefact(file, found);
}

export function checkArtefact(file: Json, found: Json): string {
  const name = str(found, "name");
  const bytes = carried(file, name);
  if (bytes === null) return "not_carried";
  if (bytes.length !== int(found, "size")) throw new Wrong(`${bytes.length} bytes where ${int(found, "size")} are recorded`);
  const hash = hashText(sha256(bytes));
  if (hash !== str(found, "sha256")) throw new Wrong(`${hash} is not ${str(found, "sha256")}`);
  return hash;
}

export function checkContents(file: Json): string {
  const artefacts = items(file, "artefacts");
  const names = artefacts.map((one) => str(one, "name"));
  if (new Set(names).size !== names.length) throw new Wrong("an artefact is listed twice");
  const due = new Set(artefacts.filter((one) => get(one, "carried") === true).map((one) => str(one, "name")));
  const contents = members(file, "contents");
  for (const name of [...contents.keys()].sort()) if (!due.has(name)) throw new Wrong(`${name} is not a carried artefact, but in contents`);
  for (const name of [...due].sort()) if (!contents.has(name)) throw new Wrong(`${name} is missing from contents`);
  const bytes = [...due].reduce((sum, name) => sum + carried(file, name)!.length, 0);
  if (bytes > 1_000_000) throw new Wrong(`${bytes} bytes are carried; at most 1,000,000 may be`);
  return `${due.size} carried, ${artefacts.length - due.size} by hash`;
}

const cardShape = having({
  currency: text, precision: amount, rounding: one("half_even", "half_up"),
  prices: list(having({ meters: list(having({ meter: text, unit: text, rate: amount })) })),
});

export function checkCost(file: Json): string {
  const cost = get(file, "cost");
  if (cost === null) return "no charge";
  const lines = items(cost, "lines");
  const sum = lines.reduce<Decimal>((total, line) => add(total, decimal(str(line, "amount"))), decimal("0"));
  if (!equal(sum, decimal(str(cost, "amount")))) throw new Wrong(`the amount against the sum of its lines: ${written(sum)} is not ${str(cost, "amount")}`);
  const listed = artefact(file, "rate_card");
  if (listed !== undefined && str(listed, "sha256") !== str(cost, "rate_card")) throw new Wrong("the rate card's hash is not the artefact's");
  const card = readArtefact(file, "rate_card");
  if (card === null) return `sum of ${lines.length} lines; rate card not_carried`;
  if (second(card)) {
    const run = get(file, "execution_metadata");
    checkBill(cost, get(run, "provider"), get(run, "backend"), card, readArtefact(file, "execution"));
  } else checkLines(cost, lines, card);
  return `${str(cost, "amount")} ${str(cost, "currency")} from ${lines.length} lines`;
}

function checkLines(cost: Json, lines: Json[], card: Json): void {
  const { currency, places, rounding, rates } = readCard(card);
  if (currency !== str(cost, "currency")) throw new Wrong(`the currency: ${currency} is not ${str(cost, "currency")}`);
  for (const line of lines) {
    const [meter, rate] = [str(line, "meter"), decimal(str(line, "rate"))];
    if (!rates.some((one) => one.meter === meter && one.unit === str(line, "unit") && equal(one.rate, rate))) throw new Wrong(`${meter}: no such rate on the card`);
    const due = round(multiply(decimal(str(line, "quantity")), rate), places, rounding);
    if (!equal(due, decimal(str(line, "amount")))) throw new Wrong(`the amount of ${meter}: ${str(line, "amount")} is not ${written(due)}`);
  }
}

interface Card {
  currency: string;
  places: number;
  rounding: Rounding;
  rates: { meter: string; unit: string; rate: Decimal }[];
}

function readCard(card: Json): Card {
  cardShape(card, "rate_card");
  const rates = items(card, "prices").flatMap((price) => items(price, "meters").map((meter) => ({
    meter: str(meter, "meter"), unit: str(meter, "unit"), rate: decimal(str(meter, "rate")),
  })));
  const rounding = str(card, "rounding") === "half_up" ? "half_up" : "half_even";
  return { currency: str(card, "currency"), places: decimal(str(card, "precision")).places, rounding, rates };
}

export function checkGovernance(file: Json): string {
  const record = get(file, "governance_record");
  if (items(record, "policies_applied").length === 0) throw new Wrong("no policy was applied");
  const denied = items(record, "policy_decisions").includes("deny");
  const state = str(file, "state");
  const given = (file as Members).get("approval");
  if (given !== undefined) checkApproval(file, given, denied);
  else if (denied && state !== "DENIED") throw new Wrong("a denied job in another state than DENIED");
  const steps = (file as Members).get("delegation");
  if (steps !== undefined) checkDelegation(items(file, "delegation"), str(record, "actor"));
  if (state === "DENIED" && items(record, "reasons").length === 0 && get(file, "error") === null) throw new Wrong("a denial without a reason");
  return state === "DENIED" ? "denied" : "allowed";
}

/** Who acted for the actor: it begins with the actor, and each step is handed on by whom the one before named. */
function checkDelegation(steps: Json[], actor: string): void {
  let by = actor;
  for (const step of steps) {
    if (str(step, "by") !== by) throw new Wrong(`delegation: ${str(step, "by")} handed on what ${by} has`);
    by = str(step, "to");
  }
  if (new Set(steps.map((step) => str(step, "delegation"))).size !== steps.length) throw new Wrong("delegation: a step is there twice");
}

/** Which artefact ran, of whatever kind. */
const RAN = new Set(["compiled.json", "compiled.qasm3", "compiled.qpy", "plan"]);

/** What policy let pass only with an approval: what ran is what a second person approved, in time. */
function checkApproval(file: Json, given: Json, denied: boolean): void {
  const record = get(file, "governance_record");
  const codes = new Set(items(record, "reasons").map((reason) => str(reason, "code")));
  if (denied && items(given, "reasons").some((code) => !codes.has(String(code)))) throw new Wrong("an approval of reasons that the decision doesn't have");
  if (str(file, "evidence_level") === "sealed") return;
  const answer = get(given, "answer");
  if (str(given, "state") !== "used" || answer === null || get(answer, "expires_at") === null || get(given, "used_at") === null) throw new Wrong("it ran without an approval");
  if (str(answer, "by") === str(record, "actor")) throw new Wrong("approved by who asked for it");
  const [asked, at, used, until] = [get(given, "requested_at"), str(answer, "at"), str(given, "used_at"), str(answer, "expires_at")];
  if (typeof asked !== "string" || asked > at || at > used || used >= until) throw new Wrong("request, approval, use and expiry are out of order");
  const backend = get(file, "execution_metadata", "backend");
  if (get(given, "backend") !== backend) throw new Wrong(`${String(get(given, "backend"))} was approved, it ran on ${String(backend)}`);
  const ran = items(file, "artefacts").filter((one) => RAN.has(str(one, "name"))).map((one) => str(one, "sha256"));
  const compiled = get(given, "compiled");
  if (str(file, "state") === "COMPLETED" && !(typeof compiled === "string" && ran.includes(compiled))) throw new Wrong(`${String(compiled)} was approved, and is not what ran`);
}

/** The sources that were approved are those of the spec, in its order. */
function checkSources(file: Json, spec: Members): void {
  const given = (file as Members).get("approval");
  if (given === undefined || items(given, "sources").length === 0) return;
  const program = spec.get("program");
  const several = isObject(program) ? program.get("circuits") : undefined;
  const circuits = Array.isArray(several) ? several : [spec.get("circuit")];
  const found = circuits.map((circuit) => {
    const source = isObject(circuit) ? circuit.get("source") : undefined;
    const decoded = readBase64(typeof source === "string" ? source : "");
    if (decoded === null) throw new Wrong("a circuit's source is not base64");
    return hashText(sha256(decoded.bytes));
  });
  const approved = items(given, "sources");
  if (approved.length !== found.length || approved.some((hash, i) => hash !== found[i])) throw new Wrong("approval.sources are not those of the spec");
}

export function checkOutcome(file: Json): string {
  const state = str(file, "state");
  const run = get(file, "execution_metadata");
  const error = get(file, "error");
  const absent = (member: string): boolean => get(run, member) === null;
  const executed = int(run, "shots_executed");
  if (state === "COMPLETED" && (get(file, "output_hash") === null || absent("backend") || absent("start_time") || absent("end_time") || error !== null))
    throw new Wrong("COMPLETED needs a result, a backend and times, and has no error");
  if ((state === "FAILED" || state === "UNCERTAIN") && error === null) throw new Wrong(`${state} without an error`);
  const sealed = str(file, "evidence_level") === "sealed";
  if (state === "DENIED" && !sealed) throw new Wrong("a denial rests on checkpoint and proof");
  if (sealed && (!absent("start_time") || executed > 0 || get(file, "output_hash") !== null)) throw new Wrong("only a job that never started is without a signature");
  if (sealed && get(file, "cost") !== null) throw new Wrong("a job that never started costs nothing");
  if (state === "COMPLETED" && executed < int(file, "submission", "shots") && get(file, "partial") === null) throw new Wrong("fewer shots than asked, and no reason in partial");
  return state;
}

/** Where the spec stands in the record. A member that the spec leaves out says nothing. */
const SAID: [string[], string[]][] = [
  [["governance", "project"], ["governance_record", "project"]],
  [["governance", "classification"], ["governance_record", "classification"]],
  [["governance", "purpose"], ["governance_record", "purpose"]],
  [["governance", "cost_center"], ["governance_record", "cost_center"]],
  [["governance", "justification"], ["governance_record", "justification"]],
  [["execution", "shots"], ["submission", "shots"]],
  [["circuit", "format"], ["submission", "format"]],
  [["circuit", "compiler_version"], ["submission", "compiler_version"]],
  [["evidence_requirements", "retention_days"], ["submission", "retention_days"]],
];

export function checkSpec(file: Json): string {
  const spec = readArtefact(file, "spec");
  if (spec === null) return "not_carried";
  if (!isObject(spec)) throw new Wrong("spec: not an object");
  for (const [[part, member], where] of SAID) {
    const inside = spec.get(part!);
    const said = isObject(inside) ? inside.get(member!) : undefined;
    if (said !== undefined && said !== get(file, ...where)) throw new Wrong(`${part}.${member}: ${String(said)} is not ${String(get(file, ...where))}`);
  }
  checkSources(file, spec);
  return "agrees with the record";
}

export function checkProvenance(file: Json): string {
  const named = members(file, "provenance");
  for (const path of named.keys()) if (!FIELDS.has(path.split(".")[0]!)) throw new Wrong(`provenance of an unknown field ${path}`);
  const numbers = items(file, "history").map((one) => int(one, "seq"));
  if (numbers.some((seq, i) => i > 0 && seq <= numbers[i - 1]!)) throw new Wrong("history: sequence numbers that do not rise");
  return `${named.size} fields, ${items(file, "gaps").length} gaps`;
}

