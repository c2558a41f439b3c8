// SPDX-License-Identifier: Apache-2.0
/** A checkpoint: a C2SP tlog-checkpoint in a signed note with an Ed25519 and an ML-DSA-65 line (section 4). */
import { base64, concat, Outside, same, sha256, utf8, Wrong } from "./bytes.ts";
import { verifies } from "./keys.ts";
import { speaks, type Trust, type TrustedKey } from "./trust.ts";

export interface Checkpoint {
  origin: string;
  size: number;
  root: Uint8Array;
  text: string;
  lines: { name: string; keyHash: Uint8Array; signature: Uint8Array }[];
}

const LINE = /^— ([!-*,-~]{1,200}) ([A-Za-z0-9+/]+=*)$/;
const ORIGIN = /^[!-*,-~]{1,200}$/;
const KINDS = [
  { algorithm: "ed25519", label: "Ed25519", type: Uint8Array.of(1) },
  { algorithm: "ml-dsa-65", label: "ML-DSA-65", type: concat(Uint8Array.of(0xff), utf8("urn:qcos:signed-note:ml-dsa-65:v1")) },
] as const;

export function readNote(note: string): Checkpoint {
  const split = note.lastIndexOf("\n\n");
  if (split < 0 || !note.endsWith("\n") || split + 2 === note.length) throw new Wrong("no signature lines");
  if (/[^\n\x20-\x7e—]/.test(note) && [...note].some((c) => c !== "\n" && c < " ")) throw new Wrong("a note with control characters");
  const body = note.slice(0, split + 1);
  const lines = note.slice(split + 2, -1).split("\n").map((line) => {
    const found = LINE.exec(line);
    if (found === null) throw new Wrong("a malformed signature line");
    const bytes = base64(found[2]!, "signature line");
    if (bytes.length < 5) throw new Wrong("a signature line without a signature");
    return { name: found[1]!, keyHash: bytes.subarray(0, 4), signature: bytes.subarray(4) };
  });
  const parts = body.split("\n");
  const [origin, size, root] = parts;
  if (parts.length !== 4 || !ORIGIN.test(origin ?? "") || !/^(0|[1-9][0-9]{0,15})$/.test(size ?? "") || !Number.isSafeInteger(Number(size))) throw new Wrong("a malformed origin or size");
  const hash = base64(root ?? "", "root");
  if (hash.length !== 32) throw new Wrong("a root that is not 32 bytes long");
  return { origin: origin!, size: Number(size), root: hash, text: body, lines };
}

/** The keys that signed both lines: each under the log's name, by a trusted key, over the text. */
export function checkSignatures(checkpoint: Checkpoint, trust: Pick<Trust, "origins" | "logKeys" | "rotations">): TrustedKey[] {
  if (checkpoint.lines.length !== 2) throw new Wrong(`${checkpoint.lines.length} signature lines; a checkpoint has 2`);
  for (const { name } of checkpoint.lines) if (name !== checkpoint.origin) throw new Wrong(`a line of ${name}, which is not this log`);
  const due = trust.logKeys.filter((key) => speaks(key, trust, checkpoint.origin, checkpoint.size));
  const known = trust.origins.includes(checkpoint.origin) ? due : [];
  const fitting = KINDS.map((kind, i) => {
    const { name, keyHash: id } = checkpoint.lines[i]!;
    return known.filter((key) => key.algorithm === kind.algorithm && same(keyHash(name, kind.type, key.raw), id));
  });
  // One known key excuses nothing: then the other line has to be by a known key too.
  if (fitting.every((keys) => keys.length === 0)) throw new Outside(`the trust file knows no key of the log ${checkpoint.origin}`);
  return KINDS.map((kind, i) => {
    if (fitting[i]!.length === 0) throw new Wrong(`${kind.label} line: by no known key of ${checkpoint.origin}`);
    const made = fitting[i]!.find((key) => verifies(kind.algorithm, key.raw, utf8(checkpoint.text), checkpoint.lines[i]!.signature));
    if (made === undefined) throw new Wrong(`${kind.label} line: bad signature`);
    return made;
  });
}

export function keyHash(name: string, type: Uint8Array, key: Uint8Array): Uint8Array {
  return sha256(utf8(name), Uint8Array.of(0x0a), type, key).subarray(0, 4);
}

/** A note alone, with its keys: what the vectors ask for. */
export function checkNote(note: string, keys: { ed25519: Uint8Array; mldsa65: Uint8Array }): void {
  const checkpoint = readNote(note);
  const window = { from: 0, until: null };
  const logKeys: TrustedKey[] = [{ id: "ed25519", algorithm: "ed25519", raw: keys.ed25519, ...window }, { id: "ml-dsa-65", algorithm: "ml-dsa-65", raw: keys.mldsa65, ...window }];
  checkSignatures(checkpoint, { origins: [checkpoint.origin], logKeys, rotations: [] });
}
