// SPDX-License-Identifier: Apache-2.0
/** Bytes and their written forms. Every reader takes exactly one written form and throws `Wrong` on any other. */
import { sha256 as digest } from "@noble/hashes/sha2.js";

/** Something in the evidence is not as the page says. */
export class Wrong extends Error {}

/** Nothing is wrong in itself, but the trust file doesn't reach it. */
export class Outside extends Error {}

/** An input that can't be judged at all (exit 2). */
export class Unusable extends Error {}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const utf8 = (text: string): Uint8Array => encoder.encode(text);
export const text = (bytes: Uint8Array): string => decoder.decode(bytes);
export const sha256 = (...parts: Uint8Array[]): Uint8Array => digest(concat(...parts));

export function concat(...parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Below zero, zero or above, as the bytes are ordered. */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** How a hash is written in JSON (section 1). */
export const hashText = (bytes: Uint8Array): string => "sha256:" + hex(bytes);

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 64; i++) VALUES[ALPHABET.charCodeAt(i)] = i;

export interface Base64 {
  bytes: Uint8Array;
  /** False where bits that carry nothing aren't zero: readable, but not the one form. */
  exact: boolean;
}

/** Base64 with the standard alphabet and padding, no white space; null where it is not that. */
export function readBase64(written: string): Base64 | null {
  if (written.length % 4 !== 0) return null;
  const padding = written.endsWith("==") ? 2 : written.endsWith("=") ? 1 : 0;
  const end = written.length - padding;
  const bytes = new Uint8Array((written.length / 4) * 3 - padding);
  let held = 0;
  let bits = 0;
  let at = 0;
  for (let i = 0; i < end; i++) {
    const code = written.charCodeAt(i);
    const value = code < 128 ? VALUES[code]! : -1;
    if (value < 0) return null;
    held = ((held << 6) | value) & 0xffffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = (held >> bits) & 0xff;
    }
  }
  return { bytes, exact: (held & ((1 << bits) - 1)) === 0 };
}

/** Base64 in its one form. */
export function base64(written: string, what: string): Uint8Array {
  const read = readBase64(written);
  if (read === null || !read.exact) throw new Wrong(`${what}: not base64 in its one form`);
  return read.bytes;
}

export function toBase64(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const [a, b, c] = [bytes[i]!, bytes[i + 1], bytes[i + 2]];
    out += ALPHABET[a >> 2]! + ALPHABET[((a & 3) << 4) | ((b ?? 0) >> 4)]!;
    out += b === undefined ? "=" : ALPHABET[((b & 15) << 2) | ((c ?? 0) >> 6)]!;
    out += c === undefined ? "=" : ALPHABET[c & 63]!;
  }
  return out;
}
