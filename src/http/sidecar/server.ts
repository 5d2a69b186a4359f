import { type HttpLimits, HttpServer } from '../server.ts';
import type { Refusals } from '../sources.ts';
import type { SidecarNumbers } from './metrics.ts';
import { plainAnswers } from './plain.ts';

/** `kubectl port-forward` and probes come from one address each, with many connections at most. */
const LIMITS: HttpLimits = {
  connections: 200,
  connectionsPerSource: 100,
  requestsPerSecond: 500,
  headersMs: 5_000,
};

/**
 * The sidecar's HTTP interface. `onError` gets unexpected errors; `allowHost` are further allowed `Host` names. Its packages
 * are loaded when somebody asks for what needs them: many sidecars only write lines.
 */
export function createSidecarServer(
  numbers: SidecarNumbers,
  onError: (message: string) => void,
  allowHost: readonly string[] = [],
): HttpServer {
  const refusals: Refusals = { connections: 0, requests: 0, hosts: 0 };
  const plain = plainAnswers(numbers, refusals);
  return new HttpServer({
    limits: LIMITS,
    application: async () => (await import('./app.ts')).createSidecarApp(numbers, plain, onError),
    plain: new Map([
      ['/healthz', plain.health],
      ['/readyz', plain.ready],
      ['/metrics', plain.metrics],
    ]),
    onError,
    refusals,
    allowHost,
  });
}
