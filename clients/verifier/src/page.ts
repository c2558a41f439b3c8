// SPDX-License-Identifier: Apache-2.0
/**
 * The page: two files in, a verdict out. Nothing is fetched and nothing is sent; what a file says enters the document as
 * text alone.
 */
import type * as Core from "./core.ts";
import type { Chart, Summary } from "./summary.ts";
import type { Report } from "./verify.ts";

declare const qcosVerifier: typeof Core;
const { ASSURANCES, clock, meaning, MOST_BYTES, summarise, Unusable, VERDICTS, verify } = qcosVerifier;

type Kind = "bundle" | "trust";
const given: Record<Kind, { name: string; bytes: Uint8Array } | null> = { bundle: null, trust: null };

function element<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", ...inside: (Node | string)[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.append(...inside);
  return made;
}

/** Text of a file's making: it can't turn the direction of what stands around it. */
const said = (words: string): HTMLElement => element("bdi", "", words);

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no element ${id}`);
  return found;
}

/** Which of the two a file is: a trust file says so at its end, whatever slot it was dropped on. */
function kindOf(bytes: Uint8Array, slot: Kind | null): Kind {
  const tail = new TextDecoder().decode(bytes.subarray(-200));
  if (/"type":"urn:qcos:trust:v[0-9]+"/.test(tail)) return "trust";
  return slot ?? "bundle";
}

async function take(files: Iterable<File>, slot: Kind | null): Promise<void> {
  for (const file of files) {
    const bytes = file.size > MOST_BYTES ? new Uint8Array(MOST_BYTES + 1) : new Uint8Array(await file.arrayBuffer());
    const kind = kindOf(bytes, slot);
    given[kind] = { name: file.name, bytes };
    byId(`${kind}-name`).replaceChildren(said(file.name), ` · ${file.size.toLocaleString("en")} bytes`);
    byId(`${kind}-slot`).classList.add("given");
  }
  judge();
}

function judge(): void {
  const { bundle, trust } = given;
  const result = byId("result");
  if (bundle === null || trust === null) {
    byId("state").textContent = bundle === null ? (trust === null ? "Waiting for both files." : "Trust file read. Waiting for the bundle.") : "Bundle read. Waiting for the trust file.";
    result.replaceChildren();
    return;
  }
  try {
    const { report, file, outside } = verify(bundle.bytes, trust.bytes, Date.now());
    show(report, file === null ? null : summarise(file), outside, [bundle.name, trust.name]);
    byId("state").textContent = `${VERDICTS[report.verdict].word}: ${report.reason}`;
  } catch (error) {
    const detail = error instanceof Unusable ? error.message : `the file could not be read: ${error instanceof Error ? error.message : String(error)}`;
    result.replaceChildren(banner("unusable", "–", "Can't be judged", "One of the files is not what it should be.", detail));
    byId("state").textContent = `Can't be judged: ${detail}`;
  }
}

function banner(state: string, glyph: string, word: string, meaningText: string, detail: string): HTMLElement {
  const mark = element("span", "glyph", glyph);
  mark.setAttribute("aria-hidden", "true");
  return element("section", `verdict ${state}`, element("h2", "", mark, ` ${word}`), element("p", "", meaningText), element("p", "reason", said(detail)));
}

function show(report: Report, summary: Summary | null, outside: Set<string>, files: [string, string]): void {
  const verdict = VERDICTS[report.verdict];
  const parts: Node[] = [banner(report.verdict, verdict.glyph, verdict.word, verdict.meaning, report.reason), facts(report, files)];
  if (summary !== null) parts.push(recordSection(summary, report.verdict));
  parts.push(checks(report, outside));
  byId("result").replaceChildren(...parts);
}

function list(rows: [string, string][]): HTMLElement {
  const made = element("dl");
  for (const [name, value] of rows) made.append(element("div", "", element("dt", "", name), element("dd", "", said(value))));
  return made;
}

function facts(report: Report, [bundle, trust]: [string, string]): HTMLElement {
  const { value, operator } = report.time;
  return element("section", "card", element("h2", "", "What the verdict rests on"), list([
    ["Assurance", ASSURANCES[report.assurance]],
    ["Time", value === null ? "no trusted time" : `${clock(value)}, by an authority of operator ${operator ?? ""}`],
    ["Trust as of", clock(report.trust_as_of)],
    ["Files", `${bundle} against ${trust}`],
  ]));
}

function recordSection(summary: Summary, verdict: Report["verdict"]): HTMLElement {
  const section = element("section", "card", element("h2", "", "What the record says"));
  if (verdict !== "valid") section.append(element("p", "caution", `The verdict is ${verdict}: what stands here is what the file says, and it is not proven.`));
  section.append(element("p", "job", said(summary.title)), list(summary.facts), ...summary.charts.map(chart));
  return section;
}

const SVG = "http://www.w3.org/2000/svg";

function bar(share: number): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(SVG, "rect");
  rect.setAttribute("width", String(100 * share));
  rect.setAttribute("height", "10");
  svg.append(rect);
  return svg;
}

function chart({ title, shots, bars, rest }: Chart): HTMLElement {
  const most = Math.max(1, ...bars.map(({ count }) => count));
  const body = element("tbody");
  for (const { outcome, count } of bars) {
    const head = element("th", "bits", said(outcome));
    head.scope = "row";
    const share = shots > 0 ? `${((100 * count) / shots).toFixed(1)} %` : "";
    body.append(element("tr", "", head, element("td", "bar", bar(count / most)), element("td", "number", count.toLocaleString("en")), element("td", "number", share)));
  }
  const head = element("tr");
  for (const name of ["Outcome", "", "Count", "Share"]) {
    const cell = element(name === "" ? "td" : "th", name === "Count" || name === "Share" ? "number" : "", name);
    if (cell instanceof HTMLTableCellElement && name !== "") cell.scope = "col";
    head.append(cell);
  }
  const table = element("table", "counts", element("caption", "", `${title}, ${shots.toLocaleString("en")} shots`), element("thead", "", head), body);
  if (rest.outcomes === 0) return table;
  return element("div", "", table, element("p", "rest", `and ${rest.outcomes.toLocaleString("en")} more outcomes with ${rest.count.toLocaleString("en")} shots together`));
}

const HOW = { ok: ["✓", " holds"], bad: ["✕", " fails"], open: ["○", " out of reach"] } as const;

function checks(report: Report, outside: Set<string>): HTMLElement {
  const body = element("tbody");
  for (const { name, ok, detail } of report.checks) {
    const how = ok ? "ok" : outside.has(name) ? "open" : "bad";
    const glyph = element("span", "glyph", HOW[how][0]);
    glyph.setAttribute("aria-hidden", "true");
    const head = element("th", "", element("code", "", said(name)), element("span", "meaning", meaning(name)));
    head.scope = "row";
    body.append(element("tr", how, element("td", "state", glyph, HOW[how][1]), head, element("td", "detail", said(detail))));
  }
  const head = element("tr");
  for (const name of ["State", "Check", "Detail"]) {
    const cell = element("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const failed = report.checks.filter(({ name, ok }) => !ok && !outside.has(name)).length;
  const open = report.checks.filter(({ name, ok }) => !ok && outside.has(name)).length;
  const told = [failed > 0 ? `${failed} fail` : "", open > 0 ? `${open} out of reach` : ""].filter((part) => part !== "").join(", ");
  const caption = element("caption", "", `${report.checks.length} checks, ${told === "" ? "all hold" : told}`);
  return element("section", "card", element("h2", "", "Checks"), element("table", "checks", caption, element("thead", "", head), body));
}

function listen(kind: Kind): void {
  const input = byId(kind) as HTMLInputElement;
  input.addEventListener("change", () => void take(input.files ?? [], kind));
}

listen("bundle");
listen("trust");
for (const name of ["dragover", "drop"] as const) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name !== "drop") return;
    const slot = event.target instanceof Element ? event.target.closest("[data-kind]")?.getAttribute("data-kind") : null;
    void take(event.dataTransfer?.files ?? [], slot === "trust" || slot === "bundle" ? slot : null);
  });
}
byId("print").addEventListener("click", () => window.print());
