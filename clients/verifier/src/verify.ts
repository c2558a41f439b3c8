// SPDX-License-Identifier: Apache-2.0
/**
 * The verdict over a bundle, or over a cost statement, given a trust file and a moment (section 10). Nothing else enters: no network, no clock.
 *
 * Each check runs and is reported by name. What throws `Outside` lies beyond the trust file, what throws anything else is
 * wrong; both are written down, and the checks after it run all the same, as far as what they need is there.
 */
import { Outside, readBase64, same, Unusable, Wrong } from "./bytes.ts";
import { checkEnrolment, checkEnvelope, concerned } from "./asked.ts";
import { checkClosing, checkMethod, checkProofOwn, checkSums, closedCosts, closingTimes, costStatement, isCostStatement } from "./costs.ts";
import { checkCosignatures } from "./cosignature.ts";
import { countShots } from "./counts.ts";
import { checkCommitment, checkInclusion, checkRecord, readLeaf, speaking } from "./entry.ts";
import { canonical, isObject, type Json, type Members, read } from "./json.ts";
import { strictEcdsa, verifies } from "./keys.ts";
import { attempts, checkFees, checkFragments, checkNode, checkNodes, checkPlan, readNetwork, readPlan } from "./nodes.ts";
import { checkSignatures, type Checkpoint, readNote } from "./note.ts";
import { carried, closed, exactBase64, pae, statement } from "./predicate.ts";
import { artefact, checkArtefact, checkContents, checkCost, checkGovernance, checkNamedHash, checkOutcome, checkProvenance, checkSpec, readArtefact } from "./recompute.ts";
import { get, instant, int, items, members, str } from "./shape.ts";
import { checkTimestamps, type Stamped } from "./stamps.ts";
import { readTrust, speaks, type Trust, type TrustedKey, within } from "./trust.ts";

export interface Check {
  name: string;
  ok: boolean;
  detail: string;
}

export interface Report {
  verdict: "valid" | "invalid" | "unanchored";
  reason: string;
  assurance: "self_issued" | "external_time" | "witnessed";
  checks: Check[];
  time: { value: string | null; operator: string | null };
  trust_as_of: string;
}

export const MOST_BYTES = 16 * 1024 * 1024;
const SLACK = 5_000;
const AHEAD = 600_000;

/** `outside` names the checks that reach beyond the trust file. Throws `Unusable` where one of the files can't be judged at all. */
export function verify(bundle: Uint8Array, trustFile: Uint8Array, now: number): { report: Report; file: Members | null; outside: Set<string> } {
  if (bundle.length > MOST_BYTES) throw new Unusable(`a file of ${bundle.length} bytes; a bundle has at most ${MOST_BYTES}`);
  if (trustFile.length > MOST_BYTES) throw new Unusable("a trust file that is too large");
  const trust = readTrust(trustFile);
  const file = readBundle(bundle);
  const run = new Run(trust, now, isCostStatement(bundle));
  const shaped = run.shape(file, bundle);
  if (shaped) run.all(file);
  return { report: run.report(), file: shaped ? file : null, outside: run.beyond };
}

function readBundle(bytes: Uint8Array): Members {
  let file: Json;
  try {
    file = read(bytes);
  } catch (error) {
    throw new Unusable(`bundle: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isObject(file)) throw new Unusable("bundle: not a JSON object");
  return file;
}

class Run {
  private readonly checks: Check[] = [];
  private wrong: Check | null = null;
  private outside: Check | null = null;
  readonly beyond = new Set<string>();
  private stamped: Stamped | null = null;
  private cosigned: number[] = [];
  private counting: number[] = [];
  private logKnown = true;
  private position: () => { origin: string; place: number } = () => ({ origin: "", place: 0 });
  private readonly used: TrustedKey[] = [];
  private readonly trust: Trust;
  private readonly now: number;
  /** Whether it is a cost statement that is judged, and no job's evidence. */
  private readonly costs: boolean;

  constructor(trust: Trust, now: number, costs: boolean) {
    this.trust = trust;
    this.now = now;
    this.costs = costs;
  }

  /** Runs one check and writes it down; whether it holds. */
  private check(name: string, body: () => string): boolean {
    const check: Check = { name, ok: true, detail: "" };
    this.checks.push(check);
    try {
      check.detail = body();
    } catch (error) {
      check.ok = false;
      check.detail = error instanceof Error ? error.message : String(error);
      if (error instanceof Outside) {
        this.beyond.add(name);
        this.outside ??= check;
      }
      else this.wrong ??= check;
    }
    return check.ok;
  }

  /** Whether the rest can be read at all: closed shape first, then the one form. */
  shape(file: Members, bytes: Uint8Array): boolean {
    const members = this.costs ? "statement_closed" : "predicate_closed";
    try {
      if (this.costs) closedCosts(file);
      else closed(file, "bundle");
    } catch (error) {
      return this.check(members, () => { throw error; });
    }
    const exact = this.check("file_canonical", () => {
      if (!exactBase64(file) || !same(canonical(file), bytes)) throw new Wrong("the file is not in canonical form (RFC 8785)");
      return `${bytes.length} bytes`;
    });
    return exact && this.check(members, () => {
      if (this.costs) checkProofOwn(file);
      return "version 1";
    });
  }

  all(file: Members): void {
    this.check("trust_current", () => this.age());
    if (this.costs) {
      this.check("sums", () => checkSums(file));
      this.check("method", () => checkMethod(file));
    } else this.recompute(file);
    this.anchor(file);
    this.judge(file);
  }

  private age(): string {
    const until = `version ${this.trust.version}, until ${this.trust.expires}`;
    return instant(this.trust.expires) <= this.now ? `stale: ${until}` : until;
  }

  private recompute(file: Members): void {
    this.check("input_hash", () => checkNamedHash(file, "input_hash", "spec"));
    this.check("output_hash", () => checkNamedHash(file, "output_hash", "result"));
    this.check("contents", () => checkContents(file));
    for (const one of items(file, "artefacts")) {
      const name = str(one, "name");
      if (name !== "spec" && name !== "result") this.check(`artefact:${name}`, () => checkArtefact(file, one));
    }
    this.check("shots_recomputed", () => (get(file, "output_hash") === null ? "no result" : countShots(file, readArtefact(file, "spec"))));
    this.check("cost_recomputed", () => checkCost(file));
    this.check("governance", () => checkGovernance(file));
    this.check("outcome", () => checkOutcome(file));
    this.check("spec", () => checkSpec(file));
    this.check("provenance", () => checkProvenance(file));
    if (concerned(file)) this.check("envelope", () => checkEnvelope(file));
    if (isNetwork(file)) this.network(file);
  }

  private network(file: Members): void {
    const lost = ["plan", "network"].filter((name) => artefact(file, name) === undefined);
    const bytes = ["plan", "network"].map((name) => carried(file, name));
    if (lost.length > 0 || bytes.includes(null)) {
      this.check("nodes", () => {
        if (lost.length > 0 && get(file, "output_hash") !== null) throw new Wrong("a network's result without who ran it");
        return "not_carried";
      });
      return;
    }
    const plan = once(() => readPlan(readArtefact(file, "plan")));
    const both = once(() => ({ plan: plan(), network: readNetwork(readArtefact(file, "network")) }));
    this.check("plan", () => checkPlan(plan()));
    let nodes: string[] = [];
    let readable = true;
    this.check("nodes", () => {
      readable = false;
      const read = both();
      readable = true;
      nodes = [...new Set(attempts(read).map(({ node }) => node))].sort();
      return checkNodes(read);
    });
    for (const node of nodes) this.check(`node:${node}`, () => checkNode(both(), node));
    if (!readable || get(file, "output_hash") === null) return;
    this.check("fragments", () => checkFragments(file, both()));
    this.check("node_fees", () => checkFees(file, both()));
  }

  /** Steps 3 and 4: the entry, its place, and the checkpoint over it. */
  private anchor(file: Members): void {
    const leaf = once(() => readLeaf(file));
    const record = once(() => speaking(file, leaf()));
    const note = once(() => readNote(str(file, "proof", "checkpoint")));
    this.check("statement_commitment", () => checkCommitment(file, record(), this.signed(file)));
    this.check("leaf", () => {
      const said = checkRecord(file, leaf(), record());
      if (this.costs) checkClosing(file, leaf());
      return said;
    });
    this.check("inclusion", () => checkInclusion(file, leaf(), note()));
    if (!this.costs && concerned(file)) this.check("enrolment", () => checkEnrolment(file, leaf(), str(record(), "actor"), note()));
    this.position = () => ({ origin: note().origin, place: int(leaf(), "index") + 1 });
    this.check("checkpoint_signatures", () => {
      const keys = checkSignatures(note(), this.trust);
      this.used.push(...keys);
      return `${note().origin}: ${keys.map(({ id }) => id).join(", ")}`;
    });
    this.logKnown = !this.beyond.has("checkpoint_signatures");
    this.check("cosignatures", () => this.cosignatures(file, note));
    this.recorded = () => instant(str(record(), "time"));
  }

  private recorded: () => number = () => NaN;

  private cosignatures(file: Members, note: () => Checkpoint): string {
    const lines = members(file, "proof").get("cosignatures");
    if (!Array.isArray(lines)) return "none";
    const { detail, times, counting } = checkCosignatures(lines.map(String), note(), this.trust);
    this.cosigned = times;
    this.counting = counting;
    return detail;
  }

  /** Steps 5 to 7: signatures, stamps, and whether all of it belongs to the trust file and to one course of time. */
  private judge(file: Members): void {
    const message = pae(this.signed(file));
    const level = str(file, "evidence_level");
    this.stamped = checkTimestamps(file, this.trust);
    this.check("qcos_signature", () => this.signature(file, "qcos_signature", "ml-dsa-65", level !== "sealed", message));
    this.check("ecdsa_signature", () => this.signature(file, "ecdsa_p256_signature", "ecdsa-p256", level === "full", message));
    this.check("timestamps", () => {
      if (this.stamped!.error !== null) throw this.stamped!.error;
      return this.stamped!.detail;
    });
    this.check("trust_scope", () => this.scope(file));
    this.check("key_validity", () => this.keyValidity());
    this.check("time_order", () => this.timeOrder(file));
  }

  /** The Statement that the entry commits to and the signatures are over. */
  private signed(file: Members): Uint8Array {
    return this.costs ? costStatement(file) : statement(file);
  }

  private signature(file: Members, member: string, algorithm: "ml-dsa-65" | "ecdsa-p256", due: boolean, message: Uint8Array): string {
    const writtenAs = get(file, "signatures", member);
    const level = str(file, "evidence_level");
    if (writtenAs === null) {
      if (due) throw new Wrong(`missing, and the level is ${level}`);
      return `none at level ${level}`;
    }
    if (!due) throw new Wrong(`present, and the level is ${level}`);
    const signature = readBase64(String(writtenAs))!.bytes;
    if (algorithm === "ecdsa-p256") strictEcdsa(signature);
    const place = this.place();
    const keys = this.trust.evidence.filter((key) => key.algorithm === algorithm && (place === null || speaks(key, this.trust, place.origin, place.place)));
    const made = keys.find((key) => verifies(algorithm, key.raw, message, signature));
    if (made === undefined) {
      // Nothing in the file names its key: what the trust file can't know of is out of reach, anything else is wrong.
      const at = this.stamped?.time ?? null;
      const used = keys.some((key) => at === null || within(key, at, SLACK));
      const later = at !== null && at > instant(this.trust.issuedAt);
      if (!used || later || !this.logKnown) throw new Outside("the trust file knows no key that made it");
      throw new Wrong("not a signature over this record by a trusted key");
    }
    this.used.push(made);
    return made.id;
  }

  /** Where the entry stands in the log; null where leaf or checkpoint can't be read. */
  private place(): { origin: string; place: number } | null {
    try {
      return this.position();
    } catch {
      return null;
    }
  }

  private scope(file: Members): string {
    const [profile, plane, tenant] = ["profile", "plane", "tenant"].map((member) => str(file, "scope", member));
    const said = `${profile}/${plane}/${tenant}`;
    const { trust } = this;
    if (profile === trust.profile && plane === trust.plane && (trust.tenants === null || trust.tenants.includes(tenant!))) return said;
    // Where a key of the trust file made it, those keys spoke for what they may not speak for.
    if (this.used.length === 0) throw new Outside(`${said} is not what the trust file speaks for`);
    throw new Wrong(`${said} is not what the trust file's keys may speak for`);
  }

  private keyValidity(): string {
    const at = this.stamped?.time ?? null;
    if (at === null) {
      const reason = "no trusted time";
      throw this.stamped?.error instanceof Outside ? new Outside(reason) : new Wrong(reason);
    }
    for (const key of this.used) {
      if (!within(key, at, SLACK)) throw new Wrong(`${key.id} was not valid at ${new Date(at).toISOString()}`);
    }
    const moments = [...this.used.map(({ id }) => ({ id, at })), ...(this.stamped?.made ?? []).map((one) => ({ id: one.authority, at: one.at }))];
    let hostile = false;
    for (const moment of moments) {
      for (const one of this.trust.revoked.filter(({ id }) => id === moment.id)) {
        if (moment.at >= one.at) throw new Wrong(`${one.id} was revoked before ${new Date(moment.at).toISOString()}`);
        hostile ||= one.hostile;
      }
    }
    if (hostile) this.independently(moments.map(({ id }) => id));
    return this.used.map(({ id }) => id).join(", ");
  }

  /** Whoever has one of the plane's keys may have its clock: only what somebody else saw shows that this is older. */
  private independently(ids: string[]): void {
    const seen = [...this.counting, ...(this.stamped?.independent == null ? [] : [this.stamped.independent])];
    const first = Math.min(...seen);
    for (const one of this.trust.revoked.filter(({ id, hostile }) => hostile && ids.includes(id))) {
      if (seen.length === 0) throw new Outside(`${one.id} is revoked, and only the plane's own clock says that this is older`);
      if (first >= one.at) throw new Wrong(`${one.id} was revoked before ${new Date(first).toISOString()}, when others first saw this`);
    }
  }

  private timeOrder(file: Members): string {
    if (this.costs) {
      this.stampedAfter([...closingTimes(file), ["recorded", this.recorded()]], SLACK);
      return "frozen, closed, recorded, stamped";
    }
    const run = get(file, "execution_metadata");
    const steps: [string, number][] = [["submitted", instant(str(file, "submission", "submitted_at"))]];
    for (const [member, name] of [["start_time", "start"], ["end_time", "end"]] as const) {
      const at = get(run, member);
      if (at !== null) steps.push([name, instant(String(at))]);
    }
    steps.push(["recorded", this.recorded()]);
    this.stampedAfter(steps, 0);
    inOrder([steps[0]!, ...items(file, "history").map((one): [string, number] => [str(one, "state"), instant(str(one, "at"))])], 0);
    return "submitted, started, ended, recorded, stamped";
  }

  /** The steps rise, what was stamped or cosigned comes after the last of them, and nothing is still to come. */
  private stampedAfter(steps: [string, number][], slack: number): void {
    inOrder(steps, slack);
    const stamps = [...(this.stamped?.times ?? []), ...this.cosigned];
    for (const at of stamps) inOrder([steps.at(-1)!, ["stamped", at]], SLACK);
    if (stamps.some((at) => at > this.now + AHEAD)) throw new Wrong("stamped in the future");
  }

  report(): Report {
    const first = this.wrong ?? this.outside;
    const verdict = this.wrong !== null ? "invalid" : this.outside !== null ? "unanchored" : "valid";
    const external = this.stamped?.operator === "external";
    const time = this.stamped?.time ?? null;
    return {
      verdict,
      reason: first === null ? "every check passed" : `${first.name}: ${first.detail}`,
      assurance: verdict !== "valid" ? "self_issued" : this.counting.length > 0 ? "witnessed" : external ? "external_time" : "self_issued",
      checks: this.checks,
      time: { value: time === null ? null : new Date(time).toISOString(), operator: time === null ? null : (this.stamped?.operator ?? null) },
      trust_as_of: this.trust.issuedAt,
    };
  }
}

/** Whether nodes of a network ran it, or were to. */
function isNetwork(file: Members): boolean {
  const ran = get(file, "execution_metadata", "method") === "network" && get(file, "output_hash") !== null;
  return ran || ["plan", "network"].some((name) => artefact(file, name) !== undefined);
}

function inOrder(steps: [string, number][], slack: number): void {
  for (let i = 1; i < steps.length; i++) {
    if (steps[i]![1] + slack < steps[i - 1]![1]) throw new Wrong(`${steps[i]![0]} lies before ${steps[i - 1]![0]}`);
  }
}

/** The value, made once; what its maker throws is thrown each time. */
function once<T>(make: () => T): () => T {
  let made: { value: T } | { error: unknown } | null = null;
  return () => {
    if (made === null) {
      try {
        made = { value: make() };
      } catch (error) {
        made = { error };
      }
    }
    if ("error" in made) throw made.error;
    return made.value;
  };
}

