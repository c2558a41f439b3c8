// SPDX-License-Identifier: Apache-2.0
/**
 * X.509 certificates of time-stamping authorities: read strictly, and a chain checked up to its own root at one moment
 * (RFC 5280, the part that such chains use). An extension that is critical and unknown here is refused.
 */
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { sha256 as hash256, sha384, sha512 } from "@noble/hashes/sha2.js";
import { compare, hex, same, text, Wrong } from "./bytes.ts";
import { Der, type Element } from "./der.ts";

export interface Certificate {
  der: Uint8Array;
  serial: bigint;
  issuer: Uint8Array;
  subject: Uint8Array;
  from: number;
  until: number;
  /** Read where it is used: a chain may hold a key of a kind that nothing here needs. */
  key: () => PublicKey;
  signatureAlgorithm: Uint8Array;
  innerAlgorithm: Uint8Array;
  signed: Uint8Array;
  signature: Uint8Array;
  /** By object identifier: what it says and whether it is critical. */
  extensions: Map<string, { critical: boolean; value: Uint8Array }>;
}

export type PublicKey = { kind: "ec"; curve: keyof typeof CURVES; point: Uint8Array } | { kind: "rsa"; modulus: bigint; exponent: bigint };

const CURVES = { "1.2.840.10045.3.1.7": p256, "1.3.132.0.34": p384, "1.3.132.0.35": p521 } as const;
const DIGESTS = { sha256: hash256, sha384, sha512 } as const;
export type Digest = keyof typeof DIGESTS;
export const digestOf = (digest: Digest, message: Uint8Array): Uint8Array => DIGESTS[digest](message);

/** Digest algorithms as AlgorithmIdentifier, parameters absent or NULL. */
const DIGEST_IDS: Record<string, Digest> = { "2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512" };
const SIGNATURE_IDS: Record<string, { kind: "ec" | "rsa"; digest: Digest | null }> = {
  "1.2.840.10045.4.3.2": { kind: "ec", digest: "sha256" },
  "1.2.840.10045.4.3.3": { kind: "ec", digest: "sha384" },
  "1.2.840.10045.4.3.4": { kind: "ec", digest: "sha512" },
  "1.2.840.113549.1.1.11": { kind: "rsa", digest: "sha256" },
  "1.2.840.113549.1.1.12": { kind: "rsa", digest: "sha384" },
  "1.2.840.113549.1.1.13": { kind: "rsa", digest: "sha512" },
  "1.2.840.113549.1.1.1": { kind: "rsa", digest: null },
};
const BASIC = "2.5.29.19";
const USAGE = "2.5.29.15";
const PURPOSE = "2.5.29.37";
const SUBJECT_ID = "2.5.29.14";
const AUTHORITY_ID = "2.5.29.35";
const STAMPING = "1.3.6.1.5.5.7.3.8";
const UNDERSTOOD = [BASIC, USAGE, PURPOSE];

export function algorithm(der: Der): { oid: string; parameters: "absent" | "null" | "other" } {
  const inner = der.sequence();
  const oid = inner.oid();
  if (!inner.more) return { oid, parameters: "absent" };
  const element = inner.element();
  inner.end();
  return { oid, parameters: element.tag === 5 && element.content.length === 0 ? "null" : "other" };
}

export function digestAlgorithm(der: Der): Digest {
  const { oid, parameters } = algorithm(der);
  const digest = DIGEST_IDS[oid];
  if (digest === undefined || parameters === "other") throw new Wrong(`digest algorithm ${oid}`);
  return digest;
}

export function readCertificate(der: Uint8Array): Certificate {
  const outside = Der.read(der);
  const whole = outside.sequence();
  outside.end();
  const tbs = whole.element(0x30);
  const signatureAlgorithm = identifier(whole);
  const signature = whole.bits();
  whole.end();
  const body = Der.read(tbs.content);
  const version = body.inside(0xa0);
  if (version.integer() !== 2n) throw new Wrong("a certificate that is not of version 3");
  version.end();
  const serial = body.integer();
  const inner = identifier(body);
  const issuer = readName(body.element(0x30));
  const validity = body.sequence();
  const [from, until] = [time(validity.element()), time(validity.element())];
  validity.end();
  const subject = readName(body.element(0x30));
  const spki = body.element(0x30).whole;
  const made = publicKey(spki);
  const key = (): PublicKey => made;
  const extensions = body.peek() === 0xa3 ? readExtensions(body) : new Map<string, { critical: boolean; value: Uint8Array }>();
  body.end();
  return { der, serial, issuer, subject, from, until, key, signatureAlgorithm, innerAlgorithm: inner, signed: tbs.whole, signature, extensions };
}

/** An AlgorithmIdentifier as it stands, in its form. */
function identifier(der: Der): Uint8Array {
  const { whole } = der.element(0x30);
  algorithm(Der.read(whole));
  return whole;
}

/** A Name as RFC 5280 has it, its texts readable. */
function readName(element: Element): Uint8Array {
  const sets = Der.read(element.content);
  while (sets.more) {
    for (const one of sets.setOf()) {
      const pair = Der.read(one.whole).sequence();
      pair.oid();
      const { tag, content } = pair.element();
      pair.end();
      if (tag === 0x0c) text(content);
    }
  }
  return element.whole;
}

/** The element, if all that lies in it is DER too. */
export function wellFormed(element: Element): Uint8Array {
  const walk = (der: Der): void => {
    while (der.more) {
      if (der.peek() & 0x20) walk(der.inside(der.peek()));
      else der.element();
    }
  };
  walk(Der.read(element.whole));
  return element.whole;
}

function readExtensions(body: Der): Certificate["extensions"] {
  const outer = body.inside(0xa3);
  const all = outer.sequence();
  outer.end();
  const found: Certificate["extensions"] = new Map();
  while (all.more) {
    const one = all.sequence();
    const oid = one.oid();
    const critical = one.peek() === 0x01 ? one.boolean() : false;
    const value = one.octets();
    one.end();
    if (found.has(oid)) throw new Wrong(`extension ${oid} twice`);
    const within = Der.read(value);
    wellFormed(within.element());
    within.end();
    if (oid === AUTHORITY_ID) checkAuthorityId(value);
    found.set(oid, { critical, value });
  }
  return found;
}

/** RFC 5280 section 4.2.1.1: the key's identifier, its issuer's names and serial, each once at most. */
function checkAuthorityId(value: Uint8Array): void {
  const inner = Der.read(value).sequence();
  for (const tag of [0x80, 0xa1, 0x82]) if (inner.peek() === tag) inner.element();
  inner.end();
}

/** UTCTime or GeneralizedTime as certificates write them, in seconds and UTC. */
function time({ tag, content }: Element): number {
  const written = text(content);
  const found = tag === 0x17 ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(written) : tag === 0x18 ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(written) : null;
  if (found === null) throw new Wrong("a malformed time in a certificate");
  const year = tag === 0x17 ? (Number(found[1]) < 50 ? 2000 : 1900) + Number(found[1]) : Number(found[1]);
  const [month, day, hour, minute, second] = found.slice(2).map(Number);
  const at = Date.UTC(year, month! - 1, day, hour, minute, second);
  if (new Date(at).getUTCDate() !== day || hour! > 23 || minute! > 59 || second! > 59) throw new Wrong("no such time in a certificate");
  return at;
}

function publicKey(spki: Uint8Array): PublicKey {
  const der = Der.read(spki).sequence();
  const algorithmId = der.sequence();
  const oid = algorithmId.oid();
  if (oid === "1.2.840.10045.2.1") {
    const curve = algorithmId.oid();
    algorithmId.end();
    if (!isCurve(curve)) throw new Wrong(`curve ${curve}`);
    const point = der.bits();
    der.end();
    CURVES[curve].Point.fromBytes(point).assertValidity();
    return { kind: "ec", curve, point };
  }
  if (oid !== "1.2.840.113549.1.1.1") throw new Wrong(`public key of ${oid}`);
  if (algorithmId.element(0x05).content.length !== 0) throw new Wrong("a malformed RSA key");
  const pair = Der.read(der.bits()).sequence();
  const [modulus, exponent] = [unsigned(pair.element(0x02)), unsigned(pair.element(0x02))];
  pair.end();
  der.end();
  const bits = modulus.toString(2).length;
  if (bits < 2048 || bits > 8192 || exponent < 3n || exponent > 0xffffffffn || exponent % 2n === 0n) throw new Wrong("an RSA key that is too weak or too large");
  return { kind: "rsa", modulus, exponent };
}

const isCurve = (oid: string): oid is keyof typeof CURVES => oid in CURVES;

function unsigned({ content }: Element): bigint {
  if (content.length === 0 || content[0]! >= 0x80 || (content[0] === 0 && (content[1] ?? 0x80) < 0x80)) throw new Wrong("a malformed RSA number");
  return BigInt("0x" + hex(content));
}

/** Whether `key` made `signature` over `message` by that AlgorithmIdentifier; `digest` must agree where it is given. */
export function signedBy(key: PublicKey, identifier: Uint8Array, message: Uint8Array, signature: Uint8Array, digest?: Digest, lowS = false): boolean {
  const { oid, parameters } = algorithm(Der.read(identifier));
  const found = SIGNATURE_IDS[oid];
  const used = found?.digest ?? digest;
  if (found === undefined || used === undefined || found.kind !== key.kind || (digest !== undefined && used !== digest)) throw new Wrong("a signature algorithm that does not go with its digest or key");
  if (parameters !== (key.kind === "ec" ? "absent" : "null")) throw new Wrong("a signature algorithm with other parameters");
  if (key.kind === "rsa") return rsaVerifies(key, used, digestOf(used, message), signature);
  const curve = CURVES[key.curve];
  const pair = Der.read(signature);
  const inner = pair.sequence();
  const [r, s] = [inner.integer(), inner.integer()];
  inner.end();
  pair.end();
  const order = curve.Point.Fn.ORDER;
  if (r < 1n || s < 1n || r >= order || s >= order || (lowS && s > order / 2n)) throw new Wrong("the signature is out of range");
  return curve.verify(signature, digestOf(used, message), key.point, { prehash: false, lowS: false, format: "der" });
}

const DIGEST_HEADS: Record<Digest, string> = {
  sha256: "3031300d060960864801650304020105000420",
  sha384: "3041300d060960864801650304020205000430",
  sha512: "3051300d060960864801650304020305000440",
};

/** RSASSA-PKCS1-v1_5: the padded digest is built and compared, nothing is parsed. */
function rsaVerifies(key: { modulus: bigint; exponent: bigint }, digest: Digest, hash: Uint8Array, signature: Uint8Array): boolean {
  const length = Math.ceil(key.modulus.toString(2).length / 8);
  if (signature.length !== length) return false;
  let [base, exponent, power] = [BigInt("0x" + hex(signature)), key.exponent, 1n];
  if (base >= key.modulus) return false;
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) power = (power * base) % key.modulus;
    base = (base * base) % key.modulus;
  }
  const tail = "00" + DIGEST_HEADS[digest] + hex(hash);
  return power.toString(16).padStart(2 * length, "0") === "0001" + "f".repeat(2 * length - 4 - tail.length) + tail;
}

/** A chain from the first certificate to a root among the others, good at `at` for time-stamping and nothing else. */
export function checkChain(certificates: Certificate[], at: number): void {
  const chain = findChain(certificates);
  chain.forEach((certificate, i) => {
    if (at < certificate.from || at > certificate.until) throw new Wrong("a certificate that was not valid at that time");
    for (const [oid, { critical }] of certificate.extensions) if (critical && !UNDERSTOOD.includes(oid)) throw new Wrong(`a critical extension ${oid}`);
    if (!same(certificate.innerAlgorithm, certificate.signatureAlgorithm)) throw new Wrong("a certificate that names two algorithms");
    if (i > 0) checkIssuer(certificate, i - 1);
  });
  const own = certificates[0]!;
  const purpose = own.extensions.get(PURPOSE);
  if (purpose === undefined || !purpose.critical) throw new Wrong("the key purpose is not critical");
  const inner = Der.read(purpose.value).sequence();
  if (inner.oid() !== STAMPING || inner.more) throw new Wrong("a certificate that is not for time-stamping alone");
  const usage = usageBits(own);
  if (usage !== null && (usage & 0xc0) === 0) throw new Wrong("a certificate whose key may not sign");
}

function findChain(certificates: Certificate[]): Certificate[] {
  const chain = certificates.slice(0, 1);
  for (;;) {
    const last = chain.at(-1)!;
    // The root is trusted because it stands in the trust file; its signature over itself would prove nothing (RFC 5280 6.1).
    if (same(last.issuer, last.subject) && identifies(last, last)) return chain;
    const issuer = certificates.find((one) => !chain.includes(one) && same(one.subject, last.issuer) && identifies(last, one) && signed(last, one));
    if (issuer === undefined) throw new Wrong("the certificates do not lead to a root");
    chain.push(issuer);
  }
}

/** Whether the key identifiers of a certificate and its issuer fit, where both have one. */
function identifies(certificate: Certificate, issuer: Certificate): boolean {
  const [named, own] = [certificate.extensions.get(AUTHORITY_ID), issuer.extensions.get(SUBJECT_ID)];
  if (named === undefined || own === undefined) return true;
  const inner = Der.read(named.value).sequence();
  return inner.peek() !== 0x80 || same(inner.element().content, Der.read(own.value).octets());
}

function signed(certificate: Certificate, issuer: Certificate): boolean {
  try {
    return signedBy(issuer.key(), certificate.signatureAlgorithm, certificate.signed, certificate.signature);
  } catch {
    return false;
  }
}

function checkIssuer(certificate: Certificate, below: number): void {
  const basic = certificate.extensions.get(BASIC);
  if (basic === undefined) throw new Wrong("an issuer that is no authority");
  const inner = Der.read(basic.value).sequence();
  if (!inner.more || inner.peek() !== 0x01 || !inner.boolean()) throw new Wrong("an issuer that is no authority");
  if (inner.more && inner.integer() < BigInt(below)) throw new Wrong("a chain that is longer than its issuer allows");
  const usage = usageBits(certificate);
  if (usage !== null && (usage & 0x04) === 0) throw new Wrong("an issuer that may not sign certificates");
}

function usageBits(certificate: Certificate): number | null {
  const usage = certificate.extensions.get(USAGE);
  if (usage === undefined) return null;
  const { content } = Der.read(usage.value).element(0x03);
  return content[1] ?? 0;
}

/** In the order in which a DER set puts them. */
export const sorted = (certificates: Certificate[]): Certificate[] => [...certificates].sort((a, b) => compare(a.der, b.der));
