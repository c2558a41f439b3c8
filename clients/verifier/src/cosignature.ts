// SPDX-License-Identifier: Apache-2.0
/** Cosignature lines of witnesses over the checkpoint (section 4): C2SP, ML-DSA-44. */
import { base64, concat, Outside, same, sha256, utf8, Wrong } from "./bytes.ts";
import { verifies } from "./keys.ts";
import type { Checkpoint } from "./note.ts";
import { type Trust, within } from "./trust.ts";

const LATEST = 253402300799n;
const SLACK = 5_000;

/** When each was made, milliseconds since 1970, and when those that count were; throws where one is not good. */
export function checkCosignatures(lines: string[], checkpoint: Checkpoint, trust: Trust): { detail: string; times: number[]; counting: number[] } {
  if (lines.some((line, i) => i > 0 && compareText(lines[i - 1]!, line) >= 0)) throw new Wrong("lines out of order");
  const read = lines.map(readLine);
  if (new Set(read.map(({ name, id }) => `${name} ${id.join(",")}`)).size !== read.length) throw new Wrong("two lines of one witness");
  let unknown: string | null = null;
  const names: string[] = [];
  const counting: number[] = [];
  for (const { name, id, stamp, signature } of read) {
    const witness = trust.witnesses.find((one) => one.name === name && same(witnessId(name, one.raw), id));
    if (witness === undefined) {
      unknown ??= name;
      continue;
    }
    const at = Number(stamp) * 1000;
    if (!verifies("ml-dsa-44", witness.raw, message(name, stamp, checkpoint), signature)) throw new Wrong(`${name}: bad signature`);
    if (!within(witness, at, SLACK)) throw new Wrong(`${name}: not in use at that time`);
    if (trust.revoked.some((one) => one.id === witness.id && one.at <= at)) throw new Wrong(`${name}: revoked before that time`);
    names.push(name);
    if (!trust.revoked.some((one) => one.id === witness.id && one.hostile)) counting.push(at);
  }
  if (unknown !== null) throw new Outside(`the trust file knows no witness ${unknown}`);
  return { detail: names.join(", "), counting, times: read.map(({ stamp }) => Number(stamp) * 1000) };
}

function compareText(a: string, b: string): number {
  const [x, y] = [[...a], [...b]];
  for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return x[i]!.codePointAt(0)! - y[i]!.codePointAt(0)!;
  return x.length - y.length;
}

export function witnessId(name: string, raw: Uint8Array): Uint8Array {
  return sha256(utf8(name), Uint8Array.of(0x0a, 0x06), raw).subarray(0, 4);
}

interface Line {
  name: string;
  id: Uint8Array;
  stamp: bigint;
  signature: Uint8Array;
}

export function readLine(line: string): Line {
  const found = /^— ([^ +]+) ([A-Za-z0-9+/]+=*)$/.exec(line);
  if (found === null) throw new Wrong("a malformed cosignature line");
  const bytes = base64(found[2]!, "cosignature");
  if (bytes.length !== 4 + 8 + 2420) throw new Wrong("a cosignature of another length");
  const stamp = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(4);
  if (stamp === 0n || stamp > LATEST) throw new Wrong("a cosignature of no time");
  return { name: found[1]!, id: bytes.subarray(0, 4), stamp, signature: bytes.subarray(12) };
}

export function message(name: string, stamp: bigint, checkpoint: Pick<Checkpoint, "origin" | "size" | "root">): Uint8Array {
  const [named, origin] = [utf8(name), utf8(checkpoint.origin)];
  if (named.length > 255 || origin.length > 255) throw new Wrong("a name that is too long to be cosigned");
  return concat(
    utf8("subtree/v1\n\0"), Uint8Array.of(named.length), named, long(stamp), Uint8Array.of(origin.length), origin,
    long(0n), long(BigInt(checkpoint.size)), checkpoint.root,
  );
}

function long(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** A line alone over a checkpoint, with its witness's raw key: what the vectors ask for. */
export function checkLine(line: string, checkpoint: Pick<Checkpoint, "origin" | "size" | "root">, raw: Uint8Array): void {
  const { name, id, stamp, signature } = readLine(line);
  if (!same(id, witnessId(name, raw)) || !verifies("ml-dsa-44", raw, message(name, stamp, checkpoint), signature)) throw new Wrong("not a cosignature by that witness");
}
