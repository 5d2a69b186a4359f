/** The API server as a pod sees it: over TLS, with the files that the kubelet renews. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { serverAt } from '../../src/cluster/api.ts';
import { inCluster, podCredentials } from '../../src/cluster/pod-credentials.ts';
import { makeAuthority, makeServer } from '../../src/webhook/certificate.ts';

const DAY = 86_400_000;

function directory(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'realpod-pod-'));
  context.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** A server with a certificate for `localhost`, and what it was asked. */
async function server(context: TestContext) {
  const authority = makeAuthority('kubernetes', Date.now(), DAY);
  const { certificate, key } = makeServer(['localhost'], authority, Date.now(), DAY);
  const asked: string[] = [];
  const listening = createServer({ cert: certificate, key }, (request: IncomingMessage, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    response.end('{"kind":"Status"}');
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  context.after(() => listening.close());
  const { port } = listening.address() as AddressInfo;
  return {
    authority,
    asked,
    env: { KUBERNETES_SERVICE_HOST: 'localhost', KUBERNETES_SERVICE_PORT: `${port}` },
  };
}

test('a pod asks with the token of the moment, and trusts the authority of the moment', async (context) => {
  const here = directory(context);
  const { authority, asked, env } = await server(context);
  const api = serverAt(podCredentials(env, here));
  writeFileSync(join(here, 'token'), 'first\n');
  writeFileSync(join(here, 'ca.crt'), authority.certificate);
  assert.deepEqual(await api.call('GET', '/a'), { kind: 'Status' });
  writeFileSync(join(here, 'token'), 'second');
  await api.call('POST', '/b', {});
  assert.deepEqual(asked, ['GET /a Bearer first', 'POST /b Bearer second']);
  const other = makeAuthority('kubernetes', Date.now(), DAY);
  writeFileSync(join(here, 'ca.crt'), other.certificate);
  await assert.rejects(api.call('GET', '/c'), /API server at https:\/\/localhost/);
  assert.equal(asked.length, 2, 'a server of another authority gets no token');
});

test('without its files a pod sends nothing, and says which one is missing', async (context) => {
  const here = directory(context);
  const { authority, asked, env } = await server(context);
  const api = serverAt(podCredentials(env, here));
  await assert.rejects(api.call('GET', '/'), /no credentials for the API server: ENOENT.*token/);
  writeFileSync(join(here, 'token'), '\n');
  writeFileSync(join(here, 'ca.crt'), authority.certificate);
  await assert.rejects(api.call('GET', '/'), /token is empty/);
  assert.deepEqual(asked, []);
});

test('the address is that of the variables, IPv6 in brackets', async () => {
  const url = (host: string): string =>
    podCredentials({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: '443' }).url;
  assert.equal(url('10.96.0.1'), 'https://10.96.0.1:443');
  assert.equal(url('fd00:10:96::1'), 'https://[fd00:10:96::1]:443');
  assert.throws(() => podCredentials({ KUBERNETES_SERVICE_PORT: '443' }), /KUBERNETES_SERVICE_HOST/);
});

test('a process is in a pod where the token is', (context) => {
  const here = directory(context);
  assert.equal(inCluster(here), false);
  writeFileSync(join(here, 'token'), 'x');
  assert.equal(inCluster(here), true);
});
