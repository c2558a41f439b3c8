// SPDX-License-Identifier: Apache-2.0
/** What a record says, in words that a person reads: values out of a file of closed shape, nothing judged here. */
import { readResult } from "./counts.ts";
import { isObject, type Json, type Members } from "./json.ts";
import { carried } from "./predicate.ts";
import { get, int, items, members, str } from "./shape.ts";

export interface Summary {
  title: string;
  facts: [string, string][];
  charts: Chart[];
}

export interface Chart {
  title: string;
  shots: number;
  bars: { outcome: string; count: number }[];
  /** Outcomes and counts that found no bar. */
  rest: { outcomes: number; count: number };
}

const MOST_BARS = 16;
const MOST_CHARTS = 8;
const STATES: Record<string, string> = {
  COMPLETED: "ran to its end", FAILED: "failed", CANCELED: "was cancelled", DENIED: "was denied by policy", UNCERTAIN: "was handed over, and its end is unknown",
};
const LEVELS: Record<string, string> = {
  full: "full: ML-DSA-65 and ECDSA P-256, each time-stamped", standard: "standard: ML-DSA-65, time-stamped through the log",
  sealed: "sealed: no signature of its own, it rests on the log",
};

export function summarise(file: Members): Summary {
  return file.has("job_id") ? ofJob(file) : ofMonth(file);
}

function ofMonth(file: Members): Summary {
  const sums = (row: Json): string => `${str(row, "net")} ${str(row, "currency")}`;
  const parts = (row: Json): string => ["usage", "shared", "credit", "correction", "refund"].filter((part) => str(row, part) !== "0").map((part) => `${part} ${str(row, part)}`).join(", ");
  const facts: [string, string][] = [
    ["Total", items(file, "totals").map((row) => `${sums(row)} (${parts(row)})`).join("; ") || "nothing was charged"],
    ...items(file, "cost_centers").map((row): [string, string] => ["Cost centre", `${nobody(get(row, "cost_center"), "unallocated")}: ${sums(row)}`]),
    ...items(file, "projects").map((row): [string, string] => ["Project", `${nobody(get(row, "name"), "none")}: ${str(row, "amount")} ${str(row, "currency")}`]),
    ["Lines", `${number(int(file, "lines", "count"))}, ${str(file, "lines", "sha256")}`],
    ["Method", get(file, "allocation") === null ? "none" : `${str(file, "allocation", "name")}, revision ${number(int(file, "allocation", "revision"))}`],
    ["Closed", `${clock(str(file, "closed_at"))}, frozen ${clock(str(file, "frozen_at"))}`],
    ["Before", get(file, "previous") === null ? "no statement" : str(file, "previous", "month")],
    ["Plane", `${str(file, "scope", "plane")} (${str(file, "scope", "profile")}), tenant ${str(file, "scope", "tenant")}`],
  ];
  return { title: `Costs of ${str(file, "month")}`, facts, charts: [] };
}

const nobody = (name: Json, instead: string): string => (typeof name === "string" ? name : instead);

function ofJob(file: Members): Summary {
  const run = get(file, "execution_metadata");
  const record = get(file, "governance_record");
  const sent = get(file, "submission");
  const word = (value: Json): string => (value === null ? "" : String(value));
  const facts: [string, string][] = [
    ["What", `${str(sent, "format")} circuit, ${number(int(sent, "shots"))} shots asked, ${number(int(run, "shots_executed"))} run`],
    ["Outcome", outcome(file)],
    ["When", when(file)],
    ["Where", ["backend", "provider", "region", "compliance_zone"].map((member) => word(get(run, member))).filter((part, i, all) => part !== "" && all.indexOf(part) === i).join(" · ") || "nowhere: it never started"],
    ["Who", [str(record, "actor"), word(get(record, "team")), word(get(record, "department")), `tenant ${str(file, "scope", "tenant")}`].filter((part) => part !== "").join(" · ")],
    ["Why", [`project ${str(record, "project")}`, `purpose ${str(record, "purpose")}`, word(get(record, "justification"))].filter((part) => part !== "").join(" · ")],
    ["Classification", str(record, "classification")],
    ["Decision", decision(record)],
    ["Cost", cost(file)],
    ["Evidence", LEVELS[str(file, "evidence_level")]!],
    ["Plane", `${str(file, "scope", "plane")} (${str(file, "scope", "profile")})`],
    ["Kept for", `${number(int(sent, "retention_days"))} days`],
  ];
  for (const gap of items(file, "gaps")) facts.push(["Not captured", `${str(gap, "field")}: ${str(gap, "reason")}`]);
  return { title: str(file, "job_id"), facts, charts: charts(file) };
}

const number = (value: number): string => value.toLocaleString("en");

function outcome(file: Members): string {
  const parts = [`The job ${STATES[str(file, "state")]!}`];
  const error = get(file, "error");
  if (error !== null) parts.push(`${str(error, "code")}${str(error, "detail") === "" ? "" : `: ${str(error, "detail")}`}`);
  const partial = get(file, "partial");
  if (typeof partial === "string") parts.push(`fewer shots than asked: ${partial}`);
  return parts.join("; ");
}

function when(file: Members): string {
  const run = get(file, "execution_metadata");
  const parts = [`submitted ${clock(str(file, "submission", "submitted_at"))}`];
  for (const [member, verb] of [["start_time", "started"], ["end_time", "ended"]] as const) {
    const at = get(run, member);
    if (typeof at === "string") parts.push(`${verb} ${clock(at)}`);
  }
  return parts.join(", ");
}

export const clock = (written: string): string => written.replace("T", " ").replace("Z", " UTC");

function decision(record: Json): string {
  const reasons = items(record, "reasons").map((one) => `${str(one, "code")}: ${str(one, "message")}`);
  const said = items(record, "policy_decisions").join(", ");
  return [`${said} by ${items(record, "policies_applied").join(", ")}`, ...reasons].join("; ");
}

function cost(file: Members): string {
  const found = get(file, "cost");
  if (found === null) return "nothing was charged";
  const lines = items(found, "lines").map((line) => `${str(line, "meter")} ${str(line, "quantity")} × ${str(line, "rate")} = ${str(line, "amount")}`);
  return `${str(found, "amount")} ${str(found, "currency")} (${lines.join("; ")})`;
}

function charts(file: Members): Chart[] {
  let result: Members;
  try {
    const bytes = carried(file, "result");
    if (bytes === null) return [];
    result = readResult(bytes);
  } catch {
    return [];
  }
  const parts = result.has("items") ? items(result, "items") : [result];
  return parts.slice(0, MOST_CHARTS).map((part) => chart(part, parts.length));
}

function chart(part: Json, many: number): Chart {
  const counts = [...members(part, "counts")].flatMap(([bits, n]) => (typeof n === "number" ? [{ outcome: bits, count: n }] : []));
  counts.sort((a, b) => b.count - a.count || (a.outcome < b.outcome ? -1 : 1));
  const left = counts.slice(MOST_BARS);
  const bars = counts.slice(0, MOST_BARS).sort((a, b) => (a.outcome < b.outcome ? -1 : 1));
  const basis = isObject(part) && typeof part.get("basis") === "string" ? `, basis ${str(part, "basis")}` : "";
  const title = many === 1 ? "Counts" : `Item ${int(part, "item")}: circuit ${int(part, "circuit")}${get(part, "parameters") === null ? "" : `, parameter set ${int(part, "parameters")}`}${basis}`;
  return { title, shots: int(part, "shots"), bars, rest: { outcomes: left.length, count: left.reduce((sum, one) => sum + one.count, 0) } };
}
