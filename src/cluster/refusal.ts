/** Why a reader is refused, for people (`message`, `next`: what to do) and programs (`code`). */
export interface Refusal {
  ok: false;
  /** 401: not authenticated. 403: not permitted. 503: cannot be decided now, try again. */
  status: 401 | 403 | 503;
  code: RefusalCode;
  message: string;
  next: string;
}

export type RefusalCode =
  | 'token-missing'
  | 'token-invalid'
  | 'token-expired'
  | 'token-audience'
  | 'token-not-of-a-pod'
  | 'address-not-yours'
  | 'address-of-another-pod'
  | 'address-of-the-node'
  | 'pod-of-another-node'
  | 'names-not-ready'
  | 'api-server-away'
  | 'too-many-tokens';

export function refuse(status: Refusal['status'], code: RefusalCode, message: string, next: string): Refusal {
  return { ok: false, status, code, message, next };
}
