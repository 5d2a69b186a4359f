import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSink } from '../../src/write/open-sink.ts';
import type { Sink, SinkOptions } from '../../src/write/sink.ts';

/** A new directory with the paths of a log, an output and a state file, and the sink that is opened on them. */
export function sinkPlace(clock: () => number) {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-sink-'));
  const log = join(dir, 'access.log');
  const out = join(dir, 'out.log');
  const state = join(dir, 'state');
  const notices: string[] = [];
  const open = (options: Partial<SinkOptions> = {}): Promise<Sink> =>
    openSink({
      outputs: [out],
      state,
      log,
      clock,
      onNotice: (level, text) => notices.push(`${level}: ${text}`),
      ...options,
    });
  return { dir, log, out, state, notices, open, remove: () => rmSync(dir, { recursive: true }) };
}
