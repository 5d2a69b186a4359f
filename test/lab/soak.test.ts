import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testSeed } from '../model/seed.ts';
import { labCanRun } from './kit/requirements.ts';
import { soak, soakFindings } from './soak.ts';

test('three quarters of a minute of traffic, churn, rotation and faults: nothing wrong, lost or left behind', {
  skip: !labCanRun(),
  timeout: 300_000,
}, async () => {
  const seed = testSeed();
  const result = await soak({ minutes: 0.75, ratePerSecond: 500, seed, rotationSeconds: 10 });
  console.log(result.say);
  assert.deepEqual(soakFindings(result), [], `REALPOD_SEED=${seed}`);
});
