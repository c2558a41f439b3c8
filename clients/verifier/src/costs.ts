// SPDX-License-Identifier: Apache-2.0
/** A cost statement (docs/cost-statement.md): its closed shape, what is signed, and the checks that are its own. */
import { base64 as bytesOf, hashText, sha256, text as decoded, Wrong } from "./bytes.ts";
import { add, decimal, equal, written } from "./decimal.ts";
import { isObject, type Json, type Members } from "./json.ts";
import { amount, base64, count, get, hash, instant, int, items, list, members, name, object, one, orNull, pattern, str, time, uuid } from "./shape.ts";
import { inTotoStatement, proof, scope, signatures } from "./predicate.ts";

const CATEGORIES = ["usage", "credit", "correction", "refund", "shared"] as const;
const currency = pattern(/^[A-Z]{3}$/, "a currency");
const month = pattern(/^[0-9]{4}-(0[1-9]|1[0-2])$/, "a month");
const amounts = { currency, ...Object.fromEntries([...CATEGORIES, "net"].map((category) => [category, amount])) };
const spent = list(object({ name: orNull(name), currency, amount }));

const closedShape = object({
  type: one("urn:qcos:cost-statement:v1"),
  version: one(1),
  bundle_id: uuid,
  scope,
  evidence_level: one("full"),
  month,
  frozen_at: time,
  closed_at: time,
  lines: object({ count, sha256: hash }),
  totals: list(object(amounts)),
  projects: spent,
  providers: spent,
  cost_centers: list(object({ cost_center: orNull(name), ...amounts })),
  pools: list(object({
    pool: name, currency, by: orNull(one("spend", "shots", "jobs", "fixed", "even")), amount,
    shares: list(object({ cost_center: orNull(name), weight: amount, amount }), 1),
  })),
  rate_cards: list(hash),
  allocation: orNull(object({ name, revision: count, sha256: hash })),
  ledger: object({ size: count, root: pattern(/^[0-9a-f]{64}$/, "a root") }),
  previous: orNull(object({ month, sha256: hash })),
  signatures,
  proof,
  method: orNull(base64),
});

/** Whether a file is to be judged as one: no other file has this member first. */
export const isCostStatement = (bytes: Uint8Array): boolean => /^\s*\{\s*"allocation"\s*:/.test(decoded(bytes));

export function closedCosts(file: Json): void {
  closedShape(file, "cost statement");
}

/** After the form of the bytes was found right: what a job's proof may have, and this one not. */
export function checkProofOwn(file: Members): void {
  for (const member of ["fold", "enrolment"]) if (members(file, "proof").has(member)) throw new Wrong(`proof: ${member} is no member of a cost statement's`);
}

/** The in-toto Statement that is committed and signed, as canonical JSON. */
export function costStatement(file: Members): Uint8Array {
  const record: Members = new Map([...file].filter(([key]) => !["signatures", "proof", "method"].includes(key)));
  return inTotoStatement("urn:qcos:cost-statement:v1", [[`lines-${str(file, "month")}.jsonl`, str(file, "lines", "sha256")]], record);
}

/** Every division sums to its totals. */
export function checkSums(file: Members): string {
  const nets = new Map(items(file, "totals").map((total) => [str(total, "currency"), total]));
  if (nets.size !== items(file, "totals").length) throw new Wrong("totals: a currency twice");
  for (const row of [...items(file, "totals"), ...items(file, "cost_centers")])
    agree(CATEGORIES.map((category) => str(row, category)), str(row, "net"), `${str(row, "currency")}: the categories`);
  for (const [member, column] of [["projects", "amount"], ["providers", "amount"], ["cost_centers", "net"]] as const) divides(file, member, column, nets, "net");
  for (const category of CATEGORIES) divides(file, "cost_centers", category, nets, category);
  divides(file, "pools", "amount", nets, "shared");
  for (const pool of items(file, "pools")) agree(items(pool, "shares").map((share) => str(share, "amount")), str(pool, "amount"), `pool ${str(pool, "pool")}: its shares`);
  return [...nets].map(([code, total]) => `${str(total, "net")} ${code}`).sort().join(", ") || "nothing";
}

function divides(file: Members, member: string, column: string, nets: Map<string, Json>, whole: string): void {
  const rows = items(file, member);
  const strange = rows.find((row) => !nets.has(str(row, "currency")));
  if (strange !== undefined) throw new Wrong(`${member}: ${str(strange, "currency")}, which is in no total`);
  for (const [code, total] of nets) agree(rows.filter((row) => str(row, "currency") === code).map((row) => str(row, column)), str(total, whole), `${member} of ${code}`);
}

function agree(parts: string[], whole: string, what: string): void {
  const sum = parts.map(decimal).reduce(add, decimal("0"));
  if (!equal(sum, decimal(whole))) throw new Wrong(`${what} sum to ${written(sum)}, not to ${whole}`);
}

/** The document that the file carries is the one that was signed for, or neither is there. */
export function checkMethod(file: Members): string {
  const [method, named] = [get(file, "method"), get(file, "allocation")];
  if ((method === null) !== (named === null)) throw new Wrong("a method that the statement doesn't name, or none where it names one");
  if (method === null) return "none: nothing was split";
  if (hashText(sha256(bytesOf(String(method), "method"))) !== str(named, "sha256")) throw new Wrong("not the method that the statement names");
  return `${str(named, "name")}, revision ${int(named, "revision")}`;
}

/** The entry tells of this month and of these lines, and lies after what the statement rests on. */
export function checkClosing(file: Members, leaf: Members): void {
  if (str(leaf, "kind") !== "costs:month_closed") throw new Wrong("an entry of another kind");
  const told = members(leaf, "body").get("close");
  const fits = isObject(told) && told.get("month") === str(file, "month") && told.get("lines") === str(file, "lines", "sha256");
  if (!fits) throw new Wrong("the entry closes another month, or with other lines");
  if (int(leaf, "index") < int(file, "ledger", "size")) throw new Wrong("the entry lies before what the statement rests on");
}

/** When it was frozen and closed, after what a month's name can tell of that was found right. */
export function closingTimes(file: Members): [string, number][] {
  if (str(file, "frozen_at").slice(0, 7) <= str(file, "month")) throw new Wrong("the month was frozen before it was over");
  if (get(file, "previous") !== null && str(file, "previous", "month") >= str(file, "month")) throw new Wrong("the statement before it is of a later month");
  return [["frozen", instant(str(file, "frozen_at"))], ["closed", instant(str(file, "closed_at"))]];
}
