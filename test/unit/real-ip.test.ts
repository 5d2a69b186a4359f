/** What nginx's configuration says of its realip modules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadText } from '../../src/doctor/load.ts';
import { leavesClient } from '../../src/doctor/real-ip.ts';
import { modelOf } from '../../src/doctor/scope.ts';
import { assemble } from '../../src/doctor/sources.ts';

const says = (text: string): boolean => leavesClient(modelOf(assemble(loadText(text)))!);
const server = (inside: string): string => `http { server { listen 80; ${inside} } }`;

test('a configuration without realip leaves the client’s address', () => {
  assert.ok(says(server('location / { proxy_pass http://a; }')));
  assert.ok(says('stream { server { listen 80; proxy_pass a; } }'));
});

test('with realip anywhere, or with a file that was not read, that is not certain', () => {
  for (const name of ['set_real_ip_from 10.0.0.0/8', 'real_ip_header X-Real-IP', 'real_ip_recursive on']) {
    assert.ok(!says(`http { ${name}; server { listen 80; } }`), name);
    assert.ok(!says(server(`${name};`)), name);
    assert.ok(!says(server(`location /a { location /a/b { ${name}; } }`)), name);
    assert.ok(!says(`stream { server { listen 80; ${name}; proxy_pass a; } } http { }`), name);
  }
  assert.ok(!says(server('include /etc/nginx/more.conf;')));
  assert.ok(says(server('include mime.types;')), 'a file that has nothing of the kind');
});
