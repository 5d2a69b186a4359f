import type { App } from '../../src/http/app.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { createSidecarApp } from '../../src/http/sidecar/app.ts';
import type { SidecarNumbers } from '../../src/http/sidecar/metrics.ts';
import { plainAnswers } from '../../src/http/sidecar/plain.ts';
import { createSidecarServer } from '../../src/http/sidecar/server.ts';
import { View } from '../../src/http/sidecar/view.ts';
import type { FlowIndex } from '../../src/join/index/flow-index.ts';
import { demoRecords, parseDemo, settledDemo } from './serve-demo.ts';

/** Names of the recording's pods, by address. */
export const PODS: ReadonlyMap<string, string> = new Map(
  demoRecords.flatMap((record) => (record.kind === 'name' && record.pod ? [[record.ip, record.pod]] : [])),
);

export interface Served {
  /** The routes alone, without limits and without the check of `Host`. */
  app: App;
  /** What listens, with an application of its own. */
  server: HttpServer;
  view: View;
  index: FlowIndex;
  numbers: SidecarNumbers & { sink: { stalled: number } };
  /** What the application says of the time; tests step it. */
  time: { now: number };
  errors: string[];
}

/** The sidecar's application with the recorded demo behind it, at the moment the recording ended. */
export function servedDemo(): Served {
  const { index, blocks, end } = settledDemo();
  const time = { now: end };
  const clock = () => time.now;
  const view = new View(4 * 1024 * 1024, (ip, at) => index.names.at(ip, at), clock, parseDemo);
  for (const block of blocks) view.add(block);
  const numbers = {
    pipeline: {
      counters: {
        clockSetBack: 0,
        lines: { enriched: 400, unchanged: 0, empty: 0, format: 0, 'too-long': 0 },
        evidence: { 'request-id': 400 },
        reasons: { direct: 0 },
      },
      pending: { bytes: 0, counters: { timedOut: 0, pushedOut: 0 } },
      unwrittenBytes: 0,
      catchUp: async () => {},
    },
    index,
    view,
    follower: {
      bytes: 0,
      backlogBytes: 0,
      rotations: 0,
      truncations: 0,
      losses: 0,
      lostBytes: 0,
      lateBytes: 0,
      newlinesAdded: 0,
    },
    sink: { bytes: 0, retries: 0, stalled: 0, checkpoints: 0, checkpointFailures: 0 },
    feed: () => ({ connected: true, connects: 1, failures: 0, records: 809, bytes: 0, lastAt: end }),
    clock,
  } as unknown as Served['numbers'];
  const errors: string[] = [];
  const onError = (message: string): unknown => errors.push(message);
  const app = appOf(numbers, onError);
  const server = createSidecarServer(numbers, onError);
  return { app, server, view, index, numbers, time, errors };
}

export function appOf(numbers: SidecarNumbers, onError: (message: string) => void = () => {}): App {
  return createSidecarApp(numbers, plainAnswers(numbers, { connections: 0, requests: 0, hosts: 0 }), onError);
}
