import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { compare } from './check.ts';
import type { FaultRow } from './faults-table.ts';
import type { RequestPlan } from './load.ts';
import { until } from './nginx.ts';
import { caughtUp, countLines, untilExact } from './product.ts';
import { dropLines } from './scenario.ts';
import type { Stage } from './stage.ts';
import { load } from './traffic.ts';

/** A fault: how it is made, held and ended, and what it is to come to. */
export interface Fault {
  name: string;
  /** Resolves when it is over. Throws if it did not take place. */
  make(stage: Stage): Promise<void>;
  outcome: string;
  /** How long the load has to run, where the fault takes longer than most. */
  seconds?: number;
  /** The fault itself keeps nginx from answering, or hides its answers. */
  hitsNginx?: boolean;
}

/** What runs while a fault is made. */
export interface FaultLoad {
  ratePerSecond: number;
  seconds: number;
  requests: readonly RequestPlan[];
}

/** Makes the fault when the load has run for a second, and compares all lines of that time. */
export async function underFault(stage: Stage, fault: Fault, plan: FaultLoad): Promise<FaultRow> {
  const { scene, front } = stage;
  const pod = scene.fronts[0]!;
  await caughtUp(stage.sidecar);
  const from = countLines(front.accessLog);
  const { ratePerSecond, requests } = plan;
  const seconds = fault.seconds ?? plan.seconds;
  const total = ratePerSecond * seconds;
  const traffic = load(scene, { connections: 20, ratePerSecond, total, requests });
  // Where the fault cannot be made, that is to be said, not that this was ended.
  traffic.catch(() => {});
  await until('the load', () => countLines(front.accessLog) >= from + ratePerSecond);
  await fault.make(stage);
  const ended = performance.now();
  await untilExact(scene, stage.sidecar, pod);
  const recoverySeconds = (performance.now() - ended) / 1000;
  const result = await traffic;
  await untilExact(scene, stage.sidecar, pod);
  await caughtUp(stage.sidecar);
  const tail = (path: string) => dropLines(readFileSync(path), from);
  const seen = compare(tail(front.accessLog), tail(stage.sidecar.output));
  const failed = result.failed + (result.statuses[502] ?? 0) + (result.statuses[504] ?? 0);
  return {
    name: fault.name,
    seen,
    outcome: fault.outcome,
    recoverySeconds,
    failedRequests: fault.hitsNginx ? undefined : failed,
  };
}

/** No line is lost or wrong, and nginx has answered all requests. */
export function assertUnharmed({ seen, failedRequests }: FaultRow): void {
  const { wrong, lost, repeated, altered, reordered, lines } = seen;
  assert.deepEqual(
    { wrong, lost, repeated, altered, reordered },
    { wrong: 0, lost: 0, repeated: 0, altered: 0, reordered: 0 },
    seen.findings.join('\n'),
  );
  assert.ok(lines > 0, 'no lines');
  assert.equal(failedRequests ?? 0, 0, 'requests failed');
}
