import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, type ApiServer } from '../../src/cluster/api.ts';
import { type AuthMode, createAuthorizer } from '../../src/cluster/authorize.ts';
import { createReviewer } from '../../src/cluster/token.ts';
import type { PodName } from '../../src/model/outcome.ts';
import { ApiServerStandIn, type TokenSubject } from './api-server.ts';

const POD = '10.244.0.70';
const NODE_IP = '192.168.1.10';
const HOUR = 3_600_000;

interface Placed {
  [ip: string]: Partial<PodName>[];
}

/** An authorizer on node n1, its API server answering from memory; the clock is stepped. */
function scene(mode: AuthMode = 'token', placed: Placed = {}, synced = true) {
  const clock = { now: 1_700_000_000_000 };
  const issuer = new ApiServerStandIn(() => clock.now);
  const asked: string[] = [];
  const logs: string[] = [];
  let away = false;
  const api: ApiServer = {
    stream: () => Promise.reject(new Error('not used')),
    async call(_method, _path, body) {
      const { spec } = body as { spec: { token: string; audiences: string[] } };
      asked.push(spec.token);
      await Promise.resolve();
      if (away) throw new ApiError(0, 'connect ECONNREFUSED');
      return issuer.reviewStatus(spec);
    },
  };
  const reviewer = createReviewer(
    api,
    (level, message) => logs.push(`${level} ${message}`),
    () => clock.now,
  );
  const names = {
    synced,
    podsAt: (ip: string): PodName[] =>
      (placed[ip] ?? []).map((part) => ({ pod: '', namespace: 'shop', node: '', service: '', ...part })),
  };
  const isLocal = (ip: string): boolean => ip === NODE_IP || ip.startsWith('127.');
  const authorizer =
    mode === 'token'
      ? createAuthorizer({ mode, reviewer, names, node: 'n1', isLocal })
      : createAuthorizer({ mode, isLocal });
  const token = (subject: Partial<TokenSubject> = {}): string =>
    issuer.issue({
      namespace: 'shop',
      serviceAccount: 'default',
      pod: 'nginx-1',
      node: 'n1',
      audiences: ['realpod'],
      expires: clock.now + HOUR,
      ...subject,
    });
  const verdict = async (bearer?: string, peer = POD, src = [peer]): Promise<string> => {
    const authorization = bearer === undefined ? undefined : `Bearer ${bearer}`;
    const answer = await authorizer.authorize({ authorization, peer, src });
    return answer.ok ? 'ok' : `${answer.status} ${answer.code}`;
  };
  const setAway = (value: boolean): void => {
    away = value;
  };
  return { clock, issuer, asked, logs, reviewer, authorizer, token, verdict, setAway };
}

test('a pod reads its own records, over IPv4 on a dual-stack socket too', async () => {
  const { token, verdict } = scene();
  const own = token();
  assert.equal(await verdict(own), 'ok');
  assert.equal(await verdict(own, `::ffff:${POD}`, [POD]), 'ok');
  assert.equal(await verdict(own, 'fd00::1', ['FD00:0::1']), 'ok');
});

test('a pod cannot read another pod’s records with its own token', async () => {
  const { token, verdict, asked } = scene();
  assert.equal(await verdict(token(), '10.244.0.66', [POD]), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, [POD, '10.244.0.66']), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, []), '403 address-not-yours');
  assert.equal(asked.length, 0, 'the API server is not troubled with it');
});

test('a dual-stack pod reads both its addresses where EndpointSlices give the other one to it alone', async () => {
  const own = { pod: 'nginx-1', node: 'n1' };
  const placed = {
    [POD]: [own],
    'fd00::1': [own],
    'fd00::2': [{ pod: 'nginx-2', node: 'n1' }],
    'fd00::3': [own, { pod: 'nginx-2', node: 'n1' }],
    'fd00::4': [{ ...own, node: 'n2' }],
    'fd00::5': [{ ...own, namespace: 'other' }],
  };
  const { token, verdict } = scene('token', placed);
  assert.equal(await verdict(token(), POD, [POD, 'FD00::1']), 'ok');
  assert.equal(await verdict(token(), 'fd00::1', [POD, 'fd00::1']), 'ok');
  assert.equal(await verdict(token(), POD, [POD, 'fd00::1', 'fd00::2']), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, [POD, 'fd00::3']), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, [POD, 'fd00::4']), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, [POD, 'fd00::5']), '403 address-not-yours');
  assert.equal(await verdict(token(), POD, [POD, 'fd00::9']), '403 address-not-yours');
  assert.equal(await verdict(token({ pod: 'thief' }), '10.244.0.99', ['fd00::1']), '403 address-not-yours');
  // A stolen token: neither from another pod's address nor from one that no EndpointSlice knows.
  assert.equal(await verdict(token(), '10.244.0.99', ['fd00::1']), '403 address-not-yours');
  assert.equal(await verdict(token(), 'fd00::2', ['fd00::2', POD]), '403 address-not-yours');
  assert.equal(await verdict(token(), '10.244.0.99', [POD]), '403 address-not-yours');
  const byAddress = scene('source-ip', placed);
  assert.equal(await byAddress.verdict(undefined, POD, [POD, 'fd00::1']), '403 address-not-yours');
});

test('a pod that speaks from a stolen address is refused when the address is known to be another’s', async () => {
  const { token, verdict } = scene('token', { [POD]: [{ pod: 'nginx-1' }] });
  assert.equal(await verdict(token({ pod: 'thief' })), '403 address-of-another-pod');
  assert.equal(await verdict(token({ namespace: 'other' })), '403 address-of-another-pod');
  assert.equal(await verdict(token()), 'ok');
});

test('a pod of another node is refused', async () => {
  const { token, verdict } = scene('token', { '10.244.0.71': [{ pod: 'nginx-1', node: 'n2' }] });
  assert.equal(await verdict(token({ node: 'n2' })), '403 pod-of-another-node');
  assert.equal(await verdict(token({ node: undefined as never }), '10.244.0.71'), '403 pod-of-another-node');
});

test('where tokens do not name the node, an EndpointSlice has to place the pod', async () => {
  const old = { node: undefined as never };
  const { token, verdict } = scene('token', { [POD]: [{ pod: 'nginx-1', node: 'n1' }] });
  assert.equal(await verdict(token(old)), 'ok');
  assert.equal(await verdict(token(old), '10.244.0.99'), '403 pod-of-another-node');
  const early = scene('token', {}, false);
  assert.equal(await early.verdict(early.token(old)), '503 names-not-ready');
});

test('the node’s own address is for a pod that EndpointSlices place there', async () => {
  const { token, verdict } = scene('token', { [NODE_IP]: [{ pod: 'ingress' }, { pod: 'nginx-1' }] });
  assert.equal(await verdict(token(), NODE_IP), 'ok');
  assert.equal(await verdict(token(), NODE_IP, [NODE_IP, '127.0.0.1']), 'ok');
  assert.equal(await verdict(token({ pod: 'other' }), NODE_IP), '403 address-of-the-node');
  const empty = scene();
  assert.equal(await empty.verdict(empty.token(), NODE_IP), '403 address-of-the-node');
});

test('missing, garbled, expired, foreign and unbound tokens are refused', async () => {
  const { token, verdict, issuer, clock, asked } = scene();
  assert.equal(await verdict(), '401 token-missing');
  assert.equal(await verdict('abc'), '401 token-invalid');
  assert.equal(await verdict('a.b.c'), '401 token-invalid');
  assert.equal(await verdict(`${'a'.repeat(9000)}.b.c`), '401 token-invalid');
  assert.equal(await verdict(token({ audiences: ['https://kubernetes.default.svc'] })), '401 token-audience');
  assert.equal(await verdict(token({ expires: clock.now })), '401 token-expired');
  assert.equal(asked.length, 0, 'none of these costs a TokenReview');
  assert.equal(await verdict(token({ pod: undefined as never })), '403 token-not-of-a-pod');
  const forged = token();
  issuer.tokens.delete(forged);
  assert.equal(await verdict(forged), '401 token-invalid');
});

test('an answer without the audience is not taken: its server did not look at audiences', async () => {
  const { token, verdict, issuer } = scene();
  issuer.ignoreAudiences = true;
  assert.equal(await verdict(token()), '401 token-invalid');
});

test('an expired token is refused also from the cache', async () => {
  const { token, verdict, clock } = scene();
  const short = token({ expires: clock.now + 30_000 });
  assert.equal(await verdict(short), 'ok');
  clock.now += 30_000;
  assert.equal(await verdict(short), '401 token-expired');
});

test('a token is reviewed once a minute, and once for many at the same time', async () => {
  const { token, verdict, clock, asked } = scene();
  const own = token();
  await Promise.all([verdict(own), verdict(own), verdict(own)]);
  assert.equal(asked.length, 1);
  clock.now += 59_000;
  await verdict(own);
  assert.equal(asked.length, 1);
  clock.now += 2000;
  await verdict(own);
  assert.equal(asked.length, 2);
});

test('a token that the API server takes back is refused at the next review', async () => {
  const { token, verdict, clock, issuer } = scene();
  const own = token();
  assert.equal(await verdict(own), 'ok');
  issuer.tokens.delete(own);
  clock.now += 61_000;
  assert.equal(await verdict(own), '401 token-invalid');
});

test('with the API server away known tokens go on to their end, new ones wait', async () => {
  const { token, verdict, clock, setAway, logs } = scene();
  const [known, fresh] = [token(), token({ pod: 'nginx-2' })];
  assert.equal(await verdict(known), 'ok');
  setAway(true);
  clock.now += HOUR - 1000;
  assert.equal(await verdict(known), 'ok');
  assert.equal(await verdict(known), 'ok');
  assert.equal(await verdict(token()), '503 api-server-away');
  clock.now += 1000;
  assert.equal(await verdict(known), '401 token-expired');
  assert.equal(await verdict(fresh), '401 token-expired');
  assert.equal(logs.length, 1, 'told once');
  assert.match(logs[0] ?? '', /^warn cannot verify tokens: connect ECONNREFUSED/);
});

test('one peer cannot flood the API server with tokens, and the others are still served', async () => {
  const { token, verdict, asked, clock, issuer } = scene();
  for (let n = 0; n < 100; n++) {
    const forged = token();
    issuer.tokens.delete(forged);
    await verdict(forged);
  }
  assert.equal(asked.length, 10);
  assert.equal(await verdict(token()), '503 too-many-tokens');
  assert.equal(await verdict(token(), '10.244.0.71'), 'ok');
  clock.now += 1000;
  assert.equal(await verdict(token()), 'ok');
});

test('forged tokens do not push good ones out of the cache', async () => {
  const { token, verdict, asked, clock, issuer } = scene();
  const own = token();
  await verdict(own);
  for (let n = 0; n < 1500; n++) {
    clock.now += 10;
    const forged = token();
    issuer.tokens.delete(forged);
    await verdict(forged, `10.9.${n >> 8}.${n & 255}`);
  }
  const before = asked.length;
  assert.equal(await verdict(own), 'ok');
  assert.equal(asked.length, before);
});

test('source-ip: a reader gets what comes from its own address, on the node all of the node’s', async () => {
  const { verdict } = scene('source-ip');
  assert.equal(await verdict(undefined, POD), 'ok');
  assert.equal(await verdict(undefined, POD, ['10.244.0.66']), '403 address-not-yours');
  assert.equal(await verdict(undefined, '127.0.0.1', [NODE_IP]), 'ok');
  assert.equal(await verdict(undefined, POD, [NODE_IP]), '403 address-not-yours');
});

test('none: anyone reads anything', async () => {
  assert.equal(await scene('none').verdict(undefined, POD, ['10.244.0.66']), 'ok');
});

test('no refusal repeats the token', async () => {
  const { token, authorizer, issuer } = scene();
  const own = token();
  issuer.tokens.delete(own);
  const answer = await authorizer.authorize({ authorization: `Bearer ${own}`, peer: POD, src: [POD] });
  assert.ok(!JSON.stringify(answer).includes(own.slice(-20)));
});
