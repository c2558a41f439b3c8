// SPDX-License-Identifier: Apache-2.0
/** Public keys as SubjectPublicKeyInfo, each in the one DER form that its algorithm has, and their signatures. */
import { ed25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import { ml_dsa44, ml_dsa65 } from "@noble/post-quantum/ml-dsa.js";
import { concat, same, sha256, Wrong } from "./bytes.ts";
import { Der } from "./der.ts";

export type Algorithm = "ed25519" | "ml-dsa-65" | "ml-dsa-44" | "ecdsa-p256";

const bytes = (written: string): Uint8Array => Uint8Array.from(written.match(/../g)!, (pair) => parseInt(pair, 16));

/** What stands before the key itself; no algorithm here leaves a choice. */
const HEADS: Record<Algorithm, { head: Uint8Array; length: number }> = {
  ed25519: { head: bytes("302a300506032b6570032100"), length: 32 },
  "ml-dsa-65": { head: bytes("308207b2300b0609608648016503040312038207a100"), length: 1952 },
  "ml-dsa-44": { head: bytes("30820532300b06096086480165030403110382052100"), length: 1312 },
  "ecdsa-p256": { head: bytes("3059301306072a8648ce3d020106082a8648ce3d030107034200"), length: 65 },
};

/** The raw key in a SubjectPublicKeyInfo of that algorithm. */
export function rawKey(spki: Uint8Array, algorithm: Algorithm): Uint8Array {
  const { head, length } = HEADS[algorithm];
  if (spki.length !== head.length + length || !same(spki.subarray(0, head.length), head)) throw new Wrong(`not a public key of ${algorithm}`);
  const raw = spki.subarray(head.length);
  if (algorithm === "ecdsa-p256") p256.Point.fromBytes(raw).assertValidity();
  return raw;
}

export const toSpki = (raw: Uint8Array, algorithm: Algorithm): Uint8Array => concat(HEADS[algorithm].head, raw);

/** ECDSA in one form only: DER, both numbers within the order, s in its lower half. */
export function strictEcdsa(signature: Uint8Array, lowS = true): { r: bigint; s: bigint } {
  const pair = Der.read(signature).sequence();
  const [r, s] = [pair.integer(), pair.integer()];
  pair.end();
  const order = p256.Point.Fn.ORDER;
  if (r < 1n || s < 1n || r >= order || s >= order) throw new Wrong("an ECDSA signature out of range");
  if (lowS && s > order / 2n) throw new Wrong("an ECDSA signature with a high s");
  return { r, s };
}

/** Whether `key` made `signature` over `message`; of ML-DSA pure and with empty context. A malformed one is a false one. */
export function verifies(algorithm: Algorithm, key: Uint8Array, message: Uint8Array, signature: Uint8Array, lowS = true): boolean {
  try {
    switch (algorithm) {
      case "ed25519":
        return signature.length === 64 && ed25519.verify(signature, message, key, { zip215: false });
      case "ml-dsa-65":
        return signature.length === 3309 && ml_dsa65.verify(signature, message, key);
      case "ml-dsa-44":
        return signature.length === 2420 && ml_dsa44.verify(signature, message, key);
      case "ecdsa-p256":
        strictEcdsa(signature, lowS);
        return p256.verify(signature, sha256(message), key, { prehash: false, lowS, format: "der" });
    }
  } catch {
    return false;
  }
}
