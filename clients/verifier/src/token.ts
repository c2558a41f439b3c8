// SPDX-License-Identifier: Apache-2.0
/**
 * RFC 3161 time-stamp tokens as section 8 takes them: everything in a token is signed, or fixed by the trust file and the
 * form. `readToken` demands the form, `checkToken` the signature and the chain.
 */
import { concat, Outside, same, sha256, text, Wrong } from "./bytes.ts";
import { Der } from "./der.ts";
import type { Authority } from "./trust.ts";
import { type Certificate, checkChain, type Digest, digestAlgorithm, digestOf, readCertificate, signedBy, sorted, wellFormed } from "./x509.ts";

const SIGNED_DATA = "1.2.840.113549.1.7.2";
const TST_INFO = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
const CERTIFICATE_V1 = "1.2.840.113549.1.9.16.2.12";
const CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47";

export interface Token {
  bytes: Uint8Array;
  imprint: Uint8Array;
  /** What `genTime` says, milliseconds since 1970. */
  time: number;
  certificates: Certificate[];
  issuer: Uint8Array;
  serial: bigint;
  digest: Digest;
  content: Uint8Array;
  attributes: Map<string, Uint8Array>;
  signed: Uint8Array;
  signatureAlgorithm: Uint8Array;
  signature: Uint8Array;
}

export function readToken(bytes: Uint8Array): Token {
  const outside = Der.read(bytes);
  const info = outside.sequence();
  outside.end();
  if (info.oid() !== SIGNED_DATA) throw new Wrong("token: not signed data");
  const explicit = info.inside(0xa0);
  info.end();
  const data = explicit.sequence();
  explicit.end();
  if (data.integer() !== 3n) throw new Wrong("token: wrong version");
  const digests = data.setOf();
  const encapsulated = data.sequence();
  if (encapsulated.oid() !== TST_INFO) throw new Wrong("token: not a signed TSTInfo");
  const wrapped = encapsulated.inside(0xa0);
  const content = wrapped.octets();
  wrapped.end();
  encapsulated.end();
  // RFC 3161 wants the certificate when it was asked for, and the plane asks for it.
  const certificates = data.peek() === 0xa0 ? readCertificates(data) : [];
  if (data.peek() === 0xa1) throw new Wrong("token: carries revocation lists");
  const signers = data.inside(0x31);
  data.end();
  const token = readSigner(signers.sequence(), bytes, content, certificates);
  if (signers.more) throw new Wrong("token: more than one signer");
  if (digests.length !== 1 || !same(digests[0]!.whole, token.digestIdentifier)) throw new Wrong("token: digest algorithms that are not the signer's");
  return token;
}

function readCertificates(data: Der): Certificate[] {
  const inner = data.inside(0xa0);
  const all: Certificate[] = [];
  while (inner.more && all.length < 16) all.push(readCertificate(inner.element(0x30).whole));
  inner.end();
  return all;
}

function readSigner(signer: Der, bytes: Uint8Array, content: Uint8Array, certificates: Certificate[]): Token & { digestIdentifier: Uint8Array } {
  if (signer.integer() !== 1n) throw new Wrong("token: wrong version of the signer");
  const id = signer.sequence();
  const issuer = wellFormed(id.element(0x30));
  const serial = id.integer();
  id.end();
  const digestIdentifier = signer.element(0x30).whole;
  const digest = digestAlgorithm(Der.read(digestIdentifier));
  const signedAttributes = signer.element(0xa0);
  // What is signed is the same set under the tag of a set.
  const signed = concat(Uint8Array.of(0x31), signedAttributes.whole.subarray(1));
  const attributes = readAttributes(signed);
  const signatureAlgorithm = signer.element(0x30).whole;
  const signature = signer.octets();
  if (signer.more) throw new Wrong("token: unsigned attributes");
  const { imprint, time } = readInfo(content);
  return { bytes, imprint, time, certificates, issuer, serial, digest, digestIdentifier, content, attributes, signed, signatureAlgorithm, signature };
}

function readAttributes(signed: Uint8Array): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  for (const element of Der.read(signed).setOf()) {
    const attribute = Der.read(element.whole).sequence();
    const oid = attribute.oid();
    const values = attribute.setOf();
    attribute.end();
    if (found.has(oid) || values.length !== 1) throw new Wrong("token: a signed attribute twice");
    found.set(oid, values[0]!.whole);
  }
  return found;
}

function readInfo(content: Uint8Array): { imprint: Uint8Array; time: number } {
  const outside = Der.read(content);
  const info = outside.sequence();
  outside.end();
  if (info.integer() !== 1n) throw new Wrong("token: wrong version of TSTInfo");
  info.oid();
  const imprint = info.sequence();
  if (digestAlgorithm(imprint) !== "sha256") throw new Wrong("token: an imprint that is not SHA-256");
  const hash = imprint.octets();
  imprint.end();
  info.integer();
  const time = generalizedTime(text(info.element(0x18).content));
  if (info.peek() === 0x30) readAccuracy(info.sequence());
  if (info.peek() === 0x01 && !info.boolean()) throw new Wrong("token: a default that is written");
  if (info.peek() === 0x02) info.integer();
  if (info.peek() === 0xa0) info.element();
  if (info.peek() === 0xa1) info.element();
  info.end();
  return { imprint: hash, time };
}

function readAccuracy(accuracy: Der): void {
  if (accuracy.peek() === 0x02) accuracy.integer();
  if (accuracy.peek() === 0x80) accuracy.element();
  if (accuracy.peek() === 0x81) accuracy.element();
  accuracy.end();
}

/** RFC 3161 2.4.2: seconds always, a fraction without trailing zeros, UTC. */
function generalizedTime(written: string): number {
  const found = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\.\d*[1-9])?Z$/.exec(written);
  if (found === null) throw new Wrong("token: a malformed time");
  const iso = `${found[1]}-${found[2]}-${found[3]}T${found[4]}:${found[5]}:${found[6]}.000Z`;
  const at = Date.parse(iso);
  if (Number.isNaN(at) || new Date(at).toISOString() !== iso) throw new Wrong("token: no such time");
  return at + Math.floor(Number("0" + (found[3 + 4] ?? ".0")) * 1000);
}

/** The authority of the trust file that the token names as its signer. */
export function authorityOf(token: Token, authorities: Authority[]): Authority {
  const found = authorities.find(({ certificates: [own] }) => own !== undefined && own.serial === token.serial && same(own.issuer, token.issuer));
  if (found === undefined) throw new Outside("a token by an authority that the trust file does not know");
  return found;
}

export function checkToken(token: Token, authority: Authority): void {
  const { certificates: chain } = authority;
  if (!embedded(token.certificates, chain)) throw new Wrong("the embedded certificates are not those of the trust file");
  const contentType = token.attributes.get(CONTENT_TYPE);
  const digest = token.attributes.get(MESSAGE_DIGEST);
  if (contentType === undefined || Der.read(contentType).oid() !== TST_INFO) throw new Wrong("token: signed attributes that are not of this content");
  if (digest === undefined || !same(Der.read(digest).octets(), digestOf(token.digest, token.content))) throw new Wrong("token: signed attributes that are not of this content");
  if (!namesCertificate(token, chain[0]!)) throw new Wrong("token: the signed attributes do not name the certificate");
  const own = chain[0]!;
  if (!signedBy(own.key(), token.signatureAlgorithm, token.signed, token.signature, token.digest, authority.operator === "self")) throw new Wrong("token: bad signature");
  checkChain(chain, token.time);
}

/** All, all but the root, or the first alone; in the chain's order or sorted. */
function embedded(found: Certificate[], chain: Certificate[]): boolean {
  const sets = [chain, chain.slice(0, -1), chain.slice(0, 1)];
  const equal = (set: Certificate[]): boolean => set.length > 0 && set.length === found.length && set.every((one, i) => same(one.der, found[i]!.der));
  return sets.some((set) => equal(set) || equal(sorted(set)));
}

function namesCertificate(token: Token, own: Certificate): boolean {
  const second = token.attributes.get(CERTIFICATE_V2);
  if (second === undefined) {
    // RFC 2634's first form names it by SHA-1, which names nothing any more.
    if (token.attributes.has(CERTIFICATE_V1)) throw new Wrong("token: names its certificate by SHA-1");
    return false;
  }
  const list = Der.read(second).sequence().sequence();
  const first = list.sequence();
  const digest = first.peek() === 0x30 ? digestAlgorithm(first) : "sha256";
  return same(first.octets(), digest === "sha256" ? sha256(own.der) : digestOf(digest, own.der));
}
