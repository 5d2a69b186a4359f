/**
 * Equal lines of several workers: nothing in them tells one from another, so what can be wrong is how often a pod is named. A
 * second log says beside each line which pod answered it.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FORMATS, TRUTH } from './formats.ts';
import { startFront } from './nginx.ts';
import { DEBIAN } from './nginx-build.ts';
import { caughtUp, startSidecar, untilExact } from './product.ts';
import type { Scene } from './scene.ts';
import { FLUSHED_MS, SURE_MS, untilTraced } from './trace-run.ts';
import { saturate } from './traffic.ts';

export interface EqualLines {
  lines: number;
  /** Texts that more than one line has, and that lines from different pods have. */
  equal: number;
  ofSeveralPods: number;
  named: number;
  /** Lines that name a pod more often than it answered lines of this text. */
  wrong: number;
  /** Named, by evidence. */
  by: Record<string, number>;
  findings: string[];
}

const SAID = / "([^"]*)" "([^"]*)" "[^"]*"$/;
const ANNOTATED = / pod=\S* evidence=/;
const UPSTREAM = /(" \d{3}) (\S+) /;

export async function runEqualLines(
  scene: Scene,
  parameters: string,
  keepalive: boolean,
  seconds: number,
): Promise<EqualLines> {
  const dir = join(scene.dir, 'equal');
  const pod = scene.fronts[0]!;
  const format = FORMATS.article.slice(0, -TRUTH.length - 1);
  const truth = join(dir, 'truth.log');
  const front = await startFront(scene, pod, dir, {
    services: ['a', 'solo'],
    format,
    withoutIdHeader: true,
    workers: 4,
    keepalive,
    http: `log_format said '${FORMATS.article}'; access_log ${truth} said;`,
    logParameters: parameters,
    build: DEBIAN,
  });
  const options = { accessLog: front.accessLog, format, dir: join(dir, 'sidecar') };
  const sidecar = await startSidecar(scene, pod, {
    ...options,
    extra: ['--max-wait', '60s', '--style', 'annotate'],
  });
  try {
    await untilExact(scene, sidecar, pod);
    await untilTraced(scene);
    await saturate(scene, { connections: 50, seconds: 1, path: '/a/same', front: pod });
    await delay(FLUSHED_MS + SURE_MS);
    await saturate(scene, { connections: 50, seconds, path: '/a/same', front: pod });
    await delay(FLUSHED_MS);
    await caughtUp(sidecar, 120_000);
    return compare(readFileSync(truth, 'latin1'), readFileSync(sidecar.output, 'latin1'));
  } finally {
    await sidecar.stop();
    await front.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

function compare(truth: string, output: string): EqualLines {
  const found: EqualLines = {
    lines: 0,
    equal: 0,
    ofSeveralPods: 0,
    named: 0,
    wrong: 0,
    by: {},
    findings: [],
  };
  /** How often each pod answered lines of a text, by the text with the pod in it; and the texts. */
  const answered = new Map<string, number>();
  const texts = new Map<string, { lines: number; pods: Set<string> }>();
  for (const line of truth.split('\n')) {
    const [said, ip, port] = SAID.exec(line) ?? [];
    if (said === undefined) continue;
    const text = line.slice(0, -said.length);
    const named = text.replace(UPSTREAM, `$1 ${ip}:${port} `);
    answered.set(named, (answered.get(named) ?? 0) + 1);
    const known = texts.get(text) ?? { lines: 0, pods: new Set() };
    known.lines++;
    known.pods.add(named);
    texts.set(text, known);
  }
  for (const { lines, pods } of texts.values()) {
    if (lines > 1) found.equal += lines;
    if (pods.size > 1) found.ofSeveralPods += lines;
  }
  for (const whole of output.split('\n')) {
    const [line = '', evidence = ''] = whole.split(ANNOTATED);
    if (line === '') continue;
    found.lines++;
    if (texts.has(line)) continue;
    found.named++;
    // A client that left: no pod said that it answered.
    if (line.includes('" 499 ')) continue;
    const left = answered.get(line) ?? 0;
    if (left <= 0) {
      found.wrong++;
      found.findings.push(whole);
    }
    found.by[evidence] = (found.by[evidence] ?? 0) + 1;
    answered.set(line, left - 1);
  }
  return found;
}
