import { setTimeout } from 'node:timers/promises';
import type { Capture, CaptureOptions, CaptureSink } from './capture.ts';
import { KernelCapture } from './kernel.ts';
import { LoggedCapture } from './kernel-log/capture.ts';
import { openKernelLog } from './kernel-log/open.ts';
import { TracedCapture } from './trace/capture.ts';
import { startLoader } from './trace/loader.ts';
import { findNginx, readExecutable } from './trace/processes.ts';

/** Opens nothing before `start`, which also loads the native binding, so importing this file costs little. */
export function createCapture(options: CaptureOptions, sink: CaptureSink): Capture {
  if (!options.sources.includes('trace')) return withoutTrace(options, sink);
  return new TracedCapture(
    (to) => withoutTrace(options, to),
    {
      start: (parts) => startLoader(parts),
      find: findNginx,
      read: readExecutable,
      clock: { wall: Date.now },
      log: options.log,
    },
    sink,
  );
}

function withoutTrace(options: CaptureOptions, sink: CaptureSink): Capture {
  const { sources, kernelLog, log } = options;
  if (!sources.includes('kernel-log')) return new KernelCapture(options, sink);
  return new LoggedCapture(
    (to) => new KernelCapture(options, to),
    {
      open: () => openKernelLog(kernelLog, log),
      clock: { wall: Date.now, monotonic: () => performance.now(), wait: (ms) => setTimeout(ms) },
      log,
    },
    sink,
  );
}
