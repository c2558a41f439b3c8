// SPDX-License-Identifier: Apache-2.0
/** A signed envelope (section 14): its two forms, its keys, and what its payload says. */
import { ed25519 } from "@noble/curves/ed25519.js";
import { ml_dsa44, ml_dsa65, ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { readBase64, sha256, text, toBase64, utf8, Wrong } from "./bytes.ts";
import { decode, type Item, list, octets, Tag, written } from "./cbor.ts";
import { isObject, type Json, type Members, readOnce } from "./json.ts";
import { any, count, name, object, one, pattern, str, text as words } from "./shape.ts";

interface Scheme {
  jose: string[];
  cose: number[];
  key: number;
  signature: number;
  verify: (signature: Uint8Array, message: Uint8Array, key: Uint8Array) => boolean;
}

const SCHEMES: Record<string, Scheme> = {
  Ed25519: { jose: ["Ed25519", "EdDSA"], cose: [-19, -8], key: 32, signature: 64, verify: (made, message, key) => ed25519.verify(made, message, key, { zip215: false }) },
  "ML-DSA-44": { jose: ["ML-DSA-44"], cose: [-48], key: 1312, signature: 2420, verify: (made, message, key) => ml_dsa44.verify(made, message, key) },
  "ML-DSA-65": { jose: ["ML-DSA-65"], cose: [-49], key: 1952, signature: 3309, verify: (made, message, key) => ml_dsa65.verify(made, message, key) },
  "ML-DSA-87": { jose: ["ML-DSA-87"], cose: [-50], key: 2592, signature: 4627, verify: (made, message, key) => ml_dsa87.verify(made, message, key) },
};
export const ALGORITHMS = Object.keys(SCHEMES);

const JOSE_TYPE = "vnd.qcos.envelope+jws";
const COSE_TYPE = "application/vnd.qcos.envelope+cose";
const LONGEST = 600;

export interface Envelope {
  alg: string;
  keyId: string;
  payload: Uint8Array;
  covered: Uint8Array;
  signature: Uint8Array;
}

const headerShape = object({ alg: words, kid: words, typ: words });
const claimsShape = object({
  aud: name, jti: pattern(/^[A-Za-z0-9._~-]{16,128}$/, "a nonce"), iat: count, exp: count,
  kind: one("submit", "cancel", "hold", "resume", "show", "result", "enroll"), body: any,
});

/** base64url without padding, in its one form. */
export function base64url(source: string, what: string): Uint8Array {
  const plain = source.replaceAll("-", "+").replaceAll("_", "/");
  const found = /^[A-Za-z0-9_-]*$/.test(source) && source.length % 4 !== 1 ? readBase64(plain + "=".repeat((4 - (plain.length % 4)) % 4)) : null;
  if (found === null || !found.exact) throw new Wrong(`${what}: not base64url in its one form`);
  return found.bytes;
}

const toBase64url = (bytes: Uint8Array): string => toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

/** The thumbprint of a key (RFC 7638), by which it is named. */
export function thumbprint(alg: string, key: Uint8Array): string {
  const encoded = toBase64url(key);
  const jwk = alg === "Ed25519" ? `{"crv":"Ed25519","kty":"OKP","x":"${encoded}"}` : `{"alg":"${alg}","kty":"AKP","pub":"${encoded}"}`;
  return toBase64url(sha256(utf8(jwk)));
}

/** The y of Ed25519's points of order 1, 2, 4 and 8: under them anything looks signed. */
const PRIME = 2n ** 255n - 19n;
const SMALL = new Set([
  0n, 1n, PRIME - 1n, PRIME, PRIME + 1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n, 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
]);

export function checkKey(alg: string, key: Uint8Array): void {
  const scheme = SCHEMES[alg];
  if (scheme === undefined || key.length !== scheme.key) throw new Wrong(`a key of ${key.length} bytes is none of ${alg}`);
  if (alg !== "Ed25519") return;
  const y = key.reduceRight((sum, byte, i) => sum * 256n + BigInt(i === 31 ? byte & 127 : byte), 0n);
  if (SMALL.has(y)) throw new Wrong("an Ed25519 point of small order");
}

export function checkSignature(envelope: Envelope, key: Uint8Array): void {
  const scheme = SCHEMES[envelope.alg]!;
  let good = false;
  try {
    good = envelope.signature.length === scheme.signature && scheme.verify(envelope.signature, envelope.covered, key);
  } catch {
    // a malformed key or signature is a bad one
  }
  if (!good) throw new Wrong("not a signature of this key");
}

export const parse = (form: string, bytes: Uint8Array): Envelope => (form === "jose" ? parseJose(bytes) : parseCose(bytes));

function parseJose(bytes: Uint8Array): Envelope {
  let source: string;
  try {
    source = text(bytes);
  } catch {
    throw new Wrong("not a JWS in compact form");
  }
  const parts = source.split(".");
  if (parts.length !== 3 || parts[0]!.length > 1024) throw new Wrong("not a JWS in compact form");
  const header = readOnce(base64url(parts[0]!, "header"));
  headerShape(header, "header");
  if (str(header, "typ") !== JOSE_TYPE) throw new Wrong(`header: typ is not ${JOSE_TYPE}`);
  const alg = ALGORITHMS.find((one) => SCHEMES[one]!.jose.includes(str(header, "alg")));
  return signed(alg, str(header, "kid"), base64url(parts[1]!, "payload"), utf8(`${parts[0]}.${parts[1]}`), base64url(parts[2]!, "signature"));
}

function parseCose(bytes: Uint8Array): Envelope {
  const whole = decode(bytes);
  const inner: Item[] = whole instanceof Tag && whole.number === 18 && Array.isArray(whole.item) ? whole.item : [];
  const [protectedHeader, beside, payload, signature] = inner;
  if (inner.length !== 4 || !(protectedHeader instanceof Uint8Array) || !(beside instanceof Map) || !(payload instanceof Uint8Array) || !(signature instanceof Uint8Array))
    throw new Wrong("not a COSE_Sign1 (tag 18) that carries its payload");
  const header = decode(protectedHeader);
  if (beside.size > 0) throw new Wrong("an unprotected header");
  if (!(header instanceof Map) || header.size !== 3 || ![1, 4, 16].every((label) => header.has(label))) throw new Wrong("the protected header has alg, kid and typ, no others");
  if (header.get(16) !== COSE_TYPE) throw new Wrong(`protected header: typ is not ${COSE_TYPE}`);
  const [label, kid] = [header.get(1), header.get(4)];
  if (!(kid instanceof Uint8Array) || kid.some((byte) => byte > 127)) throw new Wrong("protected header: kid is no thumbprint");
  const alg = typeof label === "number" ? ALGORITHMS.find((one) => SCHEMES[one]!.cose.includes(label)) : undefined;
  const covered = list([written("Signature1"), octets(protectedHeader), octets(new Uint8Array()), octets(payload)]);
  return signed(alg, text(kid), payload, covered, signature);
}

function signed(alg: string | undefined, keyId: string, payload: Uint8Array, covered: Uint8Array, signature: Uint8Array): Envelope {
  if (alg === undefined) throw new Wrong("an algorithm that is not one of the page's");
  if (base64url(keyId, "kid").length !== 32) throw new Wrong("kid is not the thumbprint of a key");
  return { alg, keyId, payload, covered, signature };
}

/** The payload of an envelope that asks for a job: its body, after audience, kind and time were found right. */
export function asked(payload: Uint8Array, audience: string, at: number, slack: number): Members {
  const said = readOnce(payload);
  claimsShape(said, "payload");
  if (str(said, "kind") !== "submit") throw new Wrong(`an envelope of kind ${str(said, "kind")}`);
  const [iat, exp] = [number(said, "iat"), number(said, "exp")];
  if (str(said, "aud") !== audience) throw new Wrong(`for another audience than ${audience}`);
  if (exp <= iat || exp - iat > LONGEST) throw new Wrong(`valid for ${exp - iat} s`);
  if (iat > at + slack || exp <= at - slack) throw new Wrong("not valid when the job was submitted");
  const body = (said as Members).get("body");
  if (!isObject(body)) throw new Wrong("payload: a body that is no object");
  return body;
}

function number(value: Json, member: string): number {
  const found = (value as Members).get(member);
  if (typeof found !== "number") throw new Wrong(`payload.${member}: a whole number expected`);
  return found;
}

