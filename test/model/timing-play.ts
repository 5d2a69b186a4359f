import {
  LIVE,
  TIMING_LIMITS,
  Timing,
  type TimingLimits,
  type TimingPace,
} from '../../src/inferred/timing.ts';
import type { FeedRecord } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';

export interface TimingScore {
  attempts: number;
  right: number;
  /** One line of text for each attempt that was given a wrong pod. */
  wrong: string[];
  counters: Timing['counters'];
}

export interface PlayedLine {
  line: ParsedLine;
  readAt: number;
  /** ip:port of each attempt; undefined where nobody knows. */
  truth: readonly (string | undefined)[];
}

/** Plays a record and a log in the order of time: each line is decided when the record is far enough past it. */
export function playTiming(
  feed: readonly { at: number; record: FeedRecord }[],
  lines: readonly PlayedLine[],
  limits: TimingLimits = TIMING_LIMITS,
  pace: TimingPace = LIVE,
): TimingScore {
  const timing = new Timing(limits, pace);
  const observe = ({ line, readAt }: (typeof lines)[number]): void => timing.observe(line, readAt);
  const score: TimingScore = { attempts: 0, right: 0, wrong: [], counters: timing.counters };
  let read = 0;
  let decided = 0;
  let watermark = Number.NEGATIVE_INFINITY;
  const decide = (all: boolean): void => {
    for (; decided < read; decided++) {
      const { line, readAt, truth } = lines[decided]!;
      if (!all && watermark < readAt + timing.waitMs) return;
      truth.forEach((pod, k) => {
        if (pod === undefined) return;
        score.attempts++;
        const named = timing.backend(line, k);
        if (!named) return;
        if (`${named.ip}:${named.port}` === pod) score.right++;
        else score.wrong.push(`attempt ${k} of ${JSON.stringify(line)}: said ${named.ip}, was ${pod}`);
      });
    }
  };
  for (const { at, record } of feed) {
    while (read < lines.length && lines[read]!.readAt <= at) observe(lines[read++]!);
    timing.apply(record);
    if (record.kind !== 'tick') continue;
    watermark = record.t;
    decide(false);
  }
  while (read < lines.length) observe(lines[read++]!);
  decide(true);
  return score;
}
