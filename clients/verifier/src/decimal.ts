// SPDX-License-Identifier: Apache-2.0
/** Exact decimals: whole numbers of 10^-places, no floats. */
import { Wrong } from "./bytes.ts";

export interface Decimal {
  units: bigint;
  places: number;
}

const FORM = /^(-?)([0-9]{1,40})(?:\.([0-9]{1,40}))?$/;

export function decimal(written: string): Decimal {
  const found = FORM.exec(written);
  if (found === null) throw new Wrong(`not a decimal: ${written.slice(0, 60)}`);
  const fraction = found[3] ?? "";
  const units = BigInt(found[2]! + fraction);
  return { units: found[1] === "-" ? -units : units, places: fraction.length };
}

const shift = (value: Decimal, places: number): bigint => value.units * 10n ** BigInt(places - value.places);

export function add(a: Decimal, b: Decimal): Decimal {
  const places = Math.max(a.places, b.places);
  return { units: shift(a, places) + shift(b, places), places };
}

export const multiply = (a: Decimal, b: Decimal): Decimal => ({ units: a.units * b.units, places: a.places + b.places });

export function compareDecimals(a: Decimal, b: Decimal): number {
  const places = Math.max(a.places, b.places);
  const difference = shift(a, places) - shift(b, places);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

export const equal = (a: Decimal, b: Decimal): boolean => compareDecimals(a, b) === 0;

export type Rounding = "half_even" | "half_up";

/** To that many places; a half goes away from zero, or to the even neighbour. */
export function round(value: Decimal, places: number, rule: Rounding): Decimal {
  if (value.places <= places) return { units: shift(value, places), places };
  const divisor = 10n ** BigInt(value.places - places);
  const negative = value.units < 0n;
  const size = negative ? -value.units : value.units;
  const [cut, rest] = [size / divisor, size % divisor];
  const away = rest * 2n > divisor || (rest * 2n === divisor && (rule === "half_up" || cut % 2n === 1n));
  const rounded = away ? cut + 1n : cut;
  return { units: negative ? -rounded : rounded, places };
}

export function written({ units, places }: Decimal): string {
  const digits = (units < 0n ? -units : units).toString().padStart(places + 1, "0");
  const whole = digits.slice(0, digits.length - places);
  return (units < 0n ? "-" : "") + whole + (places > 0 ? "." + digits.slice(-places) : "");
}
