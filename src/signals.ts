/**
 * Resolves at the first SIGTERM or SIGINT, or when `signal` aborts. A second signal ends the process as it would have
 * without this.
 */
export function untilSignal(signal?: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    const done = (name: NodeJS.Signals): void => {
      process.off('SIGTERM', done);
      process.off('SIGINT', done);
      resolve(name);
    };
    process.on('SIGTERM', done);
    process.on('SIGINT', done);
    signal?.addEventListener('abort', () => resolve('request'), { once: true });
  });
}
