import { startLoader } from './loader.ts';
import { findProbePlaces } from './nginx-binary.ts';
import { findNginx, readExecutable } from './processes.ts';

/** What the source `trace` can do on this node, as one line for people. Rejects with `CaptureError` where it cannot. */
export async function tryTrace(): Promise<string> {
  const loader = await startLoader({ onLine() {}, onEnd() {} });
  loader.close();
  const { binaries } = findNginx(undefined);
  if (binaries.length === 0)
    return 'the kernel takes the program; no nginx is seen (the pods’ processes are with hostPID: true)';
  const findings = binaries.map(({ path, named }) => {
    const places = findProbePlaces(readExecutable(path));
    return typeof places === 'string'
      ? `${named} would be left alone: ${places}`
      : `${named}, nginx ${places.version}, can be traced`;
  });
  return findings.join('; ');
}
