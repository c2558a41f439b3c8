// SPDX-License-Identifier: Apache-2.0
/**
 * Shots counted again (section 10, `shots_recomputed`): of one circuit's result, and of a program's items, which must be
 * those that the spec asks for.
 */
import { same, Wrong } from "./bytes.ts";
import { canonical, isObject, type Json, type Members, read } from "./json.ts";
import { any, get, int, items, list, map, object, orNull, text, whole } from "./shape.ts";
import { carried } from "./predicate.ts";

const block = map(any);
const one = map(any);
const item = object({ item: whole, circuit: whole, parameters: orNull(whole), basis: orNull(text), shots: whole, counts: map(whole), blocks: list(block) });
const several = object({ items: list(item), shots: whole });

/** The artefact `result`, canonical, in the form of one circuit or of a program. */
export function readResult(bytes: Uint8Array): Members {
  const value = read(bytes);
  if (!isObject(value)) throw new Wrong("result: not an object");
  if (!same(canonical(value), bytes)) throw new Wrong("result: not in canonical form");
  if (value.has("items")) several(value, "result");
  else {
    one(value, "result");
    map(whole)(get(value, "counts"), "result.counts");
    list(block)(get(value, "blocks"), "result.blocks");
    whole(get(value, "shots"), "result.shots");
  }
  return value;
}

/** The spec's `program`, or null where it asks for one circuit. */
export function programOf(spec: Json | null): Members | null {
  const program = isObject(spec ?? undefined) ? (spec as Members).get("program") : undefined;
  if (!isObject(program)) return null;
  const { circuits, sets, kind } = asked(program);
  return kind === "sampler" && circuits === 1 && sets <= 1 ? null : program;
}

function asked(program: Members): { circuits: number; sets: number; kind: string } {
  const length = (member: string): number => {
    const found = program.get(member);
    return Array.isArray(found) ? found.length : 0;
  };
  const kind = program.get("kind");
  if (typeof kind !== "string" || !Array.isArray(program.get("circuits"))) throw new Wrong("spec: not a program");
  return { circuits: length("circuits"), sets: length("parameters"), kind };
}

export function countShots(file: Json, spec: Json | null): string {
  const bytes = carried(file, "result");
  if (bytes === null) return "not_carried";
  const program = programOf(spec);
  const result = readResult(bytes);
  const found = result.has("items");
  if (spec !== null && found && program === null) throw new Wrong("result: items of a job that asked for one circuit");
  if (!found && program !== null) throw new Wrong("result: one circuit's counts for a program of several");
  const parts = found ? items(result, "items") : [result];
  const total = parts.reduce<number>((sum, part) => sum + addUp(part), 0);
  if (int(result, "shots") !== total) throw new Wrong(`the result's shots: ${total} is not ${int(result, "shots")}`);
  if (int(file, "execution_metadata", "shots_executed") !== total) throw new Wrong(`shots_executed: ${total} is not ${int(file, "execution_metadata", "shots_executed")}`);
  if (found) checkItems(parts, file, program);
  return `${total} shots counted`;
}

/** Counts are the sum of the blocks' counts, and each part as many shots as it says; the shots of the part. */
function addUp(part: Json): number {
  const counts = tally(get(part, "counts"));
  const blocks = items(part, "blocks");
  const sums = new Map<string, number>();
  for (const one of blocks) {
    const inside = tally(get(one, "counts"));
    if (sum(inside) !== int(one, "shots")) throw new Wrong(`the shots of a block: ${sum(inside)} is not ${int(one, "shots")}`);
    for (const [bits, n] of inside) sums.set(bits, (sums.get(bits) ?? 0) + n);
  }
  if (blocks.length > 0) {
    const bits = new Set([...sums.keys(), ...counts.keys()]);
    for (const one of bits) if (sums.get(one) !== counts.get(one)) throw new Wrong(`the counts of the blocks: ${one}`);
  }
  if (sum(counts) !== int(part, "shots")) throw new Wrong(`its shots: ${sum(counts)} is not ${int(part, "shots")}`);
  return sum(counts);
}

function tally(value: Json): Map<string, number> {
  if (!isObject(value)) throw new Wrong("counts that are no object");
  return new Map([...value].map(([bits, n]) => {
    if (typeof n !== "number") throw new Wrong("a count that is no whole number");
    if (n < 0) throw new Wrong("a negative count");
    return [bits, n];
  }));
}

function sum(counts: Map<string, number>): number {
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  if (!Number.isSafeInteger(total)) throw new Wrong("more shots than can be counted");
  return total;
}

/** Items in rising order, none twice, each one that was asked for; all of them with every shot unless `partial` says why. */
function checkItems(parts: Json[], file: Json, program: Members | null): void {
  const partial = get(file, "partial") !== null;
  const due = int(file, "submission", "shots");
  const seen = new Set<string>();
  let last = -Infinity;
  parts.forEach((part, place) => {
    const number = int(part, "item");
    if (number <= last) throw new Wrong("result: items whose numbers do not rise");
    last = number;
    const key = JSON.stringify([int(part, "circuit"), get(part, "parameters"), get(part, "basis")]);
    if (seen.has(key)) throw new Wrong("result: two items of one circuit, parameter set and basis");
    seen.add(key);
    if (!partial && number !== place) throw new Wrong(`item ${number}: where ${place} should be, and no reason in partial`);
    checkBasis(part);
    if (program === null) return;
    if (!wasAskedFor(part, program)) throw new Wrong(`item ${number}: no such circuit, parameter set or basis was asked for`);
    const shots = int(part, "shots");
    if (shots > due) throw new Wrong(`item ${number}: ${shots} shots where ${due} were asked for`);
    if (shots < due && !partial) throw new Wrong(`item ${number}: ${shots} of ${due} shots, and no reason in partial`);
  });
  if (program !== null && !partial) checkComplete(parts, program);
}

/** A result string of a basis has a bit for each letter but I. */
function checkBasis(part: Json): void {
  const basis = get(part, "basis");
  if (typeof basis !== "string") return;
  const length = [...basis].filter((letter) => letter !== "I").length;
  for (const bits of (get(part, "counts") as Members).keys()) {
    if (bits.length !== length || !/^[01]*$/.test(bits)) throw new Wrong(`item ${int(part, "item")}: an outcome that isn't one of basis ${basis}`);
  }
}

function wasAskedFor(part: Json, program: Members): boolean {
  const { circuits, sets, kind } = asked(program);
  const [circuit, set] = [int(part, "circuit"), get(part, "parameters")];
  if (circuit < 0 || circuit >= circuits) return false;
  if (sets === 0 ? set !== null : typeof set !== "number" || set < 0 || set >= sets) return false;
  return kind === "estimator" || get(part, "basis") === null;
}

function checkComplete(parts: Json[], program: Members): void {
  const { circuits, sets, kind } = asked(program);
  const pairs = circuits * Math.max(1, sets);
  if (kind !== "estimator" ? parts.length !== pairs : parts.length < pairs) throw new Wrong(`${parts.length} of ${pairs} items, and no reason in partial`);
  const observables = program.get("observables");
  if (observables === undefined) return;
  const strings = (Array.isArray(observables) ? observables : [null]).flatMap((written) => {
    if (typeof written !== "string") throw new Wrong("spec: observables that are no texts");
    return written.match(/[IXYZ]+/g) ?? [];
  });
  const groups = new Map<string, string[]>();
  for (const part of parts) {
    const key = `${int(part, "circuit")}/${String(get(part, "parameters"))}`;
    const basis = get(part, "basis");
    groups.set(key, [...(groups.get(key) ?? []), ...(typeof basis === "string" ? [basis] : [])]);
  }
  for (const bases of groups.values()) {
    for (const pauli of new Set(strings)) {
      if (!bases.some((basis) => measures(basis, pauli)) && /[^I]/.test(pauli)) throw new Wrong(`${pauli} was measured in no basis, and no reason in partial`);
    }
  }
}

const measures = (basis: string, pauli: string): boolean => basis.length === pauli.length && [...pauli].every((letter, i) => letter === "I" || letter === basis[i]);

