/**
 * Resolves at the first of `names`, or when `signal` aborts. A second signal has its default effect. A sidecar reopens its
 * outputs at SIGHUP, so only commands for a terminal add that.
 */
export function untilSignal(
  signal?: AbortSignal,
  names: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT'],
): Promise<string> {
  return new Promise((resolve) => {
    const done = (name: NodeJS.Signals): void => {
      for (const each of names) process.off(each, done);
      resolve(name);
    };
    for (const each of names) process.on(each, done);
    signal?.addEventListener('abort', () => resolve('request'), { once: true });
  });
}
