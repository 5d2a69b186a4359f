import { ApiError, type ApiServer } from '../cluster/api.ts';
import { bundleOf, type Credentials, renewed } from './credentials.ts';

/** Names of the webhook's objects. */
export interface Place {
  namespace: string;
  secret: string;
  service: string;
  /** Name of the MutatingWebhookConfiguration. */
  configuration: string;
}

interface Secret {
  metadata?: { resourceVersion?: string };
  data?: Record<string, string>;
}

interface Configuration {
  webhooks?: { clientConfig?: { caBundle?: string; service?: { name?: string; namespace?: string } } }[];
}

const ATTEMPTS = 5;
const CONFLICT = 409;
const NOT_FOUND = 404;

/**
 * The replicas' common certificate, made or renewed if necessary. The bundle of the API server gets its authority first, so
 * it verifies every certificate that is served. Throws ApiError.
 */
export async function share(api: ApiServer, place: Place, now: number): Promise<Credentials> {
  const credentials = await withRetry(() => ensureSecret(api, place, now));
  await withRetry(() => ensureBundle(api, place, bundleOf(credentials)));
  return credentials;
}

/** Another replica may write at the same time: after a conflict this one reads the other's certificate. */
async function withRetry<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = ATTEMPTS - 1; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== CONFLICT || left === 0) throw error;
    }
  }
}

async function ensureSecret(api: ApiServer, place: Place, now: number): Promise<Credentials> {
  const path = `/api/v1/namespaces/${place.namespace}/secrets`;
  const present = await orMissing(api.call('GET', `${path}/${place.secret}`) as Promise<Secret>);
  const given = present && decode(present.data);
  const names = [
    `${place.service}.${place.namespace}.svc`,
    `${place.service}.${place.namespace}.svc.cluster.local`,
  ];
  const wanted = renewed(given, names, now);
  if (wanted === given) return wanted;
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'Opaque',
    metadata: { ...present?.metadata, name: place.secret, namespace: place.namespace },
    data: encode(wanted),
  };
  if (present) await api.call('PUT', `${path}/${place.secret}`, secret);
  else await api.call('POST', path, secret);
  return wanted;
}

/** Whether the bundle was written. */
async function ensureBundle(api: ApiServer, place: Place, bundle: string): Promise<boolean> {
  const path = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${place.configuration}`;
  const configuration = (await api.call('GET', path)) as Configuration;
  const caBundle = base64(bundle);
  const others = (configuration.webhooks ?? []).filter(
    ({ clientConfig }) =>
      clientConfig?.service?.name === place.service && clientConfig.service.namespace === place.namespace,
  );
  if (others.every(({ clientConfig }) => clientConfig?.caBundle === caBundle)) return false;
  for (const { clientConfig } of others) if (clientConfig) clientConfig.caBundle = caBundle;
  await api.call('PUT', path, configuration);
  return true;
}

async function orMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError && error.status === NOT_FOUND) return undefined;
    throw error;
  }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function encode({ authority, previous, server }: Credentials): Record<string, string> {
  return {
    'ca.crt': base64(authority.certificate),
    'ca.key': base64(authority.key),
    'previous-ca.crt': base64(previous),
    'tls.crt': base64(server.certificate),
    'tls.key': base64(server.key),
  };
}

function decode(data: Record<string, string> = {}): Credentials {
  const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString();
  return {
    authority: { certificate: text('ca.crt'), key: text('ca.key') },
    previous: text('previous-ca.crt'),
    server: { certificate: text('tls.crt'), key: text('tls.key') },
  };
}
