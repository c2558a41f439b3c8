// SPDX-License-Identifier: Apache-2.0
/** The second type of leaf, a `hashedrekord` body (section 2): its one form, and whether its signature is of its digest. */
import { base64, same, Wrong } from "./bytes.ts";
import { canonical, type Json, read } from "./json.ts";
import { type Algorithm, rawKey, strictEcdsa } from "./keys.ts";
import { object, one, str, text } from "./shape.ts";

const KINDS: Record<string, Algorithm> = { PKIX_ECDSA_P256_SHA_256: "ecdsa-p256", ML_DSA_65: "ml-dsa-65" };

const shape = object({
  apiVersion: one("0.0.2"),
  kind: one("hashedrekord"),
  spec: object({
    hashedRekordV002: object({
      data: object({ algorithm: one("SHA2_256"), digest: text }),
      signature: object({ content: text, verifier: object({ keyDetails: one(...Object.keys(KINDS)), publicKey: object({ rawBytes: text }) }) }),
    }),
  }),
});

export interface HashedRekord {
  digest: Uint8Array;
  signature: Uint8Array;
  algorithm: Algorithm;
  key: Uint8Array;
}

/** The leaf's parts; throws where it has not the one form. Whether the signature holds is for whoever has the signed bytes. */
export function readHashedRekord(leaf: Uint8Array): HashedRekord {
  const value: Json = read(leaf);
  shape(value, "leaf");
  if (!same(canonical(value), leaf)) throw new Wrong("leaf: not in canonical form");
  const body = ["spec", "hashedRekordV002"];
  const algorithm = KINDS[str(value, ...body, "signature", "verifier", "keyDetails")]!;
  const digest = base64(str(value, ...body, "data", "digest"), "digest");
  const signature = base64(str(value, ...body, "signature", "content"), "signature");
  if (digest.length !== 32) throw new Wrong("a digest that is not 32 bytes long");
  if (algorithm === "ecdsa-p256") strictEcdsa(signature);
  else if (signature.length !== 3309) throw new Wrong("an ML-DSA-65 signature of another length");
  const key = rawKey(base64(str(value, ...body, "signature", "verifier", "publicKey", "rawBytes"), "key"), algorithm);
  return { digest, signature, algorithm, key };
}
