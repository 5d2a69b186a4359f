import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { type Credentials, inCluster, podCredentials } from './pod-credentials.ts';

/** Largest answer and largest watch event that is accepted, in characters. */
const MAX_TEXT = 64 * 1024 * 1024;
const CALL_TIMEOUT_MS = 60_000;
/** A watch with bookmarks gets one about every minute. A connection without a byte for this long is closed. */
const API_SILENCE_MS = 90_000;

/** The API server refused, or could not be reached. `status`: the HTTP code, 0 without an answer. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  /** The connection was open and silent for too long. */
  readonly silent: boolean;
  constructor(status: number, message: string, silent = false) {
    super(message);
    this.status = status;
    this.silent = silent;
  }
}

export interface ApiServer {
  /** One request and its whole JSON answer. Rejects with `ApiError` unless the status is 2xx. */
  call(method: 'GET' | 'POST' | 'PUT', path: string, body?: object, signal?: AbortSignal): Promise<unknown>;
  /** A GET whose answer is one JSON object a line; calls `onOpen` when it begins. Resolves when the server ends it properly. */
  stream(
    path: string,
    onOpen: () => void,
    onObject: (object: unknown) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

/**
 * Finds the API server and its credentials: from `kubeconfig`, or as a pod. Nothing is sent yet.
 *
 * `@kubernetes/client-node` reads a kubeconfig: users, exec plug-ins, proxies, TLS. docs/design.md has what the package costs
 * to load, so it is imported where there is one; a pod's credentials are two files. The requests are made here, because its
 * informer uses no bookmarks, lists everything at once, keeps whole objects and stops at the first error, and its `Watch`
 * cannot be aborted before the first answer.
 *
 * Throws `ApiError` with one line for people when the credentials are unusable.
 */
export async function openApi(kubeconfig?: string): Promise<ApiServer> {
  try {
    if (kubeconfig !== undefined) return serverAt(await readKubeconfig(kubeconfig));
    if (inCluster()) return serverAt(podCredentials(process.env));
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(0, `cannot use ${kubeconfig ?? 'the pod’s credentials'}: ${messageOf(error)}`);
  }
  throw new ApiError(0, 'this is not a pod with a service account; use --kubeconfig PATH');
}

async function readKubeconfig(path: string): Promise<Credentials> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromFile(path);
  const { server } = config.getCurrentCluster() ?? {};
  if (!server)
    throw new ApiError(0, `${path} names no current cluster; set current-context to a context that exists`);
  return {
    url: server.replace(/\/$/, ''),
    authenticate: (options) => config.applyToHTTPSOptions(options),
  };
}

class Silence extends Error {}

/** An API server whose address and credentials are still being read: calls wait for them. */
export function opening(server: Promise<ApiServer>): ApiServer {
  return {
    call: async (...parameters) => (await server).call(...parameters),
    stream: async (...parameters) => (await server).stream(...parameters),
  };
}

export function serverAt({ url, authenticate }: Credentials): ApiServer {
  const open = async (
    method: string,
    path: string,
    body: object | undefined,
    silenceMs: number,
    signal: AbortSignal,
  ): Promise<IncomingMessage> => {
    const options: RequestOptions = {};
    try {
      await authenticate(options);
    } catch (error) {
      throw new ApiError(0, `no credentials for the API server: ${messageOf(error)}`);
    }
    const text = body && JSON.stringify(body);
    options.method = method;
    options.signal = signal;
    const type = text === undefined ? {} : { 'content-type': 'application/json' };
    options.headers = { ...options.headers, ...type, accept: 'application/json' };
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const request = send(url + path, options, resolve);
      request.setTimeout(silenceMs, () => request.destroy(new Silence(`silent for ${silenceMs / 1000} s`)));
      request.on('socket', (socket) => socket.setKeepAlive(true, 30_000));
      request.on('error', (error) =>
        reject(new ApiError(0, `API server at ${url}: ${error.message}`, error instanceof Silence)),
      );
      request.end(text);
    });
  };

  return {
    async call(method, path, body, signal) {
      const limit = AbortSignal.timeout(CALL_TIMEOUT_MS);
      const response = await open(
        method,
        path,
        body,
        CALL_TIMEOUT_MS,
        signal ? AbortSignal.any([limit, signal]) : limit,
      );
      return answer(response);
    },
    async stream(path, onOpen, onObject, signal) {
      const response = await open('GET', path, undefined, API_SILENCE_MS, signal);
      if (response.statusCode !== 200) await answer(response);
      onOpen();
      let rest = '';
      try {
        response.setEncoding('utf8');
        for await (const chunk of response) {
          const text: string = rest + chunk;
          let start = 0;
          for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
            onObject(JSON.parse(text.slice(start, end)));
            start = end + 1;
          }
          rest = text.slice(start);
          if (rest.length > MAX_TEXT) throw new Error('an event is larger than 64 MiB');
        }
      } catch (error) {
        response.destroy();
        if (error instanceof ApiError) throw error;
        throw new ApiError(0, `watch broken: ${messageOf(error)}`, error instanceof Silence);
      }
    },
  };
}

/** The JSON of a 2xx answer; anything else becomes an `ApiError` with the server's message. */
async function answer(response: IncomingMessage): Promise<unknown> {
  const status = response.statusCode ?? 0;
  let text = '';
  let value: unknown;
  try {
    response.setEncoding('utf8');
    for await (const chunk of response) {
      text += chunk;
      if (text.length > MAX_TEXT) throw new Error('an answer is larger than 64 MiB');
    }
    value = JSON.parse(text);
  } catch (error) {
    response.destroy();
    throw new ApiError(status < 300 ? 0 : status, `unreadable answer (${status}): ${messageOf(error)}`);
  }
  if (status >= 200 && status < 300) return value;
  const message = (value as { message?: unknown } | null)?.message;
  throw new ApiError(
    status,
    typeof message === 'string' ? message.slice(0, 300) : `the API server answered ${status}`,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
