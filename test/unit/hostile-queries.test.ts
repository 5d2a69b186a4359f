import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lookupTarget } from '../fuzz/lookup.ts';
import { Chance, Mutator } from '../fuzz/mutation.ts';
import { testSeed } from '../model/seed.ts';
import { servedDemo } from './serve-app.ts';

const SEED = testSeed();

test('whatever stands behind the ?, the answer is a result or one of the known errors', async () => {
  const { app, errors } = servedDemo();
  const { corpus, words } = lookupTarget;
  const more = ['limit=5', 'request_id=a', 'port=65536', 'port=1&port=2', '__proto__=1', 'a[b]=c'];
  const mutator = new Mutator(new Chance(SEED), [...corpus, ...more.map((text) => Buffer.from(text))], words);
  const seen = new Map<number, number>();
  for (let n = 0; n < 400; n++) {
    const text = [...mutator.next()]
      .map((byte) =>
        byte > 32 && byte < 127 && byte !== 35
          ? String.fromCharCode(byte)
          : `%${byte.toString(16).padStart(2, '0')}`,
      )
      .join('');
    for (const path of ['/lookup', '/lines', '/pods']) {
      const answer = await app.inject({ url: `${path}?${text}` });
      seen.set(answer.statusCode, (seen.get(answer.statusCode) ?? 0) + 1);
      const what = `REALPOD_SEED=${SEED}: ${path}?${text}: ${answer.statusCode} ${answer.body.slice(0, 200)}`;
      assert.ok([200, 400, 404].includes(answer.statusCode), what);
      const body = JSON.parse(answer.body) as { error?: { code: string; message: string } };
      if (answer.statusCode === 200) continue;
      assert.ok(body.error && body.error.code !== 'internal', what);
      assert.ok(!body.error.message.includes('    at '), what);
    }
  }
  assert.deepEqual(errors, []);
  for (const status of [200, 400]) assert.ok((seen.get(status) ?? 0) > 10, JSON.stringify([...seen]));
  await app.close();
});
