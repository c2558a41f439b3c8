// SPDX-License-Identifier: Apache-2.0
/** What each check and verdict means, for whoever reads the page. */
import type { Report } from "./verify.ts";

export const VERDICTS: Record<Report["verdict"], { glyph: string; word: string; meaning: string }> = {
  valid: { glyph: "✓", word: "Valid", meaning: "Nothing in the file contradicts itself, the log or the keys, and everything is signed by keys that the trust file knows." },
  invalid: { glyph: "✕", word: "Invalid", meaning: "Something is wrong with this file, whoever is trusted. Do not rely on what it says." },
  unanchored: { glyph: "○", word: "Unanchored", meaning: "Nothing is wrong in itself, but this trust file reaches no key of it: another plane, another profile, or an older trust file." },
};

export const ASSURANCES: Record<Report["assurance"], string> = {
  self_issued: "self issued: the time is the plane's own clock",
  external_time: "external time: an outside authority stamped what must be stamped",
  witnessed: "witnessed: an outside witness cosigned the checkpoint",
};

const MEANINGS: Record<string, string> = {
  file_canonical: "The file is the one byte string that its content can have",
  predicate_closed: "It has the known members and no others",
  statement_closed: "It has the known members and no others",
  sums: "Projects, providers, cost centres and shared costs sum to the totals",
  method: "Shared costs were split by the method that is named",
  trust_current: "How old the trust file is",
  input_hash: "The job spec is the one that was accepted",
  output_hash: "The result is the one that was recorded",
  contents: "Carried is what the record says is carried",
  shots_recomputed: "Counts, blocks and shots, added up again",
  cost_recomputed: "The charge, computed again by the rate card",
  governance: "Decision and state agree",
  outcome: "State, result, error and times agree",
  spec: "The record agrees with the job spec",
  envelope: "The asker signed the request, for this plane, this time and this job spec",
  enrolment: "The asker had enrolled the key before, and the log shows it",
  provenance: "Who vouches for what, and the order of the history",
  plan: "The network's plan is what its hashes name",
  nodes: "Work went only to nodes that plan and policy name",
  fragments: "The nodes' own rows, joined and counted, are the result",
  node_fees: "Nodes were paid no more than they ask",
  statement_commitment: "The log entry commits to exactly this record",
  leaf: "The entry is of this tenant, and of this job or month",
  inclusion: "The path leads from the entry to the checkpoint",
  checkpoint_signatures: "The log signed the checkpoint, with both algorithms",
  cosignatures: "Outside witnesses saw that checkpoint",
  qcos_signature: "ML-DSA-65 signature over the record",
  ecdsa_signature: "ECDSA P-256 signature over the record",
  timestamps: "When it was signed, by time-stamping authorities",
  trust_scope: "The keys may speak for this plane and tenant",
  key_validity: "Keys were in use and not revoked at that time",
  time_order: "What happened stands in its order: recorded after it ended, stamped after that",
};

export function meaning(check: string): string {
  if (check.startsWith("artefact:")) return "The carried bytes are the recorded ones";
  if (check.startsWith("node:")) return "The node signed what it said, and was sent what it answers";
  return MEANINGS[check] ?? "";
}
