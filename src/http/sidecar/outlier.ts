import { countFrom, quantile } from './latency.ts';
import type { Tally } from './pod-window.ts';

/** How a pod stands out from its siblings. */
export interface Outlier {
  kind: 'errors' | 'latency';
  /** The share of its requests that failed, or that were slow (0 to 1). */
  share: number;
  /** The siblings' share: their median. */
  siblings: number;
  /** For `latency`: what counts as slow, ms. */
  slowMs?: number;
  /** One sentence for people, without the pod's name. */
  text: string;
}

/** The result of comparing a pod with its siblings. */
export interface PodFinding {
  outlier: Outlier[];
  /** Not decidable: the pod, or all of its siblings, had too few requests, or too few bad ones. */
  tooFew: boolean;
}

/** Requests that a pod must have had to be marked, and to count as a sibling. */
const MIN_REQUESTS = 20;
/** Failed, or slow, requests that a pod must have had to be marked. */
const MIN_MARKS = 5;
/** How many percentage points a share must lie above the siblings'. */
const MIN_MORE = 0.05;
/** How many times the siblings' share. */
const MIN_TIMES = 2;
/** Least distance in standard deviations: chance alone exceeds 4 once in 30,000. */
const MIN_SIGMA = 4;
/** What is slow: this many times the siblings' median, and this many ms more. */
const SLOW_TIMES = 2;
const SLOW_MORE_MS = 10;

/**
 * Which pods of one Service stand out, in step with `pods`; each tally covers the same time.
 *
 * A pod is compared with its siblings, the other pods that had enough requests, by a share of its requests: those that
 * failed, or those that were slow. The siblings' share is the median of theirs, so that one bad sibling does not hide
 * another. It must be higher by enough to matter and by more than chance explains (binomial). Slow is what takes more
 * than twice the siblings' median p95, and 10 ms more, or, for half of the requests, more than twice their median p50.
 */
export function findOutliers(pods: readonly Tally[]): PodFinding[] {
  const counted = pods.filter((pod) => pod.requests >= MIN_REQUESTS);
  const active = pods.filter((pod) => pod.requests > 0).length;
  return pods.map((pod) => {
    const siblings = counted.filter((other) => other !== pod);
    // A pod without requests, or without siblings, has nothing to be compared.
    if (pod.requests === 0 || active === 1) return { outlier: [], tooFew: false };
    if (pod.requests < MIN_REQUESTS || siblings.length === 0) return { outlier: [], tooFew: true };
    const found = [byErrors(pod, siblings), byLatency(pod, siblings)];
    const outlier = found.filter((each) => typeof each === 'object');
    return { outlier, tooFew: outlier.length === 0 && found.includes('too-few') };
  });
}

function byErrors(pod: Tally, siblings: readonly Tally[]): Outlier | StandsOut {
  const usual = median(siblings.map(({ errors, requests }) => errors / requests));
  const verdict = standsOut(pod.errors, pod.requests, usual, MIN_MORE, average(siblings));
  if (verdict !== 'yes') return verdict;
  const share = pod.errors / pod.requests;
  const text = `${percent(share)} of its requests fail, ${usual === 0 ? 'none' : percent(usual)} of its siblings’`;
  return { kind: 'errors', share, siblings: usual, text };
}

function byLatency(pod: Tally, siblings: readonly Tally[]): Outlier | StandsOut {
  const timed = siblings.filter(({ latency }) => total(latency) >= MIN_REQUESTS);
  const own = total(pod.latency);
  if (own < MIN_REQUESTS || timed.length === 0) return 'no';
  const found: Outlier[] = [];
  let tooFew = false;
  for (const [q, more] of [
    [0.95, MIN_MORE],
    [0.5, 0.5],
  ] as const) {
    const reference = median(timed.map(({ latency }) => quantile(latency, q) ?? 0));
    const slowMs = Math.round(reference * SLOW_TIMES + SLOW_MORE_MS);
    const usual = median(timed.map(({ latency }) => countFrom(latency, slowMs) / total(latency)));
    const slow = countFrom(pod.latency, slowMs);
    const verdict = standsOut(slow, own, usual, more, average(timed));
    if (verdict === 'too-few') tooFew = true;
    if (verdict !== 'yes') continue;
    found.push({ kind: 'latency', share: slow / own, siblings: usual, slowMs, text: slower(pod, timed) });
  }
  // The quantile that differs more.
  const [first] = found.sort((a, b) => b.share - b.siblings - (a.share - a.siblings));
  return first ?? (tooFew ? 'too-few' : 'no');
}

/** `6 × slower than its siblings: p50 130 ms, theirs 21 ms`, by the quantile that differs most. */
function slower(pod: Tally, siblings: readonly Tally[]): string {
  let worst = { times: 0, text: '' };
  for (const [name, q] of [
    ['p50', 0.5],
    ['p95', 0.95],
  ] as const) {
    const own = quantile(pod.latency, q) ?? 0;
    const theirs = Math.round(median(siblings.map(({ latency }) => quantile(latency, q) ?? 0)));
    const times = own / Math.max(1, theirs);
    if (times <= worst.times) continue;
    const factor = times >= 10 ? times.toFixed(0) : times.toFixed(1).replace('.0', '');
    worst = {
      times,
      text: `${factor} × slower than its siblings: ${name} ${own} ms, theirs ${theirs} ms`,
    };
  }
  return worst.text;
}

/** `too-few`: the share is far above the siblings', and chance can still explain it. */
type StandsOut = 'yes' | 'no' | 'too-few';

/** Whether `marked` of `requests` is more than the siblings' share by enough to matter and not by chance. */
function standsOut(
  marked: number,
  requests: number,
  usual: number,
  more: number,
  siblingRequests: number,
): StandsOut {
  const share = marked / requests;
  if (share < usual + more || share < usual * MIN_TIMES) return 'no';
  if (marked < MIN_MARKS) return 'too-few';
  // Siblings without a bad request may still have a small share: that of one more request.
  const assumed = Math.max(usual, 1 / (siblingRequests + 1));
  const sigma = Math.sqrt(assumed * (1 - assumed) * (1 / requests + 1 / siblingRequests));
  return share - usual >= MIN_SIGMA * sigma ? 'yes' : 'too-few';
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function average(pods: readonly Tally[]): number {
  return pods.reduce((sum, { requests }) => sum + requests, 0) / pods.length;
}

function total(counts: Uint32Array): number {
  let sum = 0;
  for (let b = 0; b < counts.length; b++) sum += counts[b]!;
  return sum;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
