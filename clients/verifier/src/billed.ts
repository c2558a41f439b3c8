// SPDX-License-Identifier: Apache-2.0
/** A bill by a rate card of version 2, computed again from the facts (section 15). Sums of meters are fractions. */
import { Wrong } from "./bytes.ts";
import { add, compareDecimals, decimal, type Decimal, equal, multiply, round, type Rounding } from "./decimal.ts";
import { isObject, type Json, read } from "./json.ts";
import { amount, get, having, items, list, one, pattern, str, text } from "./shape.ts";

const DECIMALS = 12;
const plain = pattern(/^(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$/, "a decimal that is not negative");
const OF_A_TASK = new Set(["job", "tasks", "mitigated_tasks"]);

interface Fraction {
  over: bigint;
  under: bigint;
}
interface Line {
  meter: string;
  unit: string;
  quantity: Decimal;
  rate: Decimal;
  amount: Decimal;
}
type Facts = Map<string, Fraction>;
/** What the job used of each meter, and what each of its tasks did, where that is told. */
interface Used {
  job: Facts;
  each: Facts[];
}
interface Card {
  places: number;
  rounding: Rounding;
  units: Json[];
}

export const second = (card: Json): boolean => isObject(card) && card.get("version") === 2;

/** `checkBill` of one document that has all five. */
export function checkWrittenBill(written: Uint8Array): void {
  const bill = read(written);
  checkBill(get(bill, "cost"), get(bill, "provider"), get(bill, "backend"), get(bill, "card"), get(bill, "execution"));
}

/** The lines are those of a price that the card has for this provider and backend. */
export function checkBill(cost: Json, provider: Json, backend: Json, card: Json, execution: Json | null): void {
  checkCard(card);
  if (str(card, "currency") !== str(cost, "currency")) throw new Wrong(`the currency: ${str(card, "currency")} is not ${str(cost, "currency")}`);
  const rules: Card = {
    places: decimal(str(card, "precision")).places,
    rounding: str(card, "rounding") === "half_up" ? "half_up" : "half_even",
    units: optional(card, "units"),
  };
  const used = execution === null ? null : usage(execution);
  const told = items(cost, "lines").map<Line>((line) => ({
    meter: str(line, "meter"), unit: str(line, "unit"),
    quantity: decimal(str(line, "quantity")), rate: decimal(str(line, "rate")), amount: decimal(str(line, "amount")),
  }));
  const theirs = items(card, "prices").filter((price) => str(price, "provider") === provider);
  const own = theirs.filter((price) => str(price, "device") === backend);
  if (!(own.length > 0 ? own : theirs).some((price) => gives(rules, price, used, told))) throw new Wrong("no price of the card gives these lines");
}

function checkCard(card: Json): void {
  const terms = list(having({ each: plain, of: text }));
  having({ currency: text, precision: amount, rounding: one("half_even", "half_up"), prices: list(having({ provider: text, device: text, lines: list(having({ meter: text, unit: text })) })) })(card, "rate_card");
  having(present(card, { units: list(having({ unit: text })) }))(card, "rate_card");
  for (const unit of optional(card, "units")) nullable(unit, "price");
  for (const price of items(card, "prices"))
    for (const line of items(price, "lines")) {
      nullable(line, "rate");
      having(present(line, { tiers: list(having({ above: plain, rate: plain })), quantity: terms, minimum: terms, cap: terms }))(line, "rate_card");
      having(present(line, { by: one("job", "task") }))(line, "rate_card");
      const increment = optionalObject(line, "increment");
      if (increment !== null) having({ size: plain, rounding: one("up", "half_up", "down") })(increment, "increment");
      for (const member of ["quantity", "minimum", "cap"])
        for (const term of optional(line, member)) if (isObject(term) && term.has("per")) plain(term.get("per")!, "per");
    }
}

function present<T>(value: Json, shapes: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(shapes).filter(([member]) => isObject(value) && value.has(member)));
}

const optional = (value: Json, member: string): Json[] => (isObject(value) && value.has(member) ? items(value, member) : []);

/** A member that may be null or left out. */
function optionalObject(value: Json, member: string): Json {
  const found = isObject(value) ? value.get(member) : undefined;
  return found === undefined ? null : found;
}

/** A decimal that may be null or left out. */
function nullable(value: Json, member: string): Decimal | null {
  const found = isObject(value) ? value.get(member) : undefined;
  if (found === undefined || found === null) return null;
  plain(found, member);
  return decimal(str(value, member));
}

function usage(execution: Json): Used {
  having(present(execution, { items: list(having({})) }))(execution, "execution");
  return { job: facts(execution), each: optional(execution, "items").filter((item) => optionalObject(item, "facts") !== null).map(facts) };
}

function facts(told: Json): Facts {
  having({ facts: list(having({ meter: text, quantity: plain })) })(told, "execution");
  const found = new Map(items(told, "facts").map((fact) => [str(fact, "meter"), fraction(decimal(str(fact, "quantity")))]));
  if (found.size !== items(told, "facts").length) throw new Wrong("execution: a fact is there twice");
  return found;
}

function gives(card: Card, price: Json, used: Used | null, told: Line[]): boolean {
  const lines = items(price, "lines");
  if (used === null) {
    const known = lines.flatMap((line) => rates(card, line).map(([, rate]) => ({ meter: str(line, "meter"), unit: str(line, "unit"), rate })));
    return told.every((line) =>
      known.some((other) => other.meter === line.meter && other.unit === line.unit && equal(other.rate, line.rate)) &&
      equal(line.amount, round(multiply(line.quantity, line.rate), card.places, card.rounding)));
  }
  const due = lines.flatMap((line) => billed(card, line, used));
  return due.length === told.length && due.every((line, i) => same(line, told[i]!));
}

const same = (a: Line, b: Line): boolean =>
  a.meter === b.meter && a.unit === b.unit && equal(a.quantity, b.quantity) && equal(a.rate, b.rate) && equal(a.amount, b.amount);

function billed(card: Card, line: Json, used: Used): Line[] {
  const [meter, unit] = [str(line, "meter"), str(line, "unit")];
  const terms = optional(line, "quantity");
  const counted = terms.length > 0 ? terms.map((term) => str(term, "of")) : [meter];
  if (counted.some((of) => of !== "job" && of !== "mitigated_tasks" && !used.job.has(of))) return [];
  const limited = [...optional(line, "cap"), ...optional(line, "minimum")].map((term) => str(term, "of"));
  if (limited.some((of) => !OF_A_TASK.has(of))) throw new Wrong(`${meter}: a limit of something else than tasks`);
  const by = optionalObject(line, "by");
  const alone = by === "task" ? tasks(meter, new Set(["tasks", ...counted, ...limited]), used) : [used.job];
  const quantity = finest(alone.map((one) => limitedTo(line, one)).reduce(plus, none), card.rounding);
  const steps = rates(card, line);
  return steps.flatMap(([above, rate], i) => {
    if (above.units !== 0n && compareDecimals(quantity, above) <= 0) return [];
    const next = steps[i + 1];
    const end = next !== undefined && compareDecimals(quantity, next[0]) > 0 ? next[0] : quantity;
    const part = add(end, { units: -above.units, places: above.places });
    return [{ meter, unit, quantity: part, rate, amount: round(multiply(part, rate), card.places, card.rounding) }];
  });
}

/** What each task used: of one alone what the job did; of several they sum up to what the job did. */
function tasks(meter: string, meters: Set<string>, used: Used): Facts[] {
  if (meters.has("job")) throw new Wrong(`${meter}: billed by task, and counts the job`);
  if (used.each.length === 0) {
    if (compare(once, used.job.get("tasks") ?? none)) throw new Wrong(`${meter}: billed by task, and no item says what it used`);
    return [new Map([...used.job, ["tasks", once] as const])];
  }
  const each = used.each.map((one) => new Map([["mitigated_tasks", none] as const, ...one]));
  for (const of of meters) {
    const told = each.flatMap((one) => one.get(of) ?? []);
    if (told.length < each.length || !even(told.reduce(plus, none), used.job.get(of) ?? none)) throw new Wrong(`${of}: the items' facts aren't the job's`);
  }
  if (each.some((one) => !even(one.get("tasks")!, once))) throw new Wrong(`${meter}: an item that isn't one task`);
  return each;
}

/** The line's quantity in whole increments, then at most its cap, then at least its minimum. */
function limitedTo(line: Json, used: Facts): Fraction {
  const limits: Facts = new Map([["job", once], ["tasks", greater(used.get("tasks") ?? none, once)], ["mitigated_tasks", used.get("mitigated_tasks") ?? none]]);
  const counts: Facts = new Map([...limits, ...used, ["job", once] as const]);
  const [terms, cap, minimum] = [optional(line, "quantity"), optional(line, "cap"), optional(line, "minimum")];
  let exact = terms.length > 0 ? sum(terms, counts) : counts.get(str(line, "meter"))!;
  const increment = optionalObject(line, "increment");
  if (increment !== null) exact = whole(exact, fraction(decimal(str(increment, "size"))), str(increment, "rounding"));
  if (cap.length > 0) exact = less(exact, sum(cap, limits));
  return minimum.length > 0 ? greater(exact, sum(minimum, limits)) : exact;
}

/** So many whole increments: each that was started, the nearest, or each that is full. */
function whole(exact: Fraction, size: Fraction, rounding: string): Fraction {
  if (size.over === 0n) throw new Wrong("an increment of nothing");
  const [over, under] = [exact.over * size.under, exact.under * size.over];
  const rest = over % under;
  const more = rounding === "up" ? rest > 0n : rounding === "half_up" && 2n * rest >= under;
  return { over: (over / under + (more ? 1n : 0n)) * size.over, under: size.under };
}

/** From where on which rate holds; the first from 0. */
function rates(card: Card, line: Json): [Decimal, Decimal][] {
  const rate = nullable(line, "rate");
  if (rate !== null) return [[decimal("0"), rate]];
  const tiers = optional(line, "tiers").map<[Decimal, Decimal]>((tier) => [decimal(str(tier, "above")), decimal(str(tier, "rate"))]);
  if (tiers.length === 0) {
    const unit = card.units.find((one) => str(one, "unit") === str(line, "unit"));
    const price = unit === undefined ? null : nullable(unit, "price");
    if (price === null) throw new Wrong(`${str(line, "meter")}: no rate on the card`);
    return [[decimal("0"), price]];
  }
  if (tiers[0]![0].units !== 0n || tiers.some(([above], i) => i > 0 && compareDecimals(above, tiers[i - 1]![0]) <= 0)) throw new Wrong(`${str(line, "meter")}: tiers out of order`);
  return tiers;
}

const fraction = (value: Decimal): Fraction => ({ over: value.units, under: 10n ** BigInt(value.places) });
const compare = (a: Fraction, b: Fraction): boolean => a.over * b.under < b.over * a.under;
const less = (a: Fraction, b: Fraction): Fraction => (compare(a, b) ? a : b);
const greater = (a: Fraction, b: Fraction): Fraction => (compare(a, b) ? b : a);
const even = (a: Fraction, b: Fraction): boolean => !compare(a, b) && !compare(b, a);
const plus = (a: Fraction, b: Fraction): Fraction => ({ over: a.over * b.under + b.over * a.under, under: a.under * b.under });
const [none, once]: [Fraction, Fraction] = [fraction(decimal("0")), fraction(decimal("1"))];

function sum(terms: Json[], used: Map<string, Fraction>): Fraction {
  return terms.reduce<Fraction>((total, term) => {
    const [each, per] = [fraction(decimal(str(term, "each"))), isObject(term) && term.has("per") ? fraction(decimal(str(term, "per"))) : fraction(decimal("1"))];
    const count = used.get(str(term, "of"));
    if (count === undefined || per.over === 0n) throw new Wrong(`${str(term, "of")}: nothing to divide by, or not counted`);
    return plus(total, { over: each.over * count.over * per.under, under: each.under * count.under * per.over });
  }, none);
}

function finest(exact: Fraction, rule: Rounding): Decimal {
  const scaled = exact.over * 10n ** BigInt(DECIMALS);
  const [whole, rest] = [scaled / exact.under, scaled % exact.under];
  const half = 2n * rest - exact.under;
  const up = half > 0n || (half === 0n && (rule === "half_up" || whole % 2n === 1n));
  return { units: up ? whole + 1n : whole, places: DECIMALS };
}
