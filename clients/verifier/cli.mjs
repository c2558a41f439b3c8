#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The verifier that lies in verify.html, run under Node without any package: what is tested here is what the page runs.
//
//   cli.mjs BUNDLE TRUST [--now TIME]   prints the report; ends with 0 valid, 1 not, 2 not to be judged
//   cli.mjs --stream                    a line of JSON for each line {bundle, trust, now?}, the files in base64
//   cli.mjs --call                      a line {ok} or {error} for each line [function, ...arguments], {"base64": …} for bytes
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";

const page = readFileSync(join(dirname(fileURLToPath(import.meta.url)), "verify.html"), "utf8");
runInThisContext(/<script>([^]*?)<\/script>/.exec(page)[1]);
const verifier = globalThis.qcosVerifier;
const bytes = (written) => new Uint8Array(Buffer.from(written, "base64"));

function judge(bundle, trust, now) {
  try {
    const { report } = verifier.verify(bundle, trust, now);
    return { exit: report.verdict === "valid" ? 0 : 1, report };
  } catch (error) {
    if (error instanceof verifier.Unusable) return { exit: 2, report: { code: "unusable_input", detail: error.message } };
    throw error;
  }
}

function call([name, ...given]) {
  const meant = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (typeof value.base64 === "string") return bytes(value.base64);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, meant(inner)]));
  };
  try {
    verifier[name](...given.map(meant));
    return { ok: true };
  } catch (error) {
    return { error: String(error.message) };
  }
}

const [first, second, ...rest] = process.argv.slice(2);
const answers = {
  "--stream": ({ bundle, trust, now }) => judge(bytes(bundle), bytes(trust), now ?? Date.now()),
  "--call": call,
};
if (first in answers) {
  for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(answers[first](JSON.parse(line))));
} else if (first === undefined || second === undefined) {
  console.error("usage: cli.mjs BUNDLE TRUST [--now TIME]");
  process.exitCode = 2;
} else {
  const now = rest[0] === "--now" ? Date.parse(rest[1]) : Date.now();
  const { exit, report } = judge(new Uint8Array(readFileSync(first)), new Uint8Array(readFileSync(second)), now);
  console.log(JSON.stringify(report));
  process.exitCode = exit;
}
