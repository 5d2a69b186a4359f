import { setTimeout as delay } from 'node:timers/promises';
import { follow, inNamespace } from './kubectl.ts';

/** What one nginx pod wrote: nginx's own second log, and the sidecar's lines. */
export interface PodLogs {
  nginx: string[];
  realpod: string[];
}

/** Follows both logs of every nginx pod that comes, and the client's, until `stop`. */
export class Logs {
  readonly pods = new Map<string, PodLogs>();
  readonly client: string[] = [];
  #stopped = false;

  async run(): Promise<void> {
    void this.#follow('client', 'client', this.client);
    while (!this.#stopped) {
      const names = await inNamespace('get', 'pods', '-l', 'app=nginx', '-o', 'name').catch(() => '');
      for (const name of names.split('\n').filter(Boolean)) this.#met(name.replace('pod/', ''));
      await delay(300);
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  #met(pod: string): void {
    if (this.pods.has(pod)) return;
    const logs: PodLogs = { nginx: [], realpod: [] };
    this.pods.set(pod, logs);
    void this.#follow(pod, 'nginx', logs.nginx);
    void this.#follow(pod, 'realpod', logs.realpod);
  }

  /** A stream that breaks (the API server was away) is begun again, without the lines that are there. */
  async #follow(pod: string, container: string, into: string[]): Promise<void> {
    while (!this.#stopped) {
      let skip = into.length;
      await follow(pod, container, (line) => {
        if (skip > 0) skip--;
        else into.push(line);
      });
      await delay(300);
    }
  }
}
