import { existsSync, readFileSync } from 'node:fs';
import { Agent, type RequestOptions } from 'node:https';
import { join } from 'node:path';

/** Where the kubelet puts a pod's credentials. */
const DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Where the API server is, and how to be let in. */
export interface Credentials {
  /** Without a slash at its end. */
  url: string;
  /** Adds what the server asks for. Rejects where the credentials cannot be read. */
  authenticate(options: RequestOptions): Promise<void>;
}

/** Whether this process runs in a pod that has Kubernetes credentials. */
export function inCluster(directory = DIRECTORY): boolean {
  return existsSync(join(directory, 'token'));
}

/**
 * The credentials of a pod (kubernetes.io/docs/tasks/run-application/access-api-from-pod): two variables and two files. The
 * kubelet renews both files, so they are read for each request. Throws where a variable is missing.
 */
export function podCredentials(env: NodeJS.ProcessEnv, directory = DIRECTORY): Credentials {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (!host || !port)
    throw new Error('KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set; every pod has both');
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    async authenticate(options) {
      const token = readFileSync(join(directory, 'token'), 'utf8').trim();
      if (token === '') throw new Error(`${join(directory, 'token')} is empty`);
      options.headers = { ...options.headers, authorization: `Bearer ${token}` };
      // One connection for each request, as an idle one may be gone.
      options.agent = new Agent({ ca: readFileSync(join(directory, 'ca.crt')) });
    },
  };
}
