import type { ErrorBody } from '../http/errors.ts';

/** The sidecar gave no answer, or refused. `message` is one line that says what to do. */
export class SidecarError extends Error {}

/** A successful response; rejects with SidecarError. */
export async function ask(
  sidecar: URL,
  path: string,
  parameters: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<Response> {
  const url = new URL(path, sidecar.href.endsWith('/') ? sidecar : `${sidecar.href}/`);
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined) url.searchParams.set(name, value);
  let response: Response;
  try {
    response = await fetch(url, { ...(signal ? { signal } : {}) });
  } catch (error) {
    const { cause } = error as { cause?: Error };
    throw new SidecarError(
      `no sidecar answers at ${sidecar.origin} (${cause?.message ?? (error as Error).message}); give --sidecar URL, or: kubectl port-forward POD 9798`,
    );
  }
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => ({}))) as { error?: ErrorBody };
  throw new SidecarError(
    error
      ? `${error.message}; ${error.next}`
      : `${sidecar.origin} answered ${response.status}: is it a sidecar?`,
  );
}
