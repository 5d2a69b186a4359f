/** Where nginx-module/ logs the port, or could. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DoctorOptions } from '../../src/doctor/command.ts';
import { runDoctor } from './run-doctor.ts';

const doctor = (files: Readonly<Record<string, string>>, options: Partial<DoctorOptions> = {}) =>
  runDoctor(files, { input: 'nginx.conf', ...options });

test('the port that the module logs is found, and the module where no id can be seen', async () => {
  const conf = (format: string): { 'nginx.conf': string } => ({
    'nginx.conf': `events {} http { log_format m ${format}; access_log /l m;
      server { location / { proxy_pass https://x; } } }`,
  });
  const logged = `'$msec "$request" $upstream_addr $upstream_local_port $request_time'`;
  const { out } = await doctor(conf(logged));
  assert.match(
    out,
    /sole-backend\n.*\n +\$upstream_local_port is logged: exact with --local-port-field upstream_local_port /,
  );
  assert.doesNotMatch(out, /nginx-module/);
  const given = await doctor(conf(logged), { localPortField: 'upstream_local_port' });
  assert.match(given.out, /exact \(source-port\)/);
  assert.doesNotMatch(given.out, /exact with|nginx-module/);
  assert.doesNotMatch((await doctor(conf(`escape=none ${logged}`))).out, /exact with/);
  const without = await doctor(conf(`'$msec "$request" $upstream_addr $request_time'`));
  assert.match(without.out, /Notes\n.*\$upstream_local_port in the log \(nginx-module\/README\.md\)/);
});
