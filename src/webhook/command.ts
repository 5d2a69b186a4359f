import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { openApi } from '../cluster/api.ts';
import type { WebhookOptions } from '../config/commands.ts';
import { stderrLog } from '../log.ts';
import { untilSignal } from '../signals.ts';
import { createWebhookServer, type WebhookServer } from './server.ts';
import { type Place, share } from './shared.ts';

const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
/** Interval of the comparisons of the shared certificate with the served one (ms), and the delay after a failure. */
const CERTIFICATE_CHECK_MS = 60_000;
const CERTIFICATE_RETRY_MS = 5_000;

/** `realpod webhook`: runs until SIGTERM or SIGINT. */
export async function runWebhook(options: WebhookOptions): Promise<number> {
  const log = stderrLog('webhook', options.log);
  const ending = new AbortController();
  const stopped = untilSignal().then((signal) => {
    ending.abort();
    return signal;
  });
  const api = await openApi(options.kubeconfig);
  const place: Place = { ...options, namespace: options.namespace ?? ownNamespace() };
  let served: WebhookServer | undefined;
  let certificate: string | undefined;
  while (!ending.signal.aborted) {
    let waitMs = CERTIFICATE_CHECK_MS;
    try {
      const { server } = await share(api, place, Date.now());
      if (!served) {
        const made = createWebhookServer(server, options, log);
        const { host, port } = options.listen;
        await new Promise<void>((resolve, reject) => {
          made.server.once('error', reject).listen(port, host, resolve);
        });
        served = made;
        log('info', `serving on port ${port}; injects ${options.image}`);
      } else if (certificate !== server.certificate) {
        served.use(server);
        log('info', 'serving with a new certificate');
      }
      certificate = server.certificate;
    } catch (error) {
      waitMs = CERTIFICATE_RETRY_MS;
      log('warn', `${error instanceof Error ? error.message : String(error)}; trying again in 5 s`);
    }
    await delay(waitMs, undefined, { signal: ending.signal }).catch(() => {});
  }
  log('info', `received ${await stopped}: ending`);
  served?.server.closeIdleConnections();
  await new Promise<void>((resolve) => (served ? served.server.close(() => resolve()) : resolve()));
  return 0;
}

function ownNamespace(): string {
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim();
  } catch {
    return 'realpod';
  }
}
