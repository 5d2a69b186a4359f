import assert from 'node:assert/strict';
import { existsSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { compare, difference } from './check.ts';
import { FORMATS, type FormatName } from './formats.ts';
import type { LoadPlan } from './load.ts';
import { type FrontOptions, type Nginx, startFront } from './nginx.ts';
import { caughtUp, countLines, type Sidecar, startSidecar, untilExact } from './product.ts';
import type { Row } from './results.ts';
import type { Scene } from './scene.ts';
import { load } from './traffic.ts';
import { readServed } from './truth.ts';
import { startWitness } from './witness.ts';

/** What a scenario's traffic has to work with. */
export interface Bench {
  front: Nginx;
  sidecar: Sidecar;
  /** Sends this load and fails if a request got no answer at all. */
  sentTo(requests: Omit<LoadPlan, 'host' | 'port'>): Promise<void>;
}

export interface ScenarioOptions extends Partial<Omit<FrontOptions, 'format'>> {
  format: FormatName;
  /** More options for the sidecar. */
  sidecarArgs?: readonly string[];
  /** The sidecar reads nginx's own configuration. */
  nginxConf?: boolean;
  /** Have tcpdump watch the pods: for attempts that no pod's own log tells of. */
  witnessed?: boolean;
  /** How the log is judged, where `compare` cannot read it. */
  judgement?: typeof compare;
  /** Traffic that is not judged: what the sidecar has to see before it names anything. */
  warmUp?: (bench: Bench) => Promise<void>;
  /** How long the sidecar may take for the last lines (ms): what is not written then counts as lost. Default 15,000. */
  catchUpMs?: number;
}

export interface Judge {
  rows: Row[];
  scenario(name: string, options: ScenarioOptions, traffic: (bench: Bench) => Promise<void>): Promise<Row>;
}

export function dropLines(bytes: Buffer, count: number): Buffer {
  let at = 0;
  for (let i = 0; i < count; i++) at = bytes.indexOf(10, at) + 1;
  return bytes.subarray(at);
}

/** The logs of what runs in the pods. */
export function podLogs(scene: Scene): string[] {
  return scene.pods
    .flatMap(({ name }) =>
      ['served.log', 'odd-served.log', 'protocol-served.log', 'both-served.log'].map((log) =>
        join(scene.dir, name, log),
      ),
    )
    .filter((path) => existsSync(path));
}

/** What must hold of every log, whatever the scenario. */
function assertSound(row: Row, countersAgree = true): void {
  const { wrong, lost, repeated, altered, reordered, findings } = row;
  assert.deepEqual(
    { wrong, lost, repeated, altered, reordered },
    { wrong: 0, lost: 0, repeated: 0, altered: 0, reordered: 0 },
    `${row.scenario}: ${findings.join('\n')}`,
  );
  assert.ok(row.lines > 0, `${row.scenario}: no lines`);
  if (!countersAgree) return;
  const total = (counts: Record<string, number>) => Object.values(counts).reduce((a, b) => a + b, 0);
  const counters = `${row.scenario}: ${JSON.stringify(row)}`;
  assert.equal(
    total(row.evidence),
    row.right + row.unverified,
    `evidence counters disagree with the log; ${counters}`,
  );
  const { 'not-ip': _, ...reasons } = row.reasons;
  assert.equal(total(reasons), row.leftAlone, `reason counters disagree with the log; ${counters}`);
}

/** At least `share` of the attempts were settled by `evidence`. */
export function assertResolved(row: Row, evidence: string, share: number): void {
  const count = row.evidence[evidence] ?? 0;
  assert.ok(
    count >= share * row.attempts,
    `${row.scenario}: ${count} of ${row.attempts} attempts by ${evidence}, left alone: ${JSON.stringify(row.reasons)}`,
  );
}

/**
 * Runs scenarios one after another on a scene whose backends and helper are up. The scene needs a Service `solo` with
 * one backend. Each scenario starts nginx and a sidecar, waits until the sidecar's record is complete, lets `traffic`
 * run, waits for the last line and judges the log. Lines from before the record was complete are left out.
 */
export function judge(scene: Scene, rows: Row[]): Judge {
  let runs = 0;
  async function scenario(
    name: string,
    {
      format,
      sidecarArgs = [],
      nginxConf,
      witnessed,
      judgement = compare,
      warmUp,
      catchUpMs,
      ...frontOptions
    }: ScenarioOptions,
    traffic: (bench: Bench) => Promise<void>,
  ): Promise<Row> {
    const dir = join(scene.dir, `run${++runs}`);
    const pod = scene.fronts[0]!;
    const text = FORMATS[format];
    const front = await startFront(scene, pod, dir, {
      services: ['a', 'b', 'solo'],
      ...frontOptions,
      format: text,
    });
    let sidecar: Sidecar | undefined;
    try {
      sidecar = await startSidecar(scene, pod, {
        accessLog: front.accessLog,
        format: frontOptions.escape ? `escape=${frontOptions.escape} ${text}` : text,
        dir: join(dir, 'sidecar'),
        extra: nginxConf ? ['--nginx-conf', join(dir, 'nginx.conf'), ...sidecarArgs] : sidecarArgs,
      });
      await untilExact(scene, sidecar, pod);
      const bench: Bench = {
        front,
        sidecar,
        async sentTo(plan) {
          const done = await load(scene, { seed: runs, ...plan });
          assert.equal(done.failed, 0, `${name}: requests failed at the client: ${JSON.stringify(done)}`);
          assert.equal(done.completed + done.aborted, plan.total, `${name}: the load was cut off`);
        },
      };
      if (warmUp) {
        await warmUp(bench);
        await caughtUp(sidecar);
        await delay(250);
        for (const path of podLogs(scene)) truncateSync(path);
      }
      const witness = witnessed ? await startWitness(scene, dir) : undefined;
      const before = countLines(front.accessLog);
      const earlier = sidecar.counts();
      await traffic(bench);
      // What nginx still holds of a buffered log it writes at its end.
      if (frontOptions.logParameters) await front.stop();
      // What is missing then shows in the comparison, with the lines themselves.
      const behind = await caughtUp(sidecar, catchUpMs).catch((error: Error) => error);
      // The backends flush their logs every 200 ms.
      await delay(250);
      const later = sidecar.counts();
      const logged = readServed(podLogs(scene).map((path) => readFileSync(path, 'latin1')));
      const served = witness ? await witness.stop(logged) : logged;
      const tail = (path: string) => dropLines(readFileSync(path), before);
      const row: Row = {
        scenario: name,
        ...judgement(tail(front.accessLog), tail(sidecar.output), served),
        evidence: difference(later.evidence, earlier.evidence),
        reasons: difference(later.reasons, earlier.reasons),
      };
      rows.push(row);
      if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(row));
      // Another judgement does not know which lines the product could read.
      assertSound(row, judgement === compare);
      if (behind) throw behind;
      return row;
    } finally {
      const code = await sidecar?.stop();
      await front.stop();
      if (sidecar && code !== 0) console.error(`${name}: the sidecar ended with ${code}: ${sidecar.said()}`);
      // The backends' logs of earlier scenarios are not needed any more.
      for (const path of podLogs(scene)) truncateSync(path);
    }
  }
  return { rows, scenario };
}
