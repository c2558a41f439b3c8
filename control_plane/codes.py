# SPDX-License-Identifier: Apache-2.0
"""Every code that an answer or a command line may carry: status, title, sentence, next step.

One table, so that API, console, CLI and docs say the same words. A test demands that each error class's code is here.
Codes are stable: one may be added, none renamed.
"""

from __future__ import annotations

from msgspec import Struct


class Meaning(Struct, frozen=True):
    """What a code means: `status` is the HTTP status, `next_step` what would help the person who sees it."""

    status: int
    title: str
    sentence: str
    next_step: str = ""


CODES: dict[str, Meaning] = {
    "internal": Meaning(500, "Internal error", "The plane failed; the fault is recorded.", "Report the request id."),
    "unusable": Meaning(
        503,
        "The plane can't start",
        "As it is set up, the plane can't start or go on.",
        "Read the detail; it names what is missing.",
    ),
    "setting_invalid": Meaning(
        500,
        "A setting is refused",
        "A setting has a value that the plane doesn't take.",
        "Change the named setting; flag > environment > qcos.toml.",
    ),
    "database_unusable": Meaning(
        503,
        "The database is unusable",
        "The database isn't there, refuses the login, or lacks what the plane needs.",
        "Check QCOS_DATABASE_URL.",
    ),
    "schema_newer": Meaning(
        503,
        "The schema is newer",
        "The database's schema was made by a later program than this one.",
        "Start that program, or bring the schema down with it: qcos migrate --to REVISION.",
    ),
    "schema_unreleased": Meaning(
        503,
        "The schema was never released",
        "The database was made by an earlier, unreleased form of a revision.",
        "Make a new home; what is in this one can be read by the program that made it.",
    ),
    "migration_failed": Meaning(
        503,
        "The migration failed",
        "A revision couldn't be applied; the schema is what it was.",
        "Start the program that ran before, or mend what the detail says and start again.",
    ),
    "migration_refused": Meaning(
        409,
        "The way down loses something",
        "The migration would drop what can't be rebuilt; nothing was changed.",
        "Keep this program, or restore a backup that the earlier one made.",
    ),
    "already_running": Meaning(
        409,
        "Already running",
        "Another `qcos up` runs in this home.",
        "qcos status shows it, qcos down stops it.",
    ),
    "port_in_use": Meaning(
        409,
        "The port is taken",
        "Another program listens on the API's port.",
        "Set QCOS_HTTP_PORT; 0 takes a free one.",
    ),
    "start_failed": Meaning(
        503,
        "A part of the plane did not start",
        "A process of the plane did not become ready.",
        "The log named in the detail says why.",
    ),
    "plane_unreachable": Meaning(
        503,
        "No plane answers",
        "Nothing answers at the plane's address.",
        "Start it with qcos up, or set QCOS_URL.",
    ),
    "not_signed_in": Meaning(401, "Not signed in", "There are no usable credentials.", "qcos login"),
    "backup_invalid": Meaning(
        400,
        "The backup isn't sound",
        "The file isn't a whole backup, or what is in it doesn't verify; nothing was changed.",
        "Restore another one.",
    ),
    "usage": Meaning(400, "Wrong usage", "The command line isn't understood.", "qcos --help"),
    "unusable_input": Meaning(
        400,
        "Unusable input",
        "The input can't be judged at all.",
        "Check that it is the file that was meant.",
    ),
    "token_missing": Meaning(
        401,
        "Not signed in",
        "The request carries no bearer token.",
        "Send Authorization: Bearer, from qcos login.",
    ),
    "token_invalid": Meaning(
        401, "The token is refused", "The bearer token isn't one that this plane accepts.", "Sign in again."
    ),
    "token_expired": Meaning(401, "The token has expired", "The bearer token's time is over.", "Sign in again."),
    "saml_refused": Meaning(
        401,
        "The login is refused",
        "The identity provider's message isn't one that this plane accepts; the reason is named.",
        "Begin the login anew; if it is refused again, show the reason to your administrator.",
    ),
    "password_refused": Meaning(
        401,
        "Name or password is wrong",
        "The directory knows nobody of this name with this password, or the account is locked there.",
        "Try again; after several tries in a row the plane waits for a while.",
    ),
    "identity_unavailable": Meaning(
        503,
        "The identity provider is unreachable",
        "The issuer's keys can't be read now.",
        "Try again shortly.",
    ),
    "login_failed": Meaning(
        400,
        "The login failed",
        "What came back from the identity provider is no login that this browser began.",
        "Begin again; if it happens again, your administrator finds the reason in the detail.",
    ),
    "csrf_refused": Meaning(
        403,
        "Not from this plane's own page",
        "The request came with a browser's session, and not from a page of this plane.",
        "Do it from the plane's own page; programs use a bearer token.",
    ),
    "authorization_pending": Meaning(
        400,
        "Not confirmed yet",
        "Nobody has confirmed this sign-in yet.",
        "Ask again after `interval` seconds.",
    ),
    "slow_down": Meaning(400, "Too fast", "The sign-in was asked for too soon.", "Wait five seconds longer each time."),
    "access_denied": Meaning(400, "Refused by the person", "Somebody was asked, and said no.", "Begin again."),
    "expired_token": Meaning(400, "Too late", "This sign-in isn't awaited any more.", "Begin again."),
    "forbidden": Meaning(
        403,
        "Not allowed",
        "Your roles don't grant this.",
        "Ask an administrator of the project for the role.",
    ),
    "tenant_unknown": Meaning(
        403,
        "Unknown tenant",
        "The plane doesn't know the tenant of these credentials.",
        "Ask the plane's administrator.",
    ),
    "person_removed": Meaning(
        403,
        "Access removed",
        "An administrator removed this person's or service's access to the tenant.",
        "Ask an administrator of the tenant: they can restore it.",
    ),
    "exchange_refused": Meaning(
        400,
        "No token is given for this one",
        "The token that was to be exchanged isn't valid here, or no rule of the tenant says whose it is.",
        "Compare what the token claims with qcos service rule list; the detail says what was wrong.",
    ),
    "grant_unsupported": Meaning(
        400,
        "Another grant",
        "This address exchanges tokens (RFC 8693) and does no other grant.",
        "Send grant_type=urn:ietf:params:oauth:grant-type:token-exchange.",
    ),
    "token_used": Meaning(
        400,
        "The token was used up",
        "A CI system's token is good for one exchange, and this one was exchanged before.",
        "Ask the CI system for another; keep what the first exchange gave.",
    ),
    "tenant_closed": Meaning(
        403, "The tenant is closed", "This tenant takes no requests.", "Ask the plane's administrator."
    ),
    "rate_limited": Meaning(
        429,
        "Too many requests",
        "The limit on requests or bytes of this principal, or of its tenant, is reached.",
        "Wait as long as Retry-After says.",
    ),
    "denial_quota": Meaning(
        429,
        "Too many denials",
        "Policy denies this, and this principal's denials of today are as many as are recorded one by one.",
        "Submit what policy allows; denials are recorded again after Retry-After.",
    ),
    "tenant_quota_exceeded": Meaning(
        403,
        "The tenant's quota is used up",
        "The tenant's shots of today (UTC) don't suffice for this job; it was recorded as denied.",
        "Ask for fewer shots, wait for midnight UTC, or ask the plane's operator for more (qcos tenant show).",
    ),
    "tenant_queue_full": Meaning(
        429,
        "The tenant's queue is full",
        "As many jobs of this tenant wait as may wait at once; nothing of this one was kept.",
        "Submit it again when some of them have run.",
    ),
    "spec_invalid": Meaning(
        400,
        "The request isn't valid",
        "A field is missing, unknown, or of a wrong type or value.",
        "Mend the named fields; the schema is at /api/v1/openapi.json.",
    ),
    "request_invalid": Meaning(
        400, "The request isn't valid", "The request can't be read.", "Mend what the detail names."
    ),
    "body_too_large": Meaning(
        413,
        "The body is too large",
        "The request is larger than the plane takes.",
        "Send less, or have max_body_bytes raised.",
    ),
    "headers_too_large": Meaning(
        431,
        "The head is too large",
        "Address and headers are larger than the plane takes.",
        "Send fewer or shorter headers.",
    ),
    "request_timeout": Meaning(
        408, "Too slow", "The request came too slowly, or not at all.", "Send it at once, on a new connection."
    ),
    "unsupported_media_type": Meaning(
        415,
        "Unsupported content type",
        "The content type isn't one that this address takes.",
        "Send application/json.",
    ),
    "malformed_json": Meaning(
        400, "Not JSON", "The body can't be read as one JSON document.", "Send UTF-8 JSON without doubled keys or NaN."
    ),
    "too_late": Meaning(409, "Too late", "The job has ended; nothing can be stopped any more."),
    "no_result": Meaning(404, "No result", "The job ended without a result.", "qcos jobs show tells why."),
    "job_failed": Meaning(409, "The job failed", "The job ended without a result.", "qcos jobs show tells why."),
    "depth_exceeded": Meaning(
        409,
        "Too deep",
        "The compiled circuit is deeper than the job allows.",
        "Raise max_depth or shorten the circuit.",
    ),
    "deadline_exceeded": Meaning(
        409, "Out of time", "The job ran into its deadline.", "Ask for less, or a longer one."
    ),
    "backends_unavailable": Meaning(
        503,
        "No backend is up",
        "Backends that fit the job are known, and none of them takes work now; nothing was stored.",
        "Try again shortly; qcos backends list says why each is down.",
    ),
    "outcome_unknown": Meaning(409, "Outcome unknown", "The backend had the job and can't say what became of it."),
    "canceled": Meaning(409, "Canceled", "The job was canceled on request."),
    "not_found": Meaning(404, "Not found", "There is no such thing here.", "Check the id and the project."),
    "method_not_allowed": Meaning(405, "Method not allowed", "This address doesn't take this method.", ""),
    "conflict": Meaning(409, "Conflict", "The request conflicts with what is there.", ""),
    "last_administrator": Meaning(
        409,
        "The last administrator",
        "After this nobody would be left who administers the tenant; nothing was changed.",
        "Give quantum-admin to somebody else first: qcos roles grant.",
    ),
    "project_closed": Meaning(
        403,
        "The project is closed",
        "A closed project takes no new jobs and no windows.",
        "Use another project, or ask who administers it: qcos projects reopen.",
    ),
    "duplicate_job_id": Meaning(
        409,
        "The job id is taken",
        "A job of this id exists in the tenant.",
        "Leave job_id out, or choose another.",
    ),
    "idempotency_conflict": Meaning(
        409,
        "Idempotency key reused",
        "The key was used with another body.",
        "Use a new key for a new request.",
    ),
    "transition_refused": Meaning(
        409,
        "Not possible in this state",
        "The job's state doesn't allow this.",
        "qcos jobs show tells its state.",
    ),
    "approval_pending": Meaning(
        409,
        "Not to be approved yet",
        "A worker still compiles what is to be approved.",
        "qcos approvals show tells when it is known; answer again then.",
    ),
    "approval_missing": Meaning(
        403, "Not approved", "Policy lets the job run only with an approval, and it has none.", "Submit it again."
    ),
    "approval_unanswered": Meaning(
        403,
        "Nobody answered",
        "Nobody approved or rejected the job until its request ended.",
        "Submit it again, and tell whoever may approve it.",
    ),
    "approval_rejected": Meaning(
        403, "Rejected", "Who may approve the job rejected it; the detail says why.", "Change what the reasons name."
    ),
    "approval_expired": Meaning(
        403,
        "The approval has expired",
        "The job didn't start before its approval ended.",
        "Submit it again; an approval may last longer: qcos approve JOB --expires.",
    ),
    "approval_mismatch": Meaning(
        403,
        "Not what was approved",
        "Circuit, compiled artefact or target are no longer those that were approved.",
        "Submit it again, to have approved what would run now.",
    ),
    "approval_used": Meaning(
        403,
        "The approval was used",
        "An approval lets one attempt through, and one was let through before.",
        "Submit it again.",
    ),
    "envelope_invalid": Meaning(
        400,
        "Not an envelope",
        "The body isn't one signed envelope of a known form.",
        "Sign it anew; docs/guide-signing.md has both forms.",
    ),
    "envelope_refused": Meaning(
        401,
        "The envelope is refused",
        "Signature, audience or time of the envelope don't hold.",
        "Sign it anew, for this plane and tenant, with a clock that is right.",
    ),
    "envelope_replayed": Meaning(
        409,
        "The envelope was used",
        "An envelope is taken once, and this one was taken before.",
        "Sign the request anew; an idempotency key keeps it from being done twice.",
    ),
    "signing_key_unknown": Meaning(
        401,
        "Not a key of yours",
        "The envelope names a key that you haven't enrolled here.",
        "qcos signing-key list; qcos signing-key create.",
    ),
    "signing_key_revoked": Meaning(
        401, "The key was revoked", "What this key signs is no longer taken.", "qcos signing-key create."
    ),
    "signing_key_known": Meaning(
        409,
        "The key is known",
        "A key is enrolled once, and never again after it was revoked.",
        "Make a new one: qcos signing-key create.",
    ),
    "signing_keys_full": Meaning(
        409, "Too many keys", "You have as many signing keys as anybody may.", "qcos signing-key revoke KEY."
    ),
    "evidence_pending": Meaning(
        409, "Evidence pending", "The result is given out once its evidence is sealed.", "Ask again shortly."
    ),
    "document_failed": Meaning(
        503, "The document wasn't made", "The page about the evidence couldn't be made or signed.", "Ask again."
    ),
    "policy_moved": Meaning(
        409,
        "The policies changed meanwhile",
        "Another push came between the policies that this one was made from and now; nothing was changed.",
        "Look at what is in force now (qcos policy diff FOLDER), take it up, and push again.",
    ),
    "policy_unsigned": Meaning(
        409,
        "The push isn't signed",
        "The sealer signs policies only on top of those in force, and only as their entry names them.",
        "Read the entry policy:unsigned; push again on what is in force now.",
    ),
    "document_refused": Meaning(
        409,
        "Not signed",
        "The sealer signs only documents about evidence that this tenant has sealed.",
        "Read the entry evidence:document:refused.",
    ),
    "not_finished": Meaning(409, "Not finished", "The job has no result yet.", "Ask again once it is COMPLETED."),
    "legal_hold": Meaning(
        409,
        "A legal hold keeps it",
        "Nothing that a legal hold covers is erased.",
        "Release the hold, if its reason is gone: qcos retention release HOLD.",
    ),
    "retention_running": Meaning(
        409,
        "Its retention is running",
        "The content is to be kept for longer.",
        "Wait, or say that it shall go early: qcos retention erase JOB --early.",
    ),
    "content_erased": Meaning(410, "Content erased", "The content's key was erased; its hash remains.", ""),
    "format_disabled": Meaning(
        400,
        "Format switched off",
        "This circuit format is switched off on this plane.",
        "Send QASM 3, or have QCOS_QPY switched on.",
    ),
    "program_unsupported": Meaning(
        400,
        "Program not supported",
        "No backend of this plane takes such a program.",
        "qcos backends list tells what each takes.",
    ),
    "circuit_invalid": Meaning(
        400,
        "The circuit isn't valid",
        "The circuit can't be read or can't run.",
        "Mend what the detail names.",
    ),
    "circuit_too_complex": Meaning(
        400,
        "The circuit is too complex",
        "The circuit asks for more than the limits grant.",
        "Reduce qubits, gates or nesting.",
    ),
    "network_off": Meaning(
        404,
        "The network is off",
        "This plane runs no fabric, so it has no network of services.",
        "Start it with qcos up --nodes N, or set [network] enabled.",
    ),
    "fabric_unreachable": Meaning(
        503,
        "The fabric doesn't answer",
        "The process that speaks to the network doesn't answer; nothing was sent.",
        "Try again shortly; qcos status shows whether it runs.",
    ),
    "plan_infeasible": Meaning(
        409,
        "No plan is possible",
        "No node of the network can run a part of the circuit; the detail names the part and what it lacks.",
        "See qcos node list; or lower [network] min_fidelity, or make the circuit smaller.",
    ),
    "peer_known": Meaning(
        409,
        "The peer is known",
        "A peer of this id was proposed with other facts.",
        "qcos node show tells them; revoke it, and enrol another key.",
    ),
    "too_many_peers": Meaning(
        409, "Too many peers", "As many peers are known as a plane takes.", "Ask the plane's administrator."
    ),
    "node_unknown": Meaning(
        400, "Unknown node", "No node of this id is enrolled in the plane's network.", "See qcos node list."
    ),
    "node_unusable": Meaning(
        409,
        "The node can't be used",
        "The node isn't approved or online, doesn't offer this, or isn't good enough; the detail says which.",
        "See qcos node show, or choose another node.",
    ),
    "node_unreachable": Meaning(
        503,
        "The node doesn't answer",
        "The node was asked and gave no sound answer in time; what it may have granted is given back.",
        "Try again shortly, or choose another node.",
    ),
    "window_taken": Meaning(
        409,
        "The window is taken",
        "The node has no room at that time.",
        "Ask for a window from next_free_at on, or on another node.",
    ),
    "policy_denied": Meaning(
        403, "Denied by policy", "A policy check did not pass; the reasons say what would.", "See reasons."
    ),
    "not_replayable": Meaning(
        409,
        "Can't be decided again",
        "What the decision was made from is not at hand.",
        "The detail says what is missing.",
    ),
    "replay_differs": Meaning(
        409,
        "Decided otherwise",
        "The same document and revision give another answer than the one recorded.",
        "See the differences; qcos ledger verify says whether the record is sound.",
    ),
    "policy_refused": Meaning(
        422,
        "The policies are refused",
        "The policy files have a fault; what is in force stays in force.",
        "qcos policy check FOLDER names each file and line.",
    ),
    "tool_missing": Meaning(
        503,
        "A tool is missing",
        "What was asked for needs a program that this machine hasn't.",
        "make tools gets opa and regal, where Go is.",
    ),
    "policy_unavailable": Meaning(
        503,
        "The policy engine doesn't answer",
        "No decision could be made, so nothing was done.",
        "Try again shortly.",
    ),
    "budget_exceeded": Meaning(
        403,
        "Over budget",
        "A budget that applies doesn't cover this job.",
        "Ask for a higher limit, or submit less.",
    ),
    "quota_exceeded": Meaning(
        403,
        "Over quota",
        "A quota of shots or jobs that applies doesn't cover this job.",
        "Wait for what runs to end, ask for a higher quota, or submit less.",
    ),
    "budget_missing": Meaning(
        403,
        "No budget",
        "The project has no hard budget in money.",
        "qcos budget set project:NAME AMOUNT CURRENCY --period monthly",
    ),
    "period_invalid": Meaning(
        400,
        "The period is refused",
        "A month, a day or a moment can't be read, or the period ends before it begins.",
        "Write a month as 2026-11, a day as 2026-11-22, a moment as 2026-11-22T08:00:00Z.",
    ),
    "budget_invalid": Meaning(
        400,
        "The budget isn't valid",
        "Scope, period, amount or currency isn't understood.",
        "Mend what the detail names.",
    ),
    "amount_invalid": Meaning(
        400, "The amount isn't valid", "An amount must be a plain decimal number.", "Write it as 12.50."
    ),
    "allocation_invalid": Meaning(
        400,
        "The method of allocation isn't valid",
        "The method can't be read in one way, or its ratios don't sum to exactly one.",
        "Mend what the detail names.",
    ),
    "correction_invalid": Meaning(
        409,
        "More than was charged",
        "A refund or correction would take off more than was charged, or is of a job that was never charged.",
        "qcos costs show --by job",
    ),
    "month_invalid": Meaning(
        409,
        "The month can't be closed",
        "It isn't a month, isn't over, or another one has to be closed before it.",
        "qcos costs statements",
    ),
    "currency_mismatch": Meaning(
        409,
        "Currencies differ",
        "Amounts of different currencies meet.",
        "Use one currency for budget and rate card.",
    ),
    "rate_card_invalid": Meaning(
        400, "The rate card isn't valid", "The rate card isn't understood.", "qcos rates lint"
    ),
    "focus_invalid": Meaning(
        400,
        "The FOCUS file is refused",
        "A version or format that isn't exported, or a file that isn't one of ours.",
        "Read the detail: it names the parameter, or the line and the field.",
    ),
    "invoice_invalid": Meaning(
        400,
        "The invoice isn't valid",
        "The invoice, or the mapping of its columns, can't be read in one way only.",
        "Mend the line and the field that the detail names.",
    ),
    "unknown_price": Meaning(
        403,
        "Unknown price",
        "No rate card prices this, and an unknown price refuses the job.",
        "Push a rate card that covers it.",
    ),
    "fact_invalid": Meaning(500, "A measurement isn't valid", "A measured fact can't be charged.", ""),
    "hold_unknown": Meaning(409, "No such hold", "There is no hold for this job.", ""),
    "hold_exists": Meaning(409, "Already held", "The job has a hold already.", ""),
    "hold_open": Meaning(409, "The hold is open", "The job's hold isn't settled yet.", ""),
    "hold_closed": Meaning(409, "The hold is closed", "The job's hold was settled or released.", ""),
    "books_inconsistent": Meaning(
        500,
        "The books disagree",
        "Budgets and holds disagree; nothing was written.",
        "Tell the plane's administrator.",
    ),
    "finops_error": Meaning(500, "A fault of the books", "The step on the books failed; nothing was written.", ""),
    "max_price_exceeded": Meaning(
        422,
        "Every price is above the job's own bound",
        "No backend runs the job for at most its max_price; nothing was stored.",
        "Raise execution.max_price, or ask for fewer executions.",
    ),
    "rights_lost": Meaning(
        403,
        "Rights lost",
        "Who asked for the job was removed, or lost the right or the key to it, before it ran.",
        "Somebody who may submit it can submit it again.",
    ),
    "price_changed": Meaning(
        409, "The price changed", "The exact price is above what was held.", "Submit again at the new price."
    ),
    "backend_unknown": Meaning(400, "Unknown backend", "There is no such backend in this plane.", "qcos backends list"),
    "backend_unavailable": Meaning(
        503,
        "The backend doesn't answer",
        "The backend doesn't answer; nothing was started.",
        "Try again, or leave the backend open.",
    ),
    "backend_failed": Meaning(502, "The backend failed", "The backend broke while it held the task.", "Submit again."),
    "session_ended": Meaning(
        409, "Session over", "The backend has ended the session, twice over.", "Submit again, or without a session."
    ),
    "handle_unknown": Meaning(500, "The task is unknown", "The backend knows no such task.", ""),
    "walls_missing": Meaning(
        503,
        "No wall around circuits",
        "The kernel grants too few walls around the circuit child.",
        "Run where namespaces, Landlock or seccomp are granted.",
    ),
    "driver_error": Meaning(500, "A driver failed", "The driver failed.", ""),
    "job_lost": Meaning(500, "The job was lost", "The worker was lost and the job can't go on.", "Submit again."),
    "ledger_error": Meaning(500, "The ledger failed", "A step of the ledger failed.", ""),
    "ledger_rollback": Meaning(
        503,
        "The ledger went back",
        "The database is behind the head kept outside it.",
        "Restore the database; never delete the head file.",
    ),
    "sealing_stalled": Meaning(
        503,
        "Nothing is being sealed",
        "Entries wait for their seal, and no sealer says why.",
        "Look whether the sealer runs; a stopped one holds everything up until it goes on or is killed.",
    ),
    "clock_stepped_back": Meaning(
        503,
        "The clock was set back",
        "The plane's clock lies before what it has sealed, so nothing is sealed or admitted.",
        "Wait until the clock has caught up, or mend it; see docs/operations.md.",
    ),
    "clock_skewed": Meaning(
        503,
        "The clocks differ",
        "This process's clock and the database's differ by more than is tolerated, so nothing is admitted.",
        "Have both machines' clocks synchronised.",
    ),
    "head_unwritable": Meaning(
        503,
        "The log's head can't be kept",
        "The file that keeps the log's head outside the database can't be written, so nothing is sealed or admitted.",
        "Free space, or mend the folder's mode.",
    ),
    "storage_full": Meaning(
        503,
        "The database's disk is full",
        "The database has no space left; nothing was stored.",
        "Free space; the plane goes on by itself.",
    ),
    "log_foreign": Meaning(
        503,
        "Another plane's log",
        "The database holds the log of a plane of another profile or name.",
        "Start the plane under the profile and name that its log has.",
    ),
    "not_durable": Meaning(
        503,
        "Writes aren't durable",
        "PostgreSQL runs with durable writes off.",
        "Switch fsync, full_page_writes and synchronous_commit on.",
    ),
    "not_canonical": Meaning(400, "Not canonical", "The bytes aren't canonical JSON.", ""),
    "leaf_invalid": Meaning(500, "An entry isn't valid", "A ledger entry doesn't parse.", "qcos ledger verify"),
    "evidence_unbound": Meaning(500, "Evidence isn't bound", "A statement and its entry don't belong together.", ""),
    "unanchored": Meaning(
        400,
        "Not anchored",
        "The evidence is sound in itself; no trust given reaches it.",
        "Get the plane's trust file.",
    ),
    "evidence_invalid": Meaning(400, "Evidence isn't valid", "A bundle or trust file isn't of the closed form.", ""),
    "timestamp_invalid": Meaning(
        502, "A time-stamp isn't valid", "A time-stamp token is malformed or badly signed.", ""
    ),
    "time_unavailable": Meaning(
        503, "No time-stamp now", "The time-stamping authority didn't answer.", "Try again shortly."
    ),
    "proof_invalid": Meaning(400, "The proof doesn't hold", "A Merkle proof doesn't lead to the root.", ""),
    "cosignature_invalid": Meaning(
        400, "The cosignature doesn't hold", "A witness's line is malformed, or not over this checkpoint."
    ),
    "witness_state_lost": Meaning(
        409,
        "The witness has forgotten",
        "The witness cosigned this log and no longer knows up to where; it signs nothing of it.",
        "Bring its folder back, or make a witness of another name and key.",
    ),
    "witness_held": Meaning(
        409, "The witness runs already", "Another process works on this witness's folder.", "Stop that process first."
    ),
    "witness_away": Meaning(
        503, "The witness is away", "The witness couldn't be reached, or didn't speak the protocol.", "Ask again later."
    ),
    "anchor_away": Meaning(
        503,
        "The anchor is away",
        "The place outside can't be reached, or wouldn't keep what it is given.",
        "The detail names what it lacks; sealing goes on meanwhile.",
    ),
    "checkpoint_invalid": Meaning(400, "The checkpoint doesn't hold", "A checkpoint is malformed or badly signed.", ""),
    "key_invalid": Meaning(
        503,
        "A key is unusable",
        "A key file is missing, readable by others, or broken.",
        "Restore the key file, mode 0600.",
    ),
    "blob_invalid": Meaning(500, "Content doesn't open", "Stored content doesn't open to what was committed.", ""),
    "form_unsigned": Meaning(
        409,
        "No such signature",
        "This form holds a signature that evidence of the job's level doesn't have.",
        "--format bundle; executed jobs have both signatures at level full, ML-DSA-65 (sigstore-mldsa) at standard.",
    ),
    "form_unlogged": Meaning(
        409,
        "The signature isn't in the log",
        "This form rests on a leaf of the signature's own, and the job was sealed before the log had them.",
        "--format bundle; nothing is added to the log afterwards.",
    ),
    "ledger_inconsistent": Meaning(
        500, "The entries don't follow", "An entry doesn't follow from those before it.", "qcos ledger replay"
    ),
    "snapshot_invalid": Meaning(
        409,
        "Not a snapshot of this log",
        "The file is no snapshot whose hash the ledger names.",
        "Replay from the first entry.",
    ),
    "log_forked": Meaning(
        409,
        "Not the same log",
        "A log is not the continuation of what was seen of it before.",
        "Keep both checkpoints: they are the proof.",
    ),
    "entry_tampered": Meaning(
        409,
        "Not the entry that was sealed",
        "An entry is not the one under the signed checkpoint.",
        "qcos ledger verify",
    ),
    "state_differs": Meaning(
        409, "The states differ", "The folded state is not the one whose hash the ledger names.", "qcos ledger replay"
    ),
    "not_in_log": Meaning(404, "Not in the log", "The log has no such entry, size or tile.", ""),
}
