// SPDX-License-Identifier: Apache-2.0
/**
 * JSON that loses nothing: a number keeps its written form where it isn't a whole number that JavaScript holds exactly,
 * members keep their order. The reader keeps its own stack, so depth costs no more than length.
 *
 * `canonical` writes RFC 8785 on the page's domain and throws `Wrong` on a value outside of it; a text is canonical if it
 * is what `canonical` writes of what was read.
 */
import { text, utf8, Wrong } from "./bytes.ts";

/** A number that is no whole number between -(2^53-1) and 2^53-1, as it was written. */
export class Num {
  readonly written: string;
  constructor(written: string) {
    this.written = written;
  }
}

export type Members = Map<string, Json>;
export type Json = null | boolean | string | number | Num | Json[] | Members;

export const DEPTH = 64;

/** What is deeper than anything that the page allows: its syntax was read, its content was not kept. */
export const TOO_DEEP = new Num("a value deeper than 64 levels");

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES: Record<string, string> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

class Reader {
  private at = 0;
  private readonly source: string;
  private readonly once: boolean;
  constructor(source: string, once: boolean) {
    this.source = source;
    this.once = once;
  }

  whole(): Json {
    const value = this.value();
    this.space();
    if (this.at !== this.source.length) throw new Wrong("something after the end of the JSON");
    return value;
  }

  private space(): void {
    SPACE.lastIndex = this.at;
    SPACE.exec(this.source);
    this.at = SPACE.lastIndex;
  }

  private take(character: string): void {
    this.space();
    if (this.source[this.at] !== character) throw new Wrong(`not JSON: ${character} expected at place ${this.at}`);
    this.at += 1;
  }

  private next(character: string): boolean {
    this.space();
    if (this.source[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  private value(): Json {
    const stack: { into: Json[] | Members; name: string; kept: boolean }[] = [];
    for (;;) {
      let done = this.open(stack);
      while (done !== undefined) {
        const top = stack.at(-1);
        if (top === undefined) return done;
        if (top.kept) {
          if (Array.isArray(top.into)) top.into.push(done);
          else if (this.once && top.into.has(top.name)) throw new Wrong(`${top.name} stands twice`);
          else top.into.set(top.name, done);
        }
        const list = Array.isArray(top.into);
        if (this.next(",")) {
          if (!list) top.name = this.name();
          done = undefined;
        } else {
          this.take(list ? "]" : "}");
          stack.pop();
          done = top.kept ? top.into : TOO_DEEP;
        }
      }
    }
  }

  /** The value that begins here; undefined where it is a list or object that is not empty, which is then on the stack. */
  private open(stack: { into: Json[] | Members; name: string; kept: boolean }[]): Json | undefined {
    const kept = stack.length < DEPTH;
    if (this.next("[")) {
      if (this.next("]")) return kept ? [] : TOO_DEEP;
      stack.push({ into: [], name: "", kept });
      return undefined;
    }
    if (this.next("{")) {
      if (this.next("}")) return kept ? new Map() : TOO_DEEP;
      stack.push({ into: new Map(), name: this.name(), kept });
      return undefined;
    }
    if (this.source[this.at] === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const)
      if (this.source.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    return this.number();
  }

  private name(): string {
    this.space();
    const name = this.string();
    this.take(":");
    return name;
  }

  private number(): number | Num {
    NUMBER.lastIndex = this.at;
    const found = NUMBER.exec(this.source);
    if (found === null) throw new Wrong(`not JSON at place ${this.at}`);
    this.at = NUMBER.lastIndex;
    const value = Number(found[0]);
    const whole = found[1] === undefined && found[2] === undefined && Number.isSafeInteger(value) && !Object.is(value, -0);
    return whole ? value : new Num(found[0]);
  }

  private string(): string {
    if (this.source[this.at] !== '"') throw new Wrong(`not JSON: a string expected at place ${this.at}`);
    this.at += 1;
    let out = "";
    for (;;) {
      PLAIN.lastIndex = this.at;
      out += PLAIN.exec(this.source)![0];
      this.at = PLAIN.lastIndex;
      const character = this.source[this.at++];
      if (character === '"') break;
      if (character !== "\\") throw new Wrong("not JSON: a string without end, or with a control character");
      out += this.escape();
    }
    if (!out.isWellFormed()) throw new Wrong("not JSON in UTF-8: half of a surrogate pair");
    return out;
  }

  private escape(): string {
    const letter = this.source[this.at++] ?? "";
    if (letter !== "u") {
      const meant = ESCAPES[letter];
      if (meant === undefined) throw new Wrong("not JSON: an unknown escape");
      return meant;
    }
    const digits = this.source.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new Wrong("not JSON: an unknown escape");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }
}

/** What the bytes mean; of a member that stands twice the last one counts (and the text is not canonical). */
export const read = (bytes: Uint8Array): Json => reader(bytes, false);

/** The same, and `Wrong` where a member stands twice. */
export const readOnce = (bytes: Uint8Array): Json => reader(bytes, true);

function reader(bytes: Uint8Array, once: boolean): Json {
  let source: string;
  try {
    source = text(bytes);
  } catch {
    throw new Wrong("not JSON in UTF-8");
  }
  return new Reader(source, once).whole();
}

/** RFC 8785 where the page's domain allows the value; with `loose`, sorted and without spaces, numbers as written. */
export function canonical(value: Json, loose = false): Uint8Array {
  return utf8(write(value, loose, 1));
}

function write(value: Json, loose: boolean, depth: number): string {
  if (value === null || typeof value === "boolean" || typeof value === "number") return String(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (value instanceof Num) {
    if (!loose || value === TOO_DEEP) throw new Wrong(`outside of canonical JSON: ${value.written.slice(0, 40)}`);
    return value.written;
  }
  if (depth > DEPTH) throw new Wrong("deeper than 64 levels");
  if (Array.isArray(value)) return "[" + value.map((item) => write(item, loose, depth + 1)).join(",") + "]";
  const names = [...value.keys()].sort();
  if (!loose && names.some((name) => !/^[\x00-\x7f]*$/.test(name))) throw new Wrong("a key that is not ASCII");
  return "{" + names.map((name) => JSON.stringify(name) + ":" + write(value.get(name)!, loose, depth + 1)).join(",") + "}";
}

/** Read, and demand that the bytes are the canonical form of what they mean. */
export function readCanonical(bytes: Uint8Array, what: string): Json {
  const value = read(bytes);
  const again = canonical(value);
  if (again.length !== bytes.length || again.some((byte, i) => byte !== bytes[i])) throw new Wrong(`${what}: not in canonical form`);
  return value;
}

export const isObject = (value: Json | undefined): value is Members => value instanceof Map;
