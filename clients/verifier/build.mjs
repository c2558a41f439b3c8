// SPDX-License-Identifier: Apache-2.0
// Makes verify.html (or the file that is named), one file without anything outside of it. The same sources and packages give
// the same bytes: nothing of the time, the machine or the folder enters.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "verify.html");
const read = (name) => readFileSync(join(here, "src", name), "utf8");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const common = { absWorkingDir: here, bundle: true, legalComments: "none", charset: "utf8", logLevel: "warning", write: false };

const script = async (entry, globalName) => {
  const made = await build({ ...common, entryPoints: [`src/${entry}.ts`], format: "iife", globalName, target: "es2022", minify: true, platform: "browser" });
  return made.outputFiles[0].text.replaceAll("</script", "<\\/script").trim();
};
const [core, page] = [await script("core", "qcosVerifier"), await script("page")];
const style = read("page.css").trim();
const policy = [
  "default-src 'none'", `script-src ${hash(core)} ${hash(page)}`, `style-src ${hash(style)}`, "base-uri 'none'", "form-action 'none'",
  "require-trusted-types-for 'script'",
].join("; ");
const parts = { policy, style, core, page };
writeFileSync(target, read("page.html").replaceAll(/\{\{(\w+)\}\}/g, (_, name) => parts[name]));
