// Signs and verifies webhooks with the providers' own Node SDKs. The conversation is that of sign.py: one JSON request
// a line, one JSON answer a line; see there. Nothing here computes a signature: every value comes out of an SDK.
//
// The packages are looked for in the working directory, not beside this file.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const root = join(process.cwd(), 'node_modules');
const require = createRequire(join(process.cwd(), 'package.json'));

// What an SDK prints must not get between the answers.
console.log = console.info = console.debug = console.error;

const signers = new Map();
const verifiers = new Map();

/** Registers a function for schemes: it is called with the SDK and the request. */
function covered(table, schemes, name, load, run) {
  for (const scheme of schemes.split(' ')) table.set(scheme, { name, load, run });
}

const commonjs = (name) => () => require(name);
const file = (name, path) => () => import(pathToFileURL(join(root, name, path)));

const stripe = commonjs('stripe');
const octokit = file('@octokit/webhooks-methods', 'dist-node/index.js');
const twilio = commonjs('twilio');

// --- signers -------------------------------------------------------------------------------------------------------

covered(signers, 'stripe', 'stripe', stripe, (Stripe, { text, secret, now }) => ({
  'Stripe-Signature': new Stripe('none').webhooks.generateTestHeaderString({ payload: text, secret, timestamp: now }),
}));

covered(signers, 'github', '@octokit/webhooks-methods', octokit, async ({ sign }, { text, secret }) => ({
  'X-Hub-Signature-256': await sign(secret, text),
}));

const standard = (prefix) => ({ Webhook }, { text, secret, now, id }) => ({
  [`${prefix}-id`]: id,
  [`${prefix}-timestamp`]: String(now),
  [`${prefix}-signature`]: new Webhook(secret).sign(id, new Date(now * 1000), text),
});

covered(signers, 'standard-webhooks', 'standardwebhooks', commonjs('standardwebhooks'), standard('webhook'));
// Clerk and Resend send through Svix.
covered(signers, 'svix clerk resend', 'svix', commonjs('svix'), standard('svix'));

/** What web frameworks give to the Twilio SDK: a value, or an array of them, for each name. */
function form(text) {
  const fields = {};
  const all = new URLSearchParams(text);
  for (const name of new Set(all.keys())) {
    const values = all.getAll(name);
    fields[name] = values.length === 1 ? values[0] : values;
  }
  return fields;
}

covered(signers, 'twilio', 'twilio', twilio, ({ getExpectedTwilioSignature }, { text, secret, url }) => ({
  'X-Twilio-Signature': getExpectedTwilioSignature(secret, url, form(text)),
}));

covered(signers, 'twilio-json', 'twilio', twilio, (sdk, request) => {
  request.url += `&bodySHA256=${sdk.getExpectedBodyHash(request.text)}`;
  return { 'X-Twilio-Signature': sdk.getExpectedTwilioSignature(request.secret, request.url, {}) };
});

covered(signers, 'notion', '@notionhq/client', commonjs('@notionhq/client'), async (sdk, { text, secret }) => ({
  'X-Notion-Signature': await sdk.signWebhookPayload({ body: text, verificationToken: secret }),
}));

covered(signers, 'sanity', '@sanity/webhook', commonjs('@sanity/webhook'), async (sdk, { text, secret, now }) => ({
  'sanity-webhook-signature': await sdk.encodeSignatureHeader(text, now * 1000, secret),
}));

const mux = commonjs('@mux/mux-node');
const muxWebhooks = ({ Mux }, secret) => new Mux({ tokenId: 'none', tokenSecret: 'none', webhookSecret: secret }).webhooks;

// --- verifiers: they return false or throw to refuse -----------------------------------------------------------------

covered(verifiers, 'stripe', 'stripe', stripe, (Stripe, { text, secret, headers }) => {
  new Stripe('none').webhooks.constructEvent(text, headers['stripe-signature'], secret);
  return true;
});

covered(verifiers, 'github', '@octokit/webhooks-methods', octokit, ({ verify }, { text, secret, headers }) =>
  verify(secret, text, headers['x-hub-signature-256']));

const verifiesStandard = ({ Webhook }, { text, secret, headers }) => {
  new Webhook(secret).verify(text, headers);
  return true;
};

covered(verifiers, 'standard-webhooks', 'standardwebhooks', commonjs('standardwebhooks'), verifiesStandard);
covered(verifiers, 'svix clerk resend', 'svix', commonjs('svix'), verifiesStandard);

covered(verifiers, 'replicate', 'replicate', commonjs('replicate'), ({ validateWebhook }, { text, secret, headers }) =>
  validateWebhook({ headers, body: text }, secret));

covered(verifiers, 'twilio', 'twilio', twilio, ({ validateRequest }, { text, secret, url, headers }) =>
  validateRequest(secret, headers['x-twilio-signature'], url, form(text)));

covered(verifiers, 'twilio-json', 'twilio', twilio, (sdk, { text, secret, url, headers }) =>
  sdk.validateRequestWithBody(secret, headers['x-twilio-signature'], url, text));

covered(verifiers, 'notion', '@notionhq/client', commonjs('@notionhq/client'), (sdk, { text, secret, headers }) =>
  sdk.verifyWebhookSignature({ body: text, signature: headers['x-notion-signature'], verificationToken: secret }));

covered(verifiers, 'sanity', '@sanity/webhook', commonjs('@sanity/webhook'), (sdk, { text, secret, headers }) =>
  sdk.isValidSignature(text, headers['sanity-webhook-signature'], secret));

covered(verifiers, 'mux', '@mux/mux-node', mux, async (sdk, { text, secret, headers }) => {
  await muxWebhooks(sdk, secret).verifySignature(text, headers, secret);
  return true;
});

const discord = commonjs('discord-interactions');
covered(verifiers, 'discord', 'discord-interactions', discord, ({ verifyKey }, { body, publicKey, headers }) =>
  verifyKey(body, headers['x-signature-ed25519'], headers['x-signature-timestamp'], publicKey));

const linear = file('@linear/sdk', 'dist/webhooks/index.mjs');
covered(verifiers, 'linear', '@linear/sdk', linear, ({ LinearWebhookClient }, { body, secret, headers }) =>
  new LinearWebhookClient(secret).verify(body, headers['linear-signature']));

const shopify = () => {
  require('@shopify/shopify-api/adapters/node');
  return require('@shopify/shopify-api');
};
covered(verifiers, 'shopify', '@shopify/shopify-api', shopify, async (sdk, { text, secret, headers }) => {
  const api = sdk.shopifyApi({
    apiSecretKey: secret,
    apiVersion: sdk.LATEST_API_VERSION ?? Object.values(sdk.ApiVersion).at(-1),
    apiKey: 'none',
    hostName: 'hooks.example.com',
    isEmbeddedApp: false,
    logger: { log: () => {} },
  });
  // The SDK also asks for headers that are not signed.
  const unsigned = { 'x-shopify-topic': 'orders/create', 'x-shopify-shop-domain': 'shop.example.com' };
  Object.assign(unsigned, { 'x-shopify-api-version': '2026-10', 'x-shopify-webhook-id': '1' });
  const rawRequest = { method: 'POST', url: '/', headers: { ...unsigned, ...headers } };
  const verdict = await api.webhooks.validate({ rawBody: text, rawRequest, rawResponse: {} });
  if (!verdict.valid) throw new Error(verdict.reason);
  return true;
});

const plain = commonjs('@team-plain/typescript-sdk');
covered(verifiers, 'plain', '@team-plain/typescript-sdk', plain, (sdk, { text, secret, headers }) => {
  // The SDK also wants an event that its schema knows; it says so after it has looked at the signature.
  const { error } = sdk.verifyPlainWebhook(text, headers['plain-request-signature'], secret);
  if (error instanceof sdk.PlainWebhookSignatureVerificationError) throw error;
  return true;
});

const hookdeck = file('@hookdeck/sdk', 'webhooks/helpers.js');
covered(verifiers, 'hookdeck', '@hookdeck/sdk', hookdeck, async ({ default: sdk }, { text, secret, headers }) => {
  const verdict = await sdk.verifyWebhookSignature({ headers, rawBody: text, signingSecret: secret });
  return verdict.isValidSignature;
});

covered(verifiers, 'metronome', '@metronome/sdk', commonjs('@metronome/sdk'), (sdk, { text, secret, headers }) => {
  new sdk.Metronome({ bearerToken: 'none' }).webhooks.verifySignature(text, headers, secret);
  return true;
});

covered(verifiers, 'crisp', 'crisp-api', commonjs('crisp-api'), (sdk, { text, secret, headers }) => {
  const Crisp = sdk.Crisp ?? sdk.default;
  const [timestamp, signature] = [headers['x-crisp-request-timestamp'], headers['x-crisp-signature']];
  // verifyHook says no until the SDK has been bound to events; this is what it asks then.
  return new Crisp().__verifySignature(secret, JSON.parse(text), timestamp, signature);
});

covered(verifiers, 'alipay', 'alipay-sdk', commonjs('alipay-sdk'), (sdk, { text, publicKey }) => {
  const bare = publicKey.replace(/-----[^-]*-----|\s/g, '');
  const alipay = new sdk.AlipaySdk({ appId: '1', privateKey: 'none', alipayPublicKey: bare });
  return alipay.checkNotifySignV2(Object.fromEntries(new URLSearchParams(text)));
});

// --- the conversation ----------------------------------------------------------------------------------------------

async function load({ name, load: find }) {
  const version = JSON.parse(readFileSync(join(root, name, 'package.json'))).version;
  return [await find(), `${name} ${version} (node)`];
}

/** Loads every SDK, so that none is slow later, and says what there is. */
async function listed() {
  const answer = { sign: {}, verify: {}, missing: [] };
  for (const [mode, table] of [['sign', signers], ['verify', verifiers]]) {
    for (const [scheme, entry] of table) {
      try {
        [, answer[mode][scheme]] = await load(entry);
      } catch (error) {
        console.error(`${entry.name}: ${error.message}`);
        if (!answer.missing.includes(entry.name)) answer.missing.push(entry.name);
      }
    }
  }
  return answer;
}

function read(fields) {
  const body = Buffer.from(fields.body_base64, 'base64');
  const headers = Object.entries(fields.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  return {
    ...fields,
    body,
    text: body.toString('utf8'),
    publicKey: fields.public_key,
    headers: Object.fromEntries(headers),
  };
}

async function answered(fields) {
  if (fields.mode === 'list') return listed();
  const entry = (fields.mode === 'sign' ? signers : verifiers).get(fields.scheme);
  let loaded;
  try {
    loaded = entry && (await load(entry));
  } catch {
    loaded = undefined;
  }
  if (!loaded) return { unsupported: true };
  const [sdk, signer] = loaded;
  const request = read(fields);
  if (fields.mode === 'sign') {
    const headers = await entry.run(sdk, request);
    return { headers, url: request.url, signer };
  }
  // However an SDK says no, by a value or by an exception, it is a no.
  try {
    return { accepted: Boolean(await entry.run(sdk, request)), why: '', signer };
  } catch (error) {
    return { accepted: false, why: `${error.name}: ${error.message}`, signer };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answered(JSON.parse(line)))}\n`);
}
