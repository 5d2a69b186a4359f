import { readFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';

export interface HelperRequestsOptions {
  /** The helper, such as `http://10.0.0.5:9797`. */
  url: URL;
  /** File with a bearer token. Read for each request, as kubelet renews it. */
  tokenFile: string | undefined;
  onNotice(level: 'warn', text: string): void;
}

/** GET requests to the helper, over connections that are kept. */
export class HelperRequests {
  readonly #options: HelperRequestsOptions;
  readonly #agent: http.Agent;

  constructor(options: HelperRequestsOptions) {
    this.#options = options;
    const { Agent } = options.url.protocol === 'https:' ? https : http;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 2, timeout: 60_000 });
  }

  /**
   * Asks for `path`, which may have parameters, for these addresses. Never rejects; the request emits `error` and `close`
   * as Node's do.
   */
  async send(
    path: string,
    addresses: readonly string[],
    onResponse: (response: http.IncomingMessage) => void,
  ): Promise<http.ClientRequest> {
    const { url } = this.#options;
    const query = addresses.map((address) => `src=${encodeURIComponent(address)}`).join('&');
    const target = new URL(
      `${url.pathname.replace(/\/$/, '')}${path}${path.includes('?') ? '&' : '?'}${query}`,
      url,
    );
    const headers = await this.#authorization();
    const { request } = target.protocol === 'https:' ? https : http;
    const sent = request(target, { agent: this.#agent, headers }, onResponse);
    sent.end();
    return sent;
  }

  /** Closes every connection. */
  close(): void {
    this.#agent.destroy();
  }

  async #authorization(): Promise<Record<string, string>> {
    const { tokenFile, onNotice } = this.#options;
    if (tokenFile === undefined) return {};
    const token = await readFile(tokenFile, 'utf8').catch(() => {
      onNotice('warn', `the token file ${tokenFile} cannot be read; mount the projected token there`);
      return '';
    });
    return token === '' ? {} : { authorization: `Bearer ${token.trim()}` };
  }
}
