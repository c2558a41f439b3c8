// SPDX-License-Identifier: Apache-2.0
/**
 * What the first script of verify.html puts into `qcosVerifier`: the verifier without its page. The page's second script
 * uses it, and so does cli.mjs under Node, so that what is tested there is what lies in the file.
 */
export { checkWrittenBill } from "./billed.ts";
export { Unusable } from "./bytes.ts";
export { read } from "./json.ts";
export { clock, summarise } from "./summary.ts";
export { readHashedRekord } from "./rekor.ts";
export { checkLine } from "./cosignature.ts";
export { checkNote } from "./note.ts";
export { MOST_BYTES, verify } from "./verify.ts";
export { ASSURANCES, meaning, VERDICTS } from "./words.ts";
