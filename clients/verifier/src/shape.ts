// SPDX-License-Identifier: Apache-2.0
/**
 * Closed shapes: each member required unless marked, none more. `check` throws `Wrong` with the place and what was
 * expected there. What a shape lets through may be read with `as`-free accessors (`str`, `int`, …) without asking again.
 */
import { readBase64, Wrong } from "./bytes.ts";
import { isObject, type Json, type Members } from "./json.ts";

export type Shape = (value: Json, at: string) => void;

function expected(at: string, what: string): never {
  throw new Wrong(`${at}: ${what} expected`);
}

export const text: Shape = (value, at) => {
  if (typeof value !== "string") expected(at, "a string");
};

export const name: Shape = (value, at) => {
  if (typeof value !== "string" || value === "") expected(at, "a string that is not empty");
};

export const bool: Shape = (value, at) => {
  if (typeof value !== "boolean") expected(at, "true or false");
};

export const count: Shape = (value, at) => {
  if (typeof value !== "number" || value < 0) expected(at, "a whole number from 0 to 2^53-1");
};

export const whole: Shape = (value, at) => {
  if (typeof value !== "number") expected(at, "a whole number");
};

export const any: Shape = () => undefined;

export const pattern = (form: RegExp, what: string): Shape => (value, at) => {
  if (typeof value !== "string" || !form.test(value)) expected(at, what);
};

export const one = (...allowed: (string | number)[]): Shape => (value, at) => {
  if ((typeof value !== "string" && typeof value !== "number") || !allowed.includes(value)) expected(at, `one of ${allowed.join(", ")}`);
};

export const base64: Shape = (value, at) => {
  if (typeof value !== "string" || readBase64(value) === null) expected(at, "base64");
};

export const orNull = (inner: Shape): Shape => (value, at) => {
  if (value !== null) inner(value, at);
};

export const list = (inner: Shape, least = 0, most = Infinity): Shape => (value, at) => {
  if (!Array.isArray(value) || value.length < least || value.length > most) expected(at, "a list of the right length");
  value.forEach((item, i) => inner(item, `${at}[${i}]`));
};

export const map = (inner: Shape): Shape => (value, at) => {
  if (!isObject(value)) expected(at, "an object");
  for (const [key, item] of value) inner(item, `${at}.${key}`);
};

/** A member whose name ends in `?` may be left out. */
export const object = (members: Record<string, Shape>): Shape => {
  const shapes = new Map(Object.entries(members).map(([key, shape]) => [key.replace(/\?$/, ""), shape]));
  const required = Object.keys(members).filter((key) => !key.endsWith("?"));
  return (value, at) => {
    if (!isObject(value)) expected(at, "an object");
    for (const [key, item] of value) {
      const shape = shapes.get(key);
      if (shape === undefined) throw new Wrong(`${at}: unknown member ${key}`);
      shape(item, `${at}.${key}`);
    }
    for (const key of required) if (!value.has(key)) throw new Wrong(`${at}: member ${key} is missing`);
  };
};

/** At least these members: what is so shaped may say more. */
export const having = (shapes: Record<string, Shape>): Shape => (value, at) => {
  map(any)(value, at);
  for (const [member, shape] of Object.entries(shapes)) shape(get(value, member), `${at}.${member}`);
};

export const hash = pattern(/^sha256:[0-9a-f]{64}$/, "a hash");
export const uuid = pattern(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "a UUID");
export const time = pattern(/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/, "a time");
export const amount = pattern(/^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$/, "a decimal");

// Accessors for values that a shape has let through; they throw where it hasn't.
export function get(value: Json | undefined, ...path: (string | number)[]): Json {
  let here = value;
  for (const step of path) {
    if (typeof step === "number") here = Array.isArray(here) ? here[step] : undefined;
    else here = isObject(here) ? here.get(step) : undefined;
  }
  if (here === undefined) throw new Wrong(`${path.join(".")} is missing`);
  return here;
}

export function str(value: Json | undefined, ...path: (string | number)[]): string {
  const found = get(value, ...path);
  return typeof found === "string" ? found : expected(path.join("."), "a string");
}

export function int(value: Json | undefined, ...path: (string | number)[]): number {
  const found = get(value, ...path);
  return typeof found === "number" ? found : expected(path.join("."), "a whole number");
}

export function items(value: Json | undefined, ...path: (string | number)[]): Json[] {
  const found = get(value, ...path);
  return Array.isArray(found) ? found : expected(path.join("."), "a list");
}

export function members(value: Json | undefined, ...path: (string | number)[]): Members {
  const found = get(value, ...path);
  return isObject(found) ? found : expected(path.join("."), "an object");
}

/** Milliseconds since 1970 of a time in the page's form; a time that no calendar has is refused. */
export function instant(written: string): number {
  const ms = Date.parse(written);
  if (Number.isNaN(ms) || written.startsWith("0000") || new Date(ms).toISOString() !== written) throw new Wrong(`no such time: ${written}`);
  return ms;
}
