import type { ErrorBody } from '../http/errors.ts';

/** An error of the sidecar, with its text and the next step. */
export class SidecarError extends Error {
  readonly next: string;

  constructor({ message, next }: ErrorBody) {
    super(message);
    this.next = next;
  }
}

/** The answer of one path. Throws SidecarError, or TypeError without an answer. A relative path works behind any proxy. */
export async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, { headers: { accept: 'application/json' } });
  const body = (await response.json()) as T & { error?: ErrorBody };
  if (response.ok) return body;
  throw new SidecarError(
    body.error ?? { code: '', message: `the answer was ${response.status}`, next: 'see the log of realpod' },
  );
}

/** A query string without the empty parameters. */
export function search(parameters: Record<string, string>): string {
  return new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '')).toString();
}
