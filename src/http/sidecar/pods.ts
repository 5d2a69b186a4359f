import type { PendingBlock } from '../../join/pending.ts';
import type { Attempt, ParsedLine } from '../../model/line.ts';
import { isResolved, type Outcome, type PodName } from '../../model/outcome.ts';
import { formatHostPort } from '../../parse/address.ts';
import { SECONDS_BOUNDS, secondsBucket } from './latency.ts';
import type { NameAt } from './name-at.ts';
import { EMPTY_AFTER_MS, PodWindow } from './pod-window.ts';
import { UnresolvedTable } from './unresolved.ts';

/** Pods with figures. At the limit requests to others are only counted, until an idle pod is removed. */
const MAX_PODS = 1_000;
/** With the table full, interval of searches for idle pods (ms). */
const LOOK_EVERY_MS = 1_000;

/** Classes of response status; index 0: none was logged, as for a request that the client aborted. */
export const STATUS_CLASSES = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;

/** Figures of one pod behind one upstream address. */
export interface PodFigures {
  /** The upstream address that nginx connected to, as in `$upstream_addr`. */
  readonly upstream: string;
  readonly vip: string;
  readonly vport: number;
  readonly ip: string;
  readonly port: number;
  name: PodName | undefined;
  /** The Service's name; empty where it is not known. */
  service: string;
  namespace: string;
  /** Time of its last line, ms since the epoch. */
  lastAt: number;
  /** The first and the last time it was counted, ms since the epoch. */
  readonly firstCounted: number;
  lastCounted: number;
  requests: number;
  /** Answers of 500 and above. */
  errors: number;
  /** In step with STATUS_CLASSES. */
  readonly byStatus: number[];
  /** Timed requests: sum in ms, and counts by secondsBucket(). */
  timedMs: number;
  readonly bySeconds: Uint32Array;
  readonly window: PodWindow;
}

/**
 * Requests, errors and times of each pod, counted as lines leave. An attempt counts for its pod, also where nginx then
 * tried another one. A pod is identified by name and address: when another pod takes the address, the figures restart.
 */
export class PodTable {
  readonly counters = { refused: 0 };
  /** Which times: the attempt's `$upstream_response_time`, or the line's `$request_time` where that is not logged. */
  timedBy: 'upstream_response_time' | 'request_time' | undefined;
  /** Time of the earliest line that was counted, ms since the epoch. */
  since = Infinity;
  /** The attempts without a pod. */
  readonly unresolved: UnresolvedTable;
  readonly #nameAt: NameAt;
  readonly #byIp = new Map<string, PodFigures[]>();
  #size = 0;
  #lookAgain = 0;

  constructor(nameAt: NameAt) {
    this.#nameAt = nameAt;
    this.unresolved = new UnresolvedTable(nameAt);
  }

  get size(): number {
    return this.#size;
  }

  /** Counts the attempts of a settled block. `now`: ms since the epoch. */
  add(block: Pick<PendingBlock<unknown>, 'lines' | 'outcomes' | 'readAt'>, now: number): void {
    for (let i = 0; i < block.lines.length; i++) {
      const { parsed } = block.lines[i]!;
      if (typeof parsed === 'string') continue;
      const outcomes = block.outcomes[i];
      if (!outcomes) continue;
      for (let k = 0; k < outcomes.length; k++) {
        this.#count(parsed, k, outcomes[k]!, block.readAt, now);
      }
    }
  }

  /** Every pod with figures. */
  *all(now: number): Generator<PodFigures> {
    this.#dropGone(now);
    for (const pods of this.#byIp.values()) yield* pods;
  }

  #count(line: ParsedLine, k: number, outcome: Outcome, readAt: number, now: number): void {
    const attempt = line.attempts[k]!;
    let pod: PodFigures | undefined;
    const at = Math.min(line.endMs ?? readAt, now);
    if (isResolved(outcome)) pod = this.#pod(outcome, outcome.name, attempt, at, now);
    else if (outcome.reason === 'direct') {
      pod = this.#pod(attempt, this.#nameAt(attempt.ip, at), attempt, at, now);
    }
    const status = statusOf(line, k);
    const error = status !== undefined && status >= 500;
    if (!isResolved(outcome) && outcome.reason !== 'direct') {
      if (outcome.reason !== 'not-ip') this.unresolved.add(attempt, outcome.reason, at, error, now);
      return;
    }
    if (!pod) return;
    const ms = this.#time(line, attempt);
    if (at < this.since) this.since = at;
    pod.lastAt = Math.max(pod.lastAt, at);
    pod.lastCounted = now;
    pod.requests++;
    if (error) pod.errors++;
    pod.byStatus[status !== undefined && status >= 100 && status < 600 ? (status / 100) | 0 : 0]!++;
    if (ms !== undefined) {
      pod.timedMs += ms;
      pod.bySeconds[secondsBucket(ms)]!++;
    }
    pod.window.add(at, error, ms);
  }

  #time(line: ParsedLine, attempt: Attempt): number | undefined {
    if (attempt.responseMs !== undefined) {
      this.timedBy = 'upstream_response_time';
      return attempt.responseMs ?? undefined;
    }
    // With several attempts, the request's time is not the time of one of them.
    if (line.requestMs === undefined || line.attempts.length !== 1) return undefined;
    this.timedBy = 'request_time';
    return line.requestMs;
  }

  #pod(
    { ip, port }: { ip: string; port: number },
    name: PodName | undefined,
    upstream: Attempt,
    at: number,
    now: number,
  ): PodFigures | undefined {
    const pods = this.#byIp.get(ip);
    if (pods) {
      for (const pod of pods) {
        if (pod.port !== port || pod.vport !== upstream.port || pod.vip !== upstream.ip) continue;
        if (pod.name === name) return pod;
        // The first name of an address is valid for all times before, so lines from before it are this pod's.
        if (!pod.name || (name && pod.name.pod === name.pod && pod.name.namespace === name.namespace)) {
          this.#rename(pod, name, at);
          return pod;
        }
      }
    }
    return this.#admit(ip, port, upstream, name, at, now);
  }

  #rename(pod: PodFigures, name: PodName | undefined, at: number): void {
    pod.name = name;
    const upstream = this.#nameAt(pod.vip, at);
    pod.service = upstream?.service || name?.service || '';
    pod.namespace = name?.namespace || upstream?.namespace || '';
  }

  #admit(
    ip: string,
    port: number,
    upstream: Attempt,
    name: PodName | undefined,
    at: number,
    now: number,
  ): PodFigures | undefined {
    if (this.#size >= MAX_PODS) {
      if (now >= this.#lookAgain) {
        this.#lookAgain = now + LOOK_EVERY_MS;
        this.#dropGone(now);
      }
      if (this.#size >= MAX_PODS) {
        this.counters.refused++;
        return undefined;
      }
    }
    const pod: PodFigures = {
      upstream: formatHostPort(upstream.ip, upstream.port),
      vip: upstream.ip,
      vport: upstream.port,
      ip,
      port,
      name: undefined,
      service: '',
      namespace: '',
      lastAt: at,
      firstCounted: now,
      lastCounted: now,
      requests: 0,
      errors: 0,
      byStatus: STATUS_CLASSES.map(() => 0),
      timedMs: 0,
      bySeconds: new Uint32Array(SECONDS_BOUNDS.length + 1),
      window: new PodWindow(),
    };
    this.#rename(pod, name, at);
    const pods = this.#byIp.get(ip);
    if (pods) pods.push(pod);
    else this.#byIp.set(ip, [pod]);
    this.#size++;
    return pod;
  }

  #dropGone(now: number): void {
    for (const [ip, pods] of this.#byIp) {
      const left = pods.filter((pod) => now - pod.lastCounted < EMPTY_AFTER_MS);
      if (left.length === pods.length) continue;
      this.#size -= pods.length - left.length;
      if (left.length > 0) this.#byIp.set(ip, left);
      else this.#byIp.delete(ip);
    }
  }
}

/**
 * The status of the pod's response. Without `$upstream_status`, the line's status is that of the last attempt, and the
 * status of earlier attempts is not known.
 */
function statusOf(line: ParsedLine, k: number): number | undefined {
  const { status } = line.attempts[k]!;
  if (status !== undefined) return status ?? undefined;
  return k === line.attempts.length - 1 ? line.status : undefined;
}
