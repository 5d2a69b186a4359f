import { FlowIndex } from '../../src/join/index/flow-index.ts';
import type { IndexLimits } from '../../src/join/index/limits.ts';
import { matchLine } from '../../src/join/match.ts';
import type { Compared } from '../../src/model/content.ts';
import type {
  FeedRecord,
  Observation,
  RequestRecord,
  Source,
  UnreadableProtocol,
} from '../../src/model/feed.ts';
import type { Attempt, ParsedLine } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';

export const T0 = 1_764_837_843_000;
export const VIP = '10.105.148.194';
export const NGINX = '10.244.0.70';
export const podIp = (pod: number): string => `10.244.1.${pod}`;

export type RequestExtra = Partial<RequestRecord> & { severalSegments?: true };

/** A feed written by hand, record by record, with times in ms after T0. It begins complete, 10 minutes before T0. */
export class Wire {
  readonly index: FlowIndex;
  #seq = 0;

  constructor(limits?: IndexLimits, sources: readonly Source[] = ['conntrack', 'tap'], compared?: Compared) {
    this.index = new FlowIndex(limits, compared && (() => compared));
    for (const source of sources) this.gap(source, -600_000);
    this.tick(-600_000);
  }

  apply(observation: Observation): this {
    this.index.apply({ ...observation, seq: ++this.#seq } as FeedRecord);
    return this;
  }

  tick(at: number): this {
    return this.apply({ kind: 'tick', t: T0 + at });
  }

  gap(source: Source, at: number, from?: number): this {
    return this.apply({
      kind: 'gap',
      source,
      t: T0 + at,
      ...(from === undefined ? {} : { from: T0 + from }),
    });
  }

  open(
    sport: number,
    pod: number,
    at: number,
    extra: { preexisting?: true; kernelTime?: true; vip?: string; vport?: number } = {},
  ): this {
    return this.apply({ kind: 'open', t: T0 + at, ...flow(sport, pod), via: 'conntrack', ...extra });
  }

  /** Lines of the Service have shown that the port in them is that of its connections. */
  portBelieved(): this {
    const { ports } = this.index.service(VIP, 80)!;
    for (const port of [1, 2]) ports.seen(port, true, 1, T0, true);
    return this;
  }

  close(sport: number, pod: number, at: number): this {
    return this.apply({ kind: 'close', t: T0 + at, ...flow(sport, pod), via: 'conntrack' });
  }

  request(sport: number, pod: number, at: number, extra: RequestExtra = {}): this {
    const { severalSegments, ...more } = extra;
    const single = severalSegments ? {} : { singleSegment: true as const };
    return this.apply({ kind: 'request', t: T0 + at, ...flow(sport, pod), ...single, via: 'tap', ...more });
  }

  /** `exact`: with the kernel's own time. */
  response(sport: number, pod: number, at: number, exact = true): this {
    const time = exact ? { kernelTime: true as const } : {};
    return this.apply({ kind: 'response', t: T0 + at, ...flow(sport, pod), ...time, via: 'tap' });
  }

  unreadable(sport: number, pod: number, at: number, protocol: UnreadableProtocol = 'http2'): this {
    return this.apply({ kind: 'unreadable', t: T0 + at, ...flow(sport, pod), via: 'tap', protocol });
  }

  /** What the join says of the line's last attempt: `pod evidence`, or the reason. */
  says(line: ParsedLine, readAt: number): string {
    const { outcomes, matched } = matchLine(line, T0 + readAt, this.index);
    this.index.markMatched(matched);
    const outcome = outcomes[outcomes.length - 1]!;
    return isResolved(outcome) ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason;
  }
}

function flow(sport: number, pod: number) {
  return { src: NGINX, sport, vip: VIP, vport: 80, ip: podIp(pod), port: 8000 };
}

/** A line that nginx dates `end`, of a request that took `took` (ms); without both a line without times. */
export function lineOf(
  times: { end: number; took: number } | undefined,
  more: { id?: string; attempt?: Partial<Attempt>; attempts?: readonly Partial<Attempt>[] } = {},
): ParsedLine {
  const attempt: Attempt = {
    start: 0,
    end: 0,
    kind: 'ip',
    ip: VIP,
    port: 80,
    connectMs: times && 0,
    headerMs: times?.took,
    responseMs: times?.took,
    status: 200,
    bytesSent: undefined,
    bytesReceived: undefined,
    localPort: undefined,
    ...more.attempt,
  };
  return {
    attempts: more.attempts?.map((each) => ({ ...attempt, ...each })) ?? [attempt],
    endMs: times && T0 + times.end,
    endStepMs: 1,
    requestMs: times?.took,
    id: more.id,
    method: 'GET',
    path: '/',
    status: 200,
  };
}
