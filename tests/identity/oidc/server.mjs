// SPDX-License-Identifier: Apache-2.0
// npm oidc-provider on loopback, for tests: reads one JSON document of clients and people from standard input, prints
// one line {"issuer": …} when it answers, ends with standard input. /_control/rotate makes a new signing key at once
// and forgets the old one; /_control/slow?ms=N lets every later answer wait; /_control/callback?to=URL is where browsers
// are sent back to from now on.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

import { Provider } from "oidc-provider";
import { createMemoryAdapter } from "oidc-provider/lib/adapters/memory_adapter.js";

// A line is the document; the pipe stays open until the test ends it.
const lines = createInterface({ input: process.stdin });
const document = await new Promise((told) => lines.once("line", told));
const given = JSON.parse(document);

function key() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "ES256" };
}

function configuration(keys) {
  return {
    adapter: memory,
    // Its own fetch speaks to no loopback address, and everybody here is on loopback.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
    jwks: { keys },
    cookies: { keys: ["of this test"] },
    clients: given.clients.map((one) => ({ id_token_signed_response_alg: "ES256", ...one })),
    scopes: ["openid", "offline_access", "profile"],
    extraClientMetadata: { properties: ["token_claims"] },
    claims: { openid: ["sub", "sid", "roles", "groups", "team", "department", "acr", "amr"], profile: ["preferred_username"] },
    conformIdTokenClaims: false,
    responseTypes: ["code"],
    enabledJWA: { idTokenSigningAlgValues: ["ES256"] },
    ttl: { AccessToken: given.access_token_s ?? 300, ClientCredentials: given.access_token_s ?? 300 },
    features: {
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_ctx, client, oneOf) => oneOf ?? client.token_claims?.resource,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "",
          audience: given.audience ?? "qcos",
          accessTokenTTL: given.access_token_s ?? 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...person(id) }) }),
    extraTokenClaims: (_ctx, token) => (token.accountId ? person(token.accountId) : (token.client?.token_claims ?? {})),
    // Whoever logs in has consented: what is tested is the login.
    loadExistingGrant: async (ctx) => {
      const { client, session, provider, params } = ctx.oidc;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope("openid offline_access profile");
      for (const one of [params.resource ?? []].flat()) grant.addResourceScope(one, "");
      await grant.save();
      return grant;
    },
  };
}

function person(id) {
  return given.people[id] ?? {};
}

let issuer;
let handle;
let slow = 0;
const memory = createMemoryAdapter(); // what was given out outlives a change of keys
let keys = [key()];
function renew() {
  handle = new Provider(issuer, configuration(keys)).callback();
}

function comeBackTo(url) {
  for (const one of given.clients) {
    if (one.redirect_uris.length === 0) continue;
    one.redirect_uris = [url];
    if (one.backchannel_logout_uri) one.backchannel_logout_uri = url.replace("/callback/", "/backchannel/");
  }
  renew();
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === "/_control/rotate") {
    keys = [key()];
    renew();
  } else if (url.pathname === "/_control/callback") comeBackTo(url.searchParams.get("to"));
  else if (url.pathname === "/_control/slow") slow = Number(url.searchParams.get("ms"));
  else {
    if (slow) await pause(slow);
    return handle(request, response);
  }
  response.end("done\n");
});
server.listen(given.port ?? 0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  renew();
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
  lines.on("close", () => process.exit(0));
});
