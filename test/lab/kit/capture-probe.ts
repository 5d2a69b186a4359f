/**
 * Runs a Capture in the node's namespace and does what stdin says, one JSON command a line; answers each with a JSON
 * line on stdout. `stall` stops the whole process until the named file appears, as a reader that does not keep up.
 */
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CAPTURE_DEFAULTS, type CaptureStats, type KnownFlow } from '../../../src/capture/capture.ts';
import { createCapture } from '../../../src/capture/create.ts';
import type { Observation } from '../../../src/model/feed.ts';

export type ProbeCommand =
  | { do: 'subscribe'; addresses: string[] }
  | { do: 'unsubscribe'; addresses: string[] }
  | { do: 'stall'; untilFile: string }
  | { do: 'flush' }
  | { do: 'lookup'; src: string; sport: number }
  | { do: 'report' }
  | { do: 'close' };

export interface ProbeReport {
  stats: CaptureStats;
  watermark: number;
  /** In order, as those below. */
  requests: Extract<Observation, { kind: 'request' }>[];
  gaps: Extract<Observation, { kind: 'gap' }>[];
  unreadable: Extract<Observation, { kind: 'unreadable' }>[];
  /** Connections that were opened and not closed, from subscriptions and batches: `src:sport ip:port`. */
  open: string[];
  opened: number;
  closed: number;
  flows?: KnownFlow[];
  completeSince?: Record<string, number>;
  held?: number;
}

async function main(options: Partial<typeof CAPTURE_DEFAULTS>): Promise<void> {
  const report: ProbeReport = {
    stats: {} as CaptureStats,
    watermark: 0,
    requests: [],
    gaps: [],
    unreadable: [],
    open: [],
    opened: 0,
    closed: 0,
  };
  const open = new Set<string>();
  const take = (observation: Observation): void => {
    if (observation.kind === 'request') report.requests.push(observation);
    else if (observation.kind === 'gap') report.gaps.push(observation);
    else if (observation.kind === 'unreadable') report.unreadable.push(observation);
    else if (observation.kind === 'open' || observation.kind === 'close') {
      const { src, sport, ip, port } = observation;
      const key = `${src}:${sport} ${ip}:${port}`;
      if (observation.kind === 'open') {
        report.opened++;
        open.add(key);
      } else {
        report.closed++;
        open.delete(key);
      }
    }
  };
  const capture = createCapture(
    { ...CAPTURE_DEFAULTS, ...options, log: (level, line) => console.error(`${level}: ${line}`) },
    {
      batch(observations, watermark) {
        for (const observation of observations) take(observation);
        report.watermark = watermark;
      },
    },
  );
  const answer = (more: object = {}) => {
    console.log(JSON.stringify({ ...report, stats: capture.stats, open: [...open], ...more }));
  };
  try {
    await capture.start();
  } catch (error) {
    console.log(JSON.stringify({ error: (error as Error).message }));
    return;
  }
  answer();
  for await (const line of createInterface(process.stdin)) {
    const command = JSON.parse(line) as ProbeCommand;
    if (command.do === 'subscribe') {
      const { flows, completeSince } = await capture.subscribe(command.addresses);
      for (const flow of flows) take(flow);
      answer({
        completeSince,
        held: flows.filter((flow) => flow.kind === 'open' && flow.preexisting).length,
      });
    } else if (command.do === 'stall') {
      console.log('{}');
      const clock = new Int32Array(new SharedArrayBuffer(4));
      while (!existsSync(command.untilFile)) Atomics.wait(clock, 0, 0, 5);
    } else if (command.do === 'lookup') {
      answer({ flows: await capture.lookup(command.src, command.sport) });
    } else {
      if (command.do === 'unsubscribe') capture.unsubscribe(command.addresses);
      if (command.do === 'flush') await capture.flush();
      if (command.do === 'close') await capture.close();
      answer();
      if (command.do === 'close') break;
    }
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  await main(JSON.parse(process.argv[2] ?? '{}') as Partial<typeof CAPTURE_DEFAULTS>);
  process.stdin.destroy();
}
