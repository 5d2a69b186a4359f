/** Configurations with which nginx goes on with a request when its client has the answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outlivesClients } from '../../src/doctor/background.ts';
import { loadText } from '../../src/doctor/load.ts';
import { modelOf } from '../../src/doctor/scope.ts';
import { assemble } from '../../src/doctor/sources.ts';

const says = (http: string): string | undefined =>
  outlivesClients(modelOf(assemble(loadText(`events {} http { ${http} }`)))!);

test('copies and updates in the background are found at any level', () => {
  assert.equal(says('mirror /copy; server { listen 80; }'), 'mirror');
  assert.equal(says('server { location / { if ($x) { mirror /copy; } } }'), 'mirror');
  assert.equal(
    says('server { location / { proxy_cache_background_update on; } }'),
    'proxy_cache_background_update',
  );
  assert.equal(says('server { location / { post_action /done; } }'), 'post_action');
});

test('what is switched off, and other directives, do not count', () => {
  assert.equal(says('server { location / { proxy_pass http://10.96.0.1; } }'), undefined);
  assert.equal(
    says('server { mirror off; proxy_cache_background_update off; mirror_request_body on; }'),
    undefined,
  );
});
