/**
 * The clock set by an hour either way under load, to be run inside the virtual machine: `clock.ts ROWS NOTES`. There the
 * clock is nobody else's, and nginx, helper, sidecar and kernel see the step at once.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { readMetrics } from '../kit/check.ts';
import { assertUnharmed, type Fault, type FaultLoad, underFault } from '../kit/faults.ts';
import type { FaultRow } from '../kit/faults-table.ts';
import { untilExact } from '../kit/product.ts';
import { sh } from '../kit/shell.ts';
import { createStage, ODD_PORT, type Stage } from '../kit/stage.ts';
import { startOdd } from '../kit/traffic.ts';

const [rowsFile, notesFile] = process.argv.slice(2) as [string, string];
/**
 * Requests of some seconds are under way whenever the clock is set. They are slow by a backend of the lab's own: nginx's
 * `limit_rate` goes by the clock of the day, and would hold answers back for the hour.
 */
const LOAD: FaultLoad = {
  ratePerSecond: 50,
  seconds: 12,
  requests: [
    { path: '/a/item/{n}', weight: 8 },
    { path: '/a/same', weight: 4 },
    { path: '/odd/slow?delay=2000', weight: 1 },
  ],
};

const steps = ({ helper }: Stage): number =>
  readMetrics(helper.get('/metrics').text).find(({ name }) => name === 'realpod_helper_clock_steps_total')
    ?.value ?? 0;

function setBy(name: string, ms: number): Fault {
  return {
    name,
    outcome:
      'noticed; lines of requests that it met are left alone, and those of the second after a step back',
    async make(stage) {
      const before = steps(stage);
      const shown = Date.now() + ms;
      sh(`date -s @${(shown / 1000).toFixed(3)} >/dev/null`);
      await delay(1_000);
      if (Math.abs(Date.now() - shown) > 30_000) throw new Error('the clock is not as it was set');
      if (steps(stage) === before) throw new Error('the helper has not noticed');
    },
  };
}

const rows: FaultRow[] = [];
const failures: string[] = [];
const stage = await createStage({ keepaliveRequests: 50 }, async (scene) => {
  await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, ODD_PORT)));
  return {};
});
try {
  await untilExact(stage.scene, stage.sidecar, stage.scene.fronts[0]!);
  for (const fault of [
    setBy('clock set forward by an hour', 3_600_000),
    setBy('clock set back by an hour', -3_600_000),
    setBy('clock set back by 0.3 s', -300),
  ]) {
    // What it says if this machine is ended before.
    writeFileSync(notesFile, [...failures, `${fault.name}: was under way`].join('\n'));
    try {
      const row = await underFault(stage, fault, LOAD);
      rows.push(row);
      assertUnharmed(row);
    } catch (error) {
      failures.push(`${fault.name}: ${error instanceof Error ? error.message : String(error)}`);
      break;
    }
  }
} catch (error) {
  failures.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  writeFileSync(rowsFile, JSON.stringify(rows));
  writeFileSync(notesFile, failures.join('\n'));
  await stage.dispose();
}
