// SPDX-License-Identifier: Apache-2.0
/** RFC 6962 section 2.1: leaf and node hashes, and where an inclusion path leads (section 3 of the page). */
import { sha256, Wrong } from "./bytes.ts";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export const leafHash = (leaf: Uint8Array): Uint8Array => sha256(LEAF, leaf);
export const nodeHash = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(NODE, left, right);

/** The root to which `path` leads from the leaf at `index` of `size`; a path of any other length than is due is refused. */
export function rootOf(leaf: Uint8Array, index: number, size: number, path: Uint8Array[]): Uint8Array {
  if (index >= size) throw new Wrong(`entry ${index} in a tree of ${size}`);
  if (path.some((hash) => hash.length !== 32)) throw new Wrong("a hash that is not 32 bytes long");
  // Places and sizes reach 2^53-1: whole numbers of any size, no 32-bit operators.
  let at = BigInt(index);
  let last = BigInt(size) - 1n;
  let used = 0;
  let hash = leaf;
  while (last > 0n) {
    if (at % 2n === 1n || at !== last) {
      const beside = path[used++];
      if (beside === undefined) throw new Wrong(`a path of ${path.length} hashes, and more are due`);
      hash = at % 2n === 1n ? nodeHash(beside, hash) : nodeHash(hash, beside);
    }
    at /= 2n;
    last /= 2n;
  }
  if (used !== path.length) throw new Wrong(`a path of ${path.length} hashes where ${used} are due`);
  return hash;
}
