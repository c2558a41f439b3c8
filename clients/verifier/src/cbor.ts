// SPDX-License-Identifier: Apache-2.0
/**
 * CBOR, as much of it as a COSE_Sign1 has, in its one deterministic form (RFC 8949 section 4.2.1): shortest heads, no
 * lengths without end, keys once and in order, nothing after the item; no floats and no simple values.
 */
import { compare, concat, text, utf8, Wrong } from "./bytes.ts";

export class Tag {
  readonly number: number;
  readonly item: Item;
  constructor(number: number, item: Item) {
    this.number = number;
    this.item = item;
  }
}

/** A number beyond 2^53-1 is kept as NaN: no reader here has a use for it. */
export type Item = number | string | Uint8Array | Item[] | Map<Item, Item> | Tag;

const DEEPEST = 8;

export function decode(bytes: Uint8Array): Item {
  const reader = new Reader(bytes);
  const item = reader.item(0);
  if (reader.at !== bytes.length) throw new Wrong("CBOR: bytes after the item");
  return item;
}

/** A byte string or text with its head, and the head of a list: what a Sig_structure is made of. */
export const octets = (bytes: Uint8Array): Uint8Array => concat(head(2, bytes.length), bytes);
export const written = (words: string): Uint8Array => concat(head(3, utf8(words).length), utf8(words));
export const list = (items: Uint8Array[]): Uint8Array => concat(head(4, items.length), ...items);

function head(major: number, argument: number): Uint8Array {
  if (argument < 24) return Uint8Array.of((major << 5) | argument);
  const size = argument < 0x100 ? 1 : argument < 0x10000 ? 2 : 4;
  const out = new Uint8Array(1 + size);
  out[0] = (major << 5) | (size === 1 ? 24 : size === 2 ? 25 : 26);
  for (let i = 0; i < size; i++) out[size - i] = Math.floor(argument / 256 ** i) & 0xff;
  return out;
}

class Reader {
  at = 0;
  private readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  item(depth: number): Item {
    if (depth > DEEPEST) throw new Wrong(`CBOR: nested deeper than ${DEEPEST}`);
    const { major, argument } = this.argument();
    if (major === 0) return argument <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(argument) : NaN;
    if (major === 1) return argument < BigInt(Number.MAX_SAFE_INTEGER) ? -1 - Number(argument) : NaN;
    if (major === 6) return new Tag(Number(argument), this.item(depth + 1));
    if (argument > BigInt(this.bytes.length - this.at)) throw new Wrong("CBOR: cut short");
    const count = Number(argument);
    if (major === 2) return this.take(count);
    if (major === 3) return this.text(count);
    if (major === 4) return Array.from({ length: count }, () => this.item(depth + 1));
    return this.map(count, depth);
  }

  private text(count: number): string {
    try {
      return text(this.take(count));
    } catch {
      throw new Wrong("CBOR: text that is not UTF-8");
    }
  }

  private map(count: number, depth: number): Map<Item, Item> {
    const members = new Map<Item, Item>();
    let before = new Uint8Array();
    for (let i = 0; i < count; i++) {
      const start = this.at;
      const key = this.item(depth + 1);
      const bytes = this.bytes.slice(start, this.at);
      if (typeof key === "object" && !(key instanceof Uint8Array)) throw new Wrong("CBOR: a key that is neither a number nor a string");
      if (compare(bytes, before) <= 0) throw new Wrong("CBOR: a key twice, or out of order");
      before = bytes;
      members.set(key, this.item(depth + 1));
    }
    return members;
  }

  private argument(): { major: number; argument: bigint } {
    const first = this.take(1)[0]!;
    const [major, low] = [first >> 5, first & 31];
    if (major > 6) throw new Wrong("CBOR: a float or simple value");
    if (low < 24) return { major, argument: BigInt(low) };
    if (low > 27) throw new Wrong("CBOR: a length without end, or a reserved one");
    const size = 1 << (low - 24);
    const argument = this.take(size).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
    if (argument < (size === 1 ? 24n : 1n << BigInt(4 * size))) throw new Wrong("CBOR: a head that is not the shortest");
    return { major, argument };
  }

  private take(count: number): Uint8Array {
    if (count > this.bytes.length - this.at) throw new Wrong("CBOR: cut short");
    this.at += count;
    return this.bytes.slice(this.at - count, this.at);
  }
}
