// SPDX-License-Identifier: Apache-2.0
// sigstore.mjs TRUST: a bundle a line on standard input, a verdict a line on standard output: "" for accepted, or why not.
// @sigstore/verify does all of the judging; TRUST is what `qcos trust export --format sigstore` wrote.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { bundleFromJSON } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';

const { trustedRoot, keys } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const known = Object.fromEntries(
  Object.entries(keys).map(([hint, key]) => [hint, { rawBytes: Buffer.from(key, 'base64') }]),
);
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(trustedRoot), known));

for await (const line of createInterface({ input: process.stdin })) {
  let said = '';
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(line))));
  } catch (error) {
    said = `${error.code ?? error.name}: ${error.message}`.replaceAll('\n', ' ');
  }
  console.log(JSON.stringify(said));
}
