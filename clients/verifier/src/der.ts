// SPDX-License-Identifier: Apache-2.0
/**
 * A DER reader that takes one form only: definite, shortest lengths, tags below 31, shortest integers, TRUE as 0xff.
 * A `Der` is a place in a run of elements; what is read moves it on, and `end` demands that nothing is left.
 */
import { same, Wrong } from "./bytes.ts";

const MOST_LEVELS = 32;

export interface Element {
  tag: number;
  /** Tag, length and content. */
  whole: Uint8Array;
  content: Uint8Array;
}

export class Der {
  private at = 0;
  private readonly bytes: Uint8Array;
  private readonly level: number;

  private constructor(bytes: Uint8Array, level: number) {
    if (level > MOST_LEVELS) throw new Wrong("DER that is nested too deep");
    this.bytes = bytes;
    this.level = level;
  }

  static read(bytes: Uint8Array): Der {
    return new Der(bytes, 0);
  }

  get more(): boolean {
    return this.at < this.bytes.length;
  }

  peek(): number {
    return this.bytes[this.at] ?? -1;
  }

  end(): void {
    if (this.more) throw new Wrong("DER with something left over");
  }

  element(tag?: number): Element {
    const start = this.at;
    const found = this.bytes[start];
    const first = this.bytes[start + 1];
    if (found === undefined || first === undefined) throw new Wrong("DER that ends too early");
    if ((found & 0x1f) === 0x1f) throw new Wrong("DER with a long tag");
    if (tag !== undefined && found !== tag) throw new Wrong(`DER with tag 0x${found.toString(16)} where 0x${tag.toString(16)} is due`);
    let length = first;
    let at = start + 2;
    if (first >= 0x80) {
      const size = first & 0x7f;
      if (size === 0 || size > 4) throw new Wrong("DER with a length that is not definite or too long");
      length = 0;
      for (let i = 0; i < size; i++) length = length * 256 + (this.bytes[at++] ?? NaN);
      if (!(length >= 0x80) || length < 256 ** (size - 1)) throw new Wrong("DER with a length that is not the shortest");
    }
    if (at + length > this.bytes.length) throw new Wrong("DER that ends too early");
    this.at = at + length;
    return { tag: found, whole: this.bytes.subarray(start, this.at), content: this.bytes.subarray(at, this.at) };
  }

  inside(tag: number): Der {
    return new Der(this.element(tag).content, this.level + 1);
  }

  sequence(): Der {
    return this.inside(0x30);
  }

  /** The elements of a SET OF: DER puts them in the order of their bytes. */
  setOf(tag = 0x31): Element[] {
    const inner = this.inside(tag);
    const all: Element[] = [];
    while (inner.more) all.push(inner.element());
    for (let i = 1; i < all.length; i++) if (!ordered(all[i - 1]!.whole, all[i]!.whole)) throw new Wrong("a DER set out of order");
    return all;
  }

  integer(): bigint {
    const { content } = this.element(0x02);
    const [first, second] = content;
    if (first === undefined) throw new Wrong("an empty DER integer");
    if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) throw new Wrong("a DER integer that is not the shortest");
    if (content.length > 64) throw new Wrong("a DER integer that is too long");
    const value = content.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
    return first >= 0x80 ? value - (1n << BigInt(8 * content.length)) : value;
  }

  oid(): string {
    const { content } = this.element(0x06);
    const arcs: bigint[] = [];
    let arc = 0n;
    let fresh = true;
    for (const byte of content) {
      if (fresh && byte === 0x80) throw new Wrong("an object identifier that is not the shortest");
      arc = arc * 128n + BigInt(byte & 0x7f);
      fresh = byte < 0x80;
      if (fresh) {
        arcs.push(arc);
        arc = 0n;
      }
    }
    const head = arcs.shift();
    if (head === undefined || !fresh || content.length > 64) throw new Wrong("a malformed object identifier");
    const top = head < 40n ? 0n : head < 80n ? 1n : 2n;
    return [top, head - 40n * top, ...arcs].join(".");
  }

  boolean(): boolean {
    const { content } = this.element(0x01);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new Wrong("a malformed DER boolean");
    return content[0] === 0xff;
  }

  octets(): Uint8Array {
    return this.element(0x04).content;
  }

  bits(): Uint8Array {
    const { content } = this.element(0x03);
    if (content[0] !== 0) throw new Wrong("a bit string that is not whole bytes");
    return content.subarray(1);
  }
}

function ordered(a: Uint8Array, b: Uint8Array): boolean {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return a.length <= b.length && !same(a, b);
}
